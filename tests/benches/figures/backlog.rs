//! Cost of a message with a long backlog against a short one.
//!
//! A host in this process, kept at a constant backlog: as fast as it settles, as much is appended. Both backlogs do the
//! same work in the same way, so that nothing but the backlog's length differs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_host::clock::Clock;
use bulkhead_host::config::{self, Loaded};
use bulkhead_host::host::{self, Front, Host, Reading, Until};
use bulkhead_host::id::Name;
use bulkhead_host::ledger::{Ledger, Settings};
use bulkhead_host::message::Draft;
use bulkhead_host::metrics::Metrics;
use bulkhead_host::secret_store::SecretStore;
use bulkhead_host::settlement::QueueId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::order::order;

/// Messages of one append.
const CHUNK: u64 = 256;
/// Messages of one append while the backlog is filled.
const FILL: u64 = 4_096;

/// Microseconds a message while `backlog` messages wait, over `messages` of them.
pub(crate) fn pass(backlog: u64, messages: u64) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let loaded = load(folder.path())?;
        let metrics = Metrics::default();
        let plugins = host::prepare(&loaded, &metrics).await.map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        let settings = Settings::new(loaded.config.host.data_dir.clone());
        let ledger = Ledger::open(settings, Clock::default(), metrics.clone())?;
        let directory = ledger.configure(&host::layout(&loaded.config))?;
        let queue = directory.queue("in").context("the configuration names it")?;
        let mut feeder = Feeder { ledger: ledger.clone(), queue, appended: 0 };
        while feeder.appended < backlog {
            feeder.append(FILL.min(backlog - feeder.appended)).await?;
        }
        let front = Front::bind(&loaded.config).await?;
        let secrets = SecretStore::empty(&loaded.config.host.data_dir);
        let reading = Reading::unchanging(&loaded);
        let host = Host::assemble(loaded, plugins, secrets, reading, ledger, metrics.clone()).await?;
        let (stop, signals) = watch::channel(0);
        let mut running = JoinSet::new();
        running.spawn(host.run(front, Until::Stopped, signals));
        let done = metrics.of_connector(&Name::parse("map").map_err(anyhow::Error::msg)?).done;
        feeder.hold(&done, backlog, messages / 4).await?;
        let (from, started) = (done.get(), Instant::now());
        feeder.hold(&done, backlog, from + messages).await?;
        let elapsed = started.elapsed();
        #[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
        let each = elapsed.as_secs_f64() * 1e6 / (done.get() - from) as f64;
        stop.send_replace(1);
        running.join_next().await.context("the host runs")???;
        Ok(each)
    })
}

struct Feeder {
    ledger: Ledger,
    queue: QueueId,
    appended: u64,
}

impl Feeder {
    async fn append(&mut self, count: u64) -> anyhow::Result<()> {
        let draft = |number| Draft { id: format!("m-{number}"), body: order(number).into_bytes(), ..Draft::default() };
        let numbers = self.appended + 1..=self.appended + count;
        self.ledger.append(numbers.map(|number| (self.queue, draft(number))).collect()).await?;
        self.appended += count;
        Ok(())
    }

    /// Keeps the backlog at its length until so many messages are settled.
    async fn hold(
        &mut self,
        done: &prometheus_client::metrics::counter::Counter,
        backlog: u64,
        until: u64,
    ) -> anyhow::Result<()> {
        while done.get() < until {
            if self.appended < done.get() + backlog {
                self.append(CHUNK).await?;
            } else {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
        Ok(())
    }
}

fn load(folder: &Path) -> anyhow::Result<Loaded> {
    let file = folder.join("bulkhead.toml");
    let toml = format!(
        r#"
        [host]
        admin = "127.0.0.1:0"
        [queues.in]
        max_bytes = "16GiB"
        [queues.out]
        max_bytes = "16GiB"
        [connectors.map]
        plugin = "{}"
        consume = {{ queue = "in", batch = 64, concurrency = 2 }}
        allow.publish = ["out"]
        "#,
        bulkhead_tests::guest("map").display()
    );
    std::fs::write(&file, toml)?;
    config::load(&[file], &|_| None).map_err(|problems| anyhow::anyhow!("{problems:?}"))
}
