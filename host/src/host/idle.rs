//! When nothing is left to do, and what is looked at now and then while a host runs.

use std::time::Duration;

use super::{Ended, Host, Running, Until};
use crate::metrics::Held;

/// How often idleness is looked at.
const IDLE_PERIOD: Duration = Duration::from_millis(20);
/// A message is nowhere for the moment between a commit and its being read.
const IDLE_LOOKS: u32 = 2;
/// Room is made a while after what took it was settled: 5 s.
const STUCK_LOOKS: u32 = 250;
/// How often the bounds of dead letters are looked at.
const BOUNDS_PERIOD: Duration = Duration::from_secs(1);

impl Host {
    /// Waits until the host is idle, keeping the bounds that are not checked by any delivery. Work may be left that
    /// nothing in this host will make room for: said in the log, and in the answer.
    pub(super) async fn idle(&self, until: Until) -> Ended {
        let mut looks = tokio::time::interval(IDLE_PERIOD);
        let mut bounds = tokio::time::interval(BOUNDS_PERIOD);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        bounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut idle_looks = 0;
        loop {
            tokio::select! {
                _ = bounds.tick() => self.keep_bounds(),
                _ = looks.tick(), if until != Until::Stopped => {
                    let Until::Idle(horizon) = until else { continue };
                    let looks = self.looks(horizon);
                    idle_looks = if looks.is_some() { idle_looks + 1 } else { 0 };
                    if looks.is_some_and(|looks| idle_looks >= looks) {
                        return self.tell_what_is_left(horizon);
                    }
                }
            }
        }
    }

    /// How many looks in a row must find nothing to do before it is so; `None` where there is something to do.
    fn looks(&self, horizon: Duration) -> Option<u32> {
        let mut looks = IDLE_LOOKS;
        for running in self.connectors.iter().filter(|running| !running.is_idle(horizon)) {
            match self.stuck(running)? {
                Held::Full | Held::Disk => looks = STUCK_LOOKS,
                _ => {}
            }
        }
        Some(looks)
    }

    /// What keeps a connector from its work that only a person can change, or work that others have to do first.
    fn stuck(&self, running: &Running) -> Option<Held> {
        let is_final = |reason: &Held| matches!(reason, Held::Paused | Held::Brake | Held::DeadLetters);
        if let Some(reason) = running.connector.hold.reasons().into_iter().find(is_final) {
            return Some(reason);
        }
        let disk = *self.ledger.disk().borrow();
        let mut queues = running.consumptions.iter().map(|consumption| &consumption.publishes_to);
        if queues.clone().any(|queues| disk.stops(queues)) {
            return Some(Held::Disk);
        }
        queues.any(|queues| queues.iter().any(|queue| self.ledger.is_full(*queue))).then_some(Held::Full)
    }

    fn tell_what_is_left(&self, horizon: Duration) -> Ended {
        let mut ended = Ended::Settled;
        for running in self.connectors.iter().filter(|running| !running.is_idle(horizon)) {
            let Some(reason) = self.stuck(running) else { continue };
            let (connector, reason_text) = (&running.connector.name, reason.label());
            tracing::warn!(%connector, reason = reason_text, "work is left: the connector is held back, see `bulkhead queues`");
            // Who is paused counts as not running; that was somebody's wish, or is an error of its own.
            if !running.connector.hold.is_paused() {
                ended = Ended::Held;
            }
        }
        ended
    }

    /// Holds connectors whose dead letters are at their bound, and shows those that have too much unfinished.
    pub(super) fn keep_bounds(&self) {
        for running in &self.connectors {
            let connector = &running.connector;
            match self.ledger.dead_bytes(connector.id) {
                Ok(bytes) if bytes >= running.dead_max_bytes => connector.hold.set(Held::DeadLetters),
                Ok(_) => connector.hold.clear(Held::DeadLetters),
                Err(error) => tracing::warn!(connector = %connector.name, %error, "cannot read the ledger"),
            }
            let is_pending = running.subscriptions().any(|(_, subscription)| subscription.counts().is_held);
            connector.hold.show(Held::Pending, is_pending);
        }
    }
}

impl Running {
    /// Whether it has nothing to do, nor will within `horizon`.
    fn is_idle(&self, horizon: Duration) -> bool {
        let horizon_ms = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX);
        self.clockworks.iter().all(|clockwork| !clockwork.is_due())
            && self.subscriptions().all(|(_, subscription)| subscription.is_idle(horizon_ms).unwrap_or(false))
    }
}
