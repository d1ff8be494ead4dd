//! How long after its deadline a call is ended, and what thousands of ended calls leave behind.
//!
//! The latency is taken in this process, on the runtime's own threads, with a guest that computes on both cores;
//! the growth from the built host, which settles each of them as a dead letter.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bulkhead_host::limit::{Limit, Limits};
use bulkhead_host::message::Message;
use bulkhead_host::runtime::compile::{Maker, compile};
use bulkhead_host::runtime::failure::Failure;
use bulkhead_host::runtime::{Engine, Plugin, engine};
use bulkhead_host::settlement::{Delivery, Origin};
use bulkhead_tests::inside::{grants, permits, scope};
use bulkhead_tests::{Bulkhead, Metrics, Running};
use tokio::task::JoinSet;

use crate::report::{Figure, percentile};

/// What a call may take before it is ended.
const DEADLINE: Duration = Duration::from_millis(20);
/// Calls that each guest of a kind has ended.
const KILLS: usize = 125;
/// Calls of one round of the growth, and rounds that are measured after one that warms up.
const ROUND: usize = 1_000;
const ROUNDS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(300);

/// `kill_latency_ms`, `kills_10000_growth_mib`.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    Ok(vec![latency()?, growth()])
}

/// A loop ended by its CPU budget or by the clock, and a wait ended by the clock.
fn latency() -> anyhow::Result<Figure> {
    let (short, long) = (DEADLINE, Duration::from_secs(60));
    let kinds: [(&[&str], _, _, _); 4] = [
        (&["spin", "spin"], short, long, Limit::Cpu),
        (&["spin", "spin"], long, short, Limit::Wall),
        (&["sleep 60", "sleep 60"], long, short, Limit::Wall),
        // Waits that end while guests on every core compute.
        (&["spin", "spin", "sleep 60", "sleep 60"], long, short, Limit::Wall),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut late = Vec::new();
    for (verbs, cpu, wall, limit) in kinds {
        let limits = Limits { cpu, wall, ..Limits::default() };
        late.extend(runtime.block_on(kills(verbs, limits, limit))?);
    }
    let how = format!(
        "from the deadline ({} ms) until the call has failed, 99th percentile of {} calls, two or four at a time; median {:.2}, most {:.2}",
        DEADLINE.as_millis(),
        late.len(),
        percentile(&late, 50),
        percentile(&late, 100),
    );
    let value = percentile(&late, 99);
    Ok(Figure { name: "kill_latency_ms", value, unit: "ms", against: None, ratio: None, note: Some(how) })
}

/// Milliseconds beyond the deadline of each call.
async fn kills(verbs: &[&'static str], limits: Limits, limit: Limit) -> anyhow::Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let engine = Engine::start(engine::Settings { runs: 8, ..Default::default() })?;
    let bytes = std::fs::read(bulkhead_tests::guest("hostile"))?;
    let compiled = compile(&engine, None, Maker::Host, &bytes)?;
    let grants = Arc::new(grants(folder.path(), limits)?);
    let plugin = Plugin::load(&engine, &compiled, grants).await?;
    let mut guests = JoinSet::new();
    for verb in verbs {
        engine.spawn_into(&mut guests, kill_often(plugin.clone(), verb, limit));
    }
    let mut late = Vec::new();
    while let Some(guest) = guests.join_next().await {
        late.extend(guest??);
    }
    Ok(late)
}

async fn kill_often(plugin: Plugin, verb: &'static str, limit: Limit) -> anyhow::Result<Vec<f64>> {
    let permits = permits();
    let name = bulkhead_host::id::Name::parse("orders").map_err(anyhow::Error::msg)?;
    let message = Message { id: "m1".to_owned(), body: verb.into(), ..Message::default() };
    let delivery = Delivery { origin: Origin::Log(1), attempt: 1, message };
    let mut late = Vec::new();
    for _ in 0..KILLS {
        let permit = permits.acquire(&name, Limits::default().memory_bytes).await;
        let mut sandbox = plugin.sandbox(&permit).await.map_err(|failure| anyhow::anyhow!("{}", failure.reason()))?;
        let started = Instant::now();
        let ended = sandbox.handle(&scope(), &delivery).await;
        let elapsed = started.elapsed();
        let is_it = matches!(&ended, Err(Failure::Limit { limit: by, .. }) if *by == limit);
        ensure!(is_it, "{verb} ended otherwise than by {}: {ended:?}", limit.label());
        late.push((elapsed.as_secs_f64() - DEADLINE.as_secs_f64()) * 1e3);
    }
    Ok(late)
}

/// What the process holds more after ten thousand ended calls than after the first thousand.
fn growth() -> Figure {
    let plugin = bulkhead_tests::guest("hostile");
    let host = Bulkhead::new(&toml(&plugin));
    let running = host.start();
    let mut settled = 0;
    let mut round = || {
        let lines: Vec<&str> = ["spin", "sleep 60"].into_iter().cycle().take(ROUND).collect();
        host.send("in", &lines);
        settled += ROUND;
        wait(&running, settled);
    };
    round();
    let (memory, (threads, files)) = (running.memory_peak_bytes(), running.threads_and_files());
    (0..ROUNDS).for_each(|_| round());
    let (memory_after, (threads_after, files_after)) = (running.memory_peak_bytes(), running.threads_and_files());
    let _ = running.terminate().ok();
    #[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
    let value = (memory_after - memory) as f64 / f64::from(1 << 20);
    let kills = ROUND * ROUNDS;
    let how = format!(
        "peak of the host's memory after {kills} more ended calls; threads {threads} to {threads_after}, descriptors {files} to {files_after}"
    );
    Figure { name: "kills_10000_growth_mib", value, unit: "MiB", against: None, ratio: None, note: Some(how) }
}

fn toml(plugin: &Path) -> String {
    format!(
        "[connectors.hostile]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 1, concurrency = 2 }}\nbrake = 0\n\
         retry = {{ attempts = 1 }}\nlimits = {{ cpu = '2ms', wall = '4ms' }}\n",
        plugin.display()
    )
}

fn wait(running: &Running, dead: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
    let are_dead =
        |metrics: &Metrics| metrics.value("bulkhead_deliveries_total", &[("outcome", "dead")]) >= dead as f64;
    running.wait_until("dead letters", PATIENCE, are_dead);
}
