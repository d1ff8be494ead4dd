//! The loop that turns planned times into ticks in a connector's inbox.
//!
//! One task per schedule, which reads the ledger once a step. A tick and the stored planned time commit together, so that
//! a crash neither loses nor doubles one. What is due is decided in [`super::schedule`], what becomes of it while others
//! are not settled (retrying ones included) in [`super::overlap`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;

use super::overlap::{Admission, Overlap};
use super::schedule::{Due, MadeBy, Next, Plan, Settings};
use crate::clock::Clock;
use crate::delivery::supersession::Supersession;
use crate::id::Name;
use crate::ledger::{Ledger, NewTick, Planned};
use crate::message::Tick;
use crate::metrics::Metrics;
use crate::runtime::failure::panic_text;
use crate::settlement::{ConnectorId, QueueId, SubscriptionId};
use crate::telemetry::otlp::Tracer;
use crate::telemetry::otlp::span::{Kind, Span, of_millis};

/// The longest sleep: a wall clock that was set is noticed within this time.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Wait before a tick that could not be stored (disk full) is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Wait before a tick that was missed is looked at again, while others are worked off: short, or a schedule that fires
/// often would never catch up.
const PUT_OFF: Duration = Duration::from_millis(100);

/// One schedule of one connector.
pub struct Clockwork {
    /// The connector's name in the configuration.
    pub connector: Name,
    /// From which ids and the phase are derived: the connector's first name.
    pub lineage: String,
    /// Its number in the ledger.
    pub connector_id: ConnectorId,
    /// Its inbox.
    pub inbox: QueueId,
    /// The inbox's subscription: it says which ticks of the schedule are not settled.
    pub subscription: SubscriptionId,
    /// The schedule as it is configured.
    pub settings: Settings,
    /// When it fires.
    pub plan: Plan,
    /// Told of ticks that make those before them needless.
    pub supersession: Arc<Supersession>,
    /// Where ticks go.
    pub ledger: Ledger,
    /// Ledger time.
    pub clock: Clock,
    /// Counts the lag.
    pub metrics: Metrics,
    /// Where traces go, if anywhere.
    pub tracer: Tracer,
}

impl Clockwork {
    /// Enqueues ticks until `stop` turns true. A panic of host code costs a moment, not the schedule.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        while let Err(panic) = AssertUnwindSafe(self.enqueue(stop.clone())).catch_unwind().await {
            self.metrics.panicked();
            let (connector, schedule) = (&self.connector, &self.settings.name);
            tracing::error!(%connector, schedule, "the host failed at a schedule, which goes on: {}", panic_text(&*panic));
            tokio::select! {
                biased;
                _ = stop.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep(STORE_RETRY) => {}
            }
        }
    }

    async fn enqueue(&self, mut stop: watch::Receiver<bool>) {
        let mut skipped = false;
        loop {
            let wait = self.step(&mut skipped).await;
            tokio::select! {
                biased;
                _ = stop.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Whether a tick is due now: a host that runs until idle must not end yet.
    #[must_use]
    pub fn is_due(&self) -> bool {
        // What cannot be read just now is read again.
        self.last_planned().map_or(true, |last_ms| {
            matches!(self.plan.next(last_ms, self.clock.now_ms()), Next::Due(_) | Next::Passed { .. })
        })
    }

    /// Does what is due and answers how long there is nothing to do. `skipped` says whether the last tick was.
    async fn step(&self, skipped: &mut bool) -> Duration {
        let now_ms = self.clock.now_ms();
        let Ok(last_ms) = self.last_planned() else { return STORE_RETRY };
        match self.plan.next(last_ms, now_ms) {
            Next::Due(due) => self.tick(due, skipped).await,
            Next::Passed { until_ms, missed } => {
                self.tell_missed(missed, "they are dropped");
                self.store(until_ms, None).await.map_or(STORE_RETRY, |()| Duration::ZERO)
            }
            Next::At(at_ms) => Duration::from_millis(at_ms.saturating_sub(now_ms)).min(SLEEP_MAX),
            Next::Never => SLEEP_MAX,
        }
    }

    /// The stored planned time; one that cannot be believed counts as none. An error is no schedule without
    /// history: that would make a tick that nobody has planned.
    fn last_planned(&self) -> anyhow::Result<Option<u64>> {
        let stored = self.ledger.schedule(self.connector_id, &self.settings.name);
        let stored =
            stored.inspect_err(|error| tracing::warn!(connector = %self.connector, %error, "cannot read the ledger"));
        let Some(last_ms) = stored?.last_planned_ms else { return Ok(None) };
        if self.plan.is_ahead(last_ms, self.clock.now_ms()) {
            let (connector, schedule) = (&self.connector, &self.settings.name);
            tracing::warn!(%connector, schedule, last_ms, "the stored planned time lies in the future: starting anew");
            return Ok(None);
        }
        Ok(Some(last_ms))
    }

    /// Makes a tick, or leaves it out.
    async fn tick(&self, due: Due, skipped: &mut bool) -> Duration {
        let Some(unsettled) = self.unsettled() else { return STORE_RETRY };
        let admission = self.settings.overlap.admit(unsettled, &due);
        let tick = match admission {
            Admission::PutOff => return PUT_OFF,
            Admission::Skipped => None,
            Admission::Made => Some(self.new_tick(due.planned_ms)),
        };
        self.tell_missed(due.missed, "this tick stands for them");
        let span = tick.as_ref().and_then(|tick| self.span(&tick.draft.id, due.planned_ms));
        if self.store(due.planned_ms, tick).await.is_none() {
            return STORE_RETRY;
        }
        self.tracer.send(span.into_iter().collect());
        let lag = Duration::from_millis(self.clock.now_ms().saturating_sub(self.plan.due_ms(due.planned_ms)));
        self.metrics.schedule_lag(&self.connector, lag.as_secs_f64());
        let is_skipped = admission == Admission::Skipped;
        if is_skipped && !std::mem::replace(skipped, is_skipped) {
            let (connector, schedule) = (&self.connector, &self.settings.name);
            tracing::warn!(%connector, schedule, unsettled, "ticks are skipped: those before are not settled");
        }
        *skipped = is_skipped;
        if self.settings.overlap == Overlap::Cancel && unsettled > 0 {
            self.supersession.announce();
        }
        Duration::ZERO
    }

    fn new_tick(&self, planned_ms: u64) -> NewTick {
        NewTick {
            inbox: self.inbox,
            due_ms: self.plan.due_ms(planned_ms),
            draft: self.settings.tick(&self.lineage, planned_ms, MadeBy::Clock),
            remember_ms: self.plan.remember_ms(),
        }
    }

    /// What is told of a tick, where its trace is recorded: that begins here, as it is known to whoever delivers the tick.
    fn span(&self, message_id: &str, planned_ms: u64) -> Option<Span> {
        let trace = self.tracer.of_message(message_id, None, &[])?;
        let mut span = Span::new(trace, None, Kind::Producer, format!("tick {}", self.settings.name));
        span.set("messaging.system", "bulkhead");
        span.set("messaging.operation.type", "send");
        span.set("messaging.operation.name", "tick");
        span.set("messaging.destination.name", Name::inbox_of(&self.connector).to_string());
        span.set("messaging.message.id", message_id.to_owned());
        span.set("bulkhead.connector", self.connector.to_string());
        span.set("bulkhead.schedule", self.settings.name.clone());
        span.set("bulkhead.planned_at", crate::clock::rfc3339(planned_ms));
        span.start = of_millis(self.plan.due_ms(planned_ms)).min(span.end);
        Some(span)
    }

    async fn store(&self, planned_ms: u64, tick: Option<NewTick>) -> Option<()> {
        let schedule = self.settings.name.clone();
        let stored = self.ledger.enqueue_tick(self.connector_id, Planned { schedule, planned_ms, tick }).await;
        let (connector, schedule) = (&self.connector, &self.settings.name);
        stored.inspect_err(|error| tracing::error!(%connector, schedule, %error, "a tick could not be stored")).ok()
    }

    fn tell_missed(&self, missed: u64, what: &str) {
        if missed > 0 {
            let (connector, schedule) = (&self.connector, &self.settings.name);
            tracing::warn!(%connector, schedule, missed, "ticks were missed: {what}");
        }
    }

    /// Ticks of this schedule that are not settled yet; one that waits for its next attempt is not. `None` where that
    /// cannot be known just now.
    fn unsettled(&self) -> Option<usize> {
        let unsettled = self.ledger.unsettled(self.inbox, self.subscription);
        let unsettled = unsettled
            .inspect_err(|error| tracing::warn!(connector = %self.connector, %error, "cannot read the ledger"));
        let is_own = |body: &&Vec<u8>| Tick::from_json(body).is_some_and(|tick| tick.schedule == self.settings.name);
        Some(unsettled.ok()?.iter().filter(is_own).count())
    }
}
