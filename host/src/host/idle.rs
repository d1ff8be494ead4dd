//! When nothing is left to do, or nothing that this host will get to.
//!
//! Looks again and again, because what makes work is spread over queues, clocks and lanes. Invariant: a host that ends
//! with work left says whose it is, and why.

use std::time::Duration;

use super::running::{Roster, Running};
use super::{Ended, Host, Until};
use crate::metrics::Held;
use crate::settlement::QueueId;
use crate::trigger::queue::Consumption;

/// How often idleness is looked at.
const PERIOD: Duration = Duration::from_millis(20);
/// Looks in a row that must find nothing to do: a message is nowhere for the moment between a commit and its being read.
const IDLE_LOOKS: u32 = 2;
/// The same where something is held back, for room is made a while after what took it was settled: 5 s.
const HELD_LOOKS: u32 = 250;

/// Why a connector does not get to its work.
#[derive(Clone, Copy)]
struct Left {
    reason: Held,
    /// The queue that has no room, where that is it.
    queue: Option<QueueId>,
}

impl From<Held> for Left {
    fn from(reason: Held) -> Self {
        Self { reason, queue: None }
    }
}

/// How a connector stands.
enum Standing {
    /// It has nothing to do.
    Idle,
    /// It has, and does not get to it.
    Held(Left),
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
            let roster = self.roster.borrow().clone();
            let Some(left) = self.left(&roster, horizon) else {
                in_a_row = 0;
                continue;
            };
            in_a_row += 1;
            let is_held = left.iter().any(|(running, _)| !running.connector.hold.is_paused());
            if in_a_row >= if is_held { HELD_LOOKS } else { IDLE_LOOKS } {
                left.iter().for_each(|(running, left)| self.tell(running, *left));
                // Who is paused counts as not running; that was somebody's wish, or is an error of its own.
                return if is_held { Ended::Held } else { Ended::Settled };
            }
        }
    }

    /// Connectors that do not get to their work; `None` while any works.
    fn left<'r>(&self, roster: &'r Roster, horizon: Duration) -> Option<Vec<(&'r Running, Left)>> {
        let horizon_ms = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX);
        if !self.under_way.is_empty() {
            return None;
        }
        let mut left = Vec::new();
        for running in roster.iter().map(AsRef::as_ref) {
            match self.standing(running, horizon_ms) {
                Standing::Idle => {}
                Standing::Held(why) => left.push((running, why)),
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
            return Standing::Held((*reason).into());
        }
        // On a full disk a tick cannot be stored either.
        let mut held = self.ledger.disk().borrow().stops(&[]).then_some(Left::from(Held::Disk));
        if has_tick && held.is_none() {
            return Standing::Busy;
        }
        for consumption in unfinished {
            let is_working = consumption.subscription.counts().in_flight > 0;
            let hold = self.hold_of(consumption, &reasons).filter(|_| !is_working);
            match hold.or_else(|| lacks_room(consumption, horizon_ms)) {
                Some(left) => held = Some(left),
                None => return Standing::Busy,
            }
        }
        held.map_or(Standing::Busy, Standing::Held)
    }

    /// What keeps a consumption from its messages, if anything does.
    fn hold_of(&self, consumption: &Consumption, reasons: &[Held]) -> Option<Left> {
        let publishes_to = &consumption.publishes_to;
        if reasons.contains(&Held::DeadLetters) {
            Some(Held::DeadLetters.into())
        } else if self.ledger.disk().borrow().stops(publishes_to) {
            Some(Held::Disk.into())
        } else {
            let full = publishes_to.iter().find(|queue| self.ledger.is_full(**queue));
            full.map(|queue| Left { reason: Held::Full, queue: Some(*queue) })
        }
    }

    fn tell(&self, running: &Running, left: Left) {
        let (connector, reason) = (&running.connector.name, left.reason.label());
        let queue = left.queue.and_then(|queue| self.ledger.queue_name(queue)).map(tracing::field::display);
        tracing::warn!(%connector, reason, queue, "work is left: the connector is held back, see `bulkhead queues`");
    }
}

/// What it wants to publish does not fit, although the queue is not full: that is tried again and again.
fn lacks_room(consumption: &Consumption, horizon_ms: u64) -> Option<Left> {
    let queue = consumption.subscription.lacks_room(horizon_ms).ok()??;
    Some(Left { reason: Held::Full, queue: Some(queue) })
}
