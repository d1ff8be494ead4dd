//! Cost of a message among a thousand connectors against one.
//!
//! The same messages and the same plugin, once in the queue of one connector and once spread over a thousand queues with a
//! connector each. Everything waits before the host starts; a tenth warms up.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bulkhead_host::id::Name;
use bulkhead_host::message::Draft;
use prometheus_client::metrics::counter::Counter;

use crate::order::order;
use crate::report::{Figure, percentile};
use crate::resident::Prepared;

const MANY: u64 = 1_000;
/// Messages of one run.
const BATCH: u64 = 64;
/// Messages of one append.
const FILL: u64 = 4_096;
/// Between two looks at the counters.
const LOOK: Duration = Duration::from_millis(2);
const WITHIN: Duration = Duration::from_secs(600);

/// `connectors_cost_ratio`.
pub(crate) fn measure(rounds: usize, messages: u64) -> anyhow::Result<Vec<Figure>> {
    // Whole batches for each, so that both have the same ones.
    let messages = messages.next_multiple_of(MANY * BATCH);
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        one.push(pass(1, messages)?);
        many.push(pass(MANY, messages)?);
    }
    let ratios: Vec<f64> = many.iter().zip(&one).map(|(many, one)| many / one).collect();
    let how = format!(
        "{:.2} us a message with {MANY} connectors of a queue each, {:.2} us with one; each round in turn",
        percentile(&many, 50),
        percentile(&one, 50)
    );
    Ok(vec![Figure::of_rounds("connectors_cost_ratio", "ratio", &ratios, &how)])
}

/// Microseconds a message where so many connectors share `messages` of them.
fn pass(connectors: u64, messages: u64) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let prepared = Prepared::new(&toml(connectors)).await?;
        fill(&prepared, connectors, messages).await?;
        let done = |number| -> anyhow::Result<Counter> {
            let name = Name::parse(&format!("c{number}")).map_err(anyhow::Error::msg)?;
            Ok(prepared.metrics.of_connector(&name).done)
        };
        let done = (0..connectors).map(done).collect::<anyhow::Result<Vec<Counter>>>()?;
        let resident = prepared.start().await?;
        let (warm, from) = wait_for(&done, messages / 10).await?;
        let (all, until) = wait_for(&done, messages).await?;
        resident.stop().await?;
        #[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
        let counted = (all - warm) as f64;
        Ok((until - from).as_secs_f64() * 1e6 / counted)
    })
}

/// One message into each queue after the other, until all are there.
async fn fill(prepared: &Prepared, connectors: u64, messages: u64) -> anyhow::Result<()> {
    let queue = |number| prepared.directory.queue(&format!("q{number}")).context("the configuration names it");
    let queues = (0..connectors).map(queue).collect::<anyhow::Result<Vec<_>>>()?;
    for first in (0..messages).step_by(usize::try_from(FILL)?) {
        let draft =
            |number: u64| Draft { id: format!("m-{number}"), body: order(number + 1).into_bytes(), ..Draft::default() };
        let numbers = first..messages.min(first + FILL);
        let place = |number: u64| usize::try_from(number % connectors).unwrap_or_default();
        prepared.ledger.append(numbers.map(|number| (queues[place(number)], draft(number))).collect()).await?;
    }
    Ok(())
}

/// Until so many are settled; how many are, and when.
async fn wait_for(done: &[Counter], messages: u64) -> anyhow::Result<(u64, Instant)> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let (settled, now) = (done.iter().map(Counter::get).sum::<u64>(), Instant::now());
        if settled >= messages {
            return Ok((settled, now));
        }
        ensure!(now < deadline, "{settled} of {messages} messages within {WITHIN:?}");
        tokio::time::sleep(LOOK).await;
    }
}

fn toml(connectors: u64) -> String {
    let plugin = bulkhead_tests::guest("map");
    // As many workers as there are cores here too, where they cannot be those of several connectors.
    let concurrency = if connectors == 1 { 2 } else { 1 };
    let connector = |number| {
        format!(
            r#"
            [queues.q{number}]
            max_bytes = "16GiB"
            [connectors.c{number}]
            plugin = "{}"
            consume = {{ queue = "q{number}", batch = {BATCH}, concurrency = {concurrency} }}
            allow.publish = ["out"]
            "#,
            plugin.display()
        )
    };
    let connectors: String = (0..connectors).map(connector).collect();
    format!("[queues.out]\nmax_bytes = \"16GiB\"\n{connectors}")
}
