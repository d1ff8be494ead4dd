//! Handing in: from what calls decided to settlements on disk.
//!
//! Collects a worker's segments, keeps a few settlements on their way, runs deliveries again whose state conflicted, and
//! lets a call wait until all before it is committed. Invariant: what is handed in keeps the order in which it was
//! decided.

use std::collections::VecDeque;
use std::future::Future;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connector::{Connector, Entry, Turn};
use super::history::Record;
use super::segment::{Closed, Segment};
use super::tracing::{Source, Told};
use super::{Staged, outcome};
use crate::broker::{Batch, Worker};
use crate::feed::Delivered;
use crate::ledger::Receipt;
use crate::runtime::failure::Failure;
use crate::runtime::permit::Permit;
use crate::runtime::{BatchResult, Sandbox, Scope};
use crate::settlement::attempt::Attempt;
use crate::settlement::{
    Barrier, Delivery, Keeper, Outcome, Publish, SettleError, SubscriptionId, TickEnd, TickOutcome,
};

/// Settlements of a worker that may be on their way to the disk at once: enough to keep the writer busy while the next
/// run works, few enough that a crash repeats little.
const OUTSTANDING_MAX: usize = 4;
/// Conflicts in a row after which a delivery runs with the connector's other runs held back.
const CONFLICTS_MAX: u32 = 3;

/// One worker's way to the ledger.
pub(super) struct Handing {
    connector: Arc<Connector>,
    entry: Entry,
    is_ordered: bool,
    worker: Worker,
    segment: Segment,
    /// Counts segments, so that a session knows what it may see of uncommitted state.
    segments: u64,
    keeper: Keeper,
    outstanding: VecDeque<Handed>,
    turn: Option<Turn>,
}

/// Which subscription it is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its number in the ledger.
    pub subscription: SubscriptionId,
    /// Whether its queue keeps the order of keys.
    pub is_ordered: bool,
}

/// A settlement on its way to the disk, and when what it settles was accepted: counted, kept, and told, when it is there.
struct Handed {
    receipt: Receipt,
    accepted_ms: Vec<u64>,
    attempts: Vec<Attempt>,
    told: Vec<Told>,
    ended: Vec<Delivered>,
}

impl Handing {
    pub(super) fn new(connector: Arc<Connector>, entry: Entry, place: Place, worker: Worker) -> Self {
        let segment = Segment::new(place.subscription, connector.id);
        Self {
            connector,
            entry,
            is_ordered: place.is_ordered,
            worker,
            segment,
            segments: 0,
            keeper: Keeper::default(),
            outstanding: VecDeque::new(),
            turn: None,
        }
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    /// Waits for deliveries, finishing meanwhile what gets to the disk.
    pub(super) async fn lease(&mut self, batch: usize, batch_wait: Duration) -> Result<Batch, SettleError> {
        while let Some(oldest) = self.outstanding.front_mut() {
            tokio::select! {
                biased;
                leased = self.worker.lease(batch, batch_wait) => return Ok(leased),
                on_disk = &mut oldest.receipt => on_disk?,
            }
            let Some(handed) = self.outstanding.pop_front() else { break };
            self.finished(handed);
        }
        Ok(self.worker.lease(batch, batch_wait).await)
    }

    /// A run begins: what it works on is noted for the case of a crash.
    pub(super) fn begin(&mut self, batch: &Batch, turn: Turn) {
        self.turn = Some(turn);
        self.worker.begin(batch);
    }

    /// A run ends: hands in the rest.
    pub(super) async fn end(&mut self, permit: &Permit) -> Result<(), SettleError> {
        let handed = self.hand_in(permit).await;
        self.turn = None;
        handed
    }

    /// Gives deliveries back untouched.
    pub(super) fn release(&mut self, deliveries: Vec<Delivery>) {
        if !deliveries.is_empty() {
            self.worker.release(deliveries);
        }
    }

    /// Where the next call stands.
    pub(super) fn scope<'e>(&mut self, entry: &'e Entry, previous_ms: Option<u64>) -> Scope<'e> {
        self.segment.begin(Instant::now());
        if self.segment.is_empty() && self.outstanding.is_empty() {
            self.keeper.open();
        } else {
            self.keeper.close();
        }
        Scope { queue: entry.queue(), segment: self.segments, barrier: self.keeper.barrier(), previous_ms }
    }

    /// Runs a call. When its first unsafe request stands before the barrier, all that was decided before is committed.
    pub(super) async fn attend<F: Future>(&mut self, call: F, permit: &Permit) -> Result<F::Output, SettleError> {
        let mut call = std::pin::pin!(call);
        loop {
            tokio::select! {
                biased;
                output = &mut call => return Ok(output),
                () = self.keeper.demanded() => {}
            }
            Box::pin(self.hand_in(permit)).await?;
            self.drain().await?;
            self.keeper.open();
        }
    }

    pub(super) async fn succeed(
        &mut self,
        delivery: Delivery,
        staged: Staged,
        record: Record,
        permit: &Permit,
    ) -> Result<(), SettleError> {
        self.succeed_together(vec![delivery], staged, record, permit).await
    }

    pub(super) async fn succeed_together(
        &mut self,
        deliveries: Vec<Delivery>,
        staged: Staged,
        record: Record,
        permit: &Permit,
    ) -> Result<(), SettleError> {
        self.connector.brake.succeeded();
        let ends_here = staged.unsafe_sent || self.segment.is_old(Instant::now());
        self.note_success(deliveries, staged, record);
        if ends_here { self.hand_in(permit).await } else { Ok(()) }
    }

    fn note_success(&mut self, deliveries: impl IntoIterator<Item = Delivery>, staged: Staged, mut record: Record) {
        let (connector, queue) = (self.connector.clone(), self.entry.queue());
        record.keys = staged.state.writes.len();
        let published = |publish: &Publish| connector.plugin.grants().published(publish, true);
        for delivery in deliveries {
            let done = Outcome::Done;
            self.segment.trace(connector.tracing.ended(Source::Queue(queue), &delivery, &mut record, None, &done));
            self.segment.tell(connector.teller.ended(queue, &delivery, record.started_ms, &done));
            self.segment.note(connector.history.success(queue, &delivery, &record, &staged, published));
            self.segment.settle(delivery.origin, Outcome::Done);
            self.segment.keep(delivery);
        }
        let done = |(schedule, planned_ms)| TickEnd { schedule, planned_ms, outcome: TickOutcome::Done };
        self.segment.tick(staged.tick_done.map(done));
        self.segment.stage(staged.publishes, staged.reservation, staged.state);
    }

    /// A failure ends the segment before it, and is settled by itself.
    pub(super) async fn fail(
        &mut self,
        delivery: &Delivery,
        failure: Failure,
        mut record: Record,
        permit: &Permit,
    ) -> Result<(), SettleError> {
        self.hand_in(permit).await?;
        let kind = failure.kind();
        let outcome = self.failed(delivery, failure).await;
        self.tell(delivery, record.started_ms, &outcome);
        let (connector, queue) = (&self.connector, self.entry.queue());
        let told = connector.tracing.ended(Source::Queue(queue), delivery, &mut record, Some(kind), &outcome);
        self.segment.trace(told);
        self.segment.note(connector.history.failure(queue, delivery, record, &outcome));
        self.end_without_success(delivery, outcome);
        self.hand_in(permit).await
    }

    /// A tick whose place a later one has taken is settled, and is no failure.
    pub(super) async fn supersede(
        &mut self,
        delivery: &Delivery,
        mut record: Record,
        permit: &Permit,
    ) -> Result<(), SettleError> {
        self.hand_in(permit).await?;
        self.connector.report(delivery, &Outcome::Superseded).await;
        self.tell(delivery, record.started_ms, &Outcome::Superseded);
        let (queue, end) = (self.entry.queue(), Outcome::Superseded);
        let told = self.connector.tracing.ended(Source::Queue(queue), delivery, &mut record, None, &end);
        self.segment.trace(told);
        self.segment.note(self.connector.history.failure(queue, delivery, record, &Outcome::Superseded));
        self.end_without_success(delivery, Outcome::Superseded);
        self.hand_in(permit).await
    }

    fn tell(&mut self, delivery: &Delivery, started_ms: u64, outcome: &Outcome) {
        self.segment.tell(self.connector.teller.ended(self.entry.queue(), delivery, started_ms, outcome));
    }

    fn end_without_success(&mut self, delivery: &Delivery, outcome: Outcome) {
        self.segment.tick(self.entry.tick_end(delivery, &outcome));
        self.segment.settle(delivery.origin, outcome);
    }

    /// What becomes of a delivery that failed, as it is reported.
    async fn failed(&self, delivery: &Delivery, failure: Failure) -> Outcome {
        self.worker.lacks(delivery.origin, failure.lack());
        let connector = &self.connector;
        let now_ms = connector.clock.now_ms();
        let outcome = outcome::of_failure(&connector.policy, delivery, failure, now_ms, random());
        connector.report(delivery, &outcome).await;
        outcome
    }

    /// Settles what is never given to the plugin, and leaves the rest in the batch. Once the connector is held, by its
    /// brake too, what is left of these goes back.
    ///
    /// # Errors
    /// The ledger has stopped.
    pub(super) async fn settle_unrun(&mut self, batch: &mut Batch) -> Result<(), SettleError> {
        let connector = self.connector.clone();
        let now = connector.clock.now();
        let end = |delivery: &Delivery| outcome::without_run(&delivery.message, now);
        if !batch.deliveries.iter().any(|delivery| end(delivery).is_some()) {
            return Ok(());
        }
        let mut released = Vec::new();
        for delivery in std::mem::take(&mut batch.deliveries) {
            match end(&delivery) {
                None => batch.deliveries.push(delivery),
                Some(_) if connector.hold.is_stopped() => released.push(delivery),
                Some(outcome) => {
                    connector.report(&delivery, &outcome).await;
                    self.tell(&delivery, now.due_ms, &outcome);
                    self.segment.trace(connector.tracing.unrun(self.entry.queue(), &delivery, &outcome));
                    self.segment.settle(delivery.origin, outcome);
                }
            }
        }
        self.release(released);
        if let Some(closed) = self.segment.close() {
            // No state is in it: nothing of it runs again.
            self.settle(closed);
        }
        self.keep_few_outstanding().await
    }

    /// Host code broke while it worked for this worker, which `fresh` replaces. A delivery that it held alone is charged
    /// an attempt; of several each runs alone next.
    ///
    /// # Errors
    /// The ledger has stopped.
    pub(super) async fn replace_worker(&mut self, fresh: Worker, failure: Failure) -> Result<(), SettleError> {
        let broken = std::mem::replace(&mut self.worker, fresh);
        self.segment = Segment::new(self.segment.subscription(), self.connector.id);
        self.turn = None;
        let Some(delivery) = broken.broke() else { return Ok(()) };
        let outcome = self.failed(&delivery, failure).await;
        self.tell(&delivery, self.connector.clock.now_ms(), &outcome);
        self.end_without_success(&delivery, outcome);
        let Some(closed) = self.segment.close() else { return Ok(()) };
        broken.settle(closed.settlement).await?;
        self.connector.teller.tell(closed.ended);
        Ok(())
    }

    /// Hands in the segment, and waits where too much is on its way, or where state was touched.
    pub(super) async fn hand_in(&mut self, permit: &Permit) -> Result<(), SettleError> {
        let Some(closed) = self.segment.close() else { return Ok(()) };
        let deliveries = self.settle(closed);
        if !deliveries.is_empty() {
            return self.finish_stateful(deliveries, permit).await;
        }
        self.keep_few_outstanding().await
    }

    async fn keep_few_outstanding(&mut self) -> Result<(), SettleError> {
        while self.outstanding.len() > OUTSTANDING_MAX {
            self.finish_oldest().await?;
        }
        Ok(())
    }

    /// Answers the deliveries that must run again if the state conflicts.
    fn settle(&mut self, closed: Closed) -> Vec<Delivery> {
        self.segments += 1;
        let Closed { settlement, accepted_ms, attempts, ended, told, deliveries, reservation } = closed;
        let receipt = self.worker.settle(settlement);
        drop(reservation);
        self.outstanding.push_back(Handed { receipt, accepted_ms, attempts, ended, told });
        deliveries
    }

    /// Waits until everything that was handed in is committed.
    pub(super) async fn drain(&mut self) -> Result<(), SettleError> {
        while !self.outstanding.is_empty() {
            self.finish_oldest().await?;
        }
        Ok(())
    }

    async fn finish_oldest(&mut self) -> Result<(), SettleError> {
        let Some(mut handed) = self.outstanding.pop_front() else { return Ok(()) };
        if let Err(error) = (&mut handed.receipt).await {
            handed.told.into_iter().for_each(Told::conflicted);
            return Err(error);
        }
        self.finished(handed);
        Ok(())
    }

    /// It is on disk.
    fn finished(&self, handed: Handed) {
        self.count(&handed);
        self.connector.history.note(handed.attempts);
        self.connector.teller.tell(handed.ended);
        handed.told.into_iter().for_each(Told::committed);
    }

    /// Counts what is settled now, by when it was accepted.
    fn count(&self, Handed { accepted_ms, told, .. }: &Handed) {
        let now_ms = self.connector.clock.now_ms();
        self.connector.metrics.done.inc_by(accepted_ms.len() as u64);
        let mut told = told.iter().peekable();
        for (place, accepted_ms) in accepted_ms.iter().enumerate() {
            let seconds = Duration::from_millis(now_ms.saturating_sub(*accepted_ms)).as_secs_f64();
            let trace = told.next_if(|told| told.place == place).map(Told::trace);
            self.connector.metrics.delivery_seconds.observe(seconds, trace.as_ref());
        }
    }

    /// A segment that touched state may conflict: then its deliveries run again one by one, at no attempt.
    async fn finish_stateful(&mut self, deliveries: Vec<Delivery>, permit: &Permit) -> Result<(), SettleError> {
        match self.drain().await {
            Err(SettleError::Conflict) => {
                self.worker.begin_again(&deliveries);
                for delivery in deliveries {
                    Box::pin(self.run_again(delivery, permit)).await?;
                }
                Ok(())
            }
            result => result,
        }
    }

    /// Runs a delivery by itself until it does not conflict. After [`CONFLICTS_MAX`] conflicts in a row the connector's
    /// other runs are held back meanwhile, so nobody is left to conflict with.
    async fn run_again(&mut self, delivery: Delivery, permit: &Permit) -> Result<(), SettleError> {
        // The conflict that brought it here was the first.
        let mut conflicts = 1;
        loop {
            self.connector.metrics.conflicts.inc();
            if conflicts >= CONFLICTS_MAX {
                self.turn = None;
                self.turn = Some(Turn::take_alone(&self.connector).await);
            }
            if self.attempt_again(&delivery, permit).await? {
                break;
            }
            self.worker.begin_again(from_ref(&delivery));
            conflicts += 1;
        }
        if conflicts >= CONFLICTS_MAX {
            self.turn = None;
            self.turn = Some(Turn::take(&self.connector).await);
        }
        Ok(())
    }

    /// Whether the delivery is settled now; it is not when the state conflicted again.
    async fn attempt_again(&mut self, delivery: &Delivery, permit: &Permit) -> Result<bool, SettleError> {
        let connector = self.connector.clone();
        let previous_ms = self.entry.previous_ms(&connector, delivery);
        let queue = self.entry.queue();
        let scope = Scope { queue, segment: self.segments, barrier: Barrier::default(), previous_ms };
        let started_ms = connector.clock.now_ms();
        let (result, record) = match connector.plugin.sandbox(permit).await {
            Ok(mut sandbox) => {
                let result = call_again(&self.entry, &mut sandbox, &scope, delivery).await;
                (result, Record::of(&mut sandbox, started_ms))
            }
            Err(failure) => (Err(failure), Record::empty(started_ms)),
        };
        let staged = match result {
            Ok(staged) => staged,
            Err(failure) => {
                Box::pin(self.fail(delivery, failure, record, permit)).await?;
                // The next one runs behind no barrier: what was decided before it must be on disk.
                self.drain().await?;
                return Ok(true);
            }
        };
        self.note_success([delivery.clone()], staged, record);
        if let Some(closed) = self.segment.close() {
            self.settle(closed);
        }
        match self.drain().await {
            Ok(()) => Ok(true),
            Err(SettleError::Conflict) => Ok(false),
            Err(error @ SettleError::Closed) => Err(error),
        }
    }
}

/// One delivery by itself, called as it was the first time.
async fn call_again(
    entry: &Entry,
    sandbox: &mut Sandbox,
    scope: &Scope<'_>,
    delivery: &Delivery,
) -> Result<Staged, Failure> {
    match entry {
        Entry::Message { .. } | Entry::Inbox { .. } => sandbox.deliver(scope, delivery).await,
        Entry::Batch { .. } => {
            let BatchResult { results, staged, .. } = sandbox.handle_batch(scope, from_ref(delivery)).await?;
            results.into_iter().collect::<Result<(), Failure>>()?;
            Ok(staged)
        }
    }
}

/// A number in `0.0..1.0`, for jitter.
fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness the full delay is as good.
    if getrandom::fill(&mut bytes).is_err() {
        return 1.0;
    }
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}
