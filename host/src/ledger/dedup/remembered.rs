//! What may be remembered, in memory: the writer brings it up to date with each commit, and anybody may ask it.
//!
//! Invariant: "surely not" is said only of keys that no commit has noted.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::bloom::Bloom;
use super::{Fingerprint, fingerprint};

/// The ids of every queue that remembers any.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Remembered(RwLock<HashMap<u32, Ids>>);

/// The ids of one queue.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// The slice that is written.
    pub(super) slice: i64,
    /// Those in it, each with its row.
    pub(super) recent: HashMap<Fingerprint, u32>,
    /// Over those of the older slices.
    pub(super) older: Vec<Arc<Bloom>>,
}

impl Remembered {
    /// Whether a key may have been noted for a queue.
    pub(in crate::ledger) fn may_know(&self, queue: u32, key: &str) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let fingerprint = fingerprint(key);
        known.get(&queue).is_some_and(|ids| {
            ids.recent.contains_key(&fingerprint) || ids.older.iter().any(|filter| filter.may_hold(&fingerprint))
        })
    }

    /// The slice and the row of a key in what was the written slice at the last commit.
    pub(super) fn recent(&self, queue: u32, fingerprint: &Fingerprint) -> Option<(i64, u32)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let ids = known.get(&queue)?;
        Some((ids.slice, *ids.recent.get(fingerprint)?))
    }

    /// All keys of a slice, if it is the one that was written at the last commit.
    pub(super) fn of_slice(&self, queue: u32, slice: i64) -> HashMap<Fingerprint, u32> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&queue).filter(|ids| ids.slice == slice).map(|ids| ids.recent.clone()).unwrap_or_default()
    }

    /// Brings it up to date with what is on disk now.
    pub(super) fn change(&self, change: impl FnOnce(&mut HashMap<u32, Ids>)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}
