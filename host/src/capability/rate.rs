//! So much in a time, as a bucket of tokens.
//!
//! Pure arithmetic: who waits is the caller. A full bucket holds what one period allows, and fills up evenly. Invariant:
//! tokens that are taken in advance are owed, so those who wait are served in their order and the rate holds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use crate::limit::Rate;

/// Holds back what goes over a [`Rate`].
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    /// When it is full again, if nobody takes a token until then. `None`: it is full.
    full_at: Mutex<Option<Instant>>,
}

/// It would take longer than the caller can wait: nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// How long.
    pub wait: Duration,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, full_at: Mutex::default() }
    }

    /// Takes a token and says how long to wait before it may be used.
    ///
    /// # Errors
    /// There is none before `deadline`.
    pub fn take(&self, now: Instant, deadline: Instant) -> Result<Duration, TooLong> {
        self.take_if(now, |wait| now + wait <= deadline)
    }

    /// The same for a caller that waits for as long as it takes.
    pub fn reserve(&self, now: Instant) -> Duration {
        self.take_if(now, |_| true).unwrap_or_else(|TooLong { wait }| wait)
    }

    fn take_if(&self, now: Instant, waits: impl FnOnce(Duration) -> bool) -> Result<Duration, TooLong> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let step = self.rate.step();
        let full_after = full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now)) + step;
        let wait = full_after.saturating_sub(self.rate.per());
        if !waits(wait) {
            return Err(TooLong { wait });
        }
        *full_at = Some(now + full_after);
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn ten_a_second() -> (Bucket, Instant) {
        let amount = NonZeroU32::new(10).expect("not zero");
        (Bucket::new(Rate::new(amount, 1000 * MS)), Instant::now())
    }

    #[test]
    fn a_full_bucket_holds_what_one_period_allows() {
        let (bucket, now) = ten_a_second();
        for _ in 0..10 {
            assert_eq!(bucket.take(now, now), Ok(Duration::ZERO));
        }
        assert_eq!(bucket.take(now, now), Err(TooLong { wait: 100 * MS }));
    }

    #[test]
    fn those_who_wait_are_served_in_their_order() {
        let (bucket, now) = ten_a_second();
        let late = now + 1000 * MS;
        let waits: Vec<_> = (0..13).map(|_| bucket.take(now, late)).collect();
        assert_eq!(waits[9..], [Ok(Duration::ZERO), Ok(100 * MS), Ok(200 * MS), Ok(300 * MS)]);
        let at = now + 250 * MS;
        assert_eq!(bucket.take(at, late), Ok(150 * MS));
    }

    #[test]
    fn who_cannot_wait_takes_nothing() {
        let (bucket, now) = ten_a_second();
        (0..10).for_each(|_| assert!(bucket.take(now, now).is_ok()));
        (0..100).for_each(|_| assert!(bucket.take(now, now + 99 * MS).is_err()));
        assert_eq!(bucket.take(now, now + 100 * MS), Ok(100 * MS));
    }

    #[test]
    fn it_fills_up_evenly_and_no_further() {
        let (bucket, now) = ten_a_second();
        (0..10).for_each(|_| assert!(bucket.take(now, now).is_ok()));
        let at = now + 200 * MS;
        assert_eq!([bucket.take(at, at), bucket.take(at, at)], [Ok(Duration::ZERO); 2]);
        assert!(bucket.take(at, at).is_err());
        let much_later = now + 100_000 * MS;
        (0..10).for_each(|_| assert!(bucket.take(much_later, much_later).is_ok()));
        assert!(bucket.take(much_later, much_later).is_err());
    }
}
