//! What keeps a queue: the embedded ledger today; outside brokers are variants to come.
//!
//! A broker hands out subscriptions, a subscription hands out workers, and a worker leases batches of deliveries. What a
//! delivery leads to comes back as a settlement. Invariant: a delivery is leased to one worker at a time.

pub mod local;

use crate::ledger::Ledger;
use crate::settlement::{Delivery, QueueId, SubscriptionId};

pub use crate::ledger::Receipt;
pub use local::{Batch, Counts, KeysInBatch, Subscription, SubscriptionSettings, Worker};

/// Where deliveries come from.
#[derive(Debug)]
pub enum Broker {
    /// The ledger of this process.
    Local(local::Local),
}

impl Broker {
    /// The embedded broker on an open ledger.
    ///
    /// # Errors
    /// The in-flight file could not be opened, or the reader's thread not be started.
    pub fn local(ledger: Ledger) -> anyhow::Result<Self> {
        Ok(Self::Local(local::Local::start(ledger)?))
    }

    /// The unsettled deliveries of a subscription that were running alone when the last process died: each is to be
    /// charged an attempt before [`Broker::subscribe`].
    ///
    /// # Errors
    /// The ledger could not be read.
    pub fn crashed(&self, subscription: SubscriptionId, queue: QueueId) -> anyhow::Result<Vec<Delivery>> {
        match self {
            Self::Local(local) => local.crashed(subscription, queue),
        }
    }

    /// Begins to read a subscription.
    ///
    /// # Errors
    /// The ledger could not be read.
    pub fn subscribe(&self, settings: SubscriptionSettings) -> anyhow::Result<Subscription> {
        match self {
            Self::Local(local) => local.subscribe(settings),
        }
    }
}
