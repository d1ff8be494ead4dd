//! One instance of a plugin, with a store of its own.
//!
//! Made for a run and called once for each delivery (or once for all); every call goes through the meter. Invariant: after
//! a call that did not succeed, or was dropped half-way, the sandbox is finished and never entered again.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::Instance;
use wasmtime::{Store, UpdateDeadline};

use super::failure::{Failure, INTERRUPTED};
use super::meter::{Cut, Meter};
use super::plugin::Plugin;
use crate::bindings::bulkhead::connector::types;
use crate::bindings::exports::bulkhead::connector::{about, batch_consumer, consumer, scheduled, webhook};
use crate::capability::{Call, Cause, Ended, OverLimit, Session};
use crate::limit::Limit;
use crate::message::request::{Answer, Parts};
use crate::message::trace;
use crate::message::{self, Header, Message};
use crate::settlement::attempt::Effect;
use crate::settlement::{Barrier, Delivery};
use crate::telemetry::otlp::{Recording, Tracer};

pub use crate::capability::Staged;

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
    webhook: Option<webhook::Guest>,
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
                let loaded = match &$self.plugin.indices().$export {
                    Some(indices) => indices.load(&mut $self.store, &$self.instance),
                    None => {
                        Err(wasmtime::Error::msg(concat!("the plugin does not export `", stringify!($export), "`")))
                    }
                };
                match loaded {
                    Ok(guest) => &*$self.guests.$export.insert(guest),
                    Err(error) => return Err(Failure::of_error($self.store.data_mut(), &error)),
                }
            }
        }
    };
}

impl Sandbox {
    /// A fresh instance; the guest's own start is metered as a call.
    pub(super) async fn start(plugin: Plugin) -> Result<Self, Failure> {
        let began = Instant::now();
        let (engine, grants) = (plugin.engine(), plugin.grants());
        let limits = grants.limits();
        let meter = Arc::new(Meter::new(limits.cpu));
        let mut store = Store::new(engine.wasmtime(), Session::new(grants.clone()));
        restrict(&mut store, &meter);
        meter.begin(limits.wall);
        let starting = plugin.instance().instantiate_async(&mut store);
        let started = meter.run(engine.ticking(), starting).await;
        match started {
            Ok(Ok(instance)) => {
                grants.metrics().sandbox(began.elapsed().as_secs_f64());
                Ok(Self { plugin, store, instance, meter, guests: Guests::default(), is_finished: false })
            }
            Ok(Err(error)) => Err(Failure::of_error(store.data_mut(), &error)),
            Err(cut) => Err(Failure::of_cut(store.data_mut(), cut)),
        }
    }

    /// Whether it must not be called again.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whether it has grown so far that a kept one should be replaced: a guest that leaks must not fail before.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        self.is_finished || self.store.data().memory_bytes() > self.plugin.grants().limits().memory_bytes / 2
    }

    /// Takes what the last call did to the world.
    #[must_use]
    pub fn take_effects(&self) -> Vec<Effect> {
        self.store.data().take_effects()
    }

    /// Takes what is recorded of the last call, where its trace is; and whether there was a call.
    pub fn take_recording(&mut self) -> (Option<Box<Recording>>, bool) {
        self.store.data_mut().take_recording()
    }

    /// Hands over what lies in an inbox as what it is, anything else as a message.
    ///
    /// # Errors
    /// Why it did not succeed; what it staged is dropped.
    pub async fn deliver(&mut self, scope: &Scope<'_>, delivery: &Delivery) -> Result<Staged, Failure> {
        if !scope.queue.starts_with('@') {
            return self.handle(scope, delivery).await;
        }
        if let Some(parts) = Parts::of(&delivery.message) {
            // Its sender was answered when it was stored.
            return self.request(scope, delivery, &parts).await.map(|(staged, _)| staged);
        }
        let Some(tick) = message::Tick::of(&delivery.message) else {
            return Err(Failure::Reject {
                reason: "it lies in an inbox, and is neither a tick nor a request".to_owned(),
            });
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
        begin(
            &mut self.is_finished,
            &self.meter,
            &mut self.store,
            scope,
            &[cause(self.plugin.grants().tracer(), delivery)],
            false,
        );
        let guest = bound!(self, consumer);
        let headers = borrowed(&delivery.message.headers);
        let answering = guest.call_handle(&mut self.store, message(scope, delivery, &headers));
        let answered = self.meter.run(self.plugin.engine().ticking(), answering).await;
        self.end_one(answered)
    }

    /// Hands over many messages at once. One that is larger than the connector takes is rejected without a call.
    ///
    /// # Errors
    /// Why the whole call did not succeed; what it staged is dropped.
    pub async fn handle_batch(&mut self, scope: &Scope<'_>, deliveries: &[Delivery]) -> Result<BatchResult, Failure> {
        let refusals: Vec<_> = deliveries.iter().map(|delivery| self.admit(&delivery.message).err()).collect();
        let admitted: Vec<_> =
            deliveries.iter().zip(&refusals).filter(|(_, refusal)| refusal.is_none()).map(|(it, _)| it).collect();
        let mut batch = if admitted.is_empty() {
            BatchResult { results: Vec::new(), staged: Staged::default(), rerun_succeeded: false }
        } else {
            self.handle_admitted(scope, &admitted).await?
        };
        let mut answers = std::mem::take(&mut batch.results).into_iter();
        // As many answers as were admitted: the call has checked that.
        batch.results = refusals.into_iter().map_while(|it| it.map(Err).or_else(|| answers.next())).collect();
        Ok(batch)
    }

    async fn handle_admitted(&mut self, scope: &Scope<'_>, deliveries: &[&Delivery]) -> Result<BatchResult, Failure> {
        let tracer = self.plugin.grants().tracer();
        let causes: Vec<_> = deliveries.iter().map(|delivery| cause(tracer, delivery)).collect();
        begin(&mut self.is_finished, &self.meter, &mut self.store, scope, &causes, true);
        let guest = bound!(self, batch_consumer);
        let headers: Vec<_> = deliveries.iter().map(|delivery| borrowed(&delivery.message.headers)).collect();
        let messages: Vec<_> =
            deliveries.iter().zip(&headers).map(|(delivery, headers)| message(scope, delivery, headers)).collect();
        let answering = guest.call_handle(&mut self.store, &messages);
        let answered = self.meter.run(self.plugin.engine().ticking(), answering).await;
        let (answers, ended) = self.end(answered)?;
        if answers.len() != deliveries.len() {
            self.is_finished = true;
            let (got, expected) = (answers.len(), deliveries.len());
            return Err(Failure::trap(&format!("the plugin answered {got} results for {expected} messages"), ""));
        }
        Ok(self.end_batch(answers, ended))
    }

    async fn tick(&mut self, scope: &Scope<'_>, delivery: &Delivery, tick: &message::Tick) -> Result<Staged, Failure> {
        begin(
            &mut self.is_finished,
            &self.meter,
            &mut self.store,
            scope,
            &[cause(self.plugin.grants().tracer(), delivery)],
            false,
        );
        let guest = bound!(self, scheduled);
        let tick = scheduled::Tick {
            schedule: &tick.schedule,
            planned_at_ms: tick.planned_at_ms,
            attempt: delivery.attempt,
            input: tick.input.as_deref(),
            previous_ms: scope.previous_ms,
        };
        let answering = guest.call_run(&mut self.store, tick);
        let answered = self.meter.run(self.plugin.engine().ticking(), answering).await;
        self.end_one(answered)
    }

    /// Hands over a request whose sender waits for the answer.
    ///
    /// # Errors
    /// Why it did not succeed; what it staged is dropped.
    pub async fn receive(&mut self, scope: &Scope<'_>, delivery: &Delivery) -> Result<(Staged, Answer), Failure> {
        let Some(parts) = Parts::of(&delivery.message) else {
            return Err(Failure::Reject { reason: "it is no request".to_owned() });
        };
        self.request(scope, delivery, &parts).await
    }

    async fn request(
        &mut self,
        scope: &Scope<'_>,
        delivery: &Delivery,
        parts: &Parts<'_>,
    ) -> Result<(Staged, Answer), Failure> {
        begin(
            &mut self.is_finished,
            &self.meter,
            &mut self.store,
            scope,
            &[cause(self.plugin.grants().tracer(), delivery)],
            false,
        );
        let guest = bound!(self, webhook);
        let request = webhook::Request {
            id: &delivery.message.id,
            method: parts.method,
            target: &parts.target,
            remote_address: parts.remote_address,
            parameters: &parts.parameters,
            headers: &parts.headers,
            body: &delivery.message.body,
            verified_by: parts.verified_by,
            received_at_ms: delivery.message.enqueued_at_ms,
            attempt: delivery.attempt,
        };
        let answering = guest.call_receive(&mut self.store, request);
        let answered = self.meter.run(self.plugin.engine().ticking(), answering).await;
        let (answer, ended) = self.end(answered)?;
        let webhook::Response { status, headers, body } = answer.map_err(|failure| {
            self.is_finished = true;
            let session = self.store.data();
            session.note_dropped(&ended);
            Failure::of_plugin(session.veiled(failure), ended.held.as_ref())
        })?;
        if !(200..=599).contains(&status) {
            self.is_finished = true;
            return Err(Failure::trap(&format!("the plugin answered the status {status}: use 200 to 599"), ""));
        }
        Ok((staged(ended), Answer { status, headers, body }))
    }

    /// Asks the plugin about itself; `None` where it does not say.
    ///
    /// # Errors
    /// Why it could not answer.
    pub(super) async fn describe(&mut self) -> Result<Option<Description>, Failure> {
        let Some(indices) = &self.plugin.indices().about else { return Ok(None) };
        let scope = Scope { queue: "", segment: 0, barrier: Barrier::default(), previous_ms: None };
        begin(&mut self.is_finished, &self.meter, &mut self.store, &scope, &[], false);
        let loaded = indices.load(&mut self.store, &self.instance);
        let guest = loaded.map_err(|error| Failure::of_error(self.store.data_mut(), &error))?;
        let answering = guest.call_describe(&mut self.store);
        let answered = self.meter.run(self.plugin.engine().ticking(), answering).await;
        Ok(Some(self.end(answered)?.0))
    }

    /// Whether the types of all its exports fit.
    pub(super) fn check(&mut self) -> wasmtime::Result<()> {
        let Self { plugin, store, instance, .. } = self;
        let exports = plugin.indices();
        exports.consumer.as_ref().map(|it| it.load(&mut *store, instance)).transpose()?;
        exports.batch_consumer.as_ref().map(|it| it.load(&mut *store, instance)).transpose()?;
        exports.scheduled.as_ref().map(|it| it.load(&mut *store, instance)).transpose()?;
        exports.webhook.as_ref().map(|it| it.load(&mut *store, instance)).transpose()?;
        exports.about.as_ref().map(|it| it.load(&mut *store, instance)).transpose()?;
        Ok(())
    }

    /// A message that was accepted under a larger limit cannot be handed over any more.
    fn admit(&self, message: &Message) -> Result<(), Failure> {
        let grants = self.plugin.grants();
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
            Ok(Err(error)) => Err(Failure::of_error(self.store.data_mut(), &error)),
            Err(cut) => Err(Failure::of_cut(self.store.data_mut(), cut)),
        }
    }

    fn end_one(
        &mut self,
        answered: Result<wasmtime::Result<Result<(), types::Failure>>, Cut>,
    ) -> Result<Staged, Failure> {
        let (answer, ended) = self.end(answered)?;
        match answer {
            Ok(()) => Ok(staged(ended)),
            Err(failure) => {
                self.is_finished = true;
                let session = self.store.data();
                session.note_dropped(&ended);
                Err(Failure::of_plugin(session.veiled(failure), ended.held.as_ref()))
            }
        }
    }

    fn end_batch(&mut self, answers: Vec<Result<(), types::Failure>>, mut ended: Ended) -> BatchResult {
        let (held, session) = (ended.held.as_ref(), self.store.data());
        let failed = |failure| Failure::of_plugin(session.veiled(failure), held);
        let results: Vec<_> = answers.into_iter().map(|answer| answer.map_err(failed)).collect();
        if results.iter().all(Result::is_ok) {
            return BatchResult { results, staged: staged(ended), rerun_succeeded: false };
        }
        self.is_finished = true;
        let is_shared = !ended.state.writes.is_empty() || ended.causes.iter().any(Option::is_none);
        let staged = if is_shared {
            Staged { unsafe_sent: ended.unsafe_sent, ..Staged::default() }
        } else {
            let mut causes = ended.causes.iter().flatten();
            ended.publishes.retain(|_| causes.next().is_some_and(|cause| results[*cause].is_ok()));
            staged(ended)
        };
        BatchResult { results, staged, rerun_succeeded: is_shared }
    }
}

/// Every bound that is the store's own.
#[expect(clippy::disallowed_methods, reason = "this is where it is set once: from then on only the callback moves it")]
fn restrict(store: &mut Store<Session>, meter: &Arc<Meter>) {
    let limits = store.data().grants().limits();
    let handles = limits.handles as usize;
    store.set_hostcall_fuel(usize::try_from(limits.hostcall_bytes).unwrap_or(usize::MAX));
    // Beside the resource table, whose bound is `handles` itself, each handle is counted by the component's own tables.
    store.set_max_component_handles(handles.saturating_mul(2));
    store.limiter(|session| session.memory());
    store.set_epoch_deadline(1);
    let meter = meter.clone();
    store.epoch_deadline_callback(move |_| match meter.check() {
        Some(limit) => Err(OverLimit { limit, what: INTERRUPTED, is_fixed: false }.into()),
        None => Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))),
    });
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

fn cause<'a>(tracer: &Tracer, delivery: &'a Delivery) -> Cause<'a> {
    let message = &delivery.message;
    let Message { id, hops, headers, body, .. } = message;
    let trace = tracer.of_message(id, message.parent.as_deref(), headers);
    let state = trace.and_then(|_| trace::state_of(headers));
    Cause { id, hops: *hops, attempt: delivery.attempt, trace, state, headers, body }
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

fn staged(ended: Ended) -> Staged {
    let Ended { publishes, causes: _, reservation, state, unsafe_sent, held: _ } = ended;
    Staged { publishes, reservation, state, unsafe_sent, tick_done: None }
}
