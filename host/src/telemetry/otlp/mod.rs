//! Traces for whoever collects them: which are recorded, and how their spans get away (OTLP over HTTP).
//!
//! What a span says is decided where the step is made: the trigger, the delivery, the gate. Here a trace begins, is
//! recorded or not, and its spans are queued for [`Exporter`]. Without `[host.otlp]` a [`Tracer`] is nothing but that: no
//! trace begins, and no span is made. Invariant: whoever hands a span in never waits, and what finds no room is counted.

mod export;
mod recording;
mod sample;
pub mod span;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use url::Url;

pub use export::{Exporter, Means};
pub use recording::{ATTRIBUTES_MAX, EVENT_ATTRIBUTES_MAX, EVENTS_MAX, Recording, Unfit};

use crate::mask::Masks;
use crate::message::Header;
use crate::message::trace::{TRACESTATE, Trace};
use crate::metrics::Metrics;
use sample::Ratio;
use span::Span;

/// Groups of spans that wait for the exporter: some seconds of a busy host, while the collector is slow.
const GROUPS_MAX: usize = 8192;
/// What all of them may take: a plugin's own attributes make spans large.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// `[host.otlp]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where requests go, path included.
    pub url: Url,
    /// The part of the traces that begin here which is recorded, from 0 to 1.
    pub sample: f64,
    /// Headers of each request, in the clear.
    pub headers: Vec<Header>,
    /// What the collector is shown.
    pub auth: Option<Auth>,
    /// What is said about the host beside its name, version and instance.
    pub resource: Vec<(String, String)>,
}

/// What a collector is shown; secrets by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer`.
    Bearer {
        /// The token.
        secret: String,
    },
    /// `Authorization: Basic`.
    Basic {
        /// In the clear.
        user: String,
        /// The password.
        secret: String,
    },
    /// A header.
    Header {
        /// Its name.
        name: String,
        /// Before the value.
        prefix: String,
        /// The value.
        secret: String,
    },
}

impl Auth {
    /// The secret's name.
    #[must_use]
    pub fn secret(&self) -> &str {
        match self {
            Self::Bearer { secret } | Self::Basic { secret, .. } | Self::Header { secret, .. } => secret,
        }
    }
}

/// Says which traces are recorded and takes their spans; nothing at all where traces go nowhere. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    shared: Option<Arc<Shared>>,
    /// Whether the collector is not told what systems say to each other in `tracestate`.
    hides_state: bool,
}

#[derive(Debug)]
struct Shared {
    ratio: Ratio,
    queue: mpsc::Sender<Vec<Span>>,
    queued: Arc<Queued>,
    metrics: Metrics,
}

/// What waits, or is on its way to the collector.
#[derive(Debug, Default)]
struct Queued {
    bytes: AtomicUsize,
}

impl Queued {
    /// Whether there is room for so many bytes more, which is taken then.
    fn take(&self, bytes: usize) -> bool {
        let taken = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            let held = held.checked_add(bytes)?;
            (held <= QUEUE_BYTES_MAX).then_some(held)
        });
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The step of a trace that one connector's delivery of one message is: the same for each attempt at it, whenever that is.
#[must_use]
pub fn delivery(of_message: Trace, connector: &str, message_id: &str) -> Trace {
    of_message.at(&["delivery", connector, message_id])
}

impl Tracer {
    fn new(sample: f64, metrics: Metrics) -> (Self, mpsc::Receiver<Vec<Span>>, Arc<Queued>) {
        let ((queue, taken), queued) = (mpsc::channel(GROUPS_MAX), Arc::<Queued>::default());
        let shared = Shared { ratio: Ratio::new(sample), queue, queued: queued.clone(), metrics };
        (Self { shared: Some(Arc::new(shared)), hides_state: false }, taken, queued)
    }

    /// The same with what is hidden of messages: one of their headers is `tracestate`.
    #[must_use]
    pub fn masked(self, masks: &Masks) -> Self {
        Self { hides_state: masks.hides(TRACESTATE), ..self }
    }

    /// Whether traces go anywhere.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether spans of this trace are made.
    #[must_use]
    pub fn records(&self, trace: Option<&Trace>) -> bool {
        self.is_on() && trace.is_some_and(Trace::is_recorded)
    }

    /// The trace that a message belongs to, if any. Where traces go somewhere and it is to be recorded, one begins with a
    /// message that has none, the same for each of its deliveries. What was made of a message (`parent`) would have the
    /// trace of that: without one, none of it is recorded, unless all is.
    #[must_use]
    pub fn of_message(&self, id: &str, parent: Option<&str>, headers: &[Header]) -> Option<Trace> {
        let known = if headers.is_empty() { None } else { Trace::of(headers) };
        known.or_else(|| {
            let ratio = self.shared.as_ref()?.ratio;
            if parent.is_some() && !ratio.takes_all() {
                return None;
            }
            let trace = Trace::of_message(id);
            ratio.takes(&trace).then(|| trace.recorded(true))
        })
    }

    /// The trace of a request from outside; `None` where traces go nowhere. That its sender does not record it counts.
    /// That the sender does counts as far as `may_ask` says so: beyond that chance decides, for the sender has chosen the
    /// trace's id and could choose it so that it is always taken.
    #[must_use]
    pub fn enter(&self, of_sender: Option<Trace>, may_ask: impl FnOnce() -> bool) -> Option<Trace> {
        let ratio = self.shared.as_ref()?.ratio;
        let begun = Trace::begin();
        Some(match of_sender {
            None => begun.recorded(ratio.takes(&begun)),
            Some(trace) if !trace.is_recorded() || may_ask() => trace,
            Some(trace) => trace.recorded(ratio.takes(&begun)),
        })
    }

    /// Hands spans in. Never waits: what finds no room is dropped and counted.
    pub fn send(&self, mut spans: Vec<Span>) {
        if self.hides_state {
            spans.iter_mut().for_each(|span| span.state = None);
        }
        let Some(shared) = self.shared.as_ref().filter(|_| !spans.is_empty()) else { return };
        let (count, bytes) = (spans.len(), spans.iter().map(Span::size_bytes).sum());
        if !shared.queued.take(bytes) {
            return shared.metrics.spans_dropped("queue", count);
        }
        if let Err(refused) = shared.queue.try_send(spans) {
            shared.queued.give_back(bytes);
            let reason = if matches!(refused, mpsc::error::TrySendError::Full(_)) { "queue" } else { "stopped" };
            shared.metrics.spans_dropped(reason, count);
        }
    }
}
