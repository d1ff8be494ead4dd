//! What becomes of a tick that is due while one before it is not settled yet.
//!
//! Pure: how many there are in, what to do out. A tick that waits for its next attempt counts as one that runs.

use super::schedule::Due;

/// Ticks of a schedule that lie in the inbox at once, at most.
pub const QUEUED_MAX: usize = 1_000;
/// The same of those that are made up for: the others follow as these are worked off.
pub const MADE_UP_MAX: usize = 100;

/// What happens while the tick before is still running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// The new one is left out.
    Skip,
    /// The new one waits, unless another one waits already.
    QueueOne,
    /// The new one waits.
    QueueAll,
    /// The one before is stopped.
    Cancel,
}

/// What becomes of a tick that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is made.
    Made,
    /// It is left out.
    Skipped,
    /// It is looked at again a while later.
    PutOff,
}

impl Overlap {
    /// Decides about a tick with so many before it that are not settled.
    #[must_use]
    pub fn admit(self, unsettled: usize, due: &Due) -> Admission {
        if due.is_made_up {
            // Those that were missed are worked off one after the other, whatever holds for those that were not.
            return if unsettled < MADE_UP_MAX { Admission::Made } else { Admission::PutOff };
        }
        let most = match self {
            Self::Skip => 0,
            Self::QueueOne => 1,
            Self::QueueAll => QUEUED_MAX - 1,
            Self::Cancel => usize::MAX,
        };
        if unsettled <= most { Admission::Made } else { Admission::Skipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Admission::{Made, PutOff, Skipped};

    fn check(overlap: Overlap, unsettled: [usize; 4], expected: [Admission; 4]) {
        let due = Due { planned_ms: 1, missed: 0, is_made_up: false };
        assert_eq!(unsettled.map(|unsettled| overlap.admit(unsettled, &due)), expected, "{overlap:?}");
    }

    #[test]
    fn each_policy_lets_so_many_wait() {
        check(Overlap::Skip, [0, 1, 2, 1_000], [Made, Skipped, Skipped, Skipped]);
        check(Overlap::QueueOne, [0, 1, 2, 1_000], [Made, Made, Skipped, Skipped]);
        check(Overlap::QueueAll, [0, 1, 999, 1_000], [Made, Made, Made, Skipped]);
        check(Overlap::Cancel, [0, 1, 2, 1_000], [Made, Made, Made, Made]);
    }

    #[test]
    fn missed_ticks_are_made_a_hundred_at_a_time() {
        let due = Due { planned_ms: 1, missed: 0, is_made_up: true };
        for overlap in [Overlap::Skip, Overlap::QueueOne, Overlap::QueueAll] {
            assert_eq!([0, 99, 100].map(|unsettled| overlap.admit(unsettled, &due)), [Made, Made, PutOff]);
        }
    }
}
