//! How a request that was sent is counted and told: metric, history, and a span where its trace is recorded.
//!
//! Invariant: whatever way a request ends, also by being dropped, it is counted once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use http::StatusCode;

use super::exchange::Admitted;
use super::{Grant, Traced};
use crate::capability::recorder::Begun;
use crate::capability::trace;
use crate::telemetry::otlp::Tracer;
use crate::telemetry::otlp::span::Span;

/// Counts a request when it is over: with its status if it was answered in full, else as an error.
pub(super) struct Meter {
    pub(super) grant: Arc<Grant>,
    entry: usize,
    started: Instant,
    pub(super) outcome: Outcome,
    begun: Begun,
    span: Option<(Tracer, Span)>,
}

/// How a request ended.
pub(super) enum Outcome {
    /// Not a request: nothing was sent.
    Nothing,
    /// A word says how.
    Failed(&'static str),
    Answered(StatusCode),
}

/// The trace of a request that is recorded.
pub(super) struct Recorded {
    pub(super) traced: Traced,
    /// Whether the plugin has named a trace itself, which the request keeps.
    pub(super) names_one: bool,
    /// How often it was sent.
    pub(super) sent: AtomicU32,
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some((tracer, span)) = self.span.take() {
            tracer.send(vec![ended(span, &self.outcome)]);
        }
        let status = match &self.outcome {
            Outcome::Nothing => return,
            Outcome::Failed(_) => "error",
            Outcome::Answered(status) => status.as_str(),
        };
        let (grant, pattern) = (&self.grant, &self.grant.entries[self.entry].settings.pattern);
        let took = self.started.elapsed();
        let answered = if let Outcome::Answered(status) = &self.outcome { Some(status.as_u16()) } else { None };
        self.begun.end(answered, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        let seconds = took.as_secs_f64();
        grant.services.metrics.http_request(&grant.connector, pattern.as_str(), status, seconds);
    }
}

impl Meter {
    pub(super) fn start(request: &Admitted, span: Option<Span>) -> Self {
        let begun = request.recorder.begin(request.method.as_str(), &request.target.display());
        let (grant, entry) = (request.grant.clone(), request.entry);
        let span = request.traced.as_ref().zip(span).map(|(it, span)| (it.traced.tracer.clone(), span));
        Self { grant, entry, started: Instant::now(), outcome: Outcome::Failed("interrupted"), begun, span }
    }
}

/// The span of a request that is over.
fn ended(mut span: Span, outcome: &Outcome) -> Span {
    match outcome {
        Outcome::Nothing => span.fail("address", ""),
        Outcome::Failed(how) => span.fail(*how, ""),
        Outcome::Answered(status) => {
            span.set("http.response.status_code", status.as_u16());
            if status.is_client_error() || status.is_server_error() {
                span.fail(status.as_str().to_owned(), "");
            }
        }
    }
    span.end_now();
    span
}

impl Admitted {
    /// What is told of the request that is about to be sent, where it is recorded.
    pub(super) fn span(&self) -> Option<Span> {
        let Recorded { traced, sent, .. } = self.traced.as_ref()?;
        let resent = sent.fetch_add(1, Ordering::Relaxed);
        let host = self.recorder.veil().hide(self.target.host_text());
        Some(trace::requested(traced, &self.grant.connector, &self.method, (&self.target, &host, self.entry()), resent))
    }
}
