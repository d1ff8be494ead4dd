//! What one sandbox costs: made fresh and called once, and called again while it is kept.
//!
//! In this process, on the runtime's own threads, with the limits and metrics of a running host. The call hands over 256
//! bytes and publishes them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_host::id::Name;
use bulkhead_host::limit::Limits;
use bulkhead_host::runtime::compile::{Maker, compile};
use bulkhead_host::runtime::{Engine, Plugin, engine};
use bulkhead_tests::inside::{delivery, grants, permits, scope};

use crate::report::Figure;

/// Calls of one round.
const CALLS: u32 = 20_000;
const ROUNDS: usize = 7;

/// `sandbox_fresh_call_us` and `call_publish_us`.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let engine = Engine::start(engine::Settings { runs: 8, ..Default::default() })?;
        let grants = Arc::new(grants(folder.path(), Limits::default())?);
        let bytes = std::fs::read(bulkhead_tests::guest("map"))?;
        let compiled = compile(&engine, None, Maker::Host, &bytes)?;
        let measured = engine.clone();
        let rounds = engine.guests().spawn(async move {
            let plugin = Plugin::load(&measured, &compiled, grants).await?;
            let mut rounds = (Vec::new(), Vec::new());
            // The first round warms up and is not counted.
            for round in 0..=ROUNDS {
                let (fresh, kept) = (fresh(&plugin).await?, kept(&plugin).await?);
                if round > 0 {
                    rounds.0.push(fresh);
                    rounds.1.push(kept);
                }
            }
            anyhow::Ok(rounds)
        });
        let (fresh, kept) = rounds.await??;
        Ok(vec![
            Figure::of_rounds(
                "sandbox_fresh_call_us",
                "us",
                &fresh,
                "a fresh sandbox, one call that publishes 256 bytes",
            ),
            Figure::of_rounds("call_publish_us", "us", &kept, "one more call in a kept sandbox, publishing 256 bytes"),
        ])
    })
}

async fn fresh(plugin: &Plugin) -> anyhow::Result<f64> {
    let permits = permits();
    let (name, delivery) = (Name::parse("orders").map_err(anyhow::Error::msg)?, delivery());
    let started = Instant::now();
    for _ in 0..CALLS {
        let permit = permits.acquire(&name, Limits::default().memory_bytes).await;
        let mut sandbox = plugin.sandbox(&permit).await.map_err(failed)?;
        let staged = sandbox.handle(&scope(), &delivery).await.map_err(failed)?;
        anyhow::ensure!(staged.publishes.len() == 1, "the plugin has not published");
    }
    Ok(microseconds(started.elapsed()))
}

async fn kept(plugin: &Plugin) -> anyhow::Result<f64> {
    let permits = permits();
    let (name, delivery) = (Name::parse("orders").map_err(anyhow::Error::msg)?, delivery());
    let permit = permits.acquire(&name, Limits::default().memory_bytes).await;
    let mut sandbox = plugin.sandbox(&permit).await.map_err(failed)?;
    let started = Instant::now();
    for _ in 0..CALLS {
        let staged = sandbox.handle(&scope(), &delivery).await.map_err(failed)?;
        anyhow::ensure!(staged.publishes.len() == 1, "the plugin has not published");
    }
    Ok(microseconds(started.elapsed()))
}

fn microseconds(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1e6 / f64::from(CALLS)
}

fn failed(failure: bulkhead_host::runtime::failure::Failure) -> anyhow::Error {
    anyhow::Error::msg(failure.reason().to_owned())
}
