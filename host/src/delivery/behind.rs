//! Which deliveries of a run stand behind one of their key that has failed.
//!
//! Pure: the lane asks before each call, and gives back what stands behind. Invariant: with an order of keys, no message is
//! called after one before it of its key has failed in the same run; without one, or without a key, none waits for another.

use std::collections::HashSet;

use crate::planted::{self, Bug};
use crate::settlement::Delivery;

/// The keys that have failed in one run.
#[derive(Debug)]
pub struct FailedKeys {
    is_ordered: bool,
    keys: HashSet<String>,
}

impl FailedKeys {
    /// At the begin of a run; `is_ordered` where the order of keys is kept.
    #[must_use]
    pub fn new(is_ordered: bool) -> Self {
        Self { is_ordered, keys: HashSet::new() }
    }

    /// A delivery has failed.
    pub fn note(&mut self, delivery: &Delivery) {
        if self.is_ordered {
            self.keys.extend(delivery.message.key.clone());
        }
    }

    /// Whether a delivery must go back untouched.
    #[must_use]
    pub fn hold_back(&self, delivery: &Delivery) -> bool {
        let stands_behind = delivery.message.key.as_ref().is_some_and(|key| self.keys.contains(key));
        stands_behind && !planted::has(Bug::ReorderWithinKey)
    }
}
