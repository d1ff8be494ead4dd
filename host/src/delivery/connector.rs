//! What all lanes of one connector share, and how its plugin is called for a delivery.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::brake::Brake;
use super::history::{History, Record};
use super::hold::{Hold, Waiting};
use super::outcome;
use super::retry::Policy;
use super::segment::Segment;
use super::supersession::Supersession;
use super::teller::Teller;
use super::tracing::{Source, Told, Tracing};
use crate::capability::rate::Bucket;
use crate::clock::Clock;
use crate::id::Name;
use crate::ledger::Ledger;
use crate::message::{self, trace::Trace};
use crate::metrics::{ConnectorMetrics, Held};
use crate::runtime::Plugin;
use crate::runtime::permit::Permits;
use crate::settlement::{ConnectorId, Delivery, Outcome, SettleError, SubscriptionId, TickEnd, TickOutcome};

/// One connector, as its lanes see it.
#[derive(Debug)]
pub struct Connector {
    /// Its name in the configuration.
    pub name: Name,
    /// Its number in the ledger.
    pub id: ConnectorId,
    /// What runs.
    pub plugin: Plugin,
    /// Whether a sandbox outlives its run, as long as it succeeds and has not grown to half its limit.
    pub keeps_sandbox: bool,
    /// Which of its attempts are kept.
    pub history: History,
    /// What is told of them to whoever collects traces.
    pub tracing: Tracing,
    /// When failures are tried again.
    pub policy: Policy,
    /// Attempts in a time, where they are bounded.
    pub rate: Option<Bucket>,
    /// Stops it when only deaths come out.
    pub brake: Brake,
    /// Why it takes no work just now.
    pub hold: Hold,
    /// What it counts.
    pub metrics: ConnectorMetrics,
    /// What it tells of its deliveries.
    pub teller: Teller,
    /// Where settlements go.
    pub ledger: Ledger,
    /// Ledger time.
    pub clock: Clock,
    /// Sandboxes at once, over all connectors.
    pub permits: Permits,
    /// See [`Turn`].
    pub turns: Arc<RwLock<()>>,
}

impl Connector {
    /// How long no delivery shall begin, because a receiver of its requests is down.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        self.plugin.grants().pause(Instant::now())
    }

    /// Tells people what became of a delivery that did not succeed: log and metric, and the brake where too many died.
    pub(super) async fn report(&self, delivery: &Delivery, outcome: &Outcome) {
        let (name, message_id, attempt) = (&self.name, &delivery.message.id, delivery.attempt);
        let message = &delivery.message;
        let trace = self.tracing.tracer.of_message(message_id, message.parent.as_deref(), &message.headers);
        let trace_id = trace.as_ref().map(Trace::id);
        match outcome {
            // What expires is counted and logged where it is committed.
            Outcome::Done | Outcome::Expired => {}
            Outcome::Superseded => {
                tracing::info!(connector = %name, message_id, trace_id, attempt, "a tick is cancelled: a later one takes its place");
            }
            Outcome::Retry { reason, charged, .. } => {
                self.metrics.retry.inc();
                if !*charged {
                    self.metrics.put_off.inc();
                }
                self.teller.failed(reason);
                tracing::debug!(connector = %name, message_id, trace_id, attempt, charged, reason, "delivery is put off");
            }
            Outcome::Dead { reason } => {
                self.metrics.dead.inc();
                self.teller.failed(reason);
                tracing::warn!(connector = %name, message_id, trace_id, attempt, reason, "delivery became a dead letter");
                if self.brake.died() {
                    self.put_brake_on(reason).await;
                }
            }
        }
    }

    /// Charges an attempt to deliveries that were running alone when the process died: on disk when it returns.
    ///
    /// # Errors
    /// The ledger has stopped.
    pub async fn charge_crashed(
        &self,
        subscription: SubscriptionId,
        queue: &Name,
        crashed: Vec<Delivery>,
    ) -> Result<(), SettleError> {
        let mut segment = Segment::new(subscription, self.id);
        for delivery in crashed {
            let outcome = outcome::of_crash(&self.policy, &delivery, self.clock.now_ms());
            self.report(&delivery, &outcome).await;
            if queue.is_inbox() {
                segment.tick(tick_end(&delivery, &outcome));
            }
            let mut record = Record::empty(self.clock.now_ms());
            let source = Source::Queue(queue.as_str());
            segment.trace(self.tracing.ended(source, &delivery, &mut record, Some("crash"), &outcome));
            segment.tell(self.teller.ended(queue.as_str(), &delivery, record.started_ms, &outcome));
            segment.note(self.history.failure(queue.as_str(), &delivery, record, &outcome));
            segment.settle(delivery.origin, outcome);
        }
        let Some(closed) = segment.close() else { return Ok(()) };
        self.ledger.settle(closed.settlement).await?;
        self.history.note(closed.attempts);
        closed.told.into_iter().for_each(Told::committed);
        self.teller.tell(closed.ended);
        Ok(())
    }

    /// Pauses the connector until an operator resumes it; on disk when it returns, so that it survives a restart.
    async fn put_brake_on(&self, reason: &str) {
        let connector = &self.name;
        self.hold.set(Held::Brake);
        if let Err(error) = self.ledger.hold(self.id, Held::Brake).await {
            let error = format!("{error:#}");
            tracing::error!(%connector, error, "the brake could not be stored: it holds until the next restart only");
        }
        tracing::error!(
            %connector, reason,
            "the brake is on: too many deliveries died in a row; mend the cause, then `bulkhead resume {connector}`"
        );
    }
}

/// The right to run beside the connector's other runs, or without them: a delivery that conflicts over state again and
/// again runs alone, so that it ends.
#[derive(Debug)]
pub enum Turn {
    /// Others run too.
    Shared(OwnedRwLockReadGuard<()>),
    /// No other run of the connector, which is shown as held back.
    Alone(OwnedRwLockWriteGuard<()>, Waiting),
}

impl Turn {
    /// Waits for a run that is alone to end.
    pub async fn take(connector: &Connector) -> Self {
        Self::Shared(connector.turns.clone().read_owned().await)
    }

    /// Waits for the other runs to end. The caller must have given its own turn back.
    pub async fn take_alone(connector: &Connector) -> Self {
        let waiting = connector.hold.wait(Held::Conflict);
        Self::Alone(connector.turns.clone().write_owned().await, waiting)
    }
}

/// How the plugin is called for deliveries of one subscription. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Entry {
    /// One message a call.
    Message {
        /// The queue's name.
        queue: Arc<str>,
    },
    /// All messages of a run in one call.
    Batch {
        /// The queue's name.
        queue: Arc<str>,
    },
    /// Ticks and requests of the connector's inbox, one a call.
    Inbox {
        /// The inbox's name.
        queue: Arc<str>,
        /// Which of them make those before them needless.
        supersession: Arc<Supersession>,
    },
}

impl Entry {
    /// The queue that deliveries come from.
    #[must_use]
    pub fn queue(&self) -> &str {
        match self {
            Self::Message { queue } | Self::Batch { queue } | Self::Inbox { queue, .. } => queue,
        }
    }

    /// What an attempt came to, where it was one at a tick.
    pub(super) fn tick_end(&self, delivery: &Delivery, outcome: &Outcome) -> Option<TickEnd> {
        match self {
            Self::Message { .. } | Self::Batch { .. } => None,
            Self::Inbox { .. } => tick_end(delivery, outcome),
        }
    }

    /// Whether a later tick has taken the place of this one.
    pub(super) fn is_superseded(&self, delivery: &Delivery) -> bool {
        match self {
            Self::Message { .. } | Self::Batch { .. } => false,
            Self::Inbox { supersession, .. } => supersession.has_taken(delivery),
        }
    }

    /// Waits until a later tick has taken the place of this one. Cancel-safe.
    pub(super) async fn superseded(&self, delivery: &Delivery) {
        match self {
            Self::Message { .. } | Self::Batch { .. } => std::future::pending().await,
            Self::Inbox { supersession, .. } => supersession.taken(delivery).await,
        }
    }

    /// For a tick, the planned time of the last one that succeeded.
    pub(super) fn previous_ms(&self, connector: &Connector, delivery: &Delivery) -> Option<u64> {
        match self {
            Self::Message { .. } | Self::Batch { .. } => None,
            Self::Inbox { .. } => {
                let tick = message::Tick::of(&delivery.message)?;
                connector.ledger.schedule(connector.id, &tick.schedule).ok()?.previous_success_ms
            }
        }
    }
}

fn tick_end(delivery: &Delivery, outcome: &Outcome) -> Option<TickEnd> {
    let tick = message::Tick::of(&delivery.message)?;
    let outcome = match outcome {
        Outcome::Done => TickOutcome::Done,
        Outcome::Retry { .. } => TickOutcome::Retry,
        Outcome::Dead { .. } => TickOutcome::Dead,
        Outcome::Superseded => TickOutcome::Cancelled,
        Outcome::Expired => return None,
    };
    Some(TickEnd { schedule: tick.schedule, planned_ms: tick.planned_at_ms, outcome })
}
