//! Why a connector takes no work just now.
//!
//! A set of reasons per connector: workers wait until it is empty before they lease. Which reasons are stored (pause,
//! brake) is the ledger's matter; this is the live view, and the one that the metric shows.

use std::collections::BTreeSet;

use tokio::sync::watch;

use crate::id::Name;
use crate::metrics::{Held, Metrics};

/// The reasons that hold one connector.
#[derive(Debug)]
pub struct Hold {
    connector: Name,
    metrics: Metrics,
    reasons: watch::Sender<BTreeSet<Held>>,
}

impl Hold {
    /// Nothing holds it yet.
    #[must_use]
    pub fn new(connector: Name, metrics: Metrics) -> Self {
        Self { connector, metrics, reasons: watch::Sender::default() }
    }

    /// Adds a reason.
    pub fn set(&self, reason: Held) {
        if self.reasons.send_if_modified(|reasons| reasons.insert(reason)) {
            self.metrics.held(&self.connector, reason, true);
        }
    }

    /// Takes a reason away.
    pub fn clear(&self, reason: Held) {
        if self.reasons.send_if_modified(|reasons| reasons.remove(&reason)) {
            self.metrics.held(&self.connector, reason, false);
        }
    }

    /// Adds a reason or takes it away.
    pub fn show(&self, reason: Held, is_held: bool) {
        if is_held { self.set(reason) } else { self.clear(reason) }
    }

    /// Whether anything holds it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.reasons.borrow().is_empty()
    }

    /// Whether it is paused, by an operator or by its brake: such a connector counts as not running.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let reasons = self.reasons.borrow();
        reasons.contains(&Held::Paused) || reasons.contains(&Held::Brake)
    }

    /// Every reason, in a fixed order.
    #[must_use]
    pub fn reasons(&self) -> Vec<Held> {
        self.reasons.borrow().iter().copied().collect()
    }

    /// Waits until nothing holds it. Cancel-safe.
    pub async fn released(&self) {
        // The sender lives in `self`: waiting cannot fail.
        let _ = self.reasons.subscribe().wait_for(BTreeSet::is_empty).await;
    }
}
