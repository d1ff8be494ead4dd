//! How long attempts take, in buckets that can be read: the histograms of `/metrics` can only be printed.
//!
//! The buckets are those of `bulkhead_attempt_seconds`, so what is made of them is what Prometheus would make of it.
//! Invariant: observing takes one atomic addition and no lock.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use super::families::{SECONDS_BUCKETS, seconds_buckets};

/// Buckets with the last one, which has no end.
const BUCKETS: usize = SECONDS_BUCKETS as usize + 1;
/// Where they end, but the last.
static ENDS: LazyLock<Vec<f64>> = LazyLock::new(|| seconds_buckets().collect());

/// Counts observations. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Spread(Arc<[AtomicU32; BUCKETS]>);

/// Observations by bucket, at a moment or between two. They wrap around, which a difference does not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u32; BUCKETS]);

impl Spread {
    /// Counts one that took so long.
    pub fn observe(&self, seconds: f64) {
        let bucket = ENDS.partition_point(|end| seconds > *end).min(BUCKETS - 1);
        self.0[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// All that were counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts(std::array::from_fn(|bucket| self.0[bucket].load(Ordering::Relaxed)))
    }
}

impl Counts {
    /// What came after `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|bucket| self.0[bucket].wrapping_sub(before.0[bucket])))
    }

    /// Adds others to it.
    pub fn add(&mut self, others: &Self) {
        for (own, other) in self.0.iter_mut().zip(others.0) {
            *own = own.wrapping_add(other);
        }
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    /// The time that a part of them, from 0 to 1, stayed within: evenly spread within a bucket, as Prometheus takes it; of
    /// the last bucket, which has no end, its beginning. None where nothing was counted.
    #[must_use]
    pub fn quantile_seconds(&self, part: f64) -> Option<f64> {
        let total: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        if total == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rank is no more exact than its bucket")]
        let mut rank = part.clamp(0.0, 1.0) * total as f64;
        let mut begin = 0.0;
        for (count, end) in self.0.iter().zip(ENDS.iter().copied()) {
            let count = f64::from(*count);
            if rank <= count && count > 0.0 {
                return Some(begin + (end - begin) * rank / count);
            }
            (rank, begin) = (rank - count, end);
        }
        Some(begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seconds: &[f64]) -> Counts {
        let spread = Spread::default();
        seconds.iter().for_each(|seconds| spread.observe(*seconds));
        spread.counts()
    }

    #[test]
    fn quantiles_are_those_of_the_buckets() {
        assert_eq!(of(&[]).quantile_seconds(0.5), None);
        // In the bucket from 0.0512 to 0.1024.
        let even = of(&[0.1; 10]);
        assert!((even.quantile_seconds(0.5).unwrap_or_default() - 0.0768).abs() < 1e-9);
        let mixed = of(&[[0.001; 98].as_slice(), &[50.0, 5_000.0]].concat());
        assert!(mixed.quantile_seconds(0.5).is_some_and(|seconds| seconds < 0.0016));
        let last = seconds_buckets().last();
        assert_eq!(mixed.quantile_seconds(1.0), last, "beyond the last bucket nothing is known");
    }

    #[test]
    fn a_difference_holds_what_came_between() {
        let spread = Spread(Arc::new(std::array::from_fn(|_| AtomicU32::new(u32::MAX))));
        let before = spread.counts();
        spread.observe(0.1);
        let mut between = spread.counts().since(&before);
        assert_eq!(between, of(&[0.1]), "also where a count has wrapped around");
        between.add(&of(&[3.0]));
        assert_eq!(between, of(&[3.0, 0.1]));
    }
}
