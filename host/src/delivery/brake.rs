//! The brake: deliveries dying in a row pause their connector.
//!
//! A revoked token must not empty a queue into dead letters. Pure counting; who pauses is the lane.

use std::sync::atomic::{AtomicU32, Ordering};

/// Counts deaths in a row, over all workers of a connector.
#[derive(Debug)]
pub struct Brake {
    /// 0 turns it off.
    limit: u32,
    in_a_row: AtomicU32,
}

impl Brake {
    /// A brake that goes on after `limit` deaths in a row; 0 is never.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { limit, in_a_row: AtomicU32::new(0) }
    }

    /// A delivery was settled with success.
    pub fn succeeded(&self) {
        // Read first: the happy path must not write a line that all workers share.
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// A delivery died; whether the brake goes on with this one.
    #[must_use]
    pub fn died(&self) -> bool {
        let deaths = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        self.limit != 0 && deaths == self.limit
    }

    /// An operator released it.
    pub fn reset(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_after_deaths_in_a_row_only() {
        let brake = Brake::new(3);
        assert_eq!([brake.died(), brake.died()], [false, false]);
        brake.succeeded();
        assert_eq!([brake.died(), brake.died(), brake.died()], [false, false, true]);
    }

    #[test]
    fn zero_turns_it_off() {
        let brake = Brake::new(0);
        assert!((0..100).all(|_| !brake.died()));
    }
}
