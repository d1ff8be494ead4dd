//! Why a connector takes no work just now.
//!
//! A set of reasons per connector, as the metric shows it. Which reasons are stored (pause, brake) is the ledger's matter.
//! Invariant: only a reason that stops all work keeps workers from leasing; one that its own workers find out, and that
//! only work makes go away, never does.

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
        // The metric changes under the same lock, so that it cannot be left saying what was true before.
        self.reasons.send_if_modified(|reasons| {
            let is_new = reasons.insert(reason);
            if is_new {
                self.metrics.held(&self.connector, reason, true);
            }
            is_new
        });
    }

    /// Takes a reason away.
    pub fn clear(&self, reason: Held) {
        self.reasons.send_if_modified(|reasons| {
            let was_there = reasons.remove(&reason);
            if was_there {
                self.metrics.held(&self.connector, reason, false);
            }
            was_there
        });
    }

    /// Adds a reason or takes it away.
    pub fn show(&self, reason: Held, is_held: bool) {
        if is_held { self.set(reason) } else { self.clear(reason) }
    }

    /// Whether no delivery of it may begin.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        is_stop(&self.reasons.borrow())
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

    /// Waits until its deliveries may begin. Cancel-safe.
    pub async fn released(&self) {
        // The sender lives in `self`: waiting cannot fail.
        let _ = self.reasons.subscribe().wait_for(|reasons| !is_stop(reasons)).await;
    }
}

fn is_stop(reasons: &BTreeSet<Held>) -> bool {
    reasons.iter().any(|reason| match reason {
        Held::Paused | Held::Brake | Held::DeadLetters | Held::Conflict => true,
        // Each worker looks at these for itself: one that waits for room must not stop the one that makes it.
        Held::Full | Held::Disk | Held::Breaker => false,
        // Nothing more is read; what was read has to be worked off.
        Held::Pending => false,
    })
}
