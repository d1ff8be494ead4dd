//! The loop that turns planned times into ticks in a connector's inbox.
//!
//! One task per schedule. A tick and the stored planned time commit together, so that a crash neither loses nor doubles
//! one. A tick that is still unsettled, retrying included, makes the next one skip: runs of a schedule do not pile up.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;

use super::schedule::{Next, Plan, Settings};
use crate::clock::Clock;
use crate::id::{self, Kind, Name};
use crate::ledger::Ledger;
use crate::message::{Draft, Tick};
use crate::metrics::Metrics;
use crate::runtime::failure::panic_text;
use crate::settlement::{ConnectorId, QueueId, SubscriptionId};

/// The longest sleep: a wall clock that was set is noticed within this time.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Wait before a tick that could not be stored (disk full) is tried again.
const STORE_RETRY: Duration = Duration::from_secs(1);

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
    /// The inbox's subscription: a tick of the schedule in it that is not settled makes the next one skip.
    pub subscription: SubscriptionId,
    /// When it fires.
    pub settings: Settings,
    /// Where ticks go.
    pub ledger: Ledger,
    /// Ledger time.
    pub clock: Clock,
    /// Counts the lag.
    pub metrics: Metrics,
}

impl Clockwork {
    /// Enqueues ticks until `stop` turns true. A panic of host code costs a moment, not the schedule.
    pub async fn run(self: std::sync::Arc<Self>, mut stop: watch::Receiver<bool>) {
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
        let plan = Plan::new(&self.lineage, &self.settings);
        loop {
            let wait = self.step(plan).await;
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
        let plan = Plan::new(&self.lineage, &self.settings);
        matches!(plan.next(self.last_planned(plan), self.clock.now_ms()), Next::Due(_))
    }

    /// Does what is due and answers how long there is nothing to do.
    async fn step(&self, plan: Plan) -> Duration {
        let now_ms = self.clock.now_ms();
        match plan.next(self.last_planned(plan), now_ms) {
            Next::Due(planned_ms) => {
                let stored = self.tick(planned_ms).await;
                stored.map_or(STORE_RETRY, |()| Duration::ZERO)
            }
            Next::At(at_ms) => Duration::from_millis(at_ms.saturating_sub(now_ms)).min(SLEEP_MAX),
        }
    }

    /// The stored planned time; one that cannot be believed counts as none.
    fn last_planned(&self, plan: Plan) -> Option<u64> {
        let stored = self.ledger.schedule_last(self.connector_id, &self.settings.name);
        let stored =
            stored.inspect_err(|error| tracing::warn!(connector = %self.connector, %error, "cannot read the ledger"));
        let last_ms = stored.ok()??.last_planned_ms;
        if plan.is_ahead(last_ms, self.clock.now_ms()) {
            let (connector, schedule) = (&self.connector, &self.settings.name);
            tracing::warn!(%connector, schedule, last_ms, "the stored planned time lies in the future: starting anew");
            return None;
        }
        Some(last_ms)
    }

    async fn tick(&self, planned_ms: u64) -> Option<()> {
        let schedule = &self.settings.name;
        let draft = if self.is_running()? { None } else { Some((self.inbox, self.draft(planned_ms))) };
        let stored = self.ledger.enqueue_tick(self.connector_id, schedule, planned_ms, draft).await;
        match stored {
            Ok(()) => {
                let lag = Duration::from_millis(self.clock.now_ms().saturating_sub(planned_ms));
                self.metrics.schedule_lag(&self.connector, lag.as_secs_f64());
                Some(())
            }
            Err(error) => {
                tracing::error!(connector = %self.connector, schedule, %error, "a tick could not be stored");
                None
            }
        }
    }

    /// Whether a tick of this schedule is not settled yet; one that waits for its next attempt is not. `None` where that
    /// cannot be known just now.
    fn is_running(&self) -> Option<bool> {
        let unsettled = self.ledger.unsettled(self.inbox, self.subscription);
        let unsettled = unsettled
            .inspect_err(|error| tracing::warn!(connector = %self.connector, %error, "cannot read the ledger"));
        let is_own = |body: &Vec<u8>| Tick::from_json(body).is_some_and(|tick| tick.schedule == self.settings.name);
        Some(unsettled.ok()?.iter().any(is_own))
    }

    fn draft(&self, planned_ms: u64) -> Draft {
        let schedule = self.settings.name.clone();
        let tick = Tick { schedule: schedule.clone(), planned_at_ms: planned_ms, input: self.settings.input.clone() };
        Draft {
            id: id::derive(Kind::Tick, &[&self.lineage, &schedule], planned_ms),
            body: tick.to_json(),
            ..Draft::default()
        }
    }
}
