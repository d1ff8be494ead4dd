//! When nothing is left to do, or nothing that this host will get to.
//!
//! Looks again and again, because what makes work is spread over queues, clocks and lanes. Invariant: a host that ends
//! with work left says whose it is, and why.

use std::time::Duration;

use super::{Ended, Host, Running, Until};
use crate::metrics::Held;
use crate::trigger::queue::Consumption;

/// How often idleness is looked at.
const PERIOD: Duration = Duration::from_millis(20);
/// Looks in a row that must find nothing to do: a message is nowhere for the moment between a commit and its being read.
const IDLE_LOOKS: u32 = 2;
/// The same where something is held back, for room is made a while after what took it was settled: 5 s.
const HELD_LOOKS: u32 = 250;

/// How a connector stands.
enum Standing {
    /// It has nothing to do.
    Idle,
    /// It has, and does not get to it.
    Held(Held),
    /// It works, or will.
    Busy,
}

impl Host {
    /// Waits until the host is idle. Work may be left that nothing in this host will make room for: that is said in the
    /// log, and in the answer.
    pub(super) async fn idle(&self, until: Until) -> Ended {
        let Until::Idle(horizon) = until else { return std::future::pending().await };
        let mut looks = tokio::time::interval(PERIOD);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut in_a_row = 0;
        loop {
            looks.tick().await;
            let Some(left) = self.left(horizon) else {
                in_a_row = 0;
                continue;
            };
            in_a_row += 1;
            let is_held = left.iter().any(|(running, _)| !running.connector.hold.is_paused());
            if in_a_row >= if is_held { HELD_LOOKS } else { IDLE_LOOKS } {
                left.iter().for_each(|(running, reason)| tell(running, *reason));
                // Who is paused counts as not running; that was somebody's wish, or is an error of its own.
                return if is_held { Ended::Held } else { Ended::Settled };
            }
        }
    }

    /// Connectors that do not get to their work; `None` while any works.
    fn left(&self, horizon: Duration) -> Option<Vec<(&Running, Held)>> {
        let horizon_ms = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX);
        let mut left = Vec::new();
        for running in &self.connectors {
            match self.standing(running, horizon_ms) {
                Standing::Idle => {}
                Standing::Held(reason) => left.push((running, reason)),
                Standing::Busy => return None,
            }
        }
        Some(left)
    }

    fn standing(&self, running: &Running, horizon_ms: u64) -> Standing {
        let is_idle = |it: &&Consumption| it.subscription.is_idle(horizon_ms).unwrap_or(false);
        let unfinished: Vec<&Consumption> = running.consumptions.iter().filter(|it| !is_idle(it)).collect();
        let has_tick = running.clockworks.iter().any(|clockwork| clockwork.is_due());
        if unfinished.is_empty() && !has_tick {
            return Standing::Idle;
        }
        let reasons = running.connector.hold.reasons();
        if let Some(reason) = reasons.iter().find(|reason| matches!(reason, Held::Paused | Held::Brake)) {
            return Standing::Held(*reason);
        }
        // On a full disk a tick cannot be stored either.
        let mut held = self.ledger.disk().borrow().stops(&[]).then_some(Held::Disk);
        if has_tick && held.is_none() {
            return Standing::Busy;
        }
        for consumption in unfinished {
            let is_working = consumption.subscription.counts().in_flight > 0;
            match self.hold_of(consumption, &reasons).filter(|_| !is_working) {
                Some(reason) => held = Some(reason),
                None => return Standing::Busy,
            }
        }
        held.map_or(Standing::Busy, Standing::Held)
    }

    /// What keeps a consumption from its messages, if anything does.
    fn hold_of(&self, consumption: &Consumption, reasons: &[Held]) -> Option<Held> {
        let publishes_to = &consumption.publishes_to;
        if reasons.contains(&Held::DeadLetters) {
            Some(Held::DeadLetters)
        } else if self.ledger.disk().borrow().stops(publishes_to) {
            Some(Held::Disk)
        } else {
            publishes_to.iter().any(|queue| self.ledger.is_full(*queue)).then_some(Held::Full)
        }
    }
}

fn tell(running: &Running, reason: Held) {
    let (connector, reason) = (&running.connector.name, reason.label());
    tracing::warn!(%connector, reason, "work is left: the connector is held back, see `bulkhead queues`");
}
