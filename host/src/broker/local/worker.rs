//! A worker: leases a batch, says what it runs, hands in what became of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::lease::Taken;
use super::{Batch, Shared};
use crate::ledger::{Receipt, Slot};
use crate::settlement::{Delivery, Lack, Origin, Settlement};

/// One worker of a subscription. What it has leased and neither handed in nor released is delivered again when it is
/// dropped.
#[derive(Debug)]
pub struct Worker {
    subscription: Arc<Shared>,
    number: u64,
    slot: Slot,
    /// Deliveries of the run under way that are not decided yet.
    undecided: AtomicUsize,
    /// Whether the run under way is that of a suspect.
    is_alone: AtomicBool,
    /// How long it has waited to fill a batch.
    filling_since: Mutex<Option<Instant>>,
}

/// What looking for work came to.
enum Found {
    Batch(Batch),
    /// Nothing until something changes, or until this time.
    Nothing {
        until: Option<Instant>,
        waits_alone: bool,
    },
}

impl Worker {
    pub(super) fn new(subscription: Arc<Shared>, number: u64) -> Self {
        let slot = subscription.inflight.slot();
        Self {
            subscription,
            number,
            slot,
            undecided: AtomicUsize::new(0),
            is_alone: AtomicBool::new(false),
            filling_since: Mutex::default(),
        }
    }

    /// Waits until something is deliverable, and leases up to `max` of it, waiting up to `batch_wait` to fill the
    /// batch. Cancel-safe: a lease that is not answered was not made.
    pub async fn lease(&self, max: usize, batch_wait: Duration) -> Batch {
        let mut tail = self.subscription.tail.clone();
        let mut permit = None;
        loop {
            let woken = self.subscription.wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            tail.mark_unchanged();
            let (until, waits_alone) = match self.find(max, batch_wait, permit.take()) {
                Found::Batch(batch) => return batch,
                Found::Nothing { until, waits_alone } => (until, waits_alone),
            };
            tokio::select! {
                () = woken => {}
                _ = tail.changed() => {}
                () = sleep_until(until) => {}
                free = self.subscription.alone.clone().acquire_owned(), if waits_alone => permit = free.ok(),
            }
        }
    }

    /// Leases up to `max` messages if some are deliverable right now.
    #[must_use]
    pub fn try_lease(&self, max: usize) -> Option<Batch> {
        match self.find(max, Duration::ZERO, None) {
            Found::Batch(batch) => Some(batch),
            Found::Nothing { .. } => None,
        }
    }

    /// Says that a run of these deliveries begins: if the process dies, they are suspects.
    pub fn begin(&self, batch: &Batch) {
        self.undecided.store(batch.deliveries.len(), Ordering::Relaxed);
        self.is_alone.store(batch.alone, Ordering::Relaxed);
        self.note(&batch.deliveries);
    }

    /// Says that what was decided about these did not hold, and that they run again: they are suspects once more.
    pub fn begin_again(&self, deliveries: &[Delivery]) {
        let before = self.undecided.fetch_add(deliveries.len(), Ordering::Relaxed);
        // Before the last one of a run is decided the slot still names all of them.
        if before == 0 {
            self.note(deliveries);
        }
    }

    fn note(&self, deliveries: &[Delivery]) {
        let origins = deliveries.iter().map(|delivery| delivery.origin);
        self.slot.write(self.subscription.settings.subscription, origins, self.is_alone.load(Ordering::Relaxed));
    }

    /// Hands in what a segment decided. On a conflict its deliveries stay leased to this worker, which runs them again
    /// (see [`Worker::begin_again`]).
    pub fn settle(&self, settlement: Settlement) -> Receipt {
        self.decided(settlement.outcomes.len());
        self.subscription.lock().leases.hand_in(&settlement.outcomes);
        self.subscription.ledger.settle_returning(settlement, Some(self.subscription.returns.clone()))
    }

    /// Says for what room a delivery waits, now that it has failed; `None` where it waits for something else.
    pub fn lacks(&self, origin: Origin, lack: Option<Lack>) {
        self.subscription.lock().leases.lacks(origin, lack);
    }

    /// Gives deliveries back untouched, at no attempt.
    pub fn release(&self, deliveries: Vec<Delivery>) {
        self.decided(deliveries.len());
        let now_ms = self.subscription.ledger.clock().now_ms();
        let mut state = self.subscription.lock();
        state.leases.release(deliveries, now_ms);
        state.free_alone();
        drop(state);
        self.subscription.wake.notify_one();
    }

    /// Whatever ran its deliveries broke: the one that it still holds, if it is one alone. Where there are several, each
    /// of them runs alone next, so that it is known which one breaks what runs it.
    #[must_use]
    pub fn broke(&self) -> Option<Delivery> {
        let mut held = self.subscription.lock().leases.suspect(self.number);
        let (origin, attempts) = held.pop().filter(|_| held.is_empty())?;
        let message = self.subscription.ledger.read_message(self.subscription.settings.queue, origin);
        let message = message.inspect_err(|error| tracing::warn!(%error, "cannot read the ledger")).ok()??;
        Some(Delivery { origin, attempt: attempts + 1, message })
    }

    /// Clears the slot once every delivery of the run is decided.
    fn decided(&self, deliveries: usize) {
        let before = self.undecided.load(Ordering::Relaxed);
        let left = before.saturating_sub(deliveries);
        self.undecided.store(left, Ordering::Relaxed);
        if before > 0 && left == 0 {
            self.slot.clear();
        }
    }

    fn find(&self, max: usize, batch_wait: Duration, permit: Option<OwnedSemaphorePermit>) -> Found {
        let subscription = &self.subscription;
        let tail = *subscription.tail.borrow();
        let mut state = subscription.lock();
        // Read under the lock, so that it is no earlier than the time by which messages were found to be due.
        let now_ms = subscription.ledger.clock().now_ms();
        state.leases.tick(now_ms);
        let mut taken = Taken::default();
        let mut waits_alone = false;
        if state.leases.has_lone() {
            match permit.or_else(|| subscription.alone.clone().try_acquire_owned().ok()) {
                Some(permit) => {
                    taken = state.leases.take_lone(self.number, now_ms);
                    state.alone = taken.is_alone.then_some(permit);
                }
                None => waits_alone = true,
            }
        }
        let fills_until = self.fills_until(state.leases.counts(tail).ready, max, batch_wait);
        if taken.deliveries.is_empty() && fills_until.is_none() {
            taken = state.leases.take(self.number, max, now_ms);
        }
        subscription.read_ahead(&mut state, tail);
        let next_due_ms = state.leases.next_due_ms();
        let has_more = state.leases.has_ready();
        drop(state);
        if taken.deliveries.is_empty() {
            let due = next_due_ms.map(|due_ms| Instant::now() + Duration::from_millis(due_ms.saturating_sub(now_ms)));
            return Found::Nothing { until: earlier(due, fills_until), waits_alone };
        }
        *self.filling_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if has_more {
            subscription.wake.notify_one();
        }
        Found::Batch(Batch { deliveries: taken.deliveries, alone: taken.is_alone })
    }

    /// Until when to wait for more; `None` where there is enough, nothing, or no wish to wait.
    fn fills_until(&self, ready: usize, max: usize, batch_wait: Duration) -> Option<Instant> {
        if batch_wait.is_zero() || ready == 0 || ready >= max {
            return None;
        }
        let mut since = self.filling_since.lock().unwrap_or_else(PoisonError::into_inner);
        let until = *since.get_or_insert_with(Instant::now) + batch_wait;
        (until > Instant::now()).then_some(until)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let now_ms = self.subscription.ledger.clock().now_ms();
        let mut state = self.subscription.lock();
        state.leases.abandon(self.number, now_ms);
        state.free_alone();
        drop(state);
        self.subscription.wake.notify_one();
    }
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
