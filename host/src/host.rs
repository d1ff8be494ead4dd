//! The composition root: checked configuration in, a running host out.
//!
//! Builds the layers from the right to the left (ledger, gate, runtime, lanes, triggers), owns every task, and stops them
//! in the opposite order. It decides nothing about a delivery.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{RwLock, watch};
use tokio::task::JoinSet;

use crate::admin::access::{self, Access};
use crate::admin::{self, Admin};
use crate::broker::{Broker, Subscription};
use crate::capability::{Grants, Services};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::delivery::brake::Brake;
use crate::delivery::hold::Hold;
use crate::delivery::lane::{Connector, Lane};
use crate::id::Name;
use crate::ledger::{Directory, Ledger};
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::runtime::engine::Engine;
use crate::runtime::permit::Permits;
use crate::runtime::sandbox::Plugin;
use crate::settlement::SettleError;
use crate::trigger::clockwork::Clockwork;
use crate::trigger::queue;

/// How often idleness is looked at.
const IDLE_PERIOD: Duration = Duration::from_millis(20);

/// When `run` ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Only by a signal.
    Stopped,
    /// When nothing is deliverable, in flight, or due within this time.
    Idle(Duration),
}

/// Why nothing was started: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct NotStarted(pub anyhow::Error);

/// A connector that is loaded, linked and granted, but does not run yet.
pub struct Loaded {
    config: config::Connector,
    plugin: Plugin,
}

/// A host whose plugins are loaded and whose ledger is open.
pub struct Host {
    config: Config,
    ledger: Ledger,
    directory: Arc<Directory>,
    clock: Clock,
    metrics: Metrics,
    permits: Permits,
    connectors: Vec<Running>,
    engine: Engine,
}

/// One connector with its subscriptions.
struct Running {
    config: config::Connector,
    shared: Arc<Connector>,
    subscriptions: Vec<(Name, Subscription)>,
}

impl Host {
    /// Runs until `until`, a signal, or a fatal error of the ledger.
    ///
    /// # Errors
    /// A listener broke, the ledger failed, or the grace time was over before every run had settled.
    pub async fn run(mut self, until: Until) -> anyhow::Result<()> {
        let (stop, stopped) = watch::channel(false);
        let mut tasks: JoinSet<Result<(), SettleError>> = JoinSet::new();
        let mut clockworks = Vec::new();
        for running in &self.connectors {
            self.start_lanes(running, &stopped, &mut tasks);
            clockworks.extend(self.clockworks(running));
        }
        let listener = self.start_admin(&stopped).await?;
        let clockworks: Vec<Arc<Clockwork>> = clockworks.into_iter().map(Arc::new).collect();
        let mut schedules = JoinSet::new();
        for clockwork in &clockworks {
            schedules.spawn(clockwork.clone().run(stopped.clone()));
        }
        tracing::info!(connectors = self.connectors.len(), admin = %listener.address, "running");
        let ended = self.wait(until, &clockworks).await;
        stop.send_replace(true);
        self.drain(&mut tasks, &mut schedules, listener.task).await?;
        ended
    }
}
