//! The gate: every effect of a plugin is authorised, limited, counted and carried out here.
//!
//! Three lives, in this order in every file: [`Services`] once per process, [`Grants`] once per connector, [`Session`]
//! once per sandbox (it is the data of the sandbox's store). A call begins with [`Session::begin_call`] and ends with
//! [`Session::end_call`], which hands over what it staged; what a failed call staged is dropped with its session.
//! Invariant: no grant, no effect; and every refusal is a typed error, a counted figure and a line in the log.

pub mod backoff;
pub mod breaker;
pub mod config;
pub mod credential;
pub mod http;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod queue;
pub mod rate;
mod recorder;
pub mod secrets;
pub mod state;
pub mod trace;
mod veil;
pub mod wasi;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use recorder::Recorder;
use tokio::runtime::Handle;
use veil::Veil;
use wasmtime::component::{HasSelf, Linker, ResourceTable};

use crate::audit::{Audit, Kind, Refused};
use crate::bindings;
use crate::bindings::bulkhead::connector::types;
use crate::egress::{self, Egress};
use crate::feed::Feed;
use crate::id::Name;
use crate::ledger::{Ledger, Reservation};
use crate::limit::{Limit, Limits};
use crate::mask::Masks;
use crate::message::Header;
use crate::message::trace::Trace;
use crate::metrics::{Effect, Metrics};
use crate::secret_store::SecretStore;
use crate::settlement::attempt::Effect as Done;
use crate::settlement::{Barrier, ConnectorId, Lack, Publish, StateChanges};
use crate::telemetry::otlp::{Recording, Tracer};

/// What all connectors share. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// Where state lies and publishes reserve their room; none where a plugin is only looked at.
    pub ledger: Option<Ledger>,
    /// What is counted.
    pub metrics: Metrics,
    /// What is recorded, and logged without repeating it.
    pub audit: Audit,
    /// Where it is told what happens.
    pub feed: Feed,
    /// Values of secrets.
    pub secrets: Arc<SecretStore>,
    /// How requests go out.
    pub http: http::Services,
    /// Where traces go, if anywhere.
    pub tracer: Tracer,
    /// What of messages is never shown.
    pub masks: Masks,
}

impl Services {
    /// With nothing behind it: for looking at a plugin.
    #[must_use]
    pub fn idle(runtime: Handle) -> Self {
        let (metrics, secrets) = (Metrics::default(), Arc::new(SecretStore::empty(Path::new(""))));
        let (audit, egress) = (Audit::default(), Egress::start(runtime, egress::Settings::default()));
        let http = http::Services::new(egress, secrets.clone(), metrics.clone(), audit.clone());
        let (feed, masks, tracer) = (Feed::default(), Masks::default(), Tracer::default());
        Self { ledger: None, metrics, audit, feed, secrets, http, tracer, masks }
    }
}

/// Which connector it is.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its name in the configuration.
    pub name: Name,
    /// Its first name: ids are derived from it, so that a rename changes none.
    pub lineage: Name,
    /// Its number in the ledger.
    pub id: ConnectorId,
}

/// `allow` of a connector; the empty one grants nothing.
#[derive(Clone, Debug, Default)]
pub struct Allow {
    /// Queues it may publish to.
    pub publish: Vec<queue::Target>,
    /// Secrets it may see.
    pub secrets: Vec<String>,
    /// Requests it may send.
    pub http: Vec<http::GrantSettings>,
}

/// What one connector may do, with its limits.
pub struct Grants {
    services: Services,
    subject: Subject,
    limits: Limits,
    queue: queue::Grant,
    config: config::Grant,
    secrets: secrets::Grant,
    log: Arc<log::Grant>,
    http: Arc<http::Grant>,
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Grants").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl Grants {
    /// What the configuration says about a connector.
    #[must_use]
    pub fn new(
        services: &Services,
        subject: Subject,
        limits: Limits,
        config: &serde_json::Map<String, serde_json::Value>,
        allow: Allow,
    ) -> Self {
        let holder = http::Holder { connector: subject.name.clone(), lineage: subject.lineage.clone() };
        Self {
            services: services.clone(),
            queue: queue::Grant::new(allow.publish),
            config: config::Grant::new(config),
            secrets: secrets::Grant::new(allow.secrets, http::placed_secrets(&allow.http), services.secrets.clone()),
            http: http::Grant::new(&services.http, holder, allow.http, limits.clone()),
            log: Arc::new(log::Grant::new(subject.name.clone(), limits.log_rate, services.feed.clone())),
            subject,
            limits,
        }
    }

    /// Nothing at all: for looking at a plugin.
    #[must_use]
    pub fn none(services: &Services, name: Name) -> Self {
        let subject = Subject { lineage: name.clone(), name, id: ConnectorId(0) };
        Self::new(services, subject, Limits::default(), &serde_json::Map::new(), Allow::default())
    }

    /// What its sandboxes and calls may use.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How long no delivery shall begin, because a receiver of its requests is down.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        self.http.pause(now)
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn connector(&self) -> &Name {
        &self.subject.name
    }

    /// Where it is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.services.metrics
    }

    /// Where its traces go.
    #[must_use]
    pub fn tracer(&self) -> &Tracer {
        &self.services.tracer
    }

    /// Says how many log lines went over the connector's rate since the last time, and counts that the limit bit.
    pub fn tell_dropped(&self) {
        if self.log.tell_dropped() > 0 {
            self.services.metrics.limit_hit(&self.subject.name, Limit::Log);
        }
    }

    /// What it permits, one permission a line, in plain words; nothing else has an effect on the world.
    #[must_use]
    pub fn permissions(&self) -> Vec<String> {
        self.http.permissions().chain(self.queue.permissions()).chain(self.secrets.permissions()).collect()
    }

    /// A publish, as an effect.
    #[must_use]
    pub fn published(&self, publish: &Publish, is_committed: bool) -> Done {
        let queue = self.queue.name(publish.queue).unwrap_or_default().to_owned();
        Done::Publish { queue, id: publish.draft.id.clone(), is_committed }
    }

    /// Counts and records a limit that bit.
    pub fn limit_hit(&self, limit: Limit) {
        self.hit(limit, limit.key(self.subject.name.as_str()).as_deref());
    }

    /// The same where the call ended with an error of a capability or of the engine; `key` is the one that moves it.
    pub fn hit(&self, limit: Limit, key: Option<&str>) {
        self.over(limit, key.unwrap_or_default(), "a call used more than it may: see the reason of its failure");
    }

    /// The same where it is known better what was too much, and which key says so; the empty one where it is fixed.
    fn over(&self, limit: Limit, key: &str, text: &str) {
        let (connector, subject) = (&self.subject.name, limit.label());
        self.services.metrics.limit_hit(connector, limit);
        self.services.audit.refused(&Refused { kind: Kind::Limit, connector, subject, reason: "limit", key, text });
    }
}

/// What a call is made for.
#[derive(Debug)]
pub struct Call<'a> {
    /// The queue that the deliveries came from.
    pub queue: &'a str,
    /// What is handled: one message, or the messages of a batch.
    pub causes: &'a [Cause<'a>],
    /// Whether drafts must name their cause.
    pub is_batch: bool,
    /// Counts the segments of the run: state that earlier calls of the same segment wrote is seen, although it is not
    /// committed yet.
    pub segment: u64,
    /// What the first unsafe request waits behind.
    pub barrier: Barrier,
    /// When the call ends, whatever a plugin asks for.
    pub deadline: Instant,
}

/// A message that is being handled.
#[derive(Clone, Copy, Debug)]
pub struct Cause<'a> {
    /// Its id.
    pub id: &'a str,
    /// How many connectors it has passed through.
    pub hops: u32,
    /// Counted from 1.
    pub attempt: u32,
    /// The trace that it belongs to, if any: what is made of it belongs to the same.
    pub trace: Option<Trace>,
    /// What other systems said beside it.
    pub state: Option<&'a str>,
    /// Its headers.
    pub headers: &'a [Header],
    /// Its payload.
    pub body: &'a [u8],
}

/// What a call has staged.
#[derive(Debug, Default)]
pub struct Staged {
    /// In the order in which they were published.
    pub publishes: Vec<Publish>,
    /// Their room in the queues; to be kept until the settlement is handed in.
    pub reservation: Reservation,
    /// State read and written.
    pub state: StateChanges,
    /// Whether a request with an unsafe method went out: the segment ends here.
    pub unsafe_sent: bool,
    /// The tick (schedule, planned time) whose success this is.
    pub tick_done: Option<(String, u64)>,
}

/// One sandbox's side of the gate.
pub struct Session {
    grants: Arc<Grants>,
    table: ResourceTable,
    memory: memory::Account,
    queue: queue::Stage,
    state: state::Stage,
    log: log::Session,
    wasi: wasi::State,
    http: http::Session,
    recorder: Recorder,
    recording: (Option<Box<Recording>>, bool),
    veil: Veil,
    held: Option<Duration>,
    lack: Option<Lack>,
}

impl Session {
    /// For a fresh sandbox.
    #[must_use]
    pub fn new(grants: Arc<Grants>) -> Self {
        let (mut table, veil) = (ResourceTable::new(), Veil::default());
        let recorder = Recorder::behind(veil.clone());
        table.set_max_capacity(grants.limits.handles as usize);
        Self {
            table,
            memory: memory::Account::new(grants.limits.memory_bytes),
            queue: queue::Stage::default(),
            state: state::Stage::default(),
            log: log::Session::new(grants.log.clone(), veil.clone(), grants.limits.log_bytes),
            wasi: wasi::State::default(),
            http: http::Session::recorded(grants.http.clone(), recorder.clone()),
            recorder,
            recording: (None, false),
            veil,
            held: None,
            lack: None,
            grants,
        }
    }

    /// A call begins: counters start anew.
    pub fn begin_call(&mut self, call: &Call<'_>) {
        (self.held, self.lack) = (None, None);
        let masks = &self.grants.services.masks;
        if !masks.is_empty() {
            self.veil.lay(masks.repeats(call.causes.iter().map(|cause| (cause.headers, cause.body))));
        }
        self.memory.begin_call();
        self.recorder.begin_call();
        self.queue.begin_call(call);
        self.state.begin_call(call.segment);
        let needs_id = call.causes.len() == 1 && self.grants.http.gives_keys();
        self.recording = (trace::record(&self.grants, call), true);
        let (trace, traced) = trace::of_call(&self.grants, call, self.recording.0.as_deref());
        self.http.begin_call(http::CallScope {
            message_id: call.causes.first().filter(|_| needs_id).map(|cause| cause.id.to_owned()),
            deadline: call.deadline,
            barrier: call.barrier.clone(),
            traced,
        });
        self.log.begin_call(call, trace, self.grants.limits.log_bytes);
    }

    /// A call has ended: takes what it staged.
    pub fn end_call(&mut self) -> Ended {
        if self.memory.was_refused() {
            self.grants.limit_hit(Limit::Memory);
        }
        if let Some(text) = self.log.end_call() {
            let key = format!("connectors.{}.limits.log", self.grants.subject.name);
            self.grants.over(Limit::Log, &key, &text);
        }
        let queue::Published { publishes, causes, reservation } = self.queue.end_call();
        let state = self.state.end_call();
        let requests = self.http.end_call();
        let (delay, why) = requests.held.map_or((None, None), |(delay, why)| (Some(delay), Some(why)));
        let held = self.held.max(delay).map(|delay| HeldBack { delay, lack: self.lack, why });
        Ended { publishes, causes, reservation, state, unsafe_sent: requests.unsafe_sent, held }
    }

    /// A call has failed: what it published is dropped, and noted as that.
    pub fn note_dropped(&self, ended: &Ended) {
        ended.publishes.iter().for_each(|publish| self.recorder.add(self.grants.published(publish, false)));
    }

    /// Takes what the call that has ended did to the world, in the order in which it began.
    #[must_use]
    pub fn take_effects(&self) -> Vec<Done> {
        self.recorder.take()
    }

    /// Takes what is recorded of the call that has ended, where its trace is; and whether there was a call.
    pub fn take_recording(&mut self) -> (Option<Box<Recording>>, bool) {
        std::mem::take(&mut self.recording)
    }

    /// What its connector may do.
    #[must_use]
    pub fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    /// The account of memory, for the store's limiter.
    pub fn memory(&mut self) -> &mut memory::Account {
        &mut self.memory
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory.used_bytes()
    }

    /// The end of what the guest wrote to standard error in this call.
    #[must_use]
    pub fn stderr_tail(&self) -> String {
        self.log.stderr_tail()
    }

    /// A text about the present call, as an operator may see it.
    #[must_use]
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.veil.hide(text)
    }

    /// A plugin's answer, likewise.
    #[must_use]
    pub fn veiled(&self, failure: types::Failure) -> types::Failure {
        match failure {
            types::Failure::Reject(reason) => types::Failure::Reject(self.hide(&reason).into_owned()),
            types::Failure::Retry(mut retry) => {
                retry.reason = self.hide(&retry.reason).into_owned();
                types::Failure::Retry(retry)
            }
        }
    }

    /// An effect was refused: counts it, records it, and tells the operator what to change. `key` is what would allow it;
    /// empty where nothing would.
    fn refuse(&self, effect: Effect, reason: &'static str, key: &str, text: &str) {
        let (connector, subject) = (&self.grants.subject.name, effect.label());
        self.grants.services.metrics.denied(connector, effect, reason);
        let refused = Refused { kind: Kind::Refusal, connector, subject, reason, key, text: &self.hide(text) };
        self.grants.services.audit.refused(&refused);
    }

    /// An effect was refused for a limit; `key` is what moves it, empty where nothing does.
    fn refuse_over(&self, effect: Effect, limit: Limit, key: &str, text: &str) {
        self.grants.services.metrics.denied(&self.grants.subject.name, effect, "limit");
        self.grants.over(limit, key, &self.hide(text));
    }

    /// The gate held the call back: a retry costs no attempt.
    fn hold(&mut self, delay: Duration) {
        self.held = Some(self.held.map_or(delay, |held| held.max(delay)));
    }
}

/// What [`Session::end_call`] answers: what was staged, for the runtime to hand on or to drop.
#[derive(Debug)]
pub struct Ended {
    /// In the order in which they were published.
    pub publishes: Vec<Publish>,
    /// In a batch, the place of each one's cause; `None` for a draft with an id and no cause.
    pub causes: Vec<Option<usize>>,
    /// The room of all of them.
    pub reservation: Reservation,
    /// State read and written.
    pub state: StateChanges,
    /// Whether a request with an unsafe method went out.
    pub unsafe_sent: bool,
    /// How the gate held the call back, if it did.
    pub held: Option<HeldBack>,
}

/// How the gate held a call back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// The longest of its delays.
    pub delay: Duration,
    /// The room that a publish did not find, where that was it.
    pub lack: Option<Lack>,
    /// What a request waits for, in words.
    pub why: Option<String>,
}

/// A limit that ends the call, as an error that passes through the guest's stack.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{what}")]
pub struct OverLimit {
    /// Which.
    pub limit: Limit,
    /// What was too much.
    pub what: &'static str,
    /// Whether it is a bound beside the limit's own, which no key moves.
    pub is_fixed: bool,
}

impl OverLimit {
    /// What an error says about a limit, if it is about one that a capability keeps.
    #[must_use]
    pub fn of(error: &wasmtime::Error) -> Option<Self> {
        error.downcast_ref::<Self>().copied().or_else(|| http::fields_spent(error))
    }
}

/// Offers every interface to components; what is not here is refused at load.
///
/// # Errors
/// When two interfaces have the same name: never, in a program that has started once.
pub fn link(linker: &mut Linker<Session>) -> wasmtime::Result<()> {
    use bindings::bulkhead::connector;
    wasi::link(linker)?;
    config::link(linker)?;
    state::link(linker)?;
    log::link(linker)?;
    types::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)?;
    http::add_to_linker(linker, |session: &mut Session| &mut session.http)?;
    http::add_streaming_to_linker(linker, |session: &mut Session| session.http.view(&mut session.table))?;
    connector::queue::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)?;
    connector::metrics::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)?;
    connector::secrets::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)?;
    connector::trace::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)?;
    connector::reveal::add_to_linker::<Session, HasSelf<Session>>(linker, |session| session)
}

impl types::Host for Session {}
