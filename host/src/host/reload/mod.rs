//! Reading the configuration again while the host runs.
//!
//! What was read is checked as at a start ([`prepared`]), compared with what runs ([`part`], [`change`]), and carried out
//! by the host ([`switch`]), one after the other. Invariant: nothing has changed when it answers [`Unchanged`].

mod change;
mod fixed;
mod part;
mod prepared;
mod switch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot, watch};

pub use change::{Change, Difference, Names};
pub(super) use prepared::{Present, way_out};
pub(super) use switch::{Step, Switching, next_step};

use prepared::{Next, prepare};

use crate::audit::{Audit, Event, Kind};
use crate::clock::{rfc3339, wall_ms};
use crate::config::{Loaded, Problem};
use crate::feed::{self, Feed, Reloaded};
use crate::metrics::Metrics;
use crate::secret_store::Environment;

type Load = dyn Fn() -> Result<Loaded, Vec<Problem>> + Send + Sync;

/// How the configuration is read again: the same files, with the same environment. Cheap to clone.
#[derive(Clone)]
pub struct Reading {
    load: Arc<Load>,
    environment: Environment,
}

impl Reading {
    /// Reads with `load`; values of secrets that are variables are those in `environment`.
    pub fn new(
        environment: Environment,
        load: impl Fn() -> Result<Loaded, Vec<Problem>> + Send + Sync + 'static,
    ) -> Self {
        Self { load: Arc::new(load), environment }
    }

    /// Finds the same again and again.
    #[must_use]
    pub fn unchanging(loaded: &Loaded) -> Self {
        let (environment, same) = (Environment::empty(&loaded.config.host.data_dir), loaded.clone());
        Self::new(environment, move || Ok(same.clone()))
    }
}

/// Who wants the configuration to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// SIGHUP.
    Signal,
    /// The API, and `bulkhead reload` through it.
    Api,
    /// A file has changed.
    Watch,
}

impl Asker {
    fn word(self) -> &'static str {
        match self {
            Self::Signal => "SIGHUP",
            Self::Api => "the API",
            Self::Watch => "a changed file",
        }
    }
}

/// Why everything is as it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unchanged {
    /// The configuration cannot be used: everything that is wrong with it, and warnings beside it.
    #[error("the configuration is refused, and the host goes on with the one that it has")]
    Refused(Vec<Problem>),
    /// The host has begun to stop.
    #[error("the host is stopping: nothing is changed any more")]
    Stopping,
}

/// A configuration that is to be carried out.
pub(in crate::host) struct Order {
    next: Box<Next>,
    asked: Asked,
}

/// Who waits for that, if they have not gone: what has begun goes on without them, and nothing else begins before its end.
pub(in crate::host) struct Asked {
    asker: Asker,
    change: Change,
    answer: oneshot::Sender<Result<Change, Unchanged>>,
    _turn: OwnedMutexGuard<()>,
}

/// Reads the configuration again for whoever asks, one at a time. Cheap to clone.
#[derive(Clone)]
pub struct Reloader(Arc<Inner>);

struct Inner {
    reading: Reading,
    present: watch::Sender<Arc<Present>>,
    turn: Arc<Mutex<()>>,
    orders: mpsc::Sender<Order>,
    telling: Telling,
}

/// Who hears of reloads.
pub(super) struct Telling {
    pub(super) metrics: Metrics,
    pub(super) audit: Audit,
    pub(super) feed: Feed,
}

impl Reloader {
    /// For a host that takes its orders at the receiver, and begins with `present`.
    pub(super) fn new(reading: Reading, present: Present, telling: Telling) -> (Self, mpsc::Receiver<Order>) {
        // One at a time is under way.
        let (orders, taken) = mpsc::channel(1);
        let (present, turn) = (watch::Sender::new(Arc::new(present)), Arc::default());
        (Self(Arc::new(Inner { reading, present, turn, orders, telling })), taken)
    }

    /// What the host runs with at this moment.
    pub(super) fn present(&self) -> Arc<Present> {
        self.0.present.borrow().clone()
    }

    /// From now on the host runs with this, or is about to.
    pub(super) fn replace(&self, present: Present) -> Arc<Present> {
        let present = Arc::new(present);
        self.0.present.send_replace(present.clone());
        present
    }

    /// The files whose change makes another configuration.
    #[must_use]
    pub fn files(&self) -> BTreeSet<PathBuf> {
        self.present().loaded.files()
    }

    /// What a reload would change now.
    ///
    /// # Errors
    /// It would be refused.
    pub async fn check(&self) -> Result<Change, Unchanged> {
        self.prepared().await.map(|(_, change)| change)
    }

    /// Reads the configuration again; what has changed runs when it answers.
    ///
    /// # Errors
    /// Nothing has changed.
    pub async fn reload(&self, asker: Asker) -> Result<Change, Unchanged> {
        // Who comes meanwhile reads what is there afterwards.
        let turn = self.0.turn.clone().lock_owned().await;
        let (next, change) = self.prepared().await.inspect_err(|unchanged| self.tell(asker, Err(unchanged)))?;
        let (answer, answered) = oneshot::channel();
        let asked = Asked { asker, change, answer, _turn: turn };
        self.0.orders.send(Order { next, asked }).await.map_err(|_| Unchanged::Stopping)?;
        let change = answered.await.unwrap_or(Err(Unchanged::Stopping))?;
        self.keep().await;
        Ok(change)
    }

    /// Tells everybody what came of an order.
    pub(super) fn end(&self, asked: Asked, outcome: Result<(), Unchanged>) {
        let Asked { asker, change, answer, _turn } = asked;
        let outcome = outcome.map(|()| change);
        self.tell(asker, outcome.as_ref());
        // Whoever asked may have gone.
        let _ = answer.send(outcome);
    }

    /// Compiling blocks.
    async fn prepared(&self) -> Result<(Box<Next>, Change), Unchanged> {
        let (reading, present) = (self.0.reading.clone(), self.present());
        let (metrics, runtime) = (self.0.telling.metrics.clone(), Handle::current());
        let preparing = tokio::task::spawn_blocking(move || runtime.block_on(prepare(&reading, &present, &metrics)));
        preparing.await.unwrap_or(Err(Unchanged::Stopping))
    }

    /// Writing what was compiled blocks, and so does nobody's run.
    async fn keep(&self) {
        let present = self.present();
        let keeping = tokio::task::spawn_blocking(move || present.plugins.keep(&present.config().host.data_dir));
        // The next start compiles again what is not kept.
        let _ = keeping.await;
    }

    /// Log, metric and record.
    fn tell(&self, asker: Asker, outcome: Result<&Change, &Unchanged>) {
        match outcome {
            Ok(change) => self.tell_done(asker.word(), change),
            Err(Unchanged::Refused(problems)) => self.tell_refused(asker.word(), problems),
            Err(Unchanged::Stopping) => {}
        }
    }

    fn tell_done(&self, asked_by: &'static str, change: &Change) {
        let (present, Telling { metrics, audit, feed }) = (self.present(), &self.0.telling);
        let origin = &present.config().origin;
        metrics.reloaded("done");
        metrics.configured(&origin.sha256);
        change.warnings.iter().for_each(|warning| tracing::warn!(key = warning.key, "{}", warning.render()));
        let (added, removed, changed) = (change.added.len(), change.removed.len(), change.changed.len());
        tracing::info!(asked_by, added, removed, changed, "the configuration was read again and is in use");
        let sources = origin.files.iter().map(|file| file.display().to_string()).collect();
        let (sha256, changes) = (origin.sha256.clone(), change.lines());
        tell(feed, "done", asked_by, &changes);
        audit.note(Event { reason: "done".to_owned(), sources, sha256, changes, ..event(asked_by) });
    }

    fn tell_refused(&self, asked_by: &'static str, problems: &[Problem]) {
        let Telling { metrics, audit, feed } = &self.0.telling;
        metrics.reloaded("refused");
        problems.iter().for_each(|problem| tracing::error!(key = problem.key, "{}", problem.render()));
        let count = problems.len();
        let message = "the configuration is refused, the host goes on with the one that it has";
        tracing::error!(asked_by, problems = count, "{message}");
        let changes: Vec<String> = problems.iter().map(Problem::render).collect();
        tell(feed, "refused", asked_by, &changes);
        audit.note(Event { reason: "refused".to_owned(), changes, ..event(asked_by) });
    }
}

fn tell(feed: &Feed, outcome: &'static str, asked_by: &'static str, changes: &[String]) {
    let reloaded = || Reloaded { at: rfc3339(wall_ms()), outcome, asked_by, changes: changes.to_vec() };
    feed.tell(feed::Kind::Reload, None, reloaded);
}

fn event(asked_by: &str) -> Event {
    Event::new(Kind::Reload, "", &format!("asked for by {asked_by}"))
}
