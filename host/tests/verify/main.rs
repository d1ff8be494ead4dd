//! Who may send to a webhook: requests in, who has sent them or why they are refused out.
//!
//! Requests are those that senders publish as examples, or are signed here by other code than what checks them.
#![allow(clippy::unwrap_used)]

mod credentials;
mod hmac;
mod hostile;
mod jwt;
mod properties;
#[path = "../support/mod.rs"]
mod support;
mod vectors;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_host::audit::Audit;
use bulkhead_host::capability::http::Services;
use bulkhead_host::egress::{self, Egress};
use bulkhead_host::id::Name;
use bulkhead_host::metrics::Metrics;
use bulkhead_host::secret_store::{Environment, SecretStore, Source};
use bulkhead_host::trigger::webhook::verify::event_id::{Place, Pointer};
use bulkhead_host::trigger::webhook::verify::{
    Incoming, Means, Refused, Scheme, Settings, Verdict, Verified, Verifier,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::runtime::{Builder, Runtime};

const WINDOW: Duration = Duration::from_secs(300);

/// A webhook with secrets in files.
struct Webhook {
    runtime: Runtime,
    verifier: Verifier,
    folder: tempfile::TempDir,
}

impl Webhook {
    fn new(scheme: Scheme, secrets: &[&str]) -> Self {
        Self::with_id(scheme, secrets, None)
    }

    fn with_id(scheme: Scheme, secrets: &[&str], id: Option<Place>) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..secrets.len()).map(|index| format!("secret-{index}")).collect();
        let mut sources = BTreeMap::new();
        for (name, value) in names.iter().zip(secrets) {
            write_private(&folder.path().join(name), value);
            sources.insert(name.clone(), Source::File(folder.path().join(name)));
        }
        let store = Arc::new(SecretStore::open(&sources, &Environment::empty(folder.path())).unwrap());
        let egress = Egress::start(runtime.handle().clone(), egress::Settings::default());
        let http = Services::new(egress, store.clone(), Metrics::default(), Audit::default());
        let connector = Name::parse("orders").unwrap();
        let path = "connectors.orders.webhook.verify";
        let means = Means { connector: &connector, path, secrets: &store, audit: &Audit::default(), http: &http };
        let settings = Settings { scheme, secrets: names, window: WINDOW, id };
        Self { verifier: Verifier::new(&settings, &means), runtime, folder }
    }

    fn check(&self, request: &Request) -> Result<Verdict, Refused> {
        self.runtime.block_on(self.check_async(request))
    }

    async fn check_async(&self, request: &Request) -> Result<Verdict, Refused> {
        let incoming = Incoming {
            method: request.method,
            target: &request.target,
            origin: request.origin,
            headers: &request.headers,
            body: &request.body,
            now_ms: request.now_ms,
        };
        self.verifier.check(&incoming).await
    }

    /// What is known of a request that is taken.
    fn accept(&self, request: &Request) -> Verified {
        match self.check(request) {
            Ok(Verdict::Accepted(verified)) => verified,
            other => panic!("it is not accepted: {other:?}"),
        }
    }

    fn secret_file(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("secret-{index}"))
    }
}

fn write_private(path: &std::path::Path, value: &str) {
    fs::write(path, value).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// What a sender sends, and when it comes in.
#[derive(Clone, Debug)]
struct Request {
    method: &'static str,
    target: String,
    origin: &'static str,
    headers: HeaderMap,
    body: Vec<u8>,
    now_ms: u64,
}

impl Request {
    fn new(body: &str) -> Self {
        Self {
            method: "POST",
            target: "/hooks/orders".to_owned(),
            origin: "https://hooks.example",
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
            now_ms: 1_700_000_000_000,
        }
    }

    /// As sent at this time, in seconds since the Unix epoch.
    fn at(mut self, seconds: u64) -> Self {
        self.now_ms = seconds * 1_000;
        self
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    /// With another value in the place of a header's.
    fn instead(mut self, name: &'static str, value: &str) -> Self {
        self.headers.remove(name);
        self.header(name, value)
    }

    fn without(mut self, name: &HeaderName) -> Self {
        self.headers.remove(name);
        self
    }
}

fn header_id(name: &'static str) -> Place {
    Place::Header(HeaderName::from_static(name))
}

fn pointer_id(text: &str) -> Place {
    Place::Pointer(Pointer::parse(text).unwrap())
}
