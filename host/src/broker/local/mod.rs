//! Local queues: subscriptions on the ledger of this process.
//!
//! Owns leases and prefetch; what is stored, and when it is on disk, belongs to the ledger. One thread reads ahead for
//! all subscriptions. Invariant: lease state follows what is on disk, not what was handed in, so that the next run of a
//! key starts after the commit of the one before.

mod lane;
mod lease;
mod reader;
mod worker;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use crate::ledger::{Inflight, Ledger, Returns, Suspect, Tail};
use crate::settlement::{Delivery, Origin, QueueId, SubscriptionId};

pub use lease::{Counts, KeysInBatch};
pub use worker::Worker;

use lease::{Leases, Rules};
use reader::Reader;

/// A batch of deliveries for one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// At least one; consecutive ones of a key are in order.
    pub deliveries: Vec<Delivery>,
    /// Whether it holds a suspect, the only one that runs in the host.
    pub alone: bool,
}

/// How a subscription is read.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionSettings {
    /// Which one.
    pub subscription: SubscriptionId,
    /// Its queue.
    pub queue: QueueId,
    /// Unfinished messages before it reads no further.
    pub pending_max: usize,
    /// How many messages of a key a batch may hold.
    pub keys: KeysInBatch,
}

/// The embedded broker.
#[derive(Debug)]
pub struct Local {
    ledger: Ledger,
    inflight: Arc<Inflight>,
    suspects: Mutex<Vec<Suspect>>,
    /// Held by the one suspect that runs.
    alone: Arc<Semaphore>,
    reader: Reader,
}

impl Local {
    /// Opens the in-flight file and starts the thread that reads ahead.
    ///
    /// # Errors
    /// The file could not be opened, or the thread not be started.
    pub fn start(ledger: Ledger) -> anyhow::Result<Self> {
        let (inflight, suspects) = ledger.open_inflight()?;
        let reader = Reader::start(ledger.clone()).context("cannot start the thread that reads ahead")?;
        Ok(Self { ledger, inflight, suspects: Mutex::new(suspects), alone: Arc::new(Semaphore::new(1)), reader })
    }

    /// The unsettled deliveries of a subscription that were running alone when the last process died.
    ///
    /// # Errors
    /// The ledger could not be read.
    pub fn crashed(&self, subscription: SubscriptionId, queue: QueueId) -> anyhow::Result<Vec<Delivery>> {
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let alone = suspects.iter().filter(|suspect| suspect.subscription == subscription && suspect.was_alone);
        let origins: HashSet<Origin> = alone.map(|suspect| suspect.origin).collect();
        drop(suspects);
        origins.into_iter().filter_map(|origin| self.unsettled(subscription, queue, origin).transpose()).collect()
    }

    fn unsettled(
        &self,
        subscription: SubscriptionId,
        queue: QueueId,
        origin: Origin,
    ) -> anyhow::Result<Option<Delivery>> {
        let Some(attempts) = self.ledger.attempts(subscription, origin)? else { return Ok(None) };
        let message = self.ledger.read_message(queue, origin)?;
        Ok(message.map(|message| Delivery { origin, attempt: attempts + 1, message }))
    }

    /// Begins to read a subscription. What [`Local::crashed`] answers has been charged by now.
    ///
    /// # Errors
    /// The ledger could not be read.
    pub fn subscribe(&self, settings: SubscriptionSettings) -> anyhow::Result<Subscription> {
        let suspects = self.suspects_of(settings.subscription);
        let rules = Rules {
            ordering: self.ledger.policy(settings.queue).ordering,
            keys: settings.keys,
            pending_max: settings.pending_max,
        };
        let position = self.ledger.position(settings.subscription)?;
        let wake = Arc::new(Notify::new());
        let state = State { leases: Leases::new(rules, position, suspects), alone: None, is_reading: false };
        Ok(Subscription(Arc::new(Shared {
            settings,
            tail: self.ledger.tail(settings.queue),
            ledger: self.ledger.clone(),
            inflight: self.inflight.clone(),
            alone: self.alone.clone(),
            reader: self.reader.handle(),
            returns: Returns::new(wake.clone()),
            wake,
            workers: AtomicU64::new(0),
            state: Mutex::new(state),
        })))
    }

    fn suspects_of(&self, subscription: SubscriptionId) -> HashSet<Origin> {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let own = suspects.extract_if(.., |suspect| suspect.subscription == subscription);
        own.map(|suspect| suspect.origin).collect()
    }
}

/// One connector reading one queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Subscription(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: SubscriptionSettings,
    ledger: Ledger,
    inflight: Arc<Inflight>,
    alone: Arc<Semaphore>,
    reader: reader::Handle,
    tail: watch::Receiver<Tail>,
    wake: Arc<Notify>,
    returns: Returns,
    workers: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    leases: Leases,
    /// The host's permit to run a suspect, while one of this subscription runs.
    alone: Option<OwnedSemaphorePermit>,
    /// Whether the reader has this subscription in its queue.
    is_reading: bool,
}

impl Subscription {
    /// A worker of this subscription; each runs one batch at a time.
    #[must_use]
    pub fn worker(&self) -> Worker {
        let number = self.0.workers.fetch_add(1, Ordering::Relaxed);
        Worker::new(self.0.clone(), number)
    }

    /// How it stands.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let tail = *self.0.tail.borrow();
        self.0.lock().leases.counts(tail)
    }

    /// Whether nothing is deliverable or in flight, and nothing becomes due within `horizon_ms`.
    ///
    /// # Errors
    /// The ledger could not be read.
    pub fn is_idle(&self, horizon_ms: u64) -> anyhow::Result<bool> {
        let shared = &self.0;
        let until_ms = shared.ledger.clock().now_ms().saturating_add(horizon_ms);
        let tail = *shared.tail.borrow();
        let mut state = shared.lock();
        shared.read_ahead(&mut state, tail);
        if state.is_reading || !state.leases.is_quiet(tail, until_ms) {
            return Ok(false);
        }
        drop(state);
        Ok(shared.ledger.next_delayed_ms(shared.settings.queue)?.is_none_or(|due_ms| due_ms > until_ms))
    }

    /// A queue that has not the room for which all waits that is deliverable, in flight, or due within `horizon_ms`;
    /// `None` where anything waits for something else.
    ///
    /// # Errors
    /// The ledger could not be read.
    pub fn lacks_room(&self, horizon_ms: u64) -> anyhow::Result<Option<QueueId>> {
        let shared = &self.0;
        let until_ms = shared.ledger.clock().now_ms().saturating_add(horizon_ms);
        let tail = *shared.tail.borrow();
        let lacking = shared.lock().leases.lacking(tail, until_ms, |lack| shared.ledger.has_room(lack));
        let Some(queue) = lacking else { return Ok(None) };
        let delayed_ms = shared.ledger.next_delayed_ms(shared.settings.queue)?;
        Ok(delayed_ms.is_none_or(|due_ms| due_ms > until_ms).then_some(queue))
    }
}

impl Shared {
    /// The state, after what has come back from the ledger was taken in.
    fn lock(&self) -> MutexGuard<'_, State> {
        let returned = self.returns.take();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !returned.is_empty() {
            let now_ms = self.ledger.clock().now_ms();
            returned.into_iter().for_each(|settlement| state.leases.returned(settlement, now_ms));
            state.free_alone();
        }
        state
    }

    /// Has the reader read what is wanted, if anything is.
    fn read_ahead(self: &Arc<Self>, state: &mut State, tail: Tail) {
        if !state.is_reading && state.leases.wants(tail) {
            state.is_reading = true;
            self.reader.ask(self.clone());
        }
    }
}

impl State {
    /// Gives the permit back once its suspect is not leased any more.
    fn free_alone(&mut self) {
        if !self.leases.is_alone_leased() {
            self.alone = None;
        }
    }
}
