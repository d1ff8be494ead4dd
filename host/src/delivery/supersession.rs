//! Whether a later tick has taken the place of one before it: `overlap = "cancel"`.
//!
//! What is superseded is read from the ledger, so that it holds after a restart too; here lies only what wakes those who
//! wait for it. Invariant: a tick that was fired by hand, or redriven, is never superseded.

use tokio::sync::watch;

use crate::ledger::Ledger;
use crate::message::Tick;
use crate::settlement::{ConnectorId, Delivery, Origin};

/// The schedules of one connector whose ticks make those before them needless.
#[derive(Debug)]
pub struct Supersession {
    connector: ConnectorId,
    ledger: Ledger,
    schedules: Vec<String>,
    enqueued: watch::Sender<()>,
}

impl Supersession {
    /// For these schedules of a connector.
    #[must_use]
    pub fn new(connector: ConnectorId, ledger: Ledger, schedules: Vec<String>) -> Self {
        Self { connector, ledger, schedules, enqueued: watch::Sender::new(()) }
    }

    /// Says that a tick was enqueued which may supersede others.
    pub fn announce(&self) {
        self.enqueued.send_replace(());
    }

    /// Whether a later tick has taken the place of this one.
    #[must_use]
    pub fn has_taken(&self, delivery: &Delivery) -> bool {
        let Some(tick) = self.regular(delivery) else { return false };
        let known = self.ledger.schedule(self.connector, &tick.schedule);
        let known = known.inspect_err(|error| tracing::warn!(%error, "cannot read the ledger"));
        // Under a clock that was set back a later one may be planned earlier.
        known.is_ok_and(|known| known.last_tick_ms.is_some_and(|last_ms| last_ms != tick.planned_at_ms))
    }

    /// Waits until a later tick has taken the place of this one. Cancel-safe.
    pub async fn taken(&self, delivery: &Delivery) {
        if self.regular(delivery).is_none() {
            return std::future::pending().await;
        }
        let mut enqueued = self.enqueued.subscribe();
        while !self.has_taken(delivery) {
            // The sender lives in `self`: waiting cannot fail.
            let _ = enqueued.changed().await;
        }
    }

    fn regular(&self, delivery: &Delivery) -> Option<Tick> {
        if self.schedules.is_empty() || matches!(delivery.origin, Origin::Parked(_)) {
            return None;
        }
        Tick::of(&delivery.message).filter(|tick| !tick.by_hand && self.schedules.contains(&tick.schedule))
    }
}
