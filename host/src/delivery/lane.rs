//! The lane of one subscription: batches of deliveries in, settlements out.
//!
//! A run is one sandbox working through a batch, one call each. What a run decided is handed to the broker in segments;
//! a call that failed costs its own delivery and its sandbox, the rest goes on in a fresh one. Invariant: a delivery
//! that was leased is settled, released, or (after a crash) delivered again; it is never dropped.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedRwLockReadGuard, RwLock, watch};

use super::brake::Brake;
use super::hold::Hold;
use super::outcome;
use super::retry::Policy;
use super::segment::{Closed, Segment};
use crate::broker::{Batch, Receipt, Worker};
use crate::clock::Clock;
use crate::id::Name;
use crate::ledger::Ledger;
use crate::metrics::{ConnectorMetrics, Held};
use crate::runtime::failure::Failure;
use crate::runtime::permit::Permits;
use crate::runtime::sandbox::{Plugin, Sandbox, Staged};
use crate::settlement::{ConnectorId, Delivery, Keeper, Outcome, SettleError};

/// Settlements of a worker that may be on their way to the disk at once: enough to keep the writer busy while the next
/// run works, few enough that a crash repeats little.
const OUTSTANDING_MAX: usize = 4;
/// Conflicts in a row after which a delivery runs with the connector's other runs held back.
const CONFLICTS_MAX: u32 = 3;

/// What all lanes of one connector share.
pub struct Connector {
    /// Its name in the configuration.
    pub name: Name,
    /// Its number in the ledger.
    pub id: ConnectorId,
    /// What runs.
    pub plugin: Plugin,
    /// When failures are tried again.
    pub policy: Policy,
    /// Stops it when only deaths come out.
    pub brake: Brake,
    /// Why it takes no work just now.
    pub hold: Hold,
    /// What it counts.
    pub metrics: ConnectorMetrics,
    /// Where settlements go.
    pub ledger: Ledger,
    /// Ledger time.
    pub clock: Clock,
    /// Sandboxes at once, over all connectors.
    pub permits: Permits,
    /// Runs hold it to read; a delivery that conflicts again and again holds it to write.
    pub turn: Arc<RwLock<()>>,
}

/// One worker of one subscription.
pub struct Lane {
    connector: Arc<Connector>,
    worker: Worker,
    segment: Segment,
    keeper: Keeper,
    outstanding: VecDeque<Handed>,
    stop: watch::Receiver<bool>,
    turn: Option<OwnedRwLockReadGuard<()>>,
}

/// A settlement on its way to the disk, and when what it settles was accepted: counted when it is there.
struct Handed {
    receipt: Receipt,
    accepted_ms: Vec<u64>,
}

impl Lane {
    /// A lane for a worker; `stop` turns true when no further call may begin.
    #[must_use]
    pub fn new(connector: Arc<Connector>, worker: Worker, stop: watch::Receiver<bool>) -> Self {
        let segment = Segment::new(worker.subscription(), connector.id);
        Self { connector, worker, segment, keeper: Keeper::default(), outstanding: VecDeque::new(), stop, turn: None }
    }

    /// The worker, to lease with.
    pub fn worker(&mut self) -> &mut Worker {
        &mut self.worker
    }

    /// Runs a batch to its end: every delivery in it is handed in or released.
    ///
    /// # Errors
    /// The ledger has stopped; what was not committed is delivered again after the next start.
    pub async fn deliver(&mut self, batch: Batch) -> Result<(), SettleError> {
        let _permit = self.connector.permits.acquire(&self.connector.name).await;
        self.turn = Some(self.connector.turn.clone().read_owned().await);
        self.worker.begin(&batch);
        let result = if self.connector.plugin.is_batch() {
            self.run_together(batch.deliveries).await
        } else {
            self.run_one_by_one(batch.deliveries).await
        };
        self.turn = None;
        result
    }

    /// Waits until everything that was handed in is committed.
    ///
    /// # Errors
    /// The ledger has stopped.
    pub async fn drain(&mut self) -> Result<(), SettleError> {
        while let Some(handed) = self.outstanding.pop_front() {
            self.finish(handed).await?;
        }
        Ok(())
    }

    async fn run_one_by_one(&mut self, deliveries: Vec<Delivery>) -> Result<(), SettleError> {
        let mut released = Vec::new();
        let mut failed_keys = HashSet::new();
        let mut sandbox = None;
        for delivery in deliveries {
            let key = delivery.message.key.clone().filter(|_| self.worker.is_ordered());
            let stands_behind = key.as_ref().is_some_and(|key| failed_keys.contains(key));
            if stands_behind || *self.stop.borrow() {
                released.push(delivery);
                continue;
            }
            let mut running = sandbox.take().map_or_else(|| self.connector.plugin.sandbox(), Ok);
            self.segment.begin(Instant::now());
            let result = match &mut running {
                Ok(sandbox) => self.call(sandbox, &delivery).await?,
                Err(failure) => Err(failure.clone()),
            };
            match result {
                Ok(staged) => {
                    sandbox = running.ok();
                    self.succeed(delivery, staged).await?;
                }
                Err(failure) => {
                    drop(running);
                    failed_keys.extend(key);
                    self.fail(&delivery, failure).await?;
                }
            }
        }
        drop(sandbox);
        self.worker.release(released);
        self.hand_in().await
    }

    /// One call. Its first unsafe request may wait until all that this worker decided before is committed.
    async fn call(
        &mut self,
        sandbox: &mut Sandbox,
        delivery: &Delivery,
    ) -> Result<Result<Staged, Failure>, SettleError> {
        if self.segment.is_empty() && self.outstanding.is_empty() {
            self.keeper.open();
        } else {
            self.keeper.close();
        }
        let barrier = self.keeper.barrier();
        let started = Instant::now();
        let mut call = std::pin::pin!(sandbox.deliver(delivery, barrier));
        let result = loop {
            tokio::select! {
                biased;
                result = &mut call => break result,
                () = self.keeper.demanded() => {}
            }
            Box::pin(self.commit()).await?;
            self.keeper.open();
        };
        self.connector.metrics.attempt_seconds.observe(started.elapsed().as_secs_f64());
        Ok(result)
    }

    /// Hands in what is decided so far and waits until it is on disk.
    async fn commit(&mut self) -> Result<(), SettleError> {
        self.hand_in().await?;
        self.drain().await
    }

    async fn succeed(&mut self, delivery: Delivery, staged: Staged) -> Result<(), SettleError> {
        self.connector.brake.succeeded();
        self.segment.settle(delivery.origin, Outcome::Done);
        if let Some((schedule, planned_ms)) = staged.tick_done {
            self.segment.tick_done(schedule, planned_ms);
        }
        self.segment.stage(staged.publishes, staged.state);
        self.segment.keep(delivery);
        if staged.unsafe_sent || self.segment.is_old(Instant::now()) { self.hand_in().await } else { Ok(()) }
    }

    /// A failure ends the segment before it, and is settled by itself.
    async fn fail(&mut self, delivery: &Delivery, failure: Failure) -> Result<(), SettleError> {
        self.hand_in().await?;
        let connector = &self.connector;
        let now_ms = connector.clock.now_ms();
        let outcome = outcome::of_failure(&connector.policy, delivery.attempt, failure, now_ms, random());
        self.report(delivery, &outcome);
        self.segment.settle(delivery.origin, outcome);
        self.hand_in().await
    }

    fn report(&self, delivery: &Delivery, outcome: &Outcome) {
        let connector = &self.connector;
        let (name, message, attempt) = (&connector.name, &delivery.message.id, delivery.attempt);
        match outcome {
            Outcome::Done | Outcome::Expired => {}
            Outcome::Retry { reason, charged, .. } => {
                connector.metrics.retry.inc();
                tracing::debug!(connector = %name, %message, attempt, charged, reason, "delivery is put off");
            }
            Outcome::Dead { reason } => {
                connector.metrics.dead.inc();
                tracing::warn!(connector = %name, %message, attempt, reason, "delivery became a dead letter");
                if connector.brake.died() {
                    connector.ledger.hold(connector.id, Held::Brake);
                    connector.hold.set(Held::Brake);
                    tracing::error!(
                        connector = %name, reason,
                        "the brake is on: deliveries died in a row; mend the cause, then `bulkhead resume {name}`"
                    );
                }
            }
        }
    }

    async fn hand_in(&mut self) -> Result<(), SettleError> {
        let Some(Closed { settlement, accepted_ms, deliveries }) = self.segment.close() else { return Ok(()) };
        let handed = Handed { receipt: self.worker.settle(settlement), accepted_ms };
        if !deliveries.is_empty() {
            return self.finish_stateful(handed, deliveries).await;
        }
        self.outstanding.push_back(handed);
        while self.outstanding.len() > OUTSTANDING_MAX
            && let Some(oldest) = self.outstanding.pop_front()
        {
            self.finish(oldest).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, handed: Handed) -> Result<(), SettleError> {
        handed.receipt.await?;
        let now_ms = self.connector.clock.now_ms();
        self.connector.metrics.done.inc_by(handed.accepted_ms.len() as u64);
        for accepted_ms in handed.accepted_ms {
            let seconds = std::time::Duration::from_millis(now_ms.saturating_sub(accepted_ms)).as_secs_f64();
            self.connector.metrics.delivery_seconds.observe(seconds);
        }
        Ok(())
    }

    /// A segment that touched state may conflict: then its deliveries run again one by one, at no attempt.
    async fn finish_stateful(&mut self, handed: Handed, deliveries: Vec<Delivery>) -> Result<(), SettleError> {
        match self.finish(handed).await {
            Err(SettleError::Conflict) => {
                for delivery in deliveries {
                    Box::pin(self.run_again(delivery)).await?;
                }
                Ok(())
            }
            result => result,
        }
    }

    /// Runs a delivery alone until it does not conflict. After [`CONFLICTS_MAX`] conflicts in a row the connector's other
    /// runs are held back meanwhile, so nobody is left to conflict with.
    async fn run_again(&mut self, delivery: Delivery) -> Result<(), SettleError> {
        // The conflict that brought it here was the first.
        for conflicts in 1.. {
            self.connector.metrics.conflicts.inc();
            let _alone = if conflicts >= CONFLICTS_MAX { Some(self.hold_others_back().await) } else { None };
            if self.attempt_alone(&delivery).await? {
                break;
            }
        }
        self.connector.hold.clear(Held::Conflict);
        if self.turn.is_none() {
            self.turn = Some(self.connector.turn.clone().read_owned().await);
        }
        Ok(())
    }

    async fn hold_others_back(&mut self) -> tokio::sync::OwnedRwLockWriteGuard<()> {
        self.turn = None;
        self.connector.hold.set(Held::Conflict);
        self.connector.turn.clone().write_owned().await
    }

    /// Whether the delivery is settled now; it is not when the state conflicted again.
    async fn attempt_alone(&mut self, delivery: &Delivery) -> Result<bool, SettleError> {
        self.drain().await?;
        let result = match self.connector.plugin.sandbox() {
            Ok(mut sandbox) => sandbox.deliver(delivery, crate::settlement::Barrier::default()).await,
            Err(failure) => Err(failure),
        };
        let staged = match result {
            Ok(staged) => staged,
            Err(failure) => {
                self.fail(delivery, failure).await?;
                return Ok(true);
            }
        };
        self.segment.settle(delivery.origin, Outcome::Done);
        self.segment.stage(staged.publishes, staged.state);
        self.segment.keep(delivery.clone());
        let Some(closed) = self.segment.close() else { return Ok(true) };
        let handed = Handed { receipt: self.worker.settle(closed.settlement), accepted_ms: closed.accepted_ms };
        match self.finish(handed).await {
            Ok(()) => Ok(true),
            Err(SettleError::Conflict) => Ok(false),
            Err(error @ SettleError::Closed) => Err(error),
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
