//! A delivery that no queue holds: somebody waits for what the plugin answers.
//!
//! One run, and its settlement on disk before the answer is handed over. Only success settles: what fails leaves nothing
//! behind, is not tried again and becomes no dead letter, for the caller learns of it. A conflict of state runs it again,
//! as it would any delivery.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::Staged;
use super::connector::{Connector, Turn};
use crate::message::Message;
use crate::message::request::Answer;
use crate::runtime::Scope;
use crate::runtime::failure::Failure;
use crate::settlement::{Barrier, Delivery, Mark, Origin, SettleError, Settlement, SubscriptionId};

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
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// The call failed.
    Failed(Failure),
    /// The ledger has stopped.
    Closed,
}

impl Direct {
    /// Hands a request over until its settlement is on disk; must run on [`crate::runtime::Engine::guests`]. `mark` says
    /// how repeats of it are known, given what is answered.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn run(&self, message: Message, mark: impl Fn(&Answer) -> Option<Mark>) -> Result<Answer, Unanswered> {
        let connector = &self.connector;
        let started_ms = connector.clock.now_ms();
        let delivery = Delivery { origin: Origin::Parked(0), attempt: 1, message };
        let mut conflicts = 0;
        loop {
            let (called, turn) = self.call(&delivery, conflicts >= CONFLICTS_MAX).await;
            let (staged, answer) = called.map_err(Unanswered::Failed)?;
            match self.settle(staged, mark(&answer)).await {
                Ok(()) => {
                    self.count(started_ms);
                    return Ok(answer);
                }
                Err(SettleError::Closed) => return Err(Unanswered::Closed),
                Err(SettleError::Conflict) => {}
            }
            // A run that wants to be alone waits for it.
            drop(turn);
            conflicts += 1;
            connector.metrics.conflicts.inc();
        }
    }

    /// One run, and its turn, which ends when it is settled. Whoever has a place may wait for a turn, so whoever has a turn
    /// must not wait for a place: a run that is alone needs none.
    async fn call(&self, delivery: &Delivery, is_alone: bool) -> (Result<(Staged, Answer), Failure>, Turn) {
        let connector = &self.connector;
        let (_place, turn) = if is_alone {
            (None, Turn::take_alone(connector).await)
        } else {
            // They are never closed.
            (self.places.acquire().await.ok(), Turn::take(connector).await)
        };
        let permit = connector.permits.acquire(&connector.name, connector.plugin.memory_bytes()).await;
        let started = Instant::now();
        let called = match connector.plugin.sandbox(&permit).await {
            Ok(mut sandbox) => sandbox.receive(&self.scope(), delivery).await,
            Err(failure) => Err(failure),
        };
        connector.metrics.attempt_seconds.observe(started.elapsed().as_secs_f64());
        (called, turn)
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

    fn count(&self, started_ms: u64) {
        let metrics = &self.connector.metrics;
        let took = Duration::from_millis(self.connector.clock.now_ms().saturating_sub(started_ms));
        metrics.done.inc();
        metrics.delivery_seconds.observe(took.as_secs_f64());
    }
}
