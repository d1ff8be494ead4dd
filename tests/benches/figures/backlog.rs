//! Cost of a message with a long backlog against a short one.
//!
//! A host in this process, kept at a constant backlog: as fast as it settles, as much is appended. Both backlogs do the
//! same work in the same way, so that nothing but the backlog's length differs.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_host::id::Name;
use bulkhead_host::ledger::Ledger;
use bulkhead_host::message::Draft;
use bulkhead_host::settlement::QueueId;

use crate::order::order;
use crate::resident::Prepared;

/// Messages of one append.
const CHUNK: u64 = 256;
/// Messages of one append while the backlog is filled.
const FILL: u64 = 4_096;

/// Microseconds a message while `backlog` messages wait, over `messages` of them.
pub(crate) fn pass(backlog: u64, messages: u64) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let prepared = Prepared::new(&toml()).await?;
        let queue = prepared.directory.queue("in").context("the configuration names it")?;
        let mut feeder = Feeder { ledger: prepared.ledger.clone(), queue, appended: 0 };
        while feeder.appended < backlog {
            feeder.append(FILL.min(backlog - feeder.appended)).await?;
        }
        let done = prepared.metrics.of_connector(&Name::parse("map").map_err(anyhow::Error::msg)?).done;
        let resident = prepared.start().await?;
        feeder.hold(&done, backlog, messages / 4).await?;
        let (from, started) = (done.get(), Instant::now());
        feeder.hold(&done, backlog, from + messages).await?;
        let elapsed = started.elapsed();
        #[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
        let each = elapsed.as_secs_f64() * 1e6 / (done.get() - from) as f64;
        resident.stop().await?;
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

fn toml() -> String {
    format!(
        r#"
        [queues.in]
        max_bytes = "64GiB"
        [queues.out]
        max_bytes = "64GiB"
        [connectors.map]
        plugin = "{}"
        consume = {{ queue = "in", batch = 64, concurrency = 2 }}
        allow.publish = ["out"]
        "#,
        bulkhead_tests::guest("map").display()
    )
}
