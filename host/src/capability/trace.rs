//! Traces at the gate: which calls are recorded, what their publishes and requests look like, what a plugin adds itself.
//!
//! Where spans go is [`crate::telemetry::otlp`]'s. A plugin's attributes are bounded in [`Recording`]; here a refusal is
//! counted and becomes a line in the log. Invariant: a span says to whom, not what: no path, query, header or body.

use http::Method;

use super::http::{GrantSettings, Target, Traced};
use super::veil::Veil;
use super::{Call, Grants, Session};
use crate::bindings::bulkhead::connector::trace::{Attribute, Host, Value};
use crate::id::Name;
use crate::message::Draft;
use crate::message::trace::{self, Trace};
use crate::metrics::Effect;
use crate::telemetry::otlp::span::{self, Kind, Span};
use crate::telemetry::otlp::{self, EVENT_ATTRIBUTES_MAX, Recording, Unfit};

/// Methods that conventions know: any other could be any text of a plugin's.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
/// What a span of another method is called, and what is said of it.
const OTHER: (&str, &str) = ("HTTP", "_OTHER");

/// What is recorded of a call, where one of its traces is.
pub(super) fn record(grants: &Grants, call: &Call<'_>) -> Option<Box<Recording>> {
    if !grants.services.tracer.is_on() {
        return None;
    }
    let connector = grants.subject.name.as_str();
    let recorded = call.causes.iter().filter_map(|cause| Some((cause, cause.trace.filter(Trace::is_recorded)?)));
    let mut deliveries = recorded.map(|(cause, trace)| (otlp::delivery(trace, connector, cause.id), cause.state));
    let recording = if call.causes.len() == 1 {
        deliveries.next().map(|(delivery, state)| Recording::of_one(delivery, state))
    } else {
        let mut deliveries = deliveries.map(|(delivery, _)| delivery).peekable();
        deliveries.peek().is_some().then(|| Recording::of_many(deliveries))
    };
    recording.map(Box::new)
}

/// The trace of a call, for its log, and what its requests carry. The messages of a batch may belong to several, which is
/// none unless the batch is recorded.
pub(super) fn of_call(
    grants: &Grants,
    call: &Call<'_>,
    recording: Option<&Recording>,
) -> (Option<Trace>, Option<Traced>) {
    let alone = if let [cause] = call.causes { Some(cause) } else { None };
    let trace = recording.map(|recording| recording.attempt.trace).or_else(|| alone?.trace);
    let tracer = recording.map_or_else(otlp::Tracer::default, |_| grants.services.tracer.clone());
    let state = alone.and_then(|cause| cause.state).map(str::to_owned);
    (trace, trace.map(|trace| Traced { trace, state, tracer }))
}

/// A message that a connector has published after the step `before`.
pub(super) fn published(before: Trace, connector: &Name, queue: &str, draft: &Draft) -> Span {
    let named = Trace::of(&draft.headers);
    let own = named.filter(|named| named.is_same(&before));
    let mut span = Span::new(
        own.unwrap_or_else(|| before.next()),
        Some(before.step()),
        Kind::Producer,
        format!("publish {queue}"),
    );
    span.state = trace::state_of(&draft.headers).map(str::to_owned);
    say_published(&mut span, connector, queue, &draft.id);
    // The draft belongs to another trace, which the plugin has named.
    named.filter(|named| !named.is_same(&before)).into_iter().for_each(|named| span.link(named));
    span
}

/// What there is to say about a message that enters a queue.
pub fn say_published(span: &mut Span, connector: &Name, queue: &str, message_id: &str) {
    span.set("bulkhead.connector", connector.to_string());
    span.set("messaging.system", "bulkhead");
    span.set("messaging.operation.type", "send");
    span.set("messaging.operation.name", "publish");
    span.set("messaging.destination.name", queue.to_owned());
    span.set("messaging.message.id", message_id.to_owned());
}

/// A request that a connector is about to send; `resent` counts those before it that it repeats.
pub(super) fn requested(
    trace: &Traced,
    connector: &Name,
    method: &Method,
    to: (&Target, &str, &GrantSettings),
    resent: u32,
) -> Span {
    let (target, host, settings) = to;
    let (name, method) = name_of(method.as_str());
    let mut span = Span::new(trace.trace.next(), Some(trace.trace.step()), Kind::Client, name);
    span.state.clone_from(&trace.state);
    span.set("bulkhead.connector", connector.to_string());
    span.set("http.request.method", method);
    span.set("server.address", host.to_owned());
    span.set("server.port", target.port());
    span.set("url.scheme", target.scheme().as_str());
    span.set("bulkhead.http.grant", settings.pattern.as_str().to_owned());
    if resent > 0 {
        span.set("http.request.resend_count", resent);
    }
    span
}

/// The name of a request's span, and its method as it is said there.
#[must_use]
pub fn name_of(method: &str) -> (&'static str, &'static str) {
    METHODS.into_iter().find(|name| *name == method).map_or(OTHER, |name| (name, name))
}

impl Session {
    fn note_unfit(&self, added: Result<(), Unfit>) {
        let (reason, text) = match added {
            Ok(()) => return,
            Err(Unfit::Limit) => (
                "too_many",
                "what the plugin adds to its trace is left out: an attempt has 32 attributes and 32 events, in 16 KiB together, and an event has 8 attributes",
            ),
            Err(Unfit::Invalid) => (
                "invalid",
                "what the plugin adds to its trace is left out: a name is of letters, digits, `.`, `_` and `-`, up to 128 bytes, and does not begin with `bulkhead.` or `messaging.`",
            ),
        };
        self.refuse(Effect::Trace, reason, "", text);
    }
}

impl Host for Session {
    fn set_attribute(&mut self, key: String, value: Value) {
        let Some(recording) = &mut self.recording.0 else { return };
        let (key, value) = own(&self.veil, (key, value));
        let added = recording.set_attribute(key, value);
        self.note_unfit(added);
    }

    fn add_event(&mut self, name: String, attributes: Vec<Attribute>) {
        let Some(recording) = &mut self.recording.0 else { return };
        // One too many is refused as more are.
        let few = attributes.into_iter().take(EVENT_ATTRIBUTES_MAX + 1);
        let attributes = few.map(|attribute| own(&self.veil, attribute)).collect();
        let added = recording.add_event(&self.veil.hide(&name), attributes);
        self.note_unfit(added);
    }
}

/// What a plugin says, without what of its messages is shown nowhere.
fn own(veil: &Veil, (key, value): Attribute) -> (String, span::Value) {
    let value = match value {
        Value::Text(text) => veil.hide(&text).into_owned().into(),
        Value::Integer(number) => number.into(),
        Value::Number(number) => span::Value::Number(number),
        Value::Boolean(is) => span::Value::Boolean(is),
    };
    (veil.hide(&key).into_owned(), value)
}
