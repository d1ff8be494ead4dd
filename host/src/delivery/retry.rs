//! When a failed delivery is tried again, and which failures are: exponential backoff with jitter.
//!
//! Pure: takes the attempt, the plugin's wish and a random number, answers a delay or the end.

use std::time::Duration;

/// No retry waits longer than this, whatever a plugin or an upstream asked for.
pub const DELAY_MAX: Duration = Duration::from_secs(24 * 3600);

/// How a delay is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jitter {
    /// Evenly between zero and the full delay: a thousand failures do not come back together.
    Full,
    /// Half of the delay, and evenly up to as much again: never at once, and not all together.
    Equal,
    /// The delay itself.
    None,
}

/// What a failure that costs an attempt came from, as `retry.on` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The plugin asks for another attempt.
    Retry,
    /// The plugin broke.
    Trap,
    /// A limit other than that of time ended the call.
    Limit,
    /// `limits.wall` ended the call.
    Timeout,
    /// The process died while the delivery was running alone.
    Crash,
}

impl Cause {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Retry, Self::Trap, Self::Limit, Self::Timeout, Self::Crash];

    /// The word for it in `retry.on`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Trap => "trap",
            Self::Limit => "limit",
            Self::Timeout => "timeout",
            Self::Crash => "crash",
        }
    }
}

/// `retry` of a connector.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Attempts before a dead letter, the first included.
    pub attempts: u32,
    /// Delay before the second attempt.
    pub first: Duration,
    /// Growth from one delay to the next.
    pub factor: f64,
    /// Longest delay of the policy itself.
    pub max: Duration,
    /// How delays are spread.
    pub jitter: Jitter,
    /// No attempt begins later than this after the message was accepted.
    pub within: Option<Duration>,
    /// Failures that are tried again; any other is the end at once.
    pub on: Vec<Cause>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts: 8,
            first: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(600),
            jitter: Jitter::Full,
            within: None,
            on: Cause::ALL.to_vec(),
        }
    }
}

impl Policy {
    /// The delay after failed attempt number `attempt` (from 1), or `None` when no attempt is left.
    /// `after` is what the plugin asked for at least; `random` lies in `0.0..1.0`.
    #[must_use]
    pub fn delay(&self, attempt: u32, after: Option<Duration>, random: f64) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let full = (self.first.as_secs_f64() * self.factor.powi(exponent)).min(self.max.as_secs_f64());
        let spread = match self.jitter {
            Jitter::Full => full * random,
            Jitter::Equal => full / 2.0 * (1.0 + random),
            Jitter::None => full,
        };
        let own = Duration::try_from_secs_f64(spread).unwrap_or(self.max);
        Some(own.max(after.unwrap_or_default()).min(DELAY_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &Policy, attempt: u32, after: Option<u64>, expected: Option<u64>) {
        let delay = policy.delay(attempt, after.map(Duration::from_secs), 0.5);
        assert_eq!(delay, expected.map(Duration::from_secs));
    }

    #[test]
    fn delays_grow_to_the_maximum_and_end() {
        let policy = Policy { attempts: 12, jitter: Jitter::None, ..Policy::default() };
        check(&policy, 1, None, Some(1));
        check(&policy, 4, None, Some(8));
        check(&policy, 11, None, Some(600));
        check(&policy, 12, None, None);
        check(&policy, u32::MAX, None, None);
    }

    #[test]
    fn an_equal_jitter_keeps_half_of_the_delay() {
        let policy = Policy { first: Duration::from_secs(8), jitter: Jitter::Equal, ..Policy::default() };
        assert_eq!(policy.delay(1, None, 0.0), Some(Duration::from_secs(4)));
        check(&policy, 1, None, Some(6));
        check(&policy, 2, None, Some(12));
    }

    #[test]
    fn the_plugins_wish_is_a_lower_bound_and_clamped() {
        let policy = Policy::default();
        check(&policy, 3, Some(60), Some(60));
        check(&policy, 3, Some(1), Some(2));
        check(&policy, 3, Some(u64::MAX), Some(24 * 3600));
    }
}
