//! One connector with a real ledger, as the runtime sees it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bulkhead_host::audit::Audit;
use bulkhead_host::capability::http::GrantSettings;
use bulkhead_host::capability::queue::Target;
use bulkhead_host::capability::{Allow, Grants, Services, Subject};
use bulkhead_host::clock::Clock;
use bulkhead_host::egress::Egress;
use bulkhead_host::feed::Feed;
use bulkhead_host::id::Name;
use bulkhead_host::ledger::{ConnectorLayout, Layout, Ledger, QueuePolicy, Settings, StateUsage};
use bulkhead_host::limit::Limits;
use bulkhead_host::mask::Masks;
use bulkhead_host::message::Message;
use bulkhead_host::metrics::Metrics;
use bulkhead_host::runtime::compile::{Compiled, LoadError, Maker, compile};
use bulkhead_host::runtime::failure::Failure;
use bulkhead_host::runtime::permit::{Budget, Permit, Permits};
use bulkhead_host::runtime::{Engine, Plugin, Sandbox, Scope, Staged, engine};
use bulkhead_host::secret_store::{Environment, SecretStore, Source};
use bulkhead_host::settlement::{Barrier, ConnectorId, Delivery, Origin, QueueId, Settlement, SubscriptionId};
use bulkhead_host::telemetry::otlp::Tracer;

pub const CONNECTOR: &str = "orders";

/// The engine of all tests of a binary: one pool is enough address space.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::start(engine::Settings { runs: 16, ..Default::default() }).unwrap())
}

pub fn compiled(bytes: &[u8]) -> Result<Compiled, LoadError> {
    compile(engine(), None, Maker::Host, bytes)
}

pub struct Fixture {
    pub plugin: Plugin,
    pub metrics: Metrics,
    pub ledger: Ledger,
    pub connector: ConnectorId,
    permits: Permits,
    _folder: tempfile::TempDir,
}

/// A connector `orders` that may publish to `out` (and whatever `allow` changes).
pub async fn connector(guest: &Compiled, limits: Limits) -> Fixture {
    configured(guest, limits, QueuePolicy::default()).await
}

pub async fn configured(guest: &Compiled, limits: Limits, out: QueuePolicy) -> Fixture {
    behind(guest, gate(limits, out)).await
}

/// The same with requests that it may send.
pub async fn reaching(guest: &Compiled, limits: Limits, http: Vec<GrantSettings>) -> Fixture {
    behind(guest, gate_with(limits, QueuePolicy::default(), http)).await
}

async fn behind(guest: &Compiled, gate: Gate) -> Fixture {
    let Gate { grants, metrics, ledger, connector, folder } = gate;
    let plugin = Plugin::load(engine(), guest, grants).await.unwrap();
    let permits = Permits::new(Budget { runs: 4, memory_bytes: 1 << 30 }, metrics.sandbox_reserved_bytes());
    Fixture { plugin, metrics, ledger, connector, permits, _folder: folder }
}

/// What stands behind a connector's plugin.
pub struct Gate {
    pub grants: Arc<Grants>,
    pub metrics: Metrics,
    pub ledger: Ledger,
    pub connector: ConnectorId,
    folder: tempfile::TempDir,
}

/// The gate of a connector `orders` that may publish to `out` and see the secret `token`.
pub fn gate(limits: Limits, out: QueuePolicy) -> Gate {
    gate_with(limits, out, Vec::new())
}

fn gate_with(limits: Limits, out: QueuePolicy, http: Vec<GrantSettings>) -> Gate {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Metrics::default();
    let settings = Settings { min_free: Some(0), ..Settings::new(folder.path().to_owned()) };
    let ledger = Ledger::open(settings, Clock::default(), metrics.clone()).unwrap();
    let (in_name, out_name, name) = (name("in"), name("out"), name(CONNECTOR));
    let message_bytes = out.message_bytes;
    let layout = Layout {
        routes: Vec::new(),
        queues: BTreeMap::from([(in_name, QueuePolicy::default()), (out_name.clone(), out)]),
        connectors: vec![ConnectorLayout {
            name: name.clone(),
            was: None,
            consumes: Vec::new(),
            has_inbox: true,
            dead_retention: Duration::from_secs(60),
            state_max: StateUsage { keys: 10_000, bytes: 64 << 20 },
            on_dead: None,
        }],
    };
    let directory = ledger.configure(&layout).unwrap();
    let target = Target { id: directory.queue("out").unwrap(), name: out_name, message_bytes, message_key: None };
    let connector = directory.connector(CONNECTOR).unwrap();
    let services = services(&ledger, &metrics, folder.path());
    let subject = Subject { lineage: name.clone(), name, id: connector };
    let allow = Allow { publish: vec![target], secrets: vec!["token".to_owned()], http };
    let grants = Arc::new(Grants::new(&services, subject, limits, &serde_json::Map::new(), allow));
    Gate { grants, metrics, ledger, connector, folder }
}

fn services(ledger: &Ledger, metrics: &Metrics, folder: &Path) -> Services {
    let secrets = ["token", "other"].map(|name| (name.to_owned(), secret(&folder.join(name))));
    let secrets = Arc::new(SecretStore::open(&BTreeMap::from(secrets), &Environment::empty(folder)).unwrap());
    let egress = Egress::start(tokio::runtime::Handle::current(), bulkhead_host::egress::Settings::default());
    let http =
        bulkhead_host::capability::http::Services::new(egress, secrets.clone(), metrics.clone(), Audit::default());
    Services {
        ledger: Some(ledger.clone()),
        metrics: metrics.clone(),
        audit: Audit::default(),
        feed: Feed::default(),
        secrets,
        http,
        tracer: Tracer::default(),
        masks: Masks::default(),
    }
}

fn secret(path: &Path) -> Source {
    std::fs::write(path, "canary").unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Source::File(path.to_owned())
}

impl Fixture {
    pub async fn sandbox(&self) -> Sandbox {
        self.try_sandbox().await.unwrap()
    }

    /// One whose start may be cut short by a limit.
    pub async fn try_sandbox(&self) -> Result<Sandbox, Failure> {
        self.plugin.sandbox(&self.permit().await).await
    }

    /// All permits at once: it waits for ever where one was not given back.
    pub async fn all_permits(&self) -> [Permit; 4] {
        [self.permit().await, self.permit().await, self.permit().await, self.permit().await]
    }

    async fn permit(&self) -> Permit {
        self.permits.acquire(&name(CONNECTOR), self.plugin.memory_bytes()).await
    }

    /// One message in a fresh sandbox.
    pub async fn handle(&self, body: &str) -> Result<Staged, Failure> {
        self.sandbox().await.handle(&scope(1), &delivery("m1", body)).await
    }

    /// Asserts the reason of a failure that a limit caused, and its label in the metrics.
    pub async fn limited(&self, body: &str, label: &str) -> String {
        let failure = self.handle(body).await.unwrap_err();
        let Failure::Limit { limit, reason } = failure else { panic!("no limit: {failure:?}") };
        assert_eq!(limit.label(), label);
        self.counts(&format!(r#"bulkhead_limit_hits_total{{connector="orders",limit="{label}"}} 1"#));
        reason
    }

    pub fn counts(&self, line: &str) {
        counts(&self.metrics, line);
    }

    /// Commits what a call staged.
    pub async fn commit(&self, staged: Staged) {
        let settlement = Settlement {
            subscription: SubscriptionId(0),
            connector: self.connector,
            outcomes: Vec::new(),
            publishes: staged.publishes,
            state: staged.state,
            tick: None,
            mark: None,
        };
        self.ledger.settle(settlement).await.unwrap();
    }
}

pub fn counts(metrics: &Metrics, line: &str) {
    let text = metrics.text();
    assert!(text.contains(line), "{line} in\n{text}");
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn scope(segment: u64) -> Scope<'static> {
    Scope { queue: "in", segment, barrier: Barrier::default(), previous_ms: None }
}

pub fn delivery(id: &str, body: &str) -> Delivery {
    let message = Message { id: id.to_owned(), body: body.as_bytes().to_vec(), ..Message::default() };
    Delivery { origin: Origin::Log(1), attempt: 1, message }
}

/// The queue, id and body of everything that was published.
pub fn published(staged: &Staged) -> Vec<(QueueId, &str, &[u8])> {
    staged.publishes.iter().map(|it| (it.queue, it.draft.id.as_str(), it.draft.body.as_slice())).collect()
}
