//! The composition root: checked configuration in, a running host out.
//!
//! Builds the layers from the right to the left (ledger, gate, runtime, lanes, triggers), owns every task, and stops them
//! in the opposite order. It decides nothing about a delivery.

mod assembly;
mod bounds;
mod connect;
mod disk;
mod front;
mod gate;
mod health;
mod idle;
mod in_use;
mod lock;
mod plugins;
mod reload;
mod running;
mod secrets;
pub mod series;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::admin::access::Access;
use crate::audit::{Audit, Event, Kind};
use crate::broker::Broker;
use crate::feed::Feed;
use crate::id::Name;
use crate::ledger::{Directory, Ledger};
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::runtime::Engine;
use crate::runtime::permit::Permits;
use crate::secret_store::sealed::SealedStore;
use crate::settlement::SettleError;
use crate::telemetry::otlp::Exporter;
use crate::telemetry::supervisor::Supervisor;
use crate::trigger::webhook::server::{self, Served, Server};

pub use assembly::layout;
pub use front::Front;
pub use gate::permissions;
pub use in_use::InUse;
pub use lock::{Renewed, renew as renew_lock};
pub use plugins::{Plugins, prepare};
pub use reload::{Asker, Change, Difference, Names, Reading, Reloader, Unchanged};
pub use running::{Roster, Running};
pub use secrets::{Moment, missing_secrets};

use assembly::Member;
use reload::{Order, Step, Switching, next_step};
use running::Crew;
use series::Series;

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
    engine: Engine,
    ledger: Ledger,
    directory: Arc<Directory>,
    /// Reads ahead for every subscription as long as it lives.
    broker: Broker,
    metrics: Metrics,
    audit: Audit,
    /// What happens, for whoever watches.
    feed: Feed,
    /// The figures of the last hour.
    series: Series,
    /// When it was built, in milliseconds since the Unix epoch.
    started_ms: u64,
    sealed: Arc<SealedStore>,
    /// Held while a backup is made.
    backing_up: Arc<Mutex<()>>,
    permits: Permits,
    /// Runs whose senders wait, or have gone.
    under_way: TaskTracker,
    /// Every connector that is enabled.
    members: BTreeMap<Name, Member>,
    /// What runs of them, for those who look at it again and again.
    roster: watch::Sender<Arc<Roster>>,
    /// Their webhooks.
    served: watch::Sender<Arc<Served>>,
    reloader: Reloader,
    orders: mpsc::Receiver<Order>,
    /// Sends traces on, where they go somewhere.
    exporter: Option<Exporter>,
}

/// What goes on as long as a host runs.
struct Works {
    crew: Crew,
    /// The listener for webhooks.
    doors: JoinSet<anyhow::Result<()>>,
    /// The admin listener.
    desk: JoinSet<anyhow::Result<()>>,
    /// What it knows of the host.
    live: watch::Sender<Admin>,
    access: Arc<Access>,
    /// Turns true when the host begins to stop.
    stop: watch::Sender<bool>,
}

impl Host {
    /// Reads the configuration again for whoever asks, while the host runs.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

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
        let (close, closing) = watch::channel(false);
        let mut works = self.start(front, closing);
        let watch = self.keep_watch(&supervisor);
        supervisor.is_ready(&format!("{} connectors run", self.roster.borrow().len()));
        let ended = self.work(&mut works, until, &mut signals).await;
        works.stop.send_replace(true);
        let latest = Instant::now() + self.reloader.present().config().host.grace;
        supervisor.is_stopping();
        self.roster.borrow().iter().for_each(|running| running.stop());
        tracing::info!("stopping: runs under way settle");
        let drained = self.drain(&mut works, &mut signals).await;
        self.tell_dropped_lines();
        // Who follows what happens has seen how it ended; their answers end with it.
        self.feed.close();
        close.send_replace(true);
        self.flush(latest, &mut signals).await;
        // Answers under way get a moment.
        let desk = &mut works.desk;
        let _ = tokio::time::timeout(CLOSING_MAX, async { while desk.join_next().await.is_some() {} }).await;
        desk.abort_all();
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

    /// Sends what traces have come together, within the grace time, until a second signal comes.
    async fn flush(&mut self, latest: Instant, signals: &mut watch::Receiver<u32>) {
        let Some(exporter) = self.exporter.take() else { return };
        tokio::select! {
            biased;
            () = exporter.close(latest) => {}
            _ = signals.wait_for(|count| *count > 1) => {}
        }
    }

    fn start(&self, front: Front, closing: watch::Receiver<bool>) -> Works {
        let (stop, stopped) = watch::channel(false);
        let (admin, webhooks) = (front.address(), front.webhooks());
        let (desk, door) = front.split();
        let access = desk.access();
        let (live, now) = watch::channel(self.admin(&access, &stopped));
        let (crew, doors, desk) = (Crew::default(), JoinSet::new(), desk.start(now, closing));
        let mut works = Works { crew, doors, desk, live, access, stop };
        works.crew.clocks.spawn(self.show_disk(stopped.clone()));
        works.crew.clocks.spawn(self.keep_bounds(stopped.clone()));
        works.crew.clocks.spawn(self.keep_series(stopped));
        let roster = self.roster.borrow().clone();
        roster.iter().for_each(|running| running.start(&self.engine, &mut works.crew));
        let webhooks = webhooks.map(tracing::field::display);
        tracing::info!(connectors = roster.len(), %admin, webhooks, "running");
        // Last of all: whoever is let in finds everything running.
        self.open(door, &mut works);
        works
    }

    /// Lets requests in for webhooks.
    fn open(&self, door: Option<Listener>, works: &mut Works) {
        let Some(door) = door else { return };
        let (stopped, certificate) =
            (works.stop.subscribe(), self.reloader.present().config().host.certificate.clone());
        let server = Server::new(self.served.subscribe(), self.metrics.clone(), stopped.clone());
        works.doors.spawn(door.serve_bounded(server, server::BOUNDS, certificate, stopped));
    }

    /// Works until something ends it, and reads the configuration again meanwhile for whoever asks.
    async fn work(
        &mut self,
        works: &mut Works,
        until: Until,
        signals: &mut watch::Receiver<u32>,
    ) -> anyhow::Result<Ended> {
        let mut orders = std::mem::replace(&mut self.orders, mpsc::channel(1).1);
        let mut switching: Option<Switching> = None;
        loop {
            let step = tokio::select! {
                biased;
                error = self.ledger.fatal() => return Err(error),
                _ = signals.wait_for(|count| *count > 0) => return Ok(Ended::Settled),
                broken = works.crew.broken() => return Err(broken),
                broken = next_failure(&mut works.desk) => return Err(broken),
                broken = next_failure(&mut works.doors) => return Err(broken),
                step = next_step(&mut orders, switching.as_ref(), &self.members) => step,
                idle = self.idle(until), if switching.is_none() => return Ok(idle),
            };
            switching = match (step, switching.take()) {
                (Step::Begin(order), _) => self.begin(*order, works).await?,
                (Step::Advance, Some(under_way)) => self.advance(under_way, works).await?,
                (Step::Advance, None) => None,
            };
        }
    }

    /// Waits for what is under way, as long as the grace time goes.
    async fn drain(&self, works: &mut Works, signals: &mut watch::Receiver<u32>) -> anyhow::Result<Ended> {
        self.under_way.close();
        let Works { crew: Crew { lanes, clocks }, doors, .. } = works;
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
            () = tokio::time::sleep(self.reloader.present().config().host.grace) => Ok(Ended::Cut),
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

async fn next_failure(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Error {
    match tasks.join_next().await {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => anyhow::Error::new(error).context("a listener broke"),
        Some(Ok(Ok(()))) | None => std::future::pending().await,
    }
}
