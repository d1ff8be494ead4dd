//! Parts of the host in this process, for what measures them: a connector that may publish, and what its sandbox needs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_host::audit::Audit;
use bulkhead_host::capability::queue::Target;
use bulkhead_host::capability::{Allow, Grants, Services, Subject, http};
use bulkhead_host::clock::Clock;
use bulkhead_host::egress::{self, Egress};
use bulkhead_host::feed::Feed;
use bulkhead_host::id::Name;
use bulkhead_host::ledger::{ConnectorLayout, Layout, Ledger, QueuePolicy, Settings, StateUsage};
use bulkhead_host::limit::Limits;
use bulkhead_host::mask::Masks;
use bulkhead_host::message::Message;
use bulkhead_host::metrics::Metrics;
use bulkhead_host::runtime::Scope;
use bulkhead_host::runtime::permit::{Budget, Permits};
use bulkhead_host::secret_store::SecretStore;
use bulkhead_host::settlement::{Barrier, Delivery, Origin};
use bulkhead_host::telemetry::otlp::Tracer;
use prometheus_client::metrics::gauge::Gauge;
use tokio::runtime::Handle;

/// For one sandbox at a time.
#[must_use]
pub fn permits() -> Permits {
    Permits::new(Budget { runs: 1, memory_bytes: 1 << 30 }, Gauge::default())
}

/// Of a message out of the queue `in`.
#[must_use]
pub fn scope() -> Scope<'static> {
    Scope { queue: "in", segment: 1, barrier: Barrier::default(), previous_ms: None }
}

/// The first attempt of a message of 256 bytes.
#[must_use]
pub fn delivery() -> Delivery {
    let message = Message { id: "m1".to_owned(), body: vec![b'x'; 256], ..Message::default() };
    Delivery { origin: Origin::Log(1), attempt: 1, message }
}

/// A connector `orders` that may publish to `out`, with these limits and a ledger in this folder.
///
/// # Errors
/// The ledger cannot be opened there.
///
/// # Panics
/// Outside of an asynchronous runtime.
pub fn grants(folder: &Path, limits: Limits) -> anyhow::Result<Grants> {
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
    let (masks, tracer) = (Masks::default(), Tracer::default());
    let services = Services {
        ledger: Some(ledger),
        metrics,
        audit: Audit::default(),
        feed: Feed::default(),
        secrets,
        http,
        tracer,
        masks,
    };
    let allow = Allow { publish: vec![target], ..Allow::default() };
    Ok(Grants::new(&services, subject, limits, &serde_json::Map::new(), allow))
}
