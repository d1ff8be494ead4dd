//! When nothing is left to do, and what is looked at now and then while a host runs.

use std::time::Duration;

use super::{Host, Until};
use crate::metrics::Held;

/// How often idleness is looked at.
const IDLE_PERIOD: Duration = Duration::from_millis(20);
/// How often the bounds of dead letters are looked at.
const BOUNDS_PERIOD: Duration = Duration::from_secs(1);

impl Host {
    /// Waits until the host is idle, keeping the bounds that are not checked by any delivery.
    pub(super) async fn idle(&self, until: Until) {
        let mut looks = tokio::time::interval(IDLE_PERIOD);
        let mut bounds = tokio::time::interval(BOUNDS_PERIOD);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        bounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Twice in a row: a message is nowhere for the moment between a commit and its being read.
        let mut idle_looks = 0;
        loop {
            tokio::select! {
                _ = bounds.tick() => self.keep_bounds(),
                _ = looks.tick(), if until != Until::Stopped => {
                    let Until::Idle(horizon) = until else { continue };
                    idle_looks = if self.is_idle(horizon) { idle_looks + 1 } else { 0 };
                    if idle_looks >= 2 {
                        return;
                    }
                }
            }
        }
    }

    fn is_idle(&self, horizon: Duration) -> bool {
        let horizon_ms = u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX);
        self.connectors.iter().filter(|running| !running.connector.hold.is_paused()).all(|running| {
            running.clockworks.iter().all(|clockwork| !clockwork.is_due())
                && running.subscriptions().all(|(_, subscription)| subscription.is_idle(horizon_ms).unwrap_or(false))
        })
    }

    fn keep_bounds(&self) {
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
