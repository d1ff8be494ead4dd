//! HTTP through the gate: [`Services`] (once per process) → [`Grant`] (once per connector) → [`Session`] (once per run).
//!
//! Policy only: what may be asked, by whom, how often, with which credential. Sockets are opened in `egress`. Both ways
//! in, our `http` interface (whole bodies) and `wasi:http/outgoing-handler` (streams), pass [`Session`] in the same order:
//! parse → match the grants → limits → headers → barrier → credential → send → cap. Nothing is retried or redirected here.

mod dressing;
pub mod endpoint;
mod exchange;
mod head;
pub mod header;
mod meter;
mod outgoing;
pub mod pattern;
mod permission;
mod refusal;
mod session;
mod streaming;
pub mod target;
mod token;
mod turn;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi_http::{WasiHttp, WasiHttpCtxView};

use super::backoff::Backoff;
use super::breaker::{self, Breakers};
use super::credential::{Auth, placeholder};
use super::rate::{Bucket, Rate};
use crate::audit::Audit;
use crate::bindings::bulkhead::connector::http as interface;
use crate::clock::Clock;
use crate::egress::Egress;
use crate::egress::address::Reach;
use crate::egress::client::{CONNECTIONS_IDLE, Client, Policy};
use crate::egress::trust::Identity;
use crate::id::Name;
use crate::limit::Limits;
use crate::metrics::Metrics;
use crate::secret_store::SecretStore;

pub use session::{CallScope, CallUse, Session, Traced, fields_spent};
pub(super) use target::Target;

/// One entry of `allow.http`.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantSettings {
    /// Where it stands in the configuration, as in `connectors.issues.allow.http[0]`: named in refusals.
    pub key: String,
    /// Scheme, host, port and path that it covers.
    pub pattern: pattern::UrlPattern,
    /// Methods, upper case; empty grants nothing.
    pub methods: Vec<String>,
    /// Private addresses are allowed; the pattern names host and port exactly.
    pub private: bool,
    /// Total deadline of a request, narrowing `limits.wall`.
    pub timeout: Option<Duration>,
    /// When the head of an answer must be there, counted from the sending, or from the end of a body that streams: a
    /// receiver that has said nothing by then is taken for dead.
    pub first_byte: Duration,
    /// Bytes of a request's body, narrowing `limits.request_bytes`.
    pub max_request: Option<u64>,
    /// Bytes of a response's body, narrowing `limits.response_bytes`.
    pub max_response: Option<u64>,
    /// Unsafe requests carry a derived `Idempotency-Key`.
    pub idempotency: bool,
    /// Requests in a time.
    pub rate: Option<Rate>,
    /// When failures stop requests for a while.
    pub breaker: Option<breaker::Settings>,
    /// The credential that the gate attaches.
    pub auth: Option<Auth>,
    /// The client certificate that the host shows.
    pub identity: Option<Identity>,
    /// Secrets that a plugin may place.
    pub placeholders: Vec<placeholder::Settings>,
    /// Bytes of a body that must be known before it is sent.
    pub max_signed_body: Option<u64>,
}

/// The names of all secrets that the entries have a place for.
#[must_use]
pub fn placed_secrets(entries: &[GrantSettings]) -> Vec<String> {
    entries.iter().flat_map(|entry| &entry.placeholders).map(|place| place.secret.clone()).collect()
}

impl GrantSettings {
    fn reach(&self) -> Reach {
        // Checked again although the configuration has: this is the line that opens the private network.
        if self.private && self.pattern.names_host_and_port() { Reach::Private } else { Reach::Public }
    }
}

/// What HTTP needs of the process. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    egress: Egress,
    secrets: Arc<SecretStore>,
    metrics: Metrics,
    audit: Audit,
    clock: Clock,
    tokens: Arc<token::Tokens>,
    backoff: Arc<Backoff>,
    /// Lives as long as somebody has these very secrets and this way out.
    generation: Arc<()>,
}

impl Services {
    /// Collects them.
    #[must_use]
    pub fn new(egress: Egress, secrets: Arc<SecretStore>, metrics: Metrics, audit: Audit) -> Self {
        Self {
            egress,
            secrets,
            metrics,
            audit,
            clock: Clock::default(),
            tokens: Arc::default(),
            backoff: Arc::default(),
            generation: Arc::default(),
        }
    }

    /// The same with other secrets, and another way out where there is one. What receivers have asked for goes on to hold,
    /// and no refresh token is spent twice.
    #[must_use]
    pub fn renewed(&self, secrets: Arc<SecretStore>, egress: Option<Egress>) -> Self {
        let egress = egress.unwrap_or_else(|| self.egress.clone());
        Self { egress, secrets, generation: Arc::default(), ..self.clone() }
    }
}

/// What one connector may ask for over HTTP.
pub struct Grant {
    services: Services,
    connector: Name,
    lineage: Name,
    entries: Vec<Entry>,
    limits: Limits,
    at_once: Arc<Semaphore>,
    breakers: Arc<Breakers>,
    scrubbers: dressing::Scrubbers,
}

/// One entry of `allow.http` at work.
struct Entry {
    settings: GrantSettings,
    bucket: Option<Bucket>,
    client: Arc<Client>,
}

/// Which connector a [`Grant`] is for.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Its name, for texts, logs and metrics.
    pub connector: Name,
    /// Its first name: derived ids survive a rename.
    pub lineage: Name,
}

impl Grant {
    /// Makes a connector's grant; `entries` is its `allow.http`, and empty grants nothing.
    #[must_use]
    pub fn new(services: &Services, holder: Holder, entries: Vec<GrantSettings>, limits: Limits) -> Arc<Self> {
        let at_once = Arc::new(Semaphore::new(limits.requests_at_once as usize));
        let mut clients: Vec<Arc<Client>> = Vec::new();
        let entry = |settings: GrantSettings| {
            let client = shared_client(&mut clients, &services.egress, &settings, limits.requests_at_once as usize);
            Entry { bucket: settings.rate.map(Bucket::new), client, settings }
        };
        let entries = entries.into_iter().map(entry).collect();
        let Holder { connector, lineage } = holder;
        let breakers = Breakers::new(connector.clone(), services.metrics.clone());
        Arc::new(Self {
            services: services.clone(),
            connector,
            lineage,
            entries,
            limits,
            at_once,
            breakers,
            scrubbers: dressing::Scrubbers::default(),
        })
    }

    /// How long no delivery shall begin, because a breaker is open.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        self.breakers.pause(now)
    }

    /// Whether some request may need a key that is derived from the message.
    pub(super) fn gives_keys(&self) -> bool {
        self.entries.iter().any(|entry| entry.settings.idempotency)
    }

    /// `connectors.NAME.KEY`, as an operator would look for it.
    fn key(&self, key: &str) -> String {
        format!("connectors.{}.{key}", self.connector)
    }
}

/// Entries that differ in neither reach nor certificate share their connections.
fn shared_client(
    clients: &mut Vec<Arc<Client>>,
    egress: &Egress,
    settings: &GrantSettings,
    at_once: usize,
) -> Arc<Client> {
    let connections_idle = at_once.max(CONNECTIONS_IDLE);
    let policy = Policy { reach: settings.reach(), identity: settings.identity.clone(), connections_idle };
    if let Some(client) = clients.iter().find(|client| *client.policy() == policy) {
        return client.clone();
    }
    let client = Arc::new(Client::new(egress, policy));
    clients.push(client.clone());
    client
}

/// Links `bulkhead:connector/http`.
///
/// # Errors
/// The linker has it already.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> &mut Session,
) -> wasmtime::Result<()> {
    interface::add_to_linker::<T, HasSelf<Session>>(linker, get)
}

/// Links `wasi:http/{types,outgoing-handler}`; `get` is made of [`Session::view`] and the run's resource table.
///
/// # Errors
/// The linker has them already.
pub fn add_streaming_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: fn(&mut T) -> WasiHttpCtxView<'_>,
) -> wasmtime::Result<()> {
    use wasmtime_wasi_http::p2::bindings::{LinkOptions, http};
    http::outgoing_handler::add_to_linker::<T, WasiHttp>(linker, get)?;
    http::types::add_to_linker::<T, WasiHttp>(linker, &LinkOptions::default().into(), get)?;
    outgoing::bound(linker, get)
}
