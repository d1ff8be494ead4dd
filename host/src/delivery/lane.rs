//! The lane of one worker: batches of deliveries in, settlements out.
//!
//! A run is one sandbox working through a batch, one call each (or one for all). What a run decided is handed in by
//! segments; a call that failed costs its own delivery and its sandbox, the rest goes on in a fresh one. Invariant: a
//! delivery that was leased is settled, released, or (after a crash) delivered again; it is never dropped.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::behind::FailedKeys;
use super::connector::{Connector, Entry, Turn};
use super::handing::Handing;
pub use super::handing::Place;
use super::history::Record;
use crate::broker::{Batch, Worker};
use crate::metrics::Held;
use crate::runtime::permit::Permit;
use crate::runtime::{Sandbox, failure::Failure};
use crate::settlement::{Delivery, SettleError};

/// One worker of one subscription.
pub struct Lane {
    connector: Arc<Connector>,
    entry: Entry,
    handing: Handing,
    stop: watch::Receiver<bool>,
    /// The sandbox of the run, until a call in it fails; with `reuse = "always"` that of the run before too.
    sandbox: Option<Sandbox>,
}

/// How a batch came through the connector's rate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paced {
    AtOnce,
    Waited,
}

/// What one call came to.
enum Attempt {
    /// It answered, or failed.
    Ended(Result<super::Staged, Failure>, Record),
    /// It was not made, or was ended: a later tick takes its place.
    Superseded(Record),
}

impl Lane {
    /// A lane for a worker; `stop` turns true when no further call may begin.
    #[must_use]
    pub fn new(
        connector: Arc<Connector>,
        entry: Entry,
        place: Place,
        worker: Worker,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let handing = Handing::new(connector.clone(), entry.clone(), place, worker);
        Self { connector, entry, handing, stop, sandbox: None }
    }

    /// Waits for deliveries, counting meanwhile what gets to the disk. Cancel-safe.
    ///
    /// # Errors
    /// The ledger has stopped.
    pub async fn lease(&mut self, batch: usize, batch_wait: Duration) -> Result<Batch, SettleError> {
        self.handing.lease(batch, batch_wait).await
    }

    /// Gives a batch back untouched.
    pub fn release(&mut self, batch: Batch) {
        self.handing.release(batch.deliveries);
    }

    /// The connector that it works for.
    #[must_use]
    pub fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// Runs a batch to its end: every delivery in it is handed in or released.
    ///
    /// # Errors
    /// The ledger has stopped; what was not committed is delivered again after the next start.
    pub async fn deliver(&mut self, mut batch: Batch) -> Result<(), SettleError> {
        self.handing.settle_unrun(&mut batch).await?;
        if self.pace(&mut batch).await? == Paced::Waited {
            // Some may have expired meanwhile.
            self.handing.settle_unrun(&mut batch).await?;
        }
        if batch.deliveries.is_empty() {
            return Ok(());
        }
        let permit = self.connector.permits.acquire(&self.connector.name, self.connector.plugin.memory_bytes()).await;
        let turn = Turn::take(&self.connector).await;
        self.handing.begin(&batch, turn);
        match self.entry {
            Entry::Batch { .. } => self.run_together(batch.deliveries, &permit).await?,
            Entry::Message { .. } | Entry::Inbox { .. } => self.run_one_by_one(batch.deliveries, &permit).await?,
        }
        let keeps = self.connector.keeps_sandbox;
        self.sandbox = self.sandbox.take().filter(|sandbox| keeps && !sandbox.is_worn());
        self.handing.end(&permit).await
    }

    /// Goes on with another worker after host code panicked outside a call, which costs what was under way an attempt.
    ///
    /// # Errors
    /// The ledger has stopped.
    pub async fn recover(&mut self, fresh: Worker, panic: &str) -> Result<(), SettleError> {
        self.sandbox = None;
        self.connector.plugin.grants().metrics().panicked();
        tracing::error!(connector = %self.connector.name, "the host failed between two calls, the worker goes on: {panic}");
        let reason = format!("the host failed while it delivered: {panic}");
        self.handing.replace_worker(fresh, Failure::Trap { reason }).await
    }

    /// Waits until everything that was handed in is committed.
    ///
    /// # Errors
    /// The ledger has stopped.
    pub async fn drain(&mut self) -> Result<(), SettleError> {
        self.handing.drain().await
    }

    /// Keeps of the batch what the connector's rate allows now, waiting for the first of it; the rest goes back. A batch
    /// that has no token when the stop comes goes back as a whole.
    async fn pace(&mut self, batch: &mut Batch) -> Result<Paced, SettleError> {
        let connector = self.connector.clone();
        let Some(rate) = connector.rate.as_ref().filter(|_| !batch.deliveries.is_empty()) else {
            return Ok(Paced::AtOnce);
        };
        // Whoever comes first waits first: the token is taken now, and good when the time has come.
        let now = Instant::now();
        let wait = rate.reserve(now);
        let mut stop = self.stop.clone();
        let mut paced = Paced::AtOnce;
        if !wait.is_zero() {
            let _waiting = connector.hold.wait(Held::Rate);
            paced = Paced::Waited;
            // Nobody else counts meanwhile what gets to the disk.
            self.handing.drain().await?;
            tokio::select! {
                biased;
                _ = stop.wait_for(|stopped| *stopped) => {
                    self.handing.release(std::mem::take(&mut batch.deliveries));
                    return Ok(paced);
                }
                () = tokio::time::sleep_until((now + wait).into()) => {}
            }
        }
        let now = Instant::now();
        let others = batch.deliveries.iter().skip(1);
        let paid = 1 + others.take_while(|_| rate.take(now, now).is_ok()).count();
        self.handing.release(batch.deliveries.split_off(paid));
        Ok(paced)
    }

    /// Whether no further call may begin, also not in the batch at hand: the host stops, or the connector is held.
    fn is_stopped(&self) -> bool {
        *self.stop.borrow() || self.connector.hold.is_stopped()
    }

    async fn run_one_by_one(&mut self, deliveries: Vec<Delivery>, permit: &Permit) -> Result<(), SettleError> {
        let mut released = Vec::new();
        let mut failed_keys = FailedKeys::new(self.handing.is_ordered());
        for delivery in deliveries {
            if failed_keys.hold_back(&delivery) || self.is_stopped() || self.connector.pause().is_some() {
                released.push(delivery);
                continue;
            }
            match self.attempt(&delivery, permit).await? {
                Attempt::Superseded(record) => self.handing.supersede(&delivery, record, permit).await?,
                Attempt::Ended(Ok(staged), record) => self.handing.succeed(delivery, staged, record, permit).await?,
                Attempt::Ended(Err(failure), record) => {
                    failed_keys.note(&delivery);
                    self.handing.fail(&delivery, failure, record, permit).await?;
                }
            }
        }
        self.handing.release(released);
        Ok(())
    }

    /// The sandbox at hand, or a fresh one.
    async fn take_sandbox(&mut self, permit: &Permit) -> Result<Sandbox, Failure> {
        match self.sandbox.take() {
            Some(sandbox) => Ok(sandbox),
            None => self.connector.plugin.sandbox(permit).await,
        }
    }

    /// A call has ended: its sandbox may be called again, unless the call did not succeed.
    fn called(&mut self, sandbox: Sandbox, started: Instant, record: &Record) {
        let (seconds, trace) = (started.elapsed().as_secs_f64(), record.trace());
        self.connector.metrics.attempted(seconds, trace.as_ref());
        self.sandbox = (!sandbox.is_finished()).then_some(sandbox);
    }

    /// One call, which ends without an answer when a later tick takes the place of the one that it is made for.
    async fn attempt(&mut self, delivery: &Delivery, permit: &Permit) -> Result<Attempt, SettleError> {
        let entry = self.entry.clone();
        let (started, started_ms) = (Instant::now(), self.connector.clock.now_ms());
        if entry.is_superseded(delivery) {
            return Ok(Attempt::Superseded(Record::empty(started_ms)));
        }
        let mut sandbox = match self.take_sandbox(permit).await {
            Ok(sandbox) => sandbox,
            Err(failure) => return Ok(Attempt::Ended(Err(failure), Record::empty(started_ms))),
        };
        let previous_ms = entry.previous_ms(&self.connector, delivery);
        let scope = self.handing.scope(&entry, previous_ms);
        let call = async {
            tokio::select! {
                biased;
                result = sandbox.deliver(&scope, delivery) => Some(result),
                () = entry.superseded(delivery) => None,
            }
        };
        let result = self.handing.attend(call, permit).await?;
        let record = Record::of(&mut sandbox, started_ms);
        self.called(sandbox, started, &record);
        Ok(match result {
            Some(result) => Attempt::Ended(result, record),
            None => Attempt::Superseded(record),
        })
    }

    /// One call for all. With an order of keys, at most one message of a key is in a call.
    async fn run_together(&mut self, deliveries: Vec<Delivery>, permit: &Permit) -> Result<(), SettleError> {
        let mut waiting = deliveries;
        while !waiting.is_empty() {
            let (together, behind) = self.split_by_key(waiting);
            let failed_keys = self.call_together(together, permit).await?;
            let (stands_behind, next) = behind.into_iter().partition(|delivery: &Delivery| {
                delivery.message.key.as_ref().is_some_and(|key| failed_keys.contains(key))
            });
            self.handing.release(stands_behind);
            waiting = next;
        }
        Ok(())
    }

    fn split_by_key(&self, deliveries: Vec<Delivery>) -> (Vec<Delivery>, Vec<Delivery>) {
        if !self.handing.is_ordered() {
            return (deliveries, Vec::new());
        }
        let mut keys = HashSet::new();
        deliveries
            .into_iter()
            .partition(|delivery| delivery.message.key.as_ref().is_none_or(|key| keys.insert(key.clone())))
    }

    /// Calls until every delivery has succeeded, failed, or been given back for a stop: those that must run again without
    /// the failed ones do, and after a call that broke as a whole each one runs alone, so that it is known which one
    /// breaks it.
    async fn call_together(
        &mut self,
        deliveries: Vec<Delivery>,
        permit: &Permit,
    ) -> Result<HashSet<String>, SettleError> {
        let mut failed_keys = HashSet::new();
        let mut calls = vec![deliveries];
        while let Some(deliveries) = calls.pop().filter(|deliveries| !deliveries.is_empty()) {
            if self.is_stopped() {
                calls.push(deliveries);
                self.handing.release(calls.into_iter().rev().flatten().collect());
                break;
            }
            let (result, record) = self.call_batch(&deliveries, permit).await?;
            match result {
                Ok(outcome) => {
                    let mut again = Vec::new();
                    let mut succeeded = Vec::new();
                    for (delivery, result) in deliveries.into_iter().zip(outcome.results) {
                        match result {
                            Ok(()) if outcome.rerun_succeeded => again.push(delivery),
                            Ok(()) => succeeded.push(delivery),
                            Err(failure) => {
                                failed_keys.extend(delivery.message.key.clone());
                                self.handing.fail(&delivery, failure, record.clone(), permit).await?;
                            }
                        }
                    }
                    if !succeeded.is_empty() {
                        self.handing.succeed_together(succeeded, outcome.staged, record, permit).await?;
                    }
                    calls.extend((!again.is_empty()).then_some(again));
                }
                Err(failure) if deliveries.len() == 1 => {
                    failed_keys.extend(deliveries[0].message.key.clone());
                    self.handing.fail(&deliveries[0], failure, record, permit).await?;
                }
                Err(_) => calls.extend(deliveries.into_iter().rev().map(|delivery| vec![delivery])),
            }
        }
        Ok(failed_keys)
    }

    async fn call_batch(
        &mut self,
        deliveries: &[Delivery],
        permit: &Permit,
    ) -> Result<(Result<crate::runtime::BatchResult, Failure>, Record), SettleError> {
        let (started, started_ms) = (Instant::now(), self.connector.clock.now_ms());
        let mut sandbox = match self.take_sandbox(permit).await {
            Ok(sandbox) => sandbox,
            Err(failure) => return Ok((Err(failure), Record::empty(started_ms))),
        };
        let entry = self.entry.clone();
        let scope = self.handing.scope(&entry, None);
        let result = self.handing.attend(sandbox.handle_batch(&scope, deliveries), permit).await?;
        let mut record = Record::of(&mut sandbox, started_ms);
        self.called(sandbox, started, &record);
        self.connector.tracing.called(&mut record, &result);
        Ok((result, record))
    }
}
