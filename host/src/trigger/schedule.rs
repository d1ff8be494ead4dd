//! Ticks by the clock: when a schedule fires next.
//!
//! Pure: last planned time and now in, next planned time out. Planned times count from the Unix epoch plus a fixed phase
//! of the schedule, so they do not drift with restarts, and a thousand schedules do not fire at once. The loop that
//! enqueues ticks is in [`super::clockwork`].

use std::time::Duration;

use sha2::{Digest, Sha256};

/// One entry of a connector's `schedule`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// "default" where it has no name of its own.
    pub name: String,
    /// The period.
    pub every: Duration,
    /// What the tick hands to the plugin, as JSON.
    pub input: Option<String>,
}

/// The planned times of one schedule, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    period_ms: u64,
    phase_ms: u64,
}

/// What a schedule does at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A tick with this planned time is due.
    Due(u64),
    /// Nothing until this time.
    At(u64),
}

impl Plan {
    /// The plan of a connector's schedule. It follows from the connector's lineage, so that another name moves no time.
    #[must_use]
    pub fn new(lineage: &str, settings: &Settings) -> Self {
        let period_ms = u64::try_from(settings.every.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut hash = Sha256::new();
        hash.update(lineage);
        hash.update([0]);
        hash.update(&settings.name);
        let digest = hash.finalize();
        let mut number = [0; 8];
        number.copy_from_slice(&digest[..8]);
        Self { period_ms, phase_ms: u64::from_le_bytes(number) % period_ms }
    }

    /// What is to be done at `now_ms`, given the last planned time (`None` without history: fires once at start).
    /// Of several missed times the latest is due, once.
    #[must_use]
    pub fn next(self, last_ms: Option<u64>, now_ms: u64) -> Next {
        let Some(last_ms) = last_ms else { return Next::Due(now_ms) };
        let current = self.at_or_before(now_ms);
        if current > last_ms { Next::Due(current) } else { Next::At(self.after(now_ms.max(last_ms))) }
    }

    /// Whether a stored time cannot be believed: it lies more than one period ahead of the clock.
    #[must_use]
    pub fn is_ahead(self, last_ms: u64, now_ms: u64) -> bool {
        last_ms > now_ms.saturating_add(self.period_ms)
    }

    fn at_or_before(self, now_ms: u64) -> u64 {
        let since = now_ms.saturating_sub(self.phase_ms);
        (since / self.period_ms) * self.period_ms + self.phase_ms
    }

    fn after(self, ms: u64) -> u64 {
        self.at_or_before(ms).saturating_add(self.period_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { period_ms: 1_000, phase_ms: 300 };

    fn check(last: Option<u64>, now: u64, expected: Next) {
        assert_eq!(PLAN.next(last, now), expected);
    }

    #[test]
    fn fires_once_at_start_without_history() {
        check(None, 5_000, Next::Due(5_000));
        check(Some(5_000), 5_001, Next::At(5_300));
    }

    #[test]
    fn counts_from_the_epoch_and_its_phase() {
        check(Some(5_300), 6_299, Next::At(6_300));
        check(Some(5_300), 6_300, Next::Due(6_300));
    }

    #[test]
    fn of_many_missed_times_only_the_latest_is_due() {
        check(Some(5_300), 99_999, Next::Due(99_300));
    }

    #[test]
    fn a_stored_time_far_ahead_is_not_believed() {
        assert!(PLAN.is_ahead(10_000, 8_999) && !PLAN.is_ahead(10_000, 9_000));
    }
}
