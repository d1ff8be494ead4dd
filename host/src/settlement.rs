//! A delivery, and what a run decided about it, as values.
//!
//! A [`Settlement`] is the only thing that a run hands back: the ledger commits all of it in one transaction, or none.
//! It does not know how either is stored.

use crate::message::{Draft, Message};

/// A queue's number in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u32);

/// A connector's number in the ledger; it survives a rename (`was`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectorId(pub u32);

/// A subscription's number in the ledger: one connector reading one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u32);

/// Where the delivered copy of a message lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// In the queue's log, at this sequence number (from 1, dense).
    Log(u64),
    /// Outside the log, in the table of parked messages, under this row.
    Parked(i64),
}

/// One message for one connector, until it is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where it lies.
    pub origin: Origin,
    /// 1 + the attempts charged so far.
    pub attempt: u32,
    /// What is delivered.
    pub message: Message,
}

/// What became of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged.
    Done,
    /// To be delivered again, no sooner than `due_ms`.
    Retry {
        /// Ledger time, in milliseconds since the Unix epoch.
        due_ms: u64,
        /// Whether this attempt counts against `retry.attempts`.
        charged: bool,
        /// Why, for people.
        reason: String,
    },
    /// Never again: a dead letter.
    Dead {
        /// Why, for people.
        reason: String,
    },
    /// Past its `expires`: settled without a run, and counted.
    Expired,
}

/// A message that a run published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The queue that it goes to.
    pub queue: QueueId,
    /// The message.
    pub draft: Draft,
}

/// A version of a key of connector state: 0 for an absent key; grows with every write of the connector.
pub type StateVersion = u64;

/// What a run saw of its connector's state and wants to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateChanges {
    /// The version of every key at first touch (reads, also of absent keys, and blind writes).
    pub seen: Vec<(String, StateVersion)>,
    /// The bucket's version, where the run listed keys.
    pub listed: Option<StateVersion>,
    /// New values; `None` deletes.
    pub writes: Vec<(String, Option<Vec<u8>>)>,
}

impl StateChanges {
    /// Whether nothing was read or written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.listed.is_none() && self.writes.is_empty()
    }
}

/// What a segment of a run decided: committed in one transaction, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Whose deliveries these are.
    pub subscription: SubscriptionId,
    /// Whose state it is.
    pub connector: ConnectorId,
    /// One entry for each delivery that is settled here.
    pub outcomes: Vec<(Origin, Outcome)>,
    /// In the order in which they were published.
    pub publishes: Vec<Publish>,
    /// State read and written.
    pub state: StateChanges,
    /// For an inbox: the tick (schedule name, planned time) whose success becomes `previous-ms`.
    pub tick_done: Option<(String, u64)>,
}

/// Why a settlement was not committed.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// A state key changed since the run saw it: run the deliveries again, at no attempt.
    #[error("state changed while the run worked")]
    Conflict,
    /// The ledger has stopped; the process is about to end.
    #[error("the ledger has stopped")]
    Closed,
}

/// Opens when everything that a worker handed in before is committed; the gate waits for it before the first unsafe
/// request of a call. Cheap to clone; one that was never closed is open.
#[derive(Clone, Debug, Default)]
pub struct Barrier(Option<tokio::sync::watch::Receiver<bool>>);

impl Barrier {
    /// A closed barrier, and the sender that opens it with `true`. Dropping the sender leaves it closed for ever: the
    /// call waits until its own deadline ends it.
    #[must_use]
    pub fn closed() -> (tokio::sync::watch::Sender<bool>, Self) {
        let (sender, receiver) = tokio::sync::watch::channel(false);
        (sender, Self(Some(receiver)))
    }

    /// Waits until it is open. Cancel-safe.
    pub async fn passed(&mut self) {
        if let Some(receiver) = &mut self.0
            && receiver.wait_for(|open| *open).await.is_err()
        {
            std::future::pending::<()>().await;
        }
        self.0 = None;
    }
}
