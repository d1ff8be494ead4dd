//! One request to a webhook, as it is told to whoever collects traces.
//!
//! Whether its sender's word counts that the trace is recorded is known when the sender is: who is not let in is recorded
//! by chance alone, and who is may ask for so many a second. Invariant: nothing of what a sender writes is in the span but
//! the trace's id and state.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};

use super::Hook;
use crate::capability::rate::{Bucket, Rate};
use crate::capability::trace::{name_of, say_published};
use crate::id::Name;
use crate::message::trace::{TRACEPARENT, TRACESTATE, Trace, state_of};
use crate::message::{HEADERS_MAX, Header};
use crate::telemetry::otlp::Tracer;
use crate::telemetry::otlp::span::{self, Kind, Nanos, Span};

/// Traces a second that the senders of one webhook may have recorded: enough to look for something, too few to fill the
/// queue of spans, so that others' are lost.
const ASKED_A_SECOND: NonZeroU32 = NonZeroU32::new(10).expect("not zero");

/// One request.
pub(super) struct Visit {
    tracer: Tracer,
    of_sender: Option<Trace>,
    state: Option<String>,
    /// The step that it is, once its sender is known.
    step: Option<Trace>,
    began: Nanos,
}

/// What senders may still ask to be recorded.
pub(super) fn asked() -> Bucket {
    Bucket::new(Rate::new(ASKED_A_SECOND, Duration::from_secs(1)))
}

impl Visit {
    /// A request has come; `None` where traces go nowhere.
    pub(super) fn begin(hook: &Hook, headers: &HeaderMap) -> Option<Self> {
        if !hook.tracer.is_on() {
            return None;
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let of_sender = text(TRACEPARENT).and_then(Trace::parse);
        let state = of_sender.and_then(|_| text(TRACESTATE)).map(|state| [(TRACESTATE.to_owned(), state.to_owned())]);
        let state = state.as_ref().and_then(|header| state_of(header)).map(str::to_owned);
        Some(Self { tracer: hook.tracer.clone(), of_sender, state, step: None, began: span::now() })
    }

    /// Its sender is known.
    pub(super) fn admit(&mut self, asked: &Bucket) {
        let now = Instant::now();
        self.step = self.decide(|| asked.take(now, now).is_ok());
    }

    fn decide(&self, may_ask: impl FnOnce() -> bool) -> Option<Trace> {
        let trace = self.tracer.enter(self.of_sender, may_ask)?;
        Some(if trace.is_recorded() { trace.next() } else { trace })
    }

    /// Puts the trace into the headers of its message: in a queue that is a step of its own.
    pub(super) fn carry_on(&self, headers: &mut Vec<Header>, in_queue: Option<&str>) {
        let Some(step) = self.step else { return };
        headers.retain(|(name, _)| name != TRACEPARENT);
        let step = in_queue.map_or(step, |message_id| published_as(step, message_id));
        if headers.len() < HEADERS_MAX {
            headers.push((TRACEPARENT.to_owned(), step.header()));
        }
    }

    /// Its message is on disk, in this queue.
    pub(super) fn stored(&self, connector: &Name, queue: &str, message_id: &str) {
        let Some(step) = self.step.filter(Trace::is_recorded) else { return };
        let trace = published_as(step, message_id);
        let mut span = Span::new(trace, Some(step.step()), Kind::Producer, format!("publish {queue}"));
        span.state.clone_from(&self.state);
        say_published(&mut span, connector, queue, message_id);
        self.tracer.send(vec![span]);
    }

    /// It was answered.
    pub(super) fn end(self, hook: &Hook, method: &Method, status: u16) {
        let Some(step) = self.step.or_else(|| self.decide(|| false)).filter(Trace::is_recorded) else { return };
        let (name, method) = name_of(method.as_str());
        let route = hook.settings.path.to_string();
        let before = self.of_sender.map(|of_sender| of_sender.step());
        let mut span = Span::new(step, before, Kind::Server, format!("{name} {route}"));
        (span.start, span.state, span.is_parent_remote) = (self.began.min(span.end), self.state, before.is_some());
        span.set("http.request.method", method);
        span.set("http.route", route);
        span.set("http.response.status_code", status);
        span.set("bulkhead.connector", hook.connector.to_string());
        if status >= 500 {
            span.fail(status.to_string(), "");
        }
        self.tracer.send(vec![span]);
    }
}

fn published_as(step: Trace, message_id: &str) -> Trace {
    if step.is_recorded() { step.at(&[message_id]) } else { step }
}
