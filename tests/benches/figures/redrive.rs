//! `bulkhead dead retry --all`: dead letters of 1 KB back to where they died, all on disk before it returns.
//!
//! The time is the whole process's, from its start to its end. Checked: none is left, and every one is delivered again.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bulkhead_host::clock::Clock;
use bulkhead_host::config;
use bulkhead_host::host;
use bulkhead_host::ledger::{Directory, Ledger, Settings};
use bulkhead_host::message::Draft;
use bulkhead_host::metrics::Metrics;
use bulkhead_host::settlement::{Origin, Outcome, Settlement, StateChanges};
use bulkhead_tests::Bulkhead;
use serde_json::json;

use crate::order::order;

/// Dead letters of one pass.
const LETTERS: u64 = 100_000;
/// Messages of one append, and of one settlement.
const CHUNK: u64 = 1_000;
const TOML: &str = r#"
[connectors.log]
plugin = "builtin:log"
consume = "in"
enabled = false
"#;

/// Letters a second of one pass.
pub(crate) fn pass() -> anyhow::Result<f64> {
    let bulkhead = Bulkhead::new(TOML);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(fill(&bulkhead.path("bulkhead.toml")))?;
    let started = Instant::now();
    let retried = bulkhead.run(&["dead", "retry", "--all", "--json"]).ok();
    let elapsed = started.elapsed();
    ensure!(retried.json() == json!({ "count": LETTERS }), "retry says: {}", retried.output);
    let subscription = &bulkhead.queues()[0]["subscriptions"][0];
    ensure!(subscription["dead"] == 0 && subscription["backlog"] == LETTERS, "afterwards: {subscription}");
    #[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
    Ok(LETTERS as f64 / elapsed.as_secs_f64())
}

/// Lets every message die, as a run would have settled it.
async fn fill(file: &Path) -> anyhow::Result<()> {
    let loaded = config::load(&[file.to_owned()], &|_| None).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let settings = Settings::new(loaded.config.host.data_dir.clone());
    let ledger = Ledger::open(settings, Clock::default(), Metrics::default())?;
    let directory = ledger.configure(&host::layout(&loaded.config))?;
    let queue = directory.queue("in").context("the configuration names it")?;
    let draft = |number| Draft { id: format!("m-{number}"), body: order(number).into_bytes(), ..Draft::default() };
    for first in (1..=LETTERS).step_by(usize::try_from(CHUNK)?) {
        let numbers = first..first + CHUNK;
        ledger.append(numbers.clone().map(|number| (queue, draft(number))).collect()).await?;
        ledger.settle(died(&directory, numbers)?).await?;
    }
    ledger.close();
    Ok(())
}

fn died(directory: &Directory, numbers: std::ops::Range<u64>) -> anyhow::Result<Settlement> {
    let dead = |number| (Origin::Log(number), Outcome::Dead { reason: format!("order {number} is unknown") });
    Ok(Settlement {
        subscription: directory.subscription("in", "log").context("it consumes it")?,
        connector: directory.connector("log").context("the configuration names it")?,
        outcomes: numbers.map(dead).collect(),
        publishes: Vec::new(),
        state: StateChanges::default(),
        mark: None,
        tick: None,
    })
}
