//! From a failed call, or a message that is never given to a plugin, to what becomes of its delivery.
//!
//! Pure: policy, failure, time and a random number in; an [`Outcome`] out. What costs an attempt is decided here and
//! nowhere else.

use std::time::Duration;

use super::retry::{Cause, DELAY_MAX, Policy};
use crate::clock::Now;
use crate::limit::{HOPS_MAX, Limit};
use crate::message::Message;
use crate::runtime::failure::Failure;
use crate::settlement::{Delivery, Outcome};

/// A delay asked for by the gate is never shorter: an answer of 0 must not become a loop.
const HELD_MIN: Duration = Duration::from_millis(100);

/// Decides about a delivery that failed at `now_ms`.
#[must_use]
pub fn of_failure(policy: &Policy, delivery: &Delivery, failure: Failure, now_ms: u64, random: f64) -> Outcome {
    let charged = |cause, after: Option<Duration>, reason| {
        // Past its attempts it dies of its own reason, whatever else would end it too.
        let Some(delay) = policy.delay(delivery.attempt, after, random) else { return Outcome::Dead { reason } };
        again(policy, &delivery.message, cause, later(now_ms, delay), reason)
    };
    match failure {
        Failure::Reject { reason } => Outcome::Dead { reason },
        Failure::Held { reason, delay, lack: _ } => {
            let delay = delay.clamp(HELD_MIN, DELAY_MAX);
            Outcome::Retry { due_ms: later(now_ms, delay), charged: false, reason }
        }
        Failure::Retry { reason, after } => charged(Cause::Retry, after, reason),
        Failure::Trap { reason } => charged(Cause::Trap, None, reason),
        Failure::Limit { limit: Limit::Wall, reason } => charged(Cause::Timeout, None, reason),
        Failure::Limit { reason, .. } => charged(Cause::Limit, None, reason),
    }
}

/// How a message is settled without a run, if it is. Its age goes by the clock that believes no jump at once.
#[must_use]
pub fn without_run(message: &Message, now: Now) -> Option<Outcome> {
    if message.expires_at_ms.is_some_and(|expires_ms| expires_ms <= now.settled_ms) {
        Some(Outcome::Expired)
    } else if message.hops > HOPS_MAX {
        let reason = format!("passed through {} connectors: {HOPS_MAX} is the limit, look for a loop", message.hops);
        Some(Outcome::Dead { reason })
    } else {
        None
    }
}

/// Decides about a delivery that took the process down while it ran alone: the next attempt comes at once, for the start
/// of a process is delay enough.
#[must_use]
pub fn of_crash(policy: &Policy, delivery: &Delivery, now_ms: u64) -> Outcome {
    let reason = "the process ended while this message was running alone".to_owned();
    if delivery.attempt >= policy.attempts {
        Outcome::Dead { reason }
    } else {
        again(policy, &delivery.message, Cause::Crash, now_ms, reason)
    }
}

/// Another attempt at `due_ms`, unless the policy tries such a failure not at all, or not as late.
fn again(policy: &Policy, message: &Message, cause: Cause, due_ms: u64, reason: String) -> Outcome {
    let end_ms = policy.within.map(|within| later(message.enqueued_at_ms, within));
    if !policy.on.contains(&cause) {
        Outcome::Dead { reason: format!("`retry.on` is without \"{}\": {reason}", cause.word()) }
    } else if end_ms.is_some_and(|end_ms| due_ms > end_ms) {
        Outcome::Dead { reason: format!("the next attempt would be past `retry.within`: {reason}") }
    } else {
        Outcome::Retry { due_ms, charged: true, reason }
    }
}

fn later(now_ms: u64, delay: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::retry::Jitter;
    use crate::settlement::Origin;

    fn policy() -> Policy {
        Policy { attempts: 3, jitter: Jitter::None, ..Policy::default() }
    }

    /// Accepted at 500.
    fn delivery(attempt: u32) -> Delivery {
        let message = Message { enqueued_at_ms: 500, ..Message::default() };
        Delivery { origin: Origin::Log(1), attempt, message }
    }

    fn check(attempt: u32, failure: Failure, expected: &Outcome) {
        assert_eq!(of_failure(&policy(), &delivery(attempt), failure, 1_000, 0.5), *expected);
    }

    fn reason() -> String {
        "why".to_owned()
    }

    #[test]
    fn a_retry_is_charged_and_put_off() {
        let expected = Outcome::Retry { due_ms: 3_000, charged: true, reason: reason() };
        check(2, Failure::Retry { reason: reason(), after: None }, &expected);
    }

    #[test]
    fn the_last_attempt_ends_in_a_dead_letter() {
        check(3, Failure::Trap { reason: reason() }, &Outcome::Dead { reason: reason() });
        check(3, Failure::Limit { limit: Limit::Cpu, reason: reason() }, &Outcome::Dead { reason: reason() });
    }

    #[test]
    fn a_reject_dies_at_once() {
        check(1, Failure::Reject { reason: reason() }, &Outcome::Dead { reason: reason() });
    }

    #[test]
    fn what_the_gate_held_back_costs_nothing() {
        let expected = Outcome::Retry { due_ms: 3_000, charged: false, reason: reason() };
        check(3, Failure::Held { reason: reason(), delay: Duration::from_secs(2), lack: None }, &expected);
        let expected = Outcome::Retry { due_ms: 1_100, charged: false, reason: reason() };
        check(3, Failure::Held { reason: reason(), delay: Duration::ZERO, lack: None }, &expected);
    }

    #[test]
    fn an_attempt_past_the_whole_time_is_not_made() {
        let retry = |within_ms| {
            let policy = Policy { within: Some(Duration::from_millis(within_ms)), ..policy() };
            of_failure(&policy, &delivery(2), Failure::Trap { reason: reason() }, 1_000, 0.5)
        };
        assert_eq!(retry(2_500), Outcome::Retry { due_ms: 3_000, charged: true, reason: reason() });
        let text = "the next attempt would be past `retry.within`: why".to_owned();
        assert_eq!(retry(2_499), Outcome::Dead { reason: text });
    }

    #[test]
    fn a_failure_that_is_not_listed_is_the_end() {
        let failure = |limit| Failure::Limit { limit, reason: reason() };
        let policy = Policy { on: vec![Cause::Limit], ..policy() };
        let listed = of_failure(&policy, &delivery(1), failure(Limit::Cpu), 1_000, 0.5);
        assert_eq!(listed, Outcome::Retry { due_ms: 2_000, charged: true, reason: reason() });
        let text = "`retry.on` is without \"timeout\": why".to_owned();
        let other = of_failure(&policy, &delivery(1), failure(Limit::Wall), 1_000, 0.5);
        assert_eq!(other, Outcome::Dead { reason: text });
    }

    fn check_unrun(message: &Message, expected: Option<Outcome>) {
        let now = Now { due_ms: 90_000, settled_ms: 5_000 };
        assert_eq!(without_run(message, now), expected);
    }

    #[test]
    fn a_message_expires_by_the_clock_that_deletes() {
        let expiring = |at| Message { expires_at_ms: Some(at), ..Message::default() };
        check_unrun(&expiring(5_001), None);
        check_unrun(&expiring(5_000), Some(Outcome::Expired));
    }

    #[test]
    fn a_message_that_goes_round_dies_without_a_run() {
        check_unrun(&Message { hops: HOPS_MAX, ..Message::default() }, None);
        let reason = "passed through 33 connectors: 32 is the limit, look for a loop".to_owned();
        check_unrun(&Message { hops: HOPS_MAX + 1, ..Message::default() }, Some(Outcome::Dead { reason }));
    }

    #[test]
    fn a_crash_is_charged_and_the_last_one_is_the_end() {
        let policy = Policy { attempts: 2, ..Policy::default() };
        assert!(matches!(of_crash(&policy, &delivery(1), 7), Outcome::Retry { due_ms: 7, charged: true, .. }));
        assert!(matches!(of_crash(&policy, &delivery(2), 7), Outcome::Dead { .. }));
    }
}
