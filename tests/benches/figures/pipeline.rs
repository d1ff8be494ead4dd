//! A durable queue, a JSON map of 1 KB in Wasm, a durable queue: the built host as its users run it.
//!
//! fsync, limits, metrics, the removal of settled messages and a second subscriber are on. Counted is what both
//! subscribers have settled, after the first tenth; [`crate::sink`] checks what arrived.

use std::time::{Duration, Instant};

use bulkhead_tests::{Bulkhead, Metrics, Running};

use crate::order::order;
use crate::sink;

/// Between two looks at the metrics.
const LOOK: Duration = Duration::from_millis(50);
/// For one pass.
const WITHIN: Duration = Duration::from_secs(300);

/// Messages a second of one pass over `messages`.
pub(crate) fn pass(messages: u64) -> anyhow::Result<f64> {
    Ok(pass_with(messages, "")?.0)
}

/// The same with more in the configuration; and the metrics at its end.
pub(crate) fn pass_with(messages: u64, more: &str) -> anyhow::Result<(f64, Metrics)> {
    let bulkhead = Bulkhead::new(&(toml() + more));
    let orders: Vec<String> = (1..=messages).map(order).collect();
    let parents = bulkhead.send("in", &orders);
    drop(orders);
    let running = bulkhead.start();
    let (warm, from) = wait_for(&running, messages / 10)?;
    let (done, until) = wait_for(&running, messages)?;
    let metrics = running.metrics();
    let _ = running.terminate().ok();
    sink::check(&bulkhead, &parents)?;
    Ok(((done - warm) / (until - from).as_secs_f64(), metrics))
}

fn toml() -> String {
    let (map, discard) = (bulkhead_tests::guest("map"), bulkhead_tests::guest("discard"));
    format!(
        r#"
        [queues.in]
        max_bytes = "16GiB"
        [queues.out]
        max_bytes = "16GiB"
        [connectors.map]
        plugin = "{}"
        consume = {{ queue = "in", batch = 64, concurrency = 2 }}
        allow.publish = ["out"]
        [connectors.discard]
        plugin = "{}"
        consume = {{ queue = "in", batch = 256 }}
        "#,
        map.display(),
        discard.display()
    )
}

/// Until both subscribers have settled so many messages; how many the slower one has, and when.
fn wait_for(running: &Running, messages: u64) -> anyhow::Result<(f64, Instant)> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let metrics = running.metrics();
        let now = Instant::now();
        let done = ["map", "discard"].map(|connector| {
            metrics.value("bulkhead_deliveries_total", &[("connector", connector), ("outcome", "done")])
        });
        let slower = done[0].min(done[1]);
        #[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
        if slower >= messages as f64 {
            return Ok((slower, now));
        }
        anyhow::ensure!(now < deadline, "{slower} of {messages} messages within {WITHIN:?}");
        #[expect(clippy::disallowed_methods, reason = "a benchmark looks now and then, so that looking costs nothing")]
        std::thread::sleep(LOOK);
    }
}
