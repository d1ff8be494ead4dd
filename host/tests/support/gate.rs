//! One connector's gate, with a secret in a file and metrics of its own.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bulkhead_host::audit::Audit;
use bulkhead_host::bindings::bulkhead::connector::http::{HttpError, Request, Response};
use bulkhead_host::capability::http::pattern::{AnyHost, UrlPattern};
use bulkhead_host::capability::http::{CallScope, CallUse, Grant, GrantSettings, Holder, Services, Session};
use bulkhead_host::egress::{self, Egress};
use bulkhead_host::id::Name;
use bulkhead_host::limit::Limits;
use bulkhead_host::metrics::Metrics;
use bulkhead_host::secret_store::{Environment, SecretStore, Source};
use bulkhead_host::settlement::Barrier;
use tokio::runtime::Handle;

pub struct Fixture {
    pub session: Session,
    grant: Arc<Grant>,
    services: Services,
    metrics: Metrics,
    folder: tempfile::TempDir,
}

impl Fixture {
    pub fn new(entries: Vec<GrantSettings>) -> Self {
        Self::limited(entries, Limits::default())
    }

    pub fn limited(entries: Vec<GrantSettings>, limits: Limits) -> Self {
        Self::leaving_by(egress::Settings::default(), entries, limits)
    }

    pub fn leaving_by(way_out: egress::Settings, mut entries: Vec<GrantSettings>, limits: Limits) -> Self {
        for (index, entry) in entries.iter_mut().enumerate() {
            entry.key = format!("connectors.orders.allow.http[{index}]");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "canary").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let sources = BTreeMap::from([("token".to_owned(), Source::File(path))]);
        let secrets = Arc::new(SecretStore::open(&sources, &Environment::empty(folder.path())).unwrap());
        let metrics = Metrics::default();
        let services =
            Services::new(Egress::start(Handle::current(), way_out), secrets, metrics.clone(), Audit::default());
        let holder = Holder { connector: Name::parse("orders").unwrap(), lineage: Name::parse("first-name").unwrap() };
        let grant = Grant::new(&services, holder, entries, limits);
        let mut fixture = Self { session: Session::new(grant.clone()), grant, services, metrics, folder };
        fixture.begin_call();
        fixture
    }

    /// The gate of another connector in the same host.
    pub fn neighbour(&self, entries: Vec<GrantSettings>) -> Session {
        let name = Name::parse("neighbour").unwrap();
        let holder = Holder { connector: name.clone(), lineage: name };
        let mut session = Session::new(Grant::new(&self.services, holder, entries, Limits::default()));
        session.begin_call(scope(Duration::from_secs(30), Barrier::default()));
        session
    }

    /// Another run of the same connector.
    pub fn another_run(&self) -> Session {
        let mut session = Session::new(self.grant.clone());
        session.begin_call(scope(Duration::from_secs(30), Barrier::default()));
        session
    }

    /// How long deliveries would be held.
    pub fn pause(&self) -> Option<Duration> {
        self.grant.pause(Instant::now())
    }

    pub fn begin_call(&mut self) {
        self.begin(Duration::from_secs(30), Barrier::default());
    }

    pub fn begin_call_for(&mut self, wall: Duration) {
        self.begin(wall, Barrier::default());
    }

    pub fn begin_call_behind(&mut self, barrier: Barrier) {
        self.begin(Duration::from_secs(30), barrier);
    }

    fn begin(&mut self, wall: Duration, barrier: Barrier) {
        self.session.begin_call(scope(wall, barrier));
    }

    pub fn end_call(&mut self) -> CallUse {
        self.session.end_call()
    }

    pub async fn send(&mut self, request: Request) -> Result<Response, HttpError> {
        self.session.send(request).await
    }

    pub async fn send_all(&mut self, requests: Vec<Request>) -> Vec<Result<Response, HttpError>> {
        self.session.send_all(requests).await
    }

    pub fn metrics(&self) -> String {
        self.metrics.text()
    }

    pub fn remove_secret(&self) {
        std::fs::remove_file(self.folder.path().join("token")).unwrap();
    }
}

fn scope(wall: Duration, barrier: Barrier) -> CallScope {
    CallScope { message_id: Some("m1".to_owned()), deadline: Instant::now() + wall, barrier, traced: None }
}

/// A grant of `url`; private, because every server of a test is on loopback.
pub fn entry(url: &str, methods: &[&str]) -> GrantSettings {
    GrantSettings {
        key: String::new(),
        pattern: UrlPattern::parse(url, AnyHost::Allowed).unwrap(),
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        private: true,
        timeout: None,
        first_byte: Duration::from_secs(60),
        max_request: None,
        max_response: None,
        idempotency: false,
        rate: None,
        breaker: None,
        auth: None,
        identity: None,
        placeholders: Vec::new(),
        max_signed_body: None,
    }
}

pub fn get(url: &str) -> Request {
    Request { method: "GET".into(), url: url.into(), headers: Vec::new(), body: Vec::new(), timeout_ms: None }
}

pub fn post(url: &str, body: &[u8]) -> Request {
    Request { method: "POST".into(), body: body.to_vec(), ..get(url) }
}
