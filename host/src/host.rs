//! The composition root: checked configuration in, a running host out.
//!
//! Builds the layers from the right to the left (ledger, gate, runtime, lanes, triggers), owns every task, and stops them
//! in the opposite order. It decides nothing about a delivery.

mod assembly;
mod bounds;
mod disk;
mod front;
mod gate;
mod health;
mod idle;
mod lock;
mod plugins;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::audit::{Audit, Event, Kind};
use crate::broker::{Broker, Subscription};
use crate::config::Config;
use crate::delivery::connector::Connector;
use crate::id::Name;
use crate::ledger::{Directory, Ledger};
use crate::metrics::Metrics;
use crate::runtime::Engine;
use crate::secret_store::sealed::SealedStore;
use crate::settlement::SettleError;
use crate::telemetry::supervisor::Supervisor;
use crate::trigger::clockwork::Clockwork;
use crate::trigger::queue::Consumption;
use crate::trigger::webhook::Hook;
use crate::trigger::webhook::server::{self, Server};

pub use assembly::layout;
pub use front::Front;
pub use gate::permissions;
pub use lock::{Renewed, renew as renew_lock};
pub use plugins::{Plugins, prepare};

/// How long the admin listener may take to end its answers.
const CLOSING_MAX: Duration = Duration::from_secs(1);

/// When a run ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Only by a signal.
    Stopped,
    /// When nothing is deliverable, in flight, or due within this time.
    Idle(Duration),
}

/// How a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything that was begun is settled.
    Settled,
    /// So it is, but a queue without room, a full disk or the bound of dead letters keeps more from being begun.
    Held,
    /// The grace time was over, or a second signal came: the rest is delivered again after the next start.
    Cut,
}

/// A host that is built and does not run yet.
pub struct Host {
    config: Config,
    engine: Engine,
    ledger: Ledger,
    directory: Arc<Directory>,
    /// Reads ahead for every subscription as long as it lives.
    broker: Broker,
    metrics: Metrics,
    audit: Audit,
    sealed: Arc<SealedStore>,
    connectors: Vec<Running>,
    /// To be served once everything runs.
    hooks: Vec<Hook>,
    /// Runs whose senders wait, or have gone.
    under_way: TaskTracker,
}

/// One connector with what makes its deliveries happen.
struct Running {
    connector: Arc<Connector>,
    dead_max_bytes: u64,
    consumptions: Vec<Consumption>,
    clockworks: Vec<Arc<Clockwork>>,
}

impl Running {
    fn subscriptions(&self) -> impl Iterator<Item = (&Name, &Subscription)> {
        self.consumptions.iter().map(|consumption| (&consumption.queue, &consumption.subscription))
    }
}

impl Host {
    /// Runs until `until`, until `signals` counts one, or until the ledger fails; a second signal cuts the drain short.
    ///
    /// # Errors
    /// A listener broke, or the ledger can no longer be trusted.
    pub async fn run(
        mut self,
        front: Front,
        until: Until,
        mut signals: watch::Receiver<u32>,
        supervisor: Supervisor,
    ) -> anyhow::Result<Ended> {
        let (stop, stopped) = watch::channel(false);
        let admin = front.address();
        let (close, closing) = watch::channel(false);
        let (front, door) = front.split();
        let mut listener = front.start(&self, stopped.clone(), closing);
        let mut lanes: JoinSet<Result<(), SettleError>> = JoinSet::new();
        let mut clocks = JoinSet::new();
        clocks.spawn(self.show_disk(stopped.clone()));
        clocks.spawn(self.keep_bounds(stopped.clone()));
        for running in &self.connectors {
            for consumption in &running.consumptions {
                consumption.start(&running.connector, &self.ledger, &self.engine, &stopped, &mut lanes);
            }
            for clockwork in &running.clockworks {
                clocks.spawn(clockwork.clone().run(stopped.clone()));
            }
        }
        let webhooks = door.as_ref().map(|door| tracing::field::display(door.address()));
        tracing::info!(connectors = self.connectors.len(), %admin, webhooks, "running");
        // Last of all: whoever is let in finds everything running.
        let mut doors = JoinSet::new();
        if let Some(door) = door {
            let hooks = std::mem::take(&mut self.hooks);
            let host = &self.config.host;
            let server = Server::new(hooks, host.trusted_proxies.clone(), self.metrics.clone(), stopped.clone());
            doors.spawn(door.serve_bounded(server, server::BOUNDS, host.certificate.clone(), stopped.clone()));
        }
        let watch = self.keep_watch(&supervisor);
        supervisor.is_ready(&format!("{} connectors run", self.connectors.len()));
        let ended = tokio::select! {
            biased;
            error = self.ledger.fatal() => Err(error),
            _ = signals.wait_for(|count| *count > 0) => Ok(Ended::Settled),
            lane = next_end(&mut lanes) => Err(lane),
            broken = next_failure(&mut listener) => Err(broken),
            broken = next_failure(&mut doors) => Err(broken),
            broken = next_panic(&mut clocks) => Err(broken),
            idle = self.idle(until) => Ok(idle),
        };
        stop.send_replace(true);
        supervisor.is_stopping();
        tracing::info!("stopping: runs under way settle");
        let drained = self.drain(&mut lanes, &mut clocks, &mut doors, &mut signals).await;
        close.send_replace(true);
        // Answers under way get a moment.
        let _ = tokio::time::timeout(CLOSING_MAX, async { while listener.join_next().await.is_some() {} }).await;
        listener.abort_all();
        drop((self.broker, watch));
        let (ledger, audit) = (self.ledger.clone(), self.audit.clone());
        let ended = ended.and_then(|ended| Ok(if drained? == Ended::Settled { ended } else { Ended::Cut }));
        let last = stop_of(&ended);
        let closed = ledger.clone();
        let close = move || {
            audit.close(last);
            ledger.close();
        };
        tokio::task::spawn_blocking(close).await.context("the ledger did not close")?;
        // Whatever else has broken for its sake; and the last that is written has to be on disk, too.
        closed.failure().map_or(ended, Err)
    }

    /// Waits for what is under way, as long as the grace time goes.
    async fn drain(
        &self,
        lanes: &mut JoinSet<Result<(), SettleError>>,
        clocks: &mut JoinSet<()>,
        doors: &mut JoinSet<anyhow::Result<()>>,
        signals: &mut watch::Receiver<u32>,
    ) -> anyhow::Result<Ended> {
        self.under_way.close();
        let settled = async {
            while doors.join_next().await.is_some() {}
            self.under_way.wait().await;
            while clocks.join_next().await.is_some() {}
            while let Some(lane) = lanes.join_next().await {
                if let Ok(Err(SettleError::Closed)) = lane {
                    bail!("the ledger has stopped");
                }
            }
            Ok(Ended::Settled)
        };
        let ended = tokio::select! {
            biased;
            ended = settled => ended,
            _ = signals.wait_for(|count| *count > 1) => Ok(Ended::Cut),
            () = tokio::time::sleep(self.config.host.grace) => Ok(Ended::Cut),
        };
        if matches!(ended, Ok(Ended::Cut)) {
            tracing::warn!("cut off: what had not settled is delivered again after the next start");
        }
        lanes.shutdown().await;
        clocks.shutdown().await;
        doors.shutdown().await;
        ended
    }
}

/// How the audit record ends.
fn stop_of(ended: &anyhow::Result<Ended>) -> Event {
    let stopped = |reason: &str| Event { reason: reason.to_owned(), ..Event::new(Kind::Stop, "", "") };
    match ended {
        Ok(Ended::Settled) => stopped("settled"),
        Ok(Ended::Held) => stopped("held"),
        Ok(Ended::Cut) => stopped("cut"),
        Err(error) => Event::failed(error),
    }
}

/// Waits for a lane that ends although nobody stopped it.
async fn next_end(lanes: &mut JoinSet<Result<(), SettleError>>) -> anyhow::Error {
    loop {
        match lanes.join_next().await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => return anyhow::Error::new(error).context("a worker ended"),
            Some(Err(error)) => return anyhow::Error::new(error).context("a worker broke"),
            None => std::future::pending().await,
        }
    }
}

/// Waits for a schedule that broke: it would never fire again, and nothing would say so.
async fn next_panic(clocks: &mut JoinSet<()>) -> anyhow::Error {
    loop {
        match clocks.join_next().await {
            Some(Ok(())) => {}
            Some(Err(error)) => return anyhow::Error::new(error).context("a schedule broke"),
            None => std::future::pending().await,
        }
    }
}

async fn next_failure(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Error {
    match tasks.join_next().await {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => anyhow::Error::new(error).context("a listener broke"),
        Some(Ok(Ok(()))) | None => std::future::pending().await,
    }
}
