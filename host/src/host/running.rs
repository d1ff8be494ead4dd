//! One connector at work: its workers and its schedules, which start and stop together.
//!
//! Invariant: who has ended has handed nothing in that is not on disk, unless it was cut off.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::task::TaskTracker;

use crate::broker::Subscription;
use crate::delivery::connector::Connector;
use crate::id::Name;
use crate::runtime::Engine;
use crate::settlement::SettleError;
use crate::trigger::clockwork::Clockwork;
use crate::trigger::queue::Consumption;

/// All connectors that run, in the order of their names.
pub type Roster = Vec<Arc<Running>>;

/// One connector with what makes its deliveries happen.
pub struct Running {
    /// What runs.
    pub connector: Arc<Connector>,
    pub(super) dead_max_bytes: u64,
    pub(super) consumptions: Vec<Consumption>,
    pub(super) clockworks: Vec<Arc<Clockwork>>,
    stop: watch::Sender<bool>,
    work: TaskTracker,
    cuts: Mutex<Vec<AbortHandle>>,
}

/// The tasks of all connectors, and what goes on beside them.
#[derive(Default)]
pub(super) struct Crew {
    pub(super) lanes: JoinSet<Result<(), SettleError>>,
    pub(super) clocks: JoinSet<()>,
}

impl Running {
    pub(super) fn new(
        connector: Arc<Connector>,
        dead_max_bytes: u64,
        consumptions: Vec<Consumption>,
        clockworks: Vec<Arc<Clockwork>>,
    ) -> Self {
        let (stop, work, cuts) = (watch::Sender::new(false), TaskTracker::new(), Mutex::default());
        Self { connector, dead_max_bytes, consumptions, clockworks, stop, work, cuts }
    }

    /// What it reads, with the names of the queues.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&Name, &Subscription)> {
        self.consumptions.iter().map(|consumption| (&consumption.queue, &consumption.subscription))
    }

    pub(super) fn start(&self, engine: &Engine, crew: &mut Crew) {
        let stop = self.stop.subscribe();
        let mut cuts = Vec::new();
        for consumption in &self.consumptions {
            cuts.extend(consumption.start(&self.connector, engine, &stop, &self.work, &mut crew.lanes));
        }
        for clockwork in &self.clockworks {
            let clockwork = clockwork.clone().run(stop.clone());
            cuts.push(crew.clocks.spawn(self.work.track_future(clockwork)));
        }
        *self.cuts.lock().unwrap_or_else(PoisonError::into_inner) = cuts;
    }

    /// No further call begins.
    pub(super) fn stop(&self) {
        self.work.close();
        self.stop.send_replace(true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until all of it has ended that was stopped. Cancel-safe.
    pub(super) async fn ended(&self) {
        self.work.wait().await;
    }

    /// Ends what goes on, wherever it stands.
    pub(super) fn cut(&self) {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(AbortHandle::abort);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.work.is_closed() && self.work.is_empty()
    }
}

impl Crew {
    /// Waits for a task that ends although nobody stopped it: nothing would say so.
    pub(super) async fn broken(&mut self) -> anyhow::Error {
        tokio::select! {
            biased;
            error = next_end(&mut self.lanes) => error,
            error = next_panic(&mut self.clocks) => error,
        }
    }
}

async fn next_end(lanes: &mut JoinSet<Result<(), SettleError>>) -> anyhow::Error {
    loop {
        match lanes.join_next().await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => return anyhow::Error::new(error).context("a worker ended"),
            Some(Err(cut)) if cut.is_cancelled() => {}
            Some(Err(error)) => return anyhow::Error::new(error).context("a worker broke"),
            None => std::future::pending().await,
        }
    }
}

async fn next_panic(clocks: &mut JoinSet<()>) -> anyhow::Error {
    loop {
        match clocks.join_next().await {
            Some(Ok(())) => {}
            Some(Err(cut)) if cut.is_cancelled() => {}
            Some(Err(error)) => return anyhow::Error::new(error).context("a schedule broke"),
            None => std::future::pending().await,
        }
    }
}
