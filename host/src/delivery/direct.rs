//! A delivery that no queue holds: somebody waits for what the plugin answers.
//!
//! One run, and its settlement on disk before the answer is handed over. Only success settles: what fails leaves nothing
//! behind but an entry of the history, is not tried again and becomes no dead letter, for the caller learns of it. A
//! conflict of state runs it again, as it would any delivery.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::Staged;
use super::connector::{Connector, Turn};
use super::history::Record;
use super::tracing::{Source, Told};
use crate::message::Message;
use crate::message::request::Answer;
use crate::runtime::failure::Failure;
use crate::runtime::permit::Permit;
use crate::runtime::{Engine, Scope};
use crate::settlement::attempt::{Attempt, FAILED};
use crate::settlement::{Barrier, Delivery, Mark, Origin, Outcome, Publish, SettleError, Settlement, SubscriptionId};

/// Conflicts in a row after which it runs with the connector's other runs held back.
const CONFLICTS_MAX: u32 = 3;

/// Where a connector's direct runs stand.
#[derive(Clone, Debug)]
pub struct Direct {
    /// Whose they are.
    pub connector: Arc<Connector>,
    /// Its inbox, which only lends its name: nothing is put there.
    pub inbox: Arc<str>,
    /// The inbox's subscription.
    pub subscription: SubscriptionId,
    /// Runs at once. A run that has ended and waits for its settlement takes none.
    pub places: Arc<Semaphore>,
    /// On whose threads the plugin runs.
    pub engine: Engine,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The call failed.
    Failed(Failure),
    /// The ledger or the engine has stopped.
    Closed,
}

/// What a run came to, and what it did.
type Called = (Result<(Staged, Answer), Failure>, Record);

impl Direct {
    /// Hands a request over until its settlement is on disk. `mark` says how repeats of it are known, given what is
    /// answered. The plugin alone runs on the guests' threads: whoever waits for the ledger does not wait for theirs too.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn run(&self, message: Message, mark: impl Fn(&Answer) -> Option<Mark>) -> Result<Answer, Unanswered> {
        let connector = &self.connector;
        let started_ms = connector.clock.now_ms();
        let delivery = Arc::new(Delivery { origin: Origin::Parked(0), attempt: 1, message });
        let mut conflicts = 0;
        loop {
            let ((called, mut record), turn) = self.take(&delivery, conflicts >= CONFLICTS_MAX).await?;
            let (staged, answer) = match called {
                Ok(answered) => answered,
                Err(failure) => return Err(self.fail(&delivery, record, failure)),
            };
            record.keys = staged.state.writes.len();
            let source = Source::Request(&self.inbox);
            let told = connector.tracing.ended(source, &delivery, &mut record, None, &Outcome::Done);
            let kept = self.kept(&delivery, &record, &staged);
            match self.settle(staged, mark(&answer)).await {
                Ok(()) => {
                    self.count(started_ms, told.as_ref());
                    connector.history.note(kept);
                    told.into_iter().for_each(Told::committed);
                    connector.teller.tell(connector.teller.ended(&self.inbox, &delivery, started_ms, &Outcome::Done));
                    return Ok(answer);
                }
                Err(SettleError::Closed) => return Err(Unanswered::Closed),
                Err(SettleError::Conflict) => told.into_iter().for_each(Told::conflicted),
            }
            // A run that wants to be alone waits for it.
            drop(turn);
            conflicts += 1;
            connector.metrics.conflicts.inc();
        }
    }

    /// One run, and its turn, which ends when it is settled. Whoever has a place may wait for a turn, so whoever has a turn
    /// must not wait for a place: a run that is alone needs none.
    async fn take(&self, delivery: &Arc<Delivery>, is_alone: bool) -> Result<(Called, Turn), Unanswered> {
        let connector = &self.connector;
        let (_place, turn) = if is_alone {
            (None, Turn::take_alone(connector).await)
        } else {
            // They are never closed.
            (self.places.acquire().await.ok(), Turn::take(connector).await)
        };
        let permit = connector.permits.acquire(&connector.name, connector.plugin.memory_bytes()).await;
        let (direct, delivery) = (self.clone(), delivery.clone());
        let call = async move { direct.call(&delivery, &permit).await };
        match self.engine.guests().spawn(call).await {
            Ok(called) => Ok((called, turn)),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Unanswered::Closed),
            },
        }
    }

    async fn call(&self, delivery: &Delivery, permit: &Permit) -> Called {
        let connector = &self.connector;
        let (started, started_ms) = (Instant::now(), connector.clock.now_ms());
        let (called, record) = match connector.plugin.sandbox(permit).await {
            Ok(mut sandbox) => {
                let called = sandbox.receive(&self.scope(), delivery).await;
                let record = Record::of(&mut sandbox, started_ms);
                (called, record)
            }
            Err(failure) => (Err(failure), Record::empty(started_ms)),
        };
        connector.metrics.attempted(started.elapsed().as_secs_f64(), record.trace().as_ref());
        (called, record)
    }

    fn fail(&self, delivery: &Delivery, mut record: Record, failure: Failure) -> Unanswered {
        self.connector.tracing.unanswered(&self.inbox, delivery, &mut record, &failure);
        let (history, teller, reason) = (&self.connector.history, &self.connector.teller, failure.reason());
        teller.failed(reason);
        teller.tell(teller.ended_as(&self.inbox, delivery, record.started_ms, (FAILED, Some(reason))));
        history.note([history.unanswered(&self.inbox, delivery, record, reason)]);
        Unanswered::Failed(failure)
    }

    /// What the history keeps of a success, once it is on disk.
    fn kept(&self, delivery: &Delivery, record: &Record, staged: &Staged) -> Option<Attempt> {
        let grants = self.connector.plugin.grants();
        let published = |publish: &Publish| grants.published(publish, true);
        self.connector.history.success(&self.inbox, delivery, record, staged, published)
    }

    fn scope(&self) -> Scope<'_> {
        Scope { queue: &self.inbox, segment: 0, barrier: Barrier::default(), previous_ms: None }
    }

    async fn settle(&self, staged: Staged, mark: Option<Mark>) -> Result<(), SettleError> {
        let Staged { publishes, reservation, state, .. } = staged;
        if publishes.is_empty() && state.is_empty() && mark.is_none() {
            return Ok(());
        }
        let settlement = Settlement {
            subscription: self.subscription,
            connector: self.connector.id,
            outcomes: Vec::new(),
            publishes,
            state,
            tick: None,
            mark,
        };
        let receipt = self.connector.ledger.settle(settlement);
        drop(reservation);
        receipt.await
    }

    fn count(&self, started_ms: u64, told: Option<&Told>) {
        let metrics = &self.connector.metrics;
        let took = Duration::from_millis(self.connector.clock.now_ms().saturating_sub(started_ms));
        metrics.done.inc();
        metrics.delivery_seconds.observe(took.as_secs_f64(), told.map(Told::trace).as_ref());
    }
}
