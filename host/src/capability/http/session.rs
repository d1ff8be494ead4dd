//! One run's way through the gate: what a call asks for is checked here, and what it used is remembered until it ends.
//!
//! Deciding ([`Gate::admit`]) is apart from doing (`exchange`), so that many requests of one call can be under way at
//! once. Invariant: nothing is sent outside a call, and nothing a plugin counts in is believed before it is clamped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::{FieldMapError, WasiHttpCtx, WasiHttpCtxView};

use super::exchange::Admitted;
use super::meter::Recorded;
use super::refusal::{Failure, Refusal, Reports};
use super::target::Target;
use super::{Grant, GrantSettings, header, interface};
use crate::bindings::bulkhead::connector::http::{HttpError, Request, Response};
use crate::capability::OverLimit;
use crate::capability::credential::placeholder::Words;
use crate::capability::recorder::Recorder;
use crate::id;
use crate::limit::Limit;
use crate::message::trace::{TRACEPARENT, TRACESTATE, Trace};
use crate::settlement::Barrier;
use crate::telemetry::otlp::Tracer;

/// A guest's timeout is at least this: zero would be no request at all, and a timer's panic elsewhere.
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// What a request leaves of its call's time, a tenth at most: the plugin is told that the answer did not come, and says
/// itself what becomes of the delivery, before `limits.wall` ends it.
const HEARD_WITHIN_MAX: Duration = Duration::from_millis(250);
/// In-memory size of one `fields` resource of wasi:http, headers of responses included.
const FIELD_BYTES_MAX: usize = 64 * 1024;
/// The longest name of a method that is sent.
pub(super) const METHOD_BYTES_MAX: usize = 32;
/// Set by the gate for unsafe methods when the grant says `idempotency = true`.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What the gate knows about the call that is being made.
#[derive(Clone, Debug)]
pub struct CallScope {
    /// The message being handled; a batch of several has none, and gets no idempotency keys.
    pub message_id: Option<String>,
    /// When the call ends, whatever a plugin asks for.
    pub deadline: Instant,
    /// What the first unsafe request waits behind.
    pub barrier: Barrier,
    /// The trace that requests belong to.
    pub traced: Option<Traced>,
}

/// The trace that requests belong to.
#[derive(Clone, Debug)]
pub struct Traced {
    /// Which, and the step that they come after.
    pub trace: Trace,
    /// What other systems said beside it.
    pub state: Option<String>,
    /// Takes the spans of requests, where they are recorded.
    pub tracer: Tracer,
}

/// What a call did, as far as its settlement is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallUse {
    /// A request with an unsafe method was let through: the call ends its segment.
    pub unsafe_sent: bool,
    /// The gate answered `held`: a `retry` costs no attempt and waits this long, for what is said.
    pub held: Option<(Duration, String)>,
}

/// Whether an error says that `FIELD_BYTES_MAX` is spent, and what there is to say about that.
#[must_use]
pub fn fields_spent(error: &wasmtime::Error) -> Option<OverLimit> {
    match error.downcast_ref::<FieldMapError>()? {
        FieldMapError::TotalSizeTooBig | FieldMapError::TooManyFields => {
            let what = "one `fields` of wasi:http may take 64 KiB in the host, for names, values and their places";
            Some(OverLimit { limit: Limit::Hostcall, what, is_fixed: true })
        }
        FieldMapError::Immutable
        | FieldMapError::InvalidHeaderName
        | FieldMapError::InvalidHeaderValue
        | FieldMapError::Forbidden => None,
    }
}

/// The HTTP side of one run.
pub struct Session {
    pub(super) gate: Gate,
    wasi: WasiHttpCtx,
}

/// What checks the requests of a run.
pub(super) struct Gate {
    pub(super) grant: Arc<Grant>,
    pub(super) reports: Arc<Reports>,
    words: Words,
    /// Requests under way, those of earlier calls whose answers were kept included.
    under_way: Arc<AtomicU32>,
    recorder: Recorder,
    call: Option<Call>,
}

struct Call {
    scope: CallScope,
    requests: u32,
    unsafe_sent: bool,
    ordinals: HashMap<(Method, String), u64>,
    /// Bytes of bodies that may still be held in the host; made by the first request.
    held_left: Option<Arc<AtomicU64>>,
}

/// What a plugin asks for, without its body.
pub(super) struct Asked<'a, Headers> {
    pub(super) method: &'a str,
    pub(super) url: &'a str,
    pub(super) headers: Headers,
    /// As far as it is known before it is sent.
    pub(super) body_bytes: u64,
    pub(super) timeout: Option<Duration>,
}

impl Session {
    /// Starts a run's session.
    #[must_use]
    pub fn new(grant: Arc<Grant>) -> Self {
        Self::recorded(grant, Recorder::default())
    }

    /// Starts a run's session whose requests are noted.
    pub(in crate::capability) fn recorded(grant: Arc<Grant>, recorder: Recorder) -> Self {
        let mut wasi = WasiHttpCtx::new();
        wasi.set_field_size_limit(FIELD_BYTES_MAX);
        let (reports, under_way) = (Arc::new(Reports::behind(recorder.veil().clone())), Arc::default());
        Self { gate: Gate { grant, reports, words: Words::default(), under_way, recorder, call: None }, wasi }
    }

    /// A call begins: its counts start at zero.
    pub fn begin_call(&mut self, scope: CallScope) {
        self.gate.reports.clear();
        let ordinals = HashMap::new();
        self.gate.call = Some(Call { scope, requests: 0, unsafe_sent: false, ordinals, held_left: None });
    }

    /// The call is over: from now on nothing is sent.
    pub fn end_call(&mut self) -> CallUse {
        let unsafe_sent = self.gate.call.take().is_some_and(|call| call.unsafe_sent);
        CallUse { unsafe_sent, held: self.gate.reports.held() }
    }

    /// Sends one request.
    ///
    /// # Errors
    /// As the interface says.
    pub async fn send(&mut self, request: Request) -> Result<Response, HttpError> {
        let outcome = match self.gate.admit_whole(&request) {
            Ok(admitted) => admitted.whole(request.body, Arc::new(AtomicU64::new(u64::MAX))).await,
            Err(failure) => Err(failure),
        };
        self.gate.conclude(outcome)
    }

    /// Sends all of them at once, as far as `limits.requests_at_once` allows; answers in the same order.
    pub async fn send_all(&mut self, requests: Vec<Request>) -> Vec<Result<Response, HttpError>> {
        // All answers together end up in the sandbox: more than it can hold is not worth fetching.
        let budget = Arc::new(AtomicU64::new(self.gate.grant.limits.memory_bytes));
        let admitted = requests.into_iter().map(|request| (self.gate.admit_whole(&request), request.body));
        let exchanges: Vec<_> = admitted
            .map(|(admitted, body)| {
                let budget = budget.clone();
                async move { admitted?.whole(body, budget).await }
            })
            .collect();
        let outcomes = join_all(exchanges).await;
        outcomes.into_iter().map(|outcome| self.gate.conclude(outcome)).collect()
    }

    /// The word that stands for a secret in the requests of this run.
    pub(crate) fn placeholder(&mut self, secret: &str) -> String {
        self.gate.words.of(secret)
    }

    /// What wasi:http works on.
    pub fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView { hooks: &mut self.gate, table, ctx: &mut self.wasi }
    }
}

impl interface::Host for Session {
    async fn send(&mut self, request: Request) -> Result<Response, HttpError> {
        Self::send(self, request).await
    }

    async fn send_all(&mut self, requests: Vec<Request>) -> Vec<Result<Response, HttpError>> {
        Self::send_all(self, requests).await
    }
}

impl Gate {
    fn admit_whole(&mut self, request: &Request) -> Result<Admitted, Failure> {
        self.admit(Asked {
            method: &request.method,
            url: &request.url,
            headers: request.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())),
            body_bytes: request.body.len() as u64,
            timeout: request.timeout_ms.map(Duration::from_millis),
        })
    }

    fn conclude(&self, outcome: Result<Response, Failure>) -> Result<Response, HttpError> {
        outcome.map_err(|failure| {
            self.reports.report(&self.grant, &failure);
            failure.error(&self.grant)
        })
    }

    /// Decides whether a request may be sent, and makes it ready. Nothing has left the host afterwards.
    pub(super) fn admit<'a, Headers>(&mut self, asked: Asked<'_, Headers>) -> Result<Admitted, Failure>
    where
        Headers: Iterator<Item = (&'a [u8], &'a [u8])>,
    {
        let grant = self.grant.clone();
        let Some(call) = &mut self.call else { return Err(Refusal::Malformed("no call is under way").into()) };
        call.count(&grant)?;
        let target = Target::parse(asked.url).map_err(Refusal::Malformed)?;
        let method = parse_method(asked.method)?;
        let entry = grant.entry(&method, &target)?;
        let settings = &grant.entries[entry].settings;
        check_body(&grant, settings, asked.body_bytes)?;
        settings.check_signed_body(target.url(), asked.body_bytes)?;
        let mut headers = header::admit(asked.headers)?;
        let traced = call.add_trace(&mut headers);
        let barrier = if method.is_safe() {
            None
        } else {
            call.unsafe_sent = true;
            if settings.idempotency {
                let url = self.words.stable(target.url().as_str());
                call.add_idempotency_key(&grant, &method, &url, &mut headers);
            }
            Some(call.scope.barrier.clone())
        };
        let deadline = deadline(call.scope.deadline, settings.timeout, asked.timeout);
        let (words, held_left) = (self.words.named_in(&settings.placeholders), call.held_left(&grant));
        Ok(Admitted {
            entry,
            method,
            target,
            headers,
            words,
            held_left,
            under_way: self.under_way.clone(),
            recorder: self.recorder.clone(),
            barrier,
            deadline: deadline.into(),
            head_by: None,
            traced,
            grant,
        })
    }
}

impl Call {
    /// Counts what is asked for, refused or not: each costs the host work.
    fn count(&mut self, grant: &Grant) -> Result<(), Refusal> {
        let max = grant.limits.requests;
        self.requests = self.requests.saturating_add(1);
        if self.requests > max { Err(Refusal::Requests { max }) } else { Ok(()) }
    }

    fn held_left(&mut self, grant: &Grant) -> Arc<AtomicU64> {
        self.held_left.get_or_insert_with(|| Arc::new(AtomicU64::new(grant.limits.memory_bytes))).clone()
    }

    /// Carries the trace of the message on; one that the plugin chose itself stays. Answers what the request's spans are
    /// made with, where it is recorded; each names itself in the header then.
    fn add_trace(&self, headers: &mut HeaderMap) -> Option<Recorded> {
        let traced = self.scope.traced.as_ref()?;
        let names_one = headers.contains_key(TRACEPARENT);
        if !names_one {
            // The next step of it, which nobody records, if it is not recorded.
            headers.insert(TRACEPARENT, header_of(traced.trace.next()));
            let state = traced.state.as_ref().filter(|_| !headers.contains_key(TRACESTATE));
            if let Some(Ok(state)) = state.map(|state| HeaderValue::from_str(state)) {
                headers.insert(TRACESTATE, state);
            }
        }
        let is_recorded = traced.tracer.records(Some(&traced.trace));
        is_recorded.then(|| Recorded { traced: traced.clone(), names_one, sent: AtomicU32::new(0) })
    }

    /// A key that the plugin chose itself stays: it may mean something to the receiver.
    fn add_idempotency_key(&mut self, grant: &Grant, method: &Method, url: &str, headers: &mut HeaderMap) {
        let Some(message_id) = &self.scope.message_id else { return };
        let ordinal = self.ordinals.entry((method.clone(), url.to_owned())).or_default();
        let parts = [message_id, grant.lineage.as_str(), method.as_str(), url];
        let key = id::derive(id::Kind::Idempotency, &parts, *ordinal);
        *ordinal += 1;
        let value = HeaderValue::from_str(&key).expect("a derived id is letters and digits");
        headers.entry(IDEMPOTENCY_KEY).or_insert(value);
    }
}

/// A trace as the header of a request.
pub(super) fn header_of(trace: Trace) -> HeaderValue {
    HeaderValue::from_str(&trace.header()).expect("it is letters, digits and `-`")
}

impl Grant {
    /// The first entry that covers method and URL.
    fn entry(&self, method: &Method, target: &Target) -> Result<usize, Refusal> {
        let is_granted = |entry: &GrantSettings| entry.methods.iter().any(|granted| granted == method.as_str());
        let entries = self.entries.iter().map(|entry| &entry.settings).enumerate();
        let mut covering = entries.filter(|(_, entry)| entry.pattern.covers(target)).peekable();
        let nearest = covering.peek().map(|(_, entry)| entry.key.clone());
        if let Some((index, _)) = covering.find(|(_, entry)| is_granted(entry)) {
            return Ok(index);
        }
        let (method, url) = (method.to_string(), target.display());
        match nearest {
            Some(key) => Err(Refusal::Method { method, url, key }),
            None => Err(Refusal::NotGranted { method, url }),
        }
    }

    /// The most bytes that a response of `entry` may have, and the key that says so.
    pub(super) fn response_bytes(&self, entry: &GrantSettings) -> (u64, String) {
        narrowest(
            self.limits.response_bytes,
            self.key("limits.response_bytes"),
            entry.max_response,
            &entry.key,
            "max_response",
        )
    }

    /// The most bytes that a request of `entry` may have, and the key that says so.
    pub(super) fn request_bytes(&self, entry: &GrantSettings) -> (u64, String) {
        narrowest(
            self.limits.request_bytes,
            self.key("limits.request_bytes"),
            entry.max_request,
            &entry.key,
            "max_request",
        )
    }
}

fn narrowest(limit: u64, key: String, own: Option<u64>, entry_key: &str, own_name: &str) -> (u64, String) {
    match own {
        Some(own) if own < limit => (own, format!("{entry_key}.{own_name}")),
        Some(_) | None => (limit, key),
    }
}

fn check_body(grant: &Grant, settings: &GrantSettings, body_bytes: u64) -> Result<(), Refusal> {
    let (max, key) = grant.request_bytes(settings);
    if body_bytes > max { Err(Refusal::RequestBytes { max, key }) } else { Ok(()) }
}

/// `CONNECT` would open a tunnel; `TRACE` would answer with the credential that was attached.
fn parse_method(text: &str) -> Result<Method, Refusal> {
    let is_word = (1..=METHOD_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
    let method = Method::from_bytes(text.to_ascii_uppercase().as_bytes());
    match method {
        Ok(method) if is_word && method != Method::CONNECT && method != Method::TRACE => Ok(method),
        Ok(_) | Err(_) => Err(Refusal::Malformed("its method is CONNECT, TRACE or not a method")),
    }
}

fn deadline(call: Instant, granted: Option<Duration>, asked: Option<Duration>) -> Instant {
    let now = Instant::now();
    let left = call.saturating_duration_since(now);
    let call = call - HEARD_WITHIN_MAX.min(left / 10);
    let timeouts = granted.into_iter().chain(asked.map(|asked| asked.max(TIMEOUT_MIN)));
    // A timeout too long for the clock is no timeout.
    timeouts.filter_map(|timeout| now.checked_add(timeout)).fold(call, Instant::min)
}
