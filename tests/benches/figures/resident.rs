//! A host in this process, with a folder of its own: what it is given to do lies in its queues before it starts.

use std::path::Path;

use anyhow::Context as _;
use bulkhead_host::clock::Clock;
use bulkhead_host::config::{self, Loaded};
use bulkhead_host::host::{self, Ended, Front, Host, Plugins, Reading, Until};
use bulkhead_host::ledger::{Directory, Ledger, Settings};
use bulkhead_host::metrics::Metrics;
use bulkhead_host::secret_store::SecretStore;
use bulkhead_host::telemetry::supervisor::Supervisor;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// One that is ready to start.
pub(crate) struct Prepared {
    pub(crate) ledger: Ledger,
    pub(crate) directory: Directory,
    pub(crate) metrics: Metrics,
    loaded: Loaded,
    plugins: Plugins,
    folder: TempDir,
}

/// One that runs.
pub(crate) struct Resident {
    stop: watch::Sender<u32>,
    running: JoinSet<anyhow::Result<Ended>>,
    _folder: TempDir,
}

impl Prepared {
    /// With this configuration; its plugins are compiled, and its ledger is open.
    pub(crate) async fn new(toml: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let loaded = load(folder.path(), toml)?;
        let metrics = Metrics::default();
        let plugins = host::prepare(&loaded, &metrics).await.map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        let settings = Settings::new(loaded.config.host.data_dir.clone());
        let ledger = Ledger::open(settings, Clock::default(), metrics.clone())?;
        let directory = ledger.configure(&host::layout(&loaded.config))?;
        Ok(Self { ledger, directory, metrics, loaded, plugins, folder })
    }

    /// Lets it begin.
    pub(crate) async fn start(self) -> anyhow::Result<Resident> {
        let front = Front::bind(&self.loaded.config).await?;
        let secrets = SecretStore::empty(&self.loaded.config.host.data_dir);
        let reading = Reading::unchanging(&self.loaded);
        let host = Host::assemble(self.loaded, self.plugins, secrets, reading, self.ledger, self.metrics).await?;
        let (stop, signals) = watch::channel(0);
        let mut running = JoinSet::new();
        running.spawn(host.run(front, Until::Stopped, signals, Supervisor::default()));
        Ok(Resident { stop, running, _folder: self.folder })
    }
}

impl Resident {
    /// Lets it stop, and waits for its end.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.send_replace(1);
        self.running.join_next().await.context("the host runs")???;
        Ok(())
    }
}

fn load(folder: &Path, toml: &str) -> anyhow::Result<Loaded> {
    let file = folder.join("bulkhead.toml");
    std::fs::write(&file, format!("[host]\nadmin = \"127.0.0.1:0\"\n{toml}"))?;
    config::load(&[file], &|_| None).map_err(|problems| anyhow::anyhow!("{problems:?}"))
}
