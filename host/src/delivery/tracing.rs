//! What is told of deliveries and attempts to whoever collects traces.
//!
//! A delivery is one step from when its message was accepted until it is settled, however many attempts that takes; each
//! attempt is a step of its own after it. Invariant: what a settlement decides is told when it is on disk; an attempt whose
//! settlement came to nothing is told as that.

use super::history::Record;
use crate::id::Name;
use crate::message::Tick;
use crate::message::trace::{self, Trace};
use crate::runtime::BatchResult;
use crate::runtime::failure::Failure;
use crate::settlement::{Delivery, Outcome};
use crate::telemetry::otlp::span::{Kind, Span, of_millis};
use crate::telemetry::otlp::{self, Recording, Tracer};

/// Tells of one connector's deliveries.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Where spans go.
    pub tracer: Tracer,
    /// Whose they are.
    pub connector: Name,
}

/// What there is to tell of one attempt, and of the delivery where it ended that.
#[derive(Debug)]
pub struct Told {
    /// Where among the deliveries of its segment it stands.
    pub(super) place: usize,
    trace: Trace,
    tracer: Tracer,
    /// None where it was made for several deliveries, and told at its end.
    attempt: Option<Span>,
    publishes: Vec<Span>,
    delivery: Option<Span>,
}

/// Where a delivery comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source<'a> {
    /// Its message lay in this queue.
    Queue(&'a str),
    /// Its sender waits, and was to lie in this one.
    Request(&'a str),
}

/// The steps of a delivery in the trace of its message.
struct Steps {
    /// That of its message.
    trace: Trace,
    /// Its own.
    delivery: Trace,
    /// The one before it, if there is one.
    before: Option<Trace>,
}

impl Tracing {
    /// An attempt that has come to `outcome`; `kind` is that of its failure, if it was one.
    pub(super) fn ended(
        &self,
        source: Source<'_>,
        delivery: &Delivery,
        record: &mut Record,
        kind: Option<&'static str>,
        outcome: &Outcome,
    ) -> Option<Told> {
        if record.is_unrecorded() {
            return None;
        }
        let steps = self.steps(source, delivery)?;
        let mut publishes = Vec::new();
        let attempt = if record.call.is_some() {
            None
        } else {
            let recording = record.recording.take();
            let mut recording = recording.unwrap_or_else(|| Box::new(not_called(&steps, record.started_ms)));
            publishes = recording.take_publishes(|_| *outcome == Outcome::Done);
            let Recording { attempt: mut span, .. } = *recording;
            self.say(&mut span);
            span.set("bulkhead.attempt", delivery.attempt);
            say_writes(&mut span, record.keys);
            say_outcome(&mut span, kind, outcome);
            span.end_now();
            Some(span)
        };
        let is_end = !matches!(outcome, Outcome::Retry { .. });
        let span = is_end.then(|| {
            let mut span = self.delivery(&steps, source, delivery, outcome);
            attempt.iter().for_each(|attempt| span.start = span.start.min(attempt.start));
            record.call.into_iter().for_each(|call| span.link(call));
            span
        });
        let (trace, tracer) = (steps.trace, self.tracer.clone());
        Some(Told { place: 0, trace, tracer, attempt, publishes, delivery: span })
    }

    /// A request that failed: there is no other attempt.
    pub(super) fn unanswered(&self, inbox: &str, delivery: &Delivery, record: &mut Record, failure: &Failure) {
        let outcome = Outcome::Dead { reason: failure.reason().to_owned() };
        let told = self.ended(Source::Request(inbox), delivery, record, Some(failure.kind()), &outcome);
        told.into_iter().for_each(Told::committed);
    }

    /// A delivery that ended without an attempt.
    pub(super) fn unrun(&self, queue: &str, delivery: &Delivery, outcome: &Outcome) -> Option<Told> {
        let steps = self.steps(Source::Queue(queue), delivery)?;
        let span = self.delivery(&steps, Source::Queue(queue), delivery, outcome);
        let (trace, tracer) = (steps.trace, self.tracer.clone());
        Some(Told { place: 0, trace, tracer, attempt: None, publishes: Vec::new(), delivery: Some(span) })
    }

    /// A call for several deliveries has ended.
    pub(super) fn called(&self, record: &mut Record, result: &Result<BatchResult, Failure>) {
        let Some(mut recording) = record.recording.take_if(|recording| recording.is_batch) else { return };
        // What commits of it: what no message alone was the cause of does so when all of them succeed.
        let is_kept = |cause: Option<usize>| match result {
            Ok(batch) if batch.results.iter().all(Result::is_ok) => true,
            Ok(batch) if !batch.rerun_succeeded => cause.is_some_and(|cause| batch.results[cause].is_ok()),
            Ok(_) | Err(_) => false,
        };
        let publishes = recording.take_publishes(is_kept);
        let Recording { attempt: mut span, .. } = *recording;
        self.say(&mut span);
        match result {
            Ok(batch) => {
                let failed = batch.results.iter().filter(|result| result.is_err()).count();
                span.set("messaging.batch.message_count", batch.results.len());
                say_writes(&mut span, batch.staged.state.writes.len());
                span.set(OUTCOME, if failed == 0 { "done" } else { "partly" });
            }
            Err(failure) => {
                span.set(OUTCOME, "failed");
                span.fail(failure.kind(), failure.reason());
            }
        }
        span.end_now();
        record.call = Some(span.trace);
        self.tracer.send(publishes.into_iter().chain([span]).collect());
    }

    /// `None` where nothing is recorded.
    fn steps(&self, source: Source<'_>, delivery: &Delivery) -> Option<Steps> {
        if !self.tracer.is_on() {
            return None;
        }
        let message = &delivery.message;
        let trace = self.tracer.of_message(&message.id, message.parent.as_deref(), &message.headers);
        let trace = trace.filter(Trace::is_recorded)?;
        let is_tick = matches!(source, Source::Queue(queue) if queue.starts_with('@'))
            && Tick::of(message).is_some_and(|tick| !tick.by_hand);
        let has_one = is_tick || Trace::of(&message.headers).is_some();
        let delivery = otlp::delivery(trace, self.connector.as_str(), &message.id);
        Some(Steps { trace, delivery, before: has_one.then_some(trace) })
    }

    fn delivery(&self, steps: &Steps, source: Source<'_>, delivery: &Delivery, outcome: &Outcome) -> Span {
        let message = &delivery.message;
        let (queue, kind) = match source {
            Source::Queue(queue) => (queue, Kind::Consumer),
            Source::Request(queue) => (queue, Kind::Internal),
        };
        let before = steps.before.map(|before| before.step());
        let mut span = Span::new(steps.delivery, before, kind, format!("process {queue}"));
        span.start = of_millis(message.enqueued_at_ms).min(span.start);
        span.state = trace::state_of(&message.headers).map(str::to_owned);
        if kind == Kind::Consumer {
            span.set("messaging.system", "bulkhead");
            span.set("messaging.operation.type", "process");
            span.set("messaging.operation.name", "process");
            span.set("messaging.destination.name", queue.to_owned());
            span.set("messaging.consumer.group.name", self.connector.to_string());
            // The step before stands in a queue: conventions want a link to it, too.
            steps.before.into_iter().for_each(|before| span.link(before));
        }
        span.set("messaging.message.id", message.id.clone());
        self.say(&mut span);
        span.set("bulkhead.attempts", delivery.attempt);
        say_outcome(&mut span, None, outcome);
        span
    }

    fn say(&self, span: &mut Span) {
        span.set("bulkhead.connector", self.connector.to_string());
    }
}

impl Told {
    /// The same, of the delivery at this place of its segment.
    pub(super) fn at(self, place: usize) -> Self {
        Self { place, ..self }
    }

    /// The trace's id.
    pub(super) fn trace(&self) -> Trace {
        self.trace
    }

    /// It is on disk.
    pub(super) fn committed(self) {
        let Self { tracer, attempt, publishes, delivery, .. } = self;
        tracer.send(publishes.into_iter().chain(attempt).chain(delivery).collect());
    }

    /// State had changed: the attempt came to nothing, and another one follows.
    pub(super) fn conflicted(self) {
        let Self { tracer, attempt, .. } = self;
        let conflicted = attempt.map(|mut span| {
            span.attributes.retain(|(key, _)| key != OUTCOME);
            span.set(OUTCOME, "conflict");
            span
        });
        tracer.send(conflicted.into_iter().collect());
    }
}

/// Where an outcome stands.
const OUTCOME: &str = "bulkhead.outcome";

/// An attempt whose sandbox did not come to be, or that was not needed.
fn not_called(steps: &Steps, started_ms: u64) -> Recording {
    let mut recording = Recording::of_one(steps.delivery, None);
    recording.attempt.start = of_millis(started_ms).min(recording.attempt.start);
    recording
}

fn say_writes(span: &mut Span, keys: usize) {
    if keys > 0 {
        span.set("bulkhead.state.writes", keys);
    }
}

fn say_outcome(span: &mut Span, kind: Option<&'static str>, outcome: &Outcome) {
    let (label, reason) = match outcome {
        Outcome::Done => ("done", None),
        Outcome::Expired => ("expired", None),
        Outcome::Superseded => ("cancelled", None),
        Outcome::Retry { charged: true, reason, .. } => ("retry", Some(reason)),
        Outcome::Retry { charged: false, reason, .. } => ("held", Some(reason)),
        Outcome::Dead { reason } => ("dead", Some(reason)),
    };
    span.set(OUTCOME, label);
    if let Some(reason) = reason {
        span.fail(kind.unwrap_or(label), reason);
    }
}
