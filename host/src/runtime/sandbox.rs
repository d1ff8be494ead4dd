//! A plugin that is ready to run, and its sandboxes.
//!
//! A [`Plugin`] belongs to one connector; a [`Sandbox`] is one instance with a store of its own, made for a run and called
//! once for each delivery (or once for all). Every call goes through the meter. Invariant: after a call that did not
//! succeed, or was dropped half-way, the sandbox is finished and never entered again.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{Component, Instance, InstancePre, ResourceTableError};
use wasmtime::{Store, Trap, UpdateDeadline};

use super::compile::{Compiled, LoadError};
use super::engine::Engine;
use super::failure::Failure;
use super::meter::{Cut, Meter};
use super::permit::Permit;
use crate::bindings::bulkhead::connector::types;
use crate::bindings::exports::bulkhead::connector::{about, batch_consumer, consumer, scheduled, webhook};
use crate::capability::{Call, Cause, Ended, Grants, OverLimit, Session};
use crate::limit::Limit;
use crate::message::{self, Header, Message};
use crate::settlement::{Barrier, Delivery};

pub use crate::capability::Staged;

/// What the engine answers when the handles of a sandbox are spent that are not in its resource table.
const HANDLES_SPENT: &str = "store handle limit exceeded";
/// What the engine answers when one host call hands over too much.
const HOSTCALL_SPENT: &str = "too much data";
/// Hostcall fuel beside twice the largest message: headers, names and what a request carries beside its body.
const HOSTCALL_BYTES_SPARE: u64 = 1 << 20;

/// A plugin with its connector's grants. Cheap to clone.
#[derive(Clone)]
pub struct Plugin(Arc<Inner>);

struct Inner {
    engine: Engine,
    instance: InstancePre<Session>,
    exports: Exports,
    grants: Arc<Grants>,
}

/// The interfaces that a component exports.
struct Exports {
    consumer: Option<consumer::GuestIndices>,
    batch_consumer: Option<batch_consumer::GuestIndices>,
    scheduled: Option<scheduled::GuestIndices>,
    webhook: Option<webhook::GuestIndices>,
    about: Option<about::GuestIndices>,
}

/// An interface that the host calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// Messages one by one.
    Consumer,
    /// Messages many at once.
    BatchConsumer,
    /// Ticks.
    Scheduled,
    /// HTTP requests.
    Webhook,
    /// What the plugin says about itself.
    About,
}

/// Where a call stands in its run.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    /// The queue that the deliveries came from.
    pub queue: &'a str,
    /// Counts the segments of the run. To be raised whenever a segment is handed in: state that is not committed yet is
    /// only seen within its segment and its sandbox.
    pub segment: u64,
    /// What the call's first unsafe request waits behind.
    pub barrier: Barrier,
    /// For a tick: the planned time of its schedule's last tick that succeeded.
    pub previous_ms: Option<u64>,
}

/// What a call for many messages decided.
#[derive(Debug)]
pub struct BatchResult {
    /// One entry for each delivery, in order.
    pub results: Vec<Result<(), Failure>>,
    /// What commits with those that succeeded; empty where they must run again.
    pub staged: Staged,
    /// Some failed, and the call staged what only commits when all succeed: those that succeeded run again without them.
    pub rerun_succeeded: bool,
}

/// A plugin's own words about itself.
pub type Description = about::Description;

impl std::fmt::Debug for Plugin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Plugin").field(self.0.grants.connector()).finish()
    }
}

impl Plugin {
    /// Links a component for a connector and starts it once, so that what cannot work is known now.
    ///
    /// # Errors
    /// When it does not link, exports nothing that the host calls, or does not start; the text says what to change.
    pub async fn load(engine: &Engine, compiled: &Compiled, grants: Arc<Grants>) -> Result<Self, LoadError> {
        let plugin = Self::link(engine, compiled.component(), grants)?;
        if !plugin.0.exports.has_entry() {
            return Err(LoadError::NoExport);
        }
        let mut sandbox = plugin.open().await.map_err(|failure| LoadError::Start(failure.reason().to_owned()))?;
        sandbox.check().map_err(|error| LoadError::Misfit(format!("{error:#}")))?;
        Ok(plugin)
    }

    /// Links without starting.
    pub(super) fn link(engine: &Engine, component: &Component, grants: Arc<Grants>) -> Result<Self, LoadError> {
        let instance = super::offer::link(engine, component)?;
        let exports = Exports::of(&instance);
        Ok(Self(Arc::new(Inner { engine: engine.clone(), instance, exports, grants })))
    }

    /// Whether it is called once for all messages of a run; a component that exports both interfaces is.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        self.exports(Export::BatchConsumer)
    }

    /// Whether it exports an interface.
    #[must_use]
    pub fn exports(&self, export: Export) -> bool {
        self.0.exports.has(export)
    }

    /// A fresh sandbox. Must run on [`Engine::guests`], as all its calls.
    ///
    /// # Errors
    /// When the guest's own start fails or is over a limit; costs an attempt of what should have run.
    pub async fn sandbox(&self, _permit: &Permit) -> Result<Sandbox, Failure> {
        self.open().await
    }

    pub(super) async fn open(&self) -> Result<Sandbox, Failure> {
        let began = Instant::now();
        let Inner { engine, instance, grants, .. } = &*self.0;
        let limits = grants.limits();
        let meter = Arc::new(Meter::new(limits.cpu));
        let mut store = Store::new(engine.wasmtime(), Session::new(grants.clone()));
        restrict(&mut store, &meter);
        meter.begin(limits.wall);
        let starting = instance.instantiate_async(&mut store);
        let started = meter.run(engine.ticking(), starting).await;
        match started {
            Ok(Ok(instance)) => {
                grants.metrics().sandbox(began.elapsed().as_secs_f64());
                Ok(Sandbox {
                    plugin: self.clone(),
                    store,
                    instance,
                    meter,
                    guests: Guests::default(),
                    is_finished: false,
                })
            }
            Ok(Err(error)) => Err(broken(store.data_mut(), &error)),
            Err(cut) => Err(cut_short(store.data_mut(), cut)),
        }
    }
}

/// Every bound that is the store's own.
fn restrict(store: &mut Store<Session>, meter: &Arc<Meter>) {
    let limits = store.data().grants().limits();
    let fuel = limits.message_bytes.saturating_mul(2).saturating_add(HOSTCALL_BYTES_SPARE);
    let handles = limits.handles as usize;
    store.set_hostcall_fuel(usize::try_from(fuel).unwrap_or(usize::MAX));
    // Beside the resource table, whose bound is `handles` itself, each handle is counted by the component's own tables.
    store.set_max_component_handles(handles.saturating_mul(2));
    store.limiter(|session| session.memory());
    store.set_epoch_deadline(1);
    let meter = meter.clone();
    store.epoch_deadline_callback(move |_| match meter.check() {
        Some(limit) => Err(OverLimit { limit, what: "the call was interrupted" }.into()),
        None => Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))),
    });
}

impl Exports {
    fn of(instance: &InstancePre<Session>) -> Self {
        Self {
            consumer: consumer::GuestIndices::new(instance).ok(),
            batch_consumer: batch_consumer::GuestIndices::new(instance).ok(),
            scheduled: scheduled::GuestIndices::new(instance).ok(),
            webhook: webhook::GuestIndices::new(instance).ok(),
            about: about::GuestIndices::new(instance).ok(),
        }
    }

    fn has(&self, export: Export) -> bool {
        match export {
            Export::Consumer => self.consumer.is_some(),
            Export::BatchConsumer => self.batch_consumer.is_some(),
            Export::Scheduled => self.scheduled.is_some(),
            Export::Webhook => self.webhook.is_some(),
            Export::About => self.about.is_some(),
        }
    }

    fn has_entry(&self) -> bool {
        [Export::Consumer, Export::BatchConsumer, Export::Scheduled, Export::Webhook].iter().any(|it| self.has(*it))
    }
}

/// One instance of a plugin.
pub struct Sandbox {
    plugin: Plugin,
    store: Store<Session>,
    instance: Instance,
    meter: Arc<Meter>,
    guests: Guests,
    is_finished: bool,
}

/// The exports of this instance, bound when first called.
#[derive(Default)]
struct Guests {
    consumer: Option<consumer::Guest>,
    batch_consumer: Option<batch_consumer::Guest>,
    scheduled: Option<scheduled::Guest>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { plugin, is_finished, .. } = self;
        formatter
            .debug_struct("Sandbox")
            .field("plugin", plugin)
            .field("is_finished", is_finished)
            .finish_non_exhaustive()
    }
}

/// Binds one export of this instance at its first call.
macro_rules! bound {
    ($self:ident, $export:ident) => {
        match &$self.guests.$export {
            Some(guest) => guest,
            None => {
                let loaded = match &$self.plugin.0.exports.$export {
                    Some(indices) => indices.load(&mut $self.store, &$self.instance),
                    None => {
                        Err(wasmtime::Error::msg(concat!("the plugin does not export `", stringify!($export), "`")))
                    }
                };
                match loaded {
                    Ok(guest) => &*$self.guests.$export.insert(guest),
                    Err(error) => return Err(broken($self.store.data_mut(), &error)),
                }
            }
        }
    };
}

impl Sandbox {
    /// Whether it must not be called again.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whether it has grown so far that a kept one should be replaced: a guest that leaks must not fail before.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.is_finished || self.store.data().memory_bytes() > self.plugin.0.grants.limits().memory_bytes / 2
    }

    /// Hands over what lies in an inbox as what it is, anything else as a message.
    ///
    /// # Errors
    /// Why it did not succeed; what it staged is dropped.
    pub async fn deliver(&mut self, scope: &Scope<'_>, delivery: &Delivery) -> Result<Staged, Failure> {
        if !scope.queue.starts_with('@') {
            return self.handle(scope, delivery).await;
        }
        let Some(tick) = message::Tick::from_json(&delivery.message.body) else {
            return Err(Failure::Reject { reason: "it lies in an inbox and is no tick".to_owned() });
        };
        let mut staged = self.tick(scope, delivery, &tick).await?;
        staged.tick_done = Some((tick.schedule, tick.planned_at_ms));
        Ok(staged)
    }

    /// Hands over one message.
    ///
    /// # Errors
    /// Why it did not succeed; what it staged is dropped.
    pub async fn handle(&mut self, scope: &Scope<'_>, delivery: &Delivery) -> Result<Staged, Failure> {
        self.admit(&delivery.message)?;
        begin(&mut self.is_finished, &self.meter, &mut self.store, scope, &[cause(delivery)], false);
        let guest = bound!(self, consumer);
        let headers = borrowed(&delivery.message.headers);
        let answering = guest.call_handle(&mut self.store, message(scope, delivery, &headers));
        let answered = self.meter.run(self.plugin.0.engine.ticking(), answering).await;
        self.end_one(answered)
    }

    /// Hands over many messages at once.
    ///
    /// # Errors
    /// Why the whole call did not succeed; what it staged is dropped.
    pub async fn handle_batch(&mut self, scope: &Scope<'_>, deliveries: &[Delivery]) -> Result<BatchResult, Failure> {
        for delivery in deliveries {
            self.admit(&delivery.message)?;
        }
        let causes: Vec<_> = deliveries.iter().map(cause).collect();
        begin(&mut self.is_finished, &self.meter, &mut self.store, scope, &causes, true);
        let guest = bound!(self, batch_consumer);
        let headers: Vec<_> = deliveries.iter().map(|delivery| borrowed(&delivery.message.headers)).collect();
        let messages: Vec<_> =
            deliveries.iter().zip(&headers).map(|(delivery, headers)| message(scope, delivery, headers)).collect();
        let answering = guest.call_handle(&mut self.store, &messages);
        let answered = self.meter.run(self.plugin.0.engine.ticking(), answering).await;
        let (results, ended) = self.end(answered)?;
        if results.len() != deliveries.len() {
            self.is_finished = true;
            let (got, expected) = (results.len(), deliveries.len());
            return Err(Failure::trap(&format!("the plugin answered {got} results for {expected} messages"), ""));
        }
        Ok(self.end_batch(results, ended))
    }

    async fn tick(&mut self, scope: &Scope<'_>, delivery: &Delivery, tick: &message::Tick) -> Result<Staged, Failure> {
        begin(&mut self.is_finished, &self.meter, &mut self.store, scope, &[cause(delivery)], false);
        let guest = bound!(self, scheduled);
        let tick = scheduled::Tick {
            schedule: &tick.schedule,
            planned_at_ms: tick.planned_at_ms,
            attempt: delivery.attempt,
            input: tick.input.as_deref(),
            previous_ms: scope.previous_ms,
        };
        let answering = guest.call_run(&mut self.store, tick);
        let answered = self.meter.run(self.plugin.0.engine.ticking(), answering).await;
        self.end_one(answered)
    }

    /// Asks the plugin about itself; `None` where it does not say.
    ///
    /// # Errors
    /// Why it could not answer.
    pub(super) async fn describe(&mut self) -> Result<Option<Description>, Failure> {
        let Some(indices) = &self.plugin.0.exports.about else { return Ok(None) };
        let scope = Scope { queue: "", segment: 0, barrier: Barrier::default(), previous_ms: None };
        begin(&mut self.is_finished, &self.meter, &mut self.store, &scope, &[], false);
        let loaded = indices.load(&mut self.store, &self.instance);
        let guest = loaded.map_err(|error| broken(self.store.data_mut(), &error))?;
        let answering = guest.call_describe(&mut self.store);
        let answered = self.meter.run(self.plugin.0.engine.ticking(), answering).await;
        Ok(Some(self.end(answered)?.0))
    }

    /// Whether the types of all its exports fit.
    fn check(&mut self) -> wasmtime::Result<()> {
        let Self { plugin, store, instance, .. } = self;
        let exports = &plugin.0.exports;
        exports.consumer.as_ref().map(|it| it.load(&mut *store, instance)).transpose()?;
        exports.batch_consumer.as_ref().map(|it| it.load(&mut *store, instance)).transpose()?;
        exports.scheduled.as_ref().map(|it| it.load(&mut *store, instance)).transpose()?;
        exports.webhook.as_ref().map(|it| it.load(&mut *store, instance)).transpose()?;
        exports.about.as_ref().map(|it| it.load(&mut *store, instance)).transpose()?;
        Ok(())
    }

    /// A message that was accepted under a larger limit cannot be handed over any more.
    fn admit(&self, message: &Message) -> Result<(), Failure> {
        let grants = &self.plugin.0.grants;
        let (size, most) = (message.size_bytes(), grants.limits().message_bytes);
        if size <= most {
            return Ok(());
        }
        grants.limit_hit(Limit::Message);
        let connector = grants.connector();
        let reason = format!("a message of {size} bytes: `connectors.{connector}.limits.message` is {most} bytes");
        Err(Failure::Reject { reason })
    }

    fn end<T>(&mut self, answered: Result<wasmtime::Result<T>, Cut>) -> Result<(T, Ended), Failure> {
        match answered {
            Ok(Ok(answer)) => {
                self.is_finished = false;
                Ok((answer, self.store.data_mut().end_call()))
            }
            Ok(Err(error)) => Err(broken(self.store.data_mut(), &error)),
            Err(cut) => Err(cut_short(self.store.data_mut(), cut)),
        }
    }

    fn end_one(
        &mut self,
        answered: Result<wasmtime::Result<Result<(), types::Failure>>, Cut>,
    ) -> Result<Staged, Failure> {
        let (answer, ended) = self.end(answered)?;
        match answer {
            Ok(()) => Ok(staged(ended, |_| true)),
            Err(failure) => {
                self.is_finished = true;
                Err(Failure::of_plugin(failure, ended.held))
            }
        }
    }

    fn end_batch(&mut self, answers: Vec<Result<(), types::Failure>>, ended: Ended) -> BatchResult {
        let held = ended.held;
        let results: Vec<_> =
            answers.into_iter().map(|answer| answer.map_err(|failure| Failure::of_plugin(failure, held))).collect();
        if results.iter().all(Result::is_ok) {
            return BatchResult { results, staged: staged(ended, |_| true), rerun_succeeded: false };
        }
        self.is_finished = true;
        let is_shared = !ended.state.writes.is_empty() || ended.publishes.iter().any(|(cause, _)| cause.is_none());
        let unsafe_sent = ended.unsafe_sent;
        let staged = if is_shared {
            Staged { unsafe_sent, ..Staged::default() }
        } else {
            staged(ended, |cause| cause.is_some_and(|cause| results[cause].is_ok()))
        };
        BatchResult { results, staged, rerun_succeeded: is_shared }
    }
}

/// A call begins; until it has succeeded, the sandbox counts as finished.
fn begin(
    is_finished: &mut bool,
    meter: &Meter,
    store: &mut Store<Session>,
    scope: &Scope<'_>,
    causes: &[Cause<'_>],
    is_batch: bool,
) {
    *is_finished = true;
    let session = store.data_mut();
    let wall = session.grants().limits().wall;
    let (barrier, deadline) = (scope.barrier.clone(), meter.begin(wall));
    session.begin_call(&Call { queue: scope.queue, causes, is_batch, segment: scope.segment, barrier, deadline });
}

fn cause(delivery: &Delivery) -> Cause<'_> {
    Cause { id: &delivery.message.id, hops: delivery.message.hops }
}

fn borrowed(headers: &[Header]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn message<'a>(scope: &Scope<'a>, delivery: &'a Delivery, headers: &'a [(&'a str, &'a str)]) -> types::Message<'a> {
    let message = &delivery.message;
    types::Message {
        id: &message.id,
        queue: scope.queue,
        key: message.key.as_deref(),
        headers,
        body: &message.body,
        attempt: delivery.attempt,
        enqueued_at_ms: message.enqueued_at_ms,
        expires_at_ms: message.expires_at_ms,
        parent: message.parent.as_deref(),
        hops: message.hops,
    }
}

fn staged(ended: Ended, commits: impl Fn(Option<usize>) -> bool) -> Staged {
    let Ended { publishes, reservation, state, unsafe_sent, held: _ } = ended;
    let publishes = publishes.into_iter().filter(|(cause, _)| commits(*cause)).map(|(_, publish)| publish).collect();
    Staged { publishes, reservation, state, unsafe_sent, tick_done: None }
}

/// What the guest or a host call broke with.
fn broken(session: &mut Session, error: &wasmtime::Error) -> Failure {
    let memory_refused = session.memory().was_refused();
    session.end_call();
    let tail = session.stderr_tail();
    let what = describe(error);
    let limit = limit_of(error, &what).or(memory_refused.then_some(Limit::Memory));
    match limit {
        Some(limit) => {
            // Memory is counted where a growth is refused, whether the guest copes or not.
            if limit != Limit::Memory {
                session.grants().limit_hit(limit);
            }
            limited(session, limit, &what, &tail)
        }
        None => Failure::trap(&what, &tail),
    }
}

fn cut_short(session: &mut Session, cut: Cut) -> Failure {
    session.end_call();
    let tail = session.stderr_tail();
    match cut {
        Cut::Limit(limit) => {
            session.grants().limit_hit(limit);
            limited(session, limit, "the call was interrupted", &tail)
        }
        Cut::Panic(text) => {
            let grants = session.grants();
            grants.metrics().panicked();
            tracing::error!(connector = %grants.connector(), "the host failed in a run, which alone is charged: {text}");
            Failure::trap(&format!("the host failed while it ran: {text}"), &tail)
        }
    }
}

fn limited(session: &Session, limit: Limit, what: &str, tail: &str) -> Failure {
    let key = format!("connectors.{}.limits.{}", session.grants().connector(), limit.label());
    Failure::limit(limit, &format!("over `{key}`: {what}"), tail)
}

fn describe(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(trap) => format!("the plugin trapped: {trap}"),
        None => error.root_cause().to_string(),
    }
}

fn limit_of(error: &wasmtime::Error, what: &str) -> Option<Limit> {
    if let Some(over) = error.downcast_ref::<OverLimit>() {
        return Some(over.limit);
    }
    let is_full = matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full));
    if is_full || what.contains(HANDLES_SPENT) {
        return Some(Limit::Handles);
    }
    what.contains(HOSTCALL_SPENT).then_some(Limit::Hostcall)
}
