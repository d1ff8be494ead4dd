//! Why a connector takes no work just now.
//!
//! A set of reasons per connector, as the metric shows it. Which reasons are stored (pause, brake) is the ledger's matter.
//! Invariant: only a reason that stops all work keeps workers from leasing; one that its own workers find out, and that
//! only work makes go away, never does.

use std::collections::BTreeMap;

use tokio::sync::watch;

use crate::clock::{self, rfc3339};
use crate::feed::{Feed, HeldChange, Kind};
use crate::id::Name;
use crate::metrics::{Held, Metrics};

/// The reasons that hold one connector. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hold {
    connector: Name,
    metrics: Metrics,
    feed: Feed,
    /// How many say so; none says it of a reason that is not here.
    reasons: watch::Sender<BTreeMap<Held, usize>>,
}

impl Hold {
    /// Nothing holds it yet.
    #[must_use]
    pub fn new(connector: Name, metrics: Metrics, feed: Feed) -> Self {
        Self { connector, metrics, feed, reasons: watch::Sender::default() }
    }

    /// Adds a reason.
    pub fn set(&self, reason: Held) {
        self.change(reason, |_| 1);
    }

    /// Takes a reason away.
    pub fn clear(&self, reason: Held) {
        self.change(reason, |_| 0);
    }

    /// Says that this reason is there for the caller, until the answer is dropped. It may be for others beside it.
    #[must_use]
    pub fn wait(&self, reason: Held) -> Waiting {
        self.change(reason, |waiting| waiting + 1);
        Waiting { hold: self.clone(), reason }
    }

    fn change(&self, reason: Held, change: impl FnOnce(usize) -> usize) {
        // The metric changes under the same lock, so that it cannot be left saying what was true before.
        self.reasons.send_if_modified(|reasons| {
            let before = reasons.remove(&reason).unwrap_or(0);
            let after = change(before);
            if after > 0 {
                reasons.insert(reason, after);
            }
            let is_other = (before > 0) != (after > 0);
            if is_other {
                self.tell(reason, after > 0);
            }
            is_other
        });
    }

    fn tell(&self, reason: Held, is_held: bool) {
        let connector = &self.connector;
        self.metrics.held(connector, reason, is_held);
        self.feed.tell(Kind::Held, Some(connector.as_str()), || {
            let (at, connector) = (rfc3339(clock::wall_ms()), connector.to_string());
            HeldChange { at, connector, reason: reason.label(), is_held }
        });
    }

    /// Takes every reason away: its connector is not there any more.
    pub fn end(&self) {
        self.reasons().into_iter().for_each(|reason| self.clear(reason));
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
        reasons.contains_key(&Held::Paused) || reasons.contains_key(&Held::Brake)
    }

    /// Every reason, in a fixed order.
    #[must_use]
    pub fn reasons(&self) -> Vec<Held> {
        self.reasons.borrow().keys().copied().collect()
    }

    /// Waits until its deliveries may begin. Cancel-safe.
    pub async fn released(&self) {
        // The sender lives in `self`: waiting cannot fail.
        let _ = self.reasons.subscribe().wait_for(|reasons| !is_stop(reasons)).await;
    }
}

/// One of those for whom a reason is there.
#[derive(Debug)]
pub struct Waiting {
    hold: Hold,
    reason: Held,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.hold.change(self.reason, |waiting| waiting.saturating_sub(1));
    }
}

fn is_stop(reasons: &BTreeMap<Held, usize>) -> bool {
    reasons.keys().any(|reason| match reason {
        Held::Paused | Held::Brake | Held::DeadLetters | Held::Conflict => true,
        // Each worker looks at these for itself: one that waits for room must not stop the one that makes it.
        Held::Full | Held::Disk | Held::Breaker => false,
        // Nothing more is read; what was read has to be worked off.
        Held::Pending => false,
        // Each worker waits for tokens of its own.
        Held::Rate => false,
    })
}
