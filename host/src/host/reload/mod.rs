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
use tokio::sync::{Mutex, mpsc, oneshot, watch};

pub use change::{Change, Difference, Names};
pub(super) use prepared::{Present, way_out};
pub(super) use switch::{Step, Switching, next_step};

use prepared::prepare;

use crate::audit::{Audit, Event, Kind};
use crate::config::{Loaded, Problem};
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

/// A configuration that is to be carried out, and who waits for that.
pub(in crate::host) struct Order {
    next: Box<prepared::Next>,
    answer: oneshot::Sender<Result<(), Unchanged>>,
}

/// Reads the configuration again for whoever asks, one at a time. Cheap to clone.
#[derive(Clone)]
pub struct Reloader(Arc<Inner>);

struct Inner {
    reading: Reading,
    present: watch::Sender<Arc<Present>>,
    turn: Mutex<()>,
    orders: mpsc::Sender<Order>,
    metrics: Metrics,
    audit: Audit,
}

impl Reloader {
    /// For a host that takes its orders at the receiver, and begins with `present`.
    pub(super) fn new(
        reading: Reading,
        present: Present,
        metrics: Metrics,
        audit: Audit,
    ) -> (Self, mpsc::Receiver<Order>) {
        // One at a time is under way.
        let (orders, taken) = mpsc::channel(1);
        let (present, turn) = (watch::Sender::new(Arc::new(present)), Mutex::default());
        (Self(Arc::new(Inner { reading, present, turn, orders, metrics, audit })), taken)
    }

    /// What the host runs with at this moment.
    pub(super) fn present(&self) -> Arc<Present> {
        self.0.present.borrow().clone()
    }

    pub(super) fn replace(&self, present: Present) {
        self.0.present.send_replace(Arc::new(present));
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
        let _turn = self.0.turn.lock().await;
        let outcome = match self.prepared().await {
            Ok((next, change)) => self.carry_out(next).await.map(|()| change),
            Err(unchanged) => Err(unchanged),
        };
        if outcome.is_ok() {
            self.keep().await;
        }
        self.tell(asker, &outcome);
        outcome
    }

    /// Compiling blocks.
    async fn prepared(&self) -> Result<(Box<prepared::Next>, Change), Unchanged> {
        let (reading, present) = (self.0.reading.clone(), self.present());
        let (metrics, runtime) = (self.0.metrics.clone(), Handle::current());
        let preparing = tokio::task::spawn_blocking(move || runtime.block_on(prepare(&reading, &present, &metrics)));
        preparing.await.unwrap_or(Err(Unchanged::Stopping))
    }

    async fn carry_out(&self, next: Box<prepared::Next>) -> Result<(), Unchanged> {
        let (answer, answered) = oneshot::channel();
        self.0.orders.send(Order { next, answer }).await.map_err(|_| Unchanged::Stopping)?;
        answered.await.unwrap_or(Err(Unchanged::Stopping))
    }

    /// Writing what was compiled blocks, and so does nobody's run.
    async fn keep(&self) {
        let present = self.present();
        let keeping = tokio::task::spawn_blocking(move || present.plugins.keep(&present.config().host.data_dir));
        // The next start compiles again what is not kept.
        let _ = keeping.await;
    }

    /// Log, metric and record.
    fn tell(&self, asker: Asker, outcome: &Result<Change, Unchanged>) {
        let Inner { metrics, audit, .. } = &*self.0;
        let asked_by = asker.word();
        match outcome {
            Ok(change) => {
                metrics.reloaded("done");
                change.warnings.iter().for_each(|warning| tracing::warn!(key = warning.key, "{}", warning.render()));
                let (added, removed, changed) = (change.added.len(), change.removed.len(), change.changed.len());
                tracing::info!(asked_by, added, removed, changed, "the configuration was read again and is in use");
                let present = self.present();
                metrics.configured(&present.config().origin.sha256);
                let origin = &present.config().origin;
                let sources = origin.files.iter().map(|file| file.display().to_string()).collect();
                let event = Event::new(Kind::Reload, "", &format!("asked for by {asked_by}"));
                let (sha256, changes) = (origin.sha256.clone(), change.lines());
                audit.note(Event { reason: "done".to_owned(), sources, sha256, changes, ..event });
            }
            Err(Unchanged::Refused(problems)) => {
                metrics.reloaded("refused");
                problems.iter().for_each(|problem| tracing::error!(key = problem.key, "{}", problem.render()));
                let count = problems.len();
                tracing::error!(
                    asked_by,
                    problems = count,
                    "the configuration is refused, the host goes on with the one that it has"
                );
                let event = Event::new(Kind::Reload, "", &format!("asked for by {asked_by}"));
                let changes = problems.iter().map(Problem::render).collect();
                audit.note(Event { reason: "refused".to_owned(), changes, ..event });
            }
            Err(Unchanged::Stopping) => tracing::warn!(asked_by, "the host is stopping: the configuration stays"),
        }
    }
}
