//! From the queue to the collector: batches of spans as requests of OTLP, tried again where that may help.
//!
//! One task. A collector that is down costs spans and two lines of the log, one when it goes and one when it is back;
//! never a run. Invariant: a batch is sent, or counted as dropped, and what is queued at a stop is sent as far as the time
//! goes.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use url::Host;
use zeroize::Zeroizing;

use super::span::{Attribute, Span, Value};
use super::{Auth, Queued, Settings, Tracer, wire};
use crate::audit::{Audit, Event};
use crate::egress::address::Reach;
use crate::egress::client::{self, Client, Keys, Policy};
use crate::egress::proxy::Proxy;
use crate::egress::{self, Egress};
use crate::metrics::Metrics;
use crate::secret_store::SecretStore;

/// Spans of one request.
const BATCH_SPANS: usize = 512;
/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);
/// How long a collector may take for one request.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// The first pause before a batch is sent again; each next one is twice as long.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// The longest pause, also one that the collector asks for.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How often one batch is sent before it is dropped.
const ATTEMPTS_MAX: u32 = 6;
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How long the spans of the last moment may take at a stop.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// Where the credential stands.
const KEY: &str = "host.otlp.auth";

/// Sends spans until it is closed.
pub struct Exporter {
    closing: watch::Sender<bool>,
    task: JoinSet<()>,
}

/// What an exporter needs of the process.
pub struct Means {
    /// The way out.
    pub egress: egress::Settings,
    /// Values of secrets.
    pub secrets: Arc<SecretStore>,
    /// What is counted.
    pub metrics: Metrics,
    /// What is recorded.
    pub audit: Audit,
}

struct Worker {
    settings: Settings,
    resource: Vec<Attribute>,
    client: Client,
    secrets: Arc<SecretStore>,
    metrics: Metrics,
    queue: mpsc::Receiver<Vec<Span>>,
    queued: Arc<Queued>,
    closing: watch::Receiver<bool>,
    /// The pause before what is sent next, while the collector is down.
    backoff: Option<Duration>,
    lost: u64,
}

/// Why a request did not work.
enum Unsent {
    /// It may later, not before this time if there is one.
    Later(String, Option<Duration>),
    /// It never will.
    Never(String),
}

impl Exporter {
    /// Starts to send what the tracer is handed, on the present runtime.
    #[must_use]
    pub fn start(settings: &Settings, means: Means) -> (Tracer, Self) {
        let Means { egress, secrets, metrics, audit } = means;
        let (tracer, queue, queued) = Tracer::new(settings.sample, metrics.clone());
        let (closing, closed) = watch::channel(false);
        let reach = reach(settings, egress.proxy.as_ref());
        let egress = Egress::start(tokio::runtime::Handle::current(), egress);
        let client = Client::new(&egress, Policy { reach, identity: None, connections_idle: 1 });
        if let Some(auth) = &settings.auth {
            audit.note(Event::secret_used(None, auth.secret(), KEY));
        }
        let worker = Worker {
            settings: settings.clone(),
            resource: resource(settings),
            client,
            secrets,
            metrics,
            queue,
            queued,
            closing: closed,
            backoff: None,
            lost: 0,
        };
        let mut task = JoinSet::new();
        task.spawn(worker.run());
        (tracer, Self { closing, task })
    }

    /// Sends what is queued, as far as that goes until `latest`.
    pub async fn close(mut self, latest: std::time::Instant) {
        self.closing.send_replace(true);
        let latest = Instant::from_std(latest).min(Instant::now() + FLUSH_MAX);
        let ended = async { while self.task.join_next().await.is_some() {} };
        if timeout_at(latest, ended).await.is_err() {
            tracing::warn!("the last spans were not exported: the collector did not take them in time");
        }
        self.task.shutdown().await;
    }
}

/// A proxy is passed only on the way to a place that it can be for: not to this machine, and not to an address or a short
/// name of the site's own.
fn reach(settings: &Settings, proxy: Option<&Proxy>) -> Reach {
    let is_near = match settings.url.host() {
        Some(Host::Domain(name)) => !name.contains('.') || name.ends_with(".localhost"),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) | None => true,
    };
    if proxy.is_some() && !is_near { Reach::Public } else { Reach::Private }
}

/// What is said about the host.
fn resource(settings: &Settings) -> Vec<Attribute> {
    let mut all: Vec<Attribute> = vec![
        ("service.name".into(), "bulkhead".into()),
        ("service.version".into(), env!("CARGO_PKG_VERSION").into()),
        ("service.instance.id".into(), crate::id::random().into()),
        ("telemetry.sdk.name".into(), "bulkhead".into()),
        ("telemetry.sdk.language".into(), "rust".into()),
        ("telemetry.sdk.version".into(), env!("CARGO_PKG_VERSION").into()),
    ];
    for (key, value) in &settings.resource {
        let value = Value::from(value.clone());
        match all.iter_mut().find(|(known, _)| known == key) {
            Some(known) => known.1 = value,
            None => all.push((key.clone().into(), value)),
        }
    }
    all
}

impl Worker {
    async fn run(mut self) {
        loop {
            let (batch, is_last) = self.gather().await;
            let bytes = batch.iter().map(Span::size_bytes).sum();
            if !batch.is_empty() {
                self.export(&batch).await;
            }
            self.queued.give_back(bytes);
            if is_last {
                return;
            }
        }
    }

    /// The next batch, and whether it is the last one.
    async fn gather(&mut self) -> (Vec<Span>, bool) {
        let mut batch = Vec::new();
        let mut closing = self.closing.clone();
        let mut is_closed = false;
        let late = tokio::time::sleep(DELAY);
        tokio::pin!(late);
        while batch.len() < BATCH_SPANS {
            tokio::select! {
                biased;
                spans = self.queue.recv() => match spans {
                    Some(spans) => {
                        if batch.is_empty() {
                            late.as_mut().reset(Instant::now() + DELAY);
                        }
                        batch.extend(spans);
                    }
                    None => return (batch, true),
                },
                // Nothing is queued any more, and nothing more is taken.
                _ = closing.wait_for(|closing| *closing), if !is_closed => {
                    self.queue.close();
                    is_closed = true;
                }
                () = &mut late, if !batch.is_empty() => break,
            }
        }
        (batch, false)
    }

    /// Sends a batch until it is taken, or is not worth sending again.
    async fn export(&mut self, batch: &[Span]) {
        let body = wire::request(&self.resource, batch);
        let mut attempt = 1;
        loop {
            let (why, asked) = match self.send(&body).await {
                Ok(rejected) => return self.exported(batch.len(), rejected),
                Err(Unsent::Never(why)) => return self.dropped(batch.len(), &why, "refused"),
                Err(Unsent::Later(why, asked)) => (why, asked),
            };
            let is_closing = *self.closing.borrow();
            if attempt == ATTEMPTS_MAX || is_closing {
                return self.dropped(batch.len(), &why, "export");
            }
            self.complain(&why);
            let pause = self.backoff.map_or(BACKOFF_FIRST, |last| (last * 2).min(BACKOFF_MAX));
            self.backoff = Some(pause);
            let pause = asked.map_or(pause, |asked| asked.max(pause)).min(BACKOFF_MAX);
            let mut closing = self.closing.clone();
            // A stop is the last chance, and does not wait.
            let _ = timeout(pause, closing.wait_for(|closing| *closing)).await;
            attempt += 1;
        }
    }

    fn exported(&mut self, spans: usize, (rejected, why): (u64, String)) {
        let rejected = usize::try_from(rejected).unwrap_or(usize::MAX).min(spans);
        self.metrics.spans_exported(spans - rejected);
        if rejected > 0 {
            self.metrics.spans_dropped("refused", rejected);
            // In its own words, as far as they fit in a line.
            tracing::debug!(rejected, why = %why.escape_debug(), "the collector has left spans out");
        }
        if self.backoff.take().is_some() {
            tracing::info!(lost = std::mem::take(&mut self.lost), "traces are exported again");
        }
    }

    fn dropped(&mut self, spans: usize, why: &str, reason: &'static str) {
        self.complain(why);
        self.backoff.get_or_insert(BACKOFF_FIRST);
        self.metrics.spans_dropped(reason, spans);
        self.lost = self.lost.saturating_add(spans as u64);
    }

    /// Once, until it works again.
    fn complain(&self, why: &str) {
        if self.backoff.is_none() {
            let url = self.settings.url.as_str();
            tracing::warn!(
                url,
                why,
                "traces cannot be exported: see `host.otlp`; the host works on, and says when they can"
            );
        }
    }

    /// One request; how many spans were not taken, and why.
    async fn send(&self, body: &[u8]) -> Result<(u64, String), Unsent> {
        let mut request = reqwest::Request::new(Method::POST, self.settings.url.clone());
        *request.headers_mut() = self.headers()?;
        *request.body_mut() = Some(body.to_vec().into());
        let sender = self.sender()?;
        let sending = async {
            let response = sender.execute(request).await.map_err(|error| unsent(&error))?;
            let (status, asked) = (response.status(), retry_after(response.headers()));
            let answer = read(response).await;
            match status {
                status if status.is_success() => Ok(wire::rejected(&answer)),
                StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => Err(Unsent::Later(format!("the collector answered {status}"), asked)),
                status => Err(Unsent::Never(format!("the collector answered {status}"))),
            }
        };
        let late = || Unsent::Later("the collector did not answer in time".to_owned(), None);
        timeout(REQUEST_MAX, sending).await.unwrap_or_else(|_| Err(late()))
    }

    fn sender(&self) -> Result<client::Sender, Unsent> {
        let password = match self.client.proxy_password() {
            Some(name) => Some(self.secrets.get(name).map_err(|problem| Unsent::Later(problem.to_string(), None))?),
            None => None,
        };
        let keys = Keys { private_key: None, proxy_password: password.as_ref() };
        self.client.get(keys).map_err(|problem| Unsent::Later(problem.to_string(), None))
    }

    fn headers(&self) -> Result<HeaderMap, Unsent> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.settings.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let Some(auth) = &self.settings.auth else { return Ok(headers) };
        let secret = self.secrets.get(auth.secret()).map_err(|problem| Unsent::Later(problem.to_string(), None))?;
        let (name, text) = match auth {
            Auth::Bearer { .. } => (AUTHORIZATION, Zeroizing::new([b"Bearer ", secret.expose()].concat())),
            Auth::Basic { user, .. } => {
                let pair = Zeroizing::new([user.as_bytes(), b":", secret.expose()].concat());
                let encoded = Zeroizing::new(BASE64.encode(&pair));
                (AUTHORIZATION, Zeroizing::new([b"Basic ", encoded.as_bytes()].concat()))
            }
            Auth::Header { name, prefix, .. } => {
                let name = name.parse().map_err(|_| Unsent::Never("its header has no valid name".to_owned()))?;
                (name, Zeroizing::new([prefix.as_bytes(), secret.expose()].concat()))
            }
        };
        let unfit = |_| Unsent::Later(format!("the value of secret `{}` is no value of a header", auth.secret()), None);
        let mut value = HeaderValue::from_bytes(&text).map_err(unfit)?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(headers)
    }
}

/// Its own text may hold the URL: only the kind of the failure is shown.
fn unsent(error: &reqwest::Error) -> Unsent {
    match client::Failure::of(error) {
        client::Failure::Refused(_) => Unsent::Never("its address is one that the host does not connect to".to_owned()),
        client::Failure::Malformed => Unsent::Never(client::Failure::Malformed.to_string()),
        client::Failure::Unreachable(why) | client::Failure::Interrupted(why) => Unsent::Later(why.to_owned(), None),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// As much of an answer as is worth reading.
async fn read(mut response: reqwest::Response) -> Vec<u8> {
    let mut answer = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
            break;
        }
        answer.extend_from_slice(&chunk);
    }
    answer
}
