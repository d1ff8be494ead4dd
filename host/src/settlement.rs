//! A delivery, and what a run decided about it, as values.
//!
//! A [`Settlement`] is the only thing that a run hands back: the ledger commits all of it in one transaction, or none.
//! It does not know how either is stored.

pub mod attempt;

use std::sync::Arc;

use tokio::sync::{Notify, watch};

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
    /// A tick whose place a later one has taken: settled, and neither a success nor a failure.
    Superseded,
}

/// A message that a run published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The queue that it goes to.
    pub queue: QueueId,
    /// The message.
    pub draft: Draft,
}

/// Room that a call wanted in a queue and did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// Where.
    pub queue: QueueId,
    /// Of all that the call would have published there.
    pub bytes: u64,
    /// How far it may go over the queue's bound, in bytes.
    pub beyond: u64,
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

/// What makes later requests of a webhook repeats of one that is accepted, in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The inbox under whose `dedup` they are remembered.
    pub inbox: QueueId,
    /// What each of its repeats has in common with it: the event's id, or the value of its signature.
    pub keys: Vec<String>,
    /// The id of the message that it became, or of the request.
    pub message_id: String,
    /// What was answered, where a repeat gets the same.
    pub answer: Option<Vec<u8>>,
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
    /// For a request that its plugin answered: how its repeats are known.
    pub mark: Option<Mark>,
    /// For an inbox: what became of the tick that is settled here, or put off.
    pub tick: Option<TickEnd>,
}

/// What an attempt at a tick came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickEnd {
    /// Which of the connector's schedules.
    pub schedule: String,
    /// The planned time, in milliseconds since the Unix epoch.
    pub planned_ms: u64,
    /// What it came to.
    pub outcome: TickOutcome,
}

/// The outcome of a tick, as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickOutcome {
    /// It succeeded: its planned time becomes `previous-ms`.
    Done,
    /// It waits for its next attempt.
    Retry,
    /// It became a dead letter.
    Dead,
    /// A later tick took its place.
    Cancelled,
}

impl TickOutcome {
    /// The word for it, in the ledger and for operators.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry => "retry",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
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

/// What a call waits behind before its first unsafe request: everything that its worker has decided so far must be
/// committed. Cheap to clone; the default one is open for ever.
#[derive(Clone, Debug, Default)]
pub struct Barrier(Option<Arc<Shared>>);

/// The worker's side of its [`Barrier`]s.
#[derive(Debug)]
pub struct Keeper(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    is_open: watch::Sender<bool>,
    demand: Notify,
}

impl Barrier {
    /// Asks for the commit and waits for it. Cancel-safe; answers at once where nothing is outstanding.
    pub async fn passed(&self) {
        let Some(shared) = &self.0 else { return };
        let mut is_open = shared.is_open.subscribe();
        if *is_open.borrow_and_update() {
            return;
        }
        shared.demand.notify_one();
        // The sender lives in `shared`, which `self` holds: waiting cannot fail.
        let _ = is_open.wait_for(|open| *open).await;
    }
}

impl Default for Keeper {
    fn default() -> Self {
        Self(Arc::new(Shared { is_open: watch::Sender::new(true), demand: Notify::new() }))
    }
}

impl Keeper {
    /// A barrier that follows this keeper.
    #[must_use]
    pub fn barrier(&self) -> Barrier {
        Barrier(Some(self.0.clone()))
    }

    /// Something is outstanding: calls that want to send an unsafe request wait.
    pub fn close(&self) {
        self.0.is_open.send_if_modified(|open| std::mem::replace(open, false));
    }

    /// Everything is committed: waiting calls go on.
    pub fn open(&self) {
        self.0.is_open.send_if_modified(|open| !std::mem::replace(open, true));
    }

    /// Waits until a call stands before the closed barrier. Cancel-safe.
    pub async fn demanded(&self) {
        self.0.demand.notified().await;
    }
}
