//! What one sandbox costs: made fresh and called once, and called again while it is kept.
//!
//! In this process, on the runtime's own threads, with the limits and metrics of a running host. The call hands over 256
//! bytes and publishes them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_host::audit::Audit;
use bulkhead_host::capability::queue::Target;
use bulkhead_host::capability::{Allow, Grants, Services, Subject, http};
use bulkhead_host::clock::Clock;
use bulkhead_host::egress::{self, Egress};
use bulkhead_host::id::Name;
use bulkhead_host::ledger::{ConnectorLayout, Layout, Ledger, QueuePolicy, Settings, StateUsage};
use bulkhead_host::limit::Limits;
use bulkhead_host::message::Message;
use bulkhead_host::metrics::Metrics;
use bulkhead_host::runtime::compile::{Maker, compile};
use bulkhead_host::runtime::permit::{Budget, Permits};
use bulkhead_host::runtime::{Engine, Plugin, Scope, engine};
use bulkhead_host::secret_store::SecretStore;
use bulkhead_host::settlement::{Barrier, Delivery, Origin};
use prometheus_client::metrics::gauge::Gauge;
use tokio::runtime::Handle;

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

pub(crate) fn permits() -> Permits {
    Permits::new(Budget { runs: 1, memory_bytes: 1 << 30 }, Gauge::default())
}

fn microseconds(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1e6 / f64::from(CALLS)
}

fn failed(failure: bulkhead_host::runtime::failure::Failure) -> anyhow::Error {
    anyhow::Error::msg(failure.reason().to_owned())
}

pub(crate) fn scope() -> Scope<'static> {
    Scope { queue: "in", segment: 1, barrier: Barrier::default(), previous_ms: None }
}

fn delivery() -> Delivery {
    let message = Message { id: "m1".to_owned(), body: vec![b'x'; 256], ..Message::default() };
    Delivery { origin: Origin::Log(1), attempt: 1, message }
}

/// A connector `orders` that may publish to `out`, with these limits.
pub(crate) fn grants(folder: &Path, limits: Limits) -> anyhow::Result<Grants> {
    let metrics = Metrics::default();
    let settings = Settings { min_free: Some(0), ..Settings::new(folder.to_owned()) };
    let ledger = Ledger::open(settings, Clock::default(), metrics.clone())?;
    let name = |text: &str| Name::parse(text).map_err(anyhow::Error::msg);
    let layout = Layout {
        routes: Vec::new(),
        queues: BTreeMap::from(
            [("in", ()), ("out", ())].map(|(queue, ())| (Name::parse(queue).expect("a name"), QueuePolicy::default())),
        ),
        connectors: vec![ConnectorLayout {
            name: name("orders")?,
            was: None,
            consumes: Vec::new(),
            has_inbox: false,
            dead_retention: Duration::from_secs(60),
            state_max: StateUsage { keys: 10_000, bytes: 64 << 20 },
            on_dead: None,
        }],
    };
    let directory = ledger.configure(&layout)?;
    let known = "the layout names it";
    let id = directory.queue("out").expect(known);
    let message_bytes = QueuePolicy::default().message_bytes;
    let target = Target { name: name("out")?, id, message_bytes, message_key: None };
    let subject =
        Subject { name: name("orders")?, lineage: name("orders")?, id: directory.connector("orders").expect(known) };
    let secrets = Arc::new(SecretStore::empty(Path::new("")));
    let http = http::Services::new(
        Egress::start(Handle::current(), egress::Settings::default()),
        secrets.clone(),
        metrics.clone(),
        Audit::default(),
    );
    let services = Services { ledger: Some(ledger), metrics, audit: Audit::default(), secrets, http };
    let allow = Allow { publish: vec![target], ..Allow::default() };
    Ok(Grants::new(&services, subject, limits, &serde_json::Map::new(), allow))
}
