//! What a plugin says: `wasi:logging` and its standard output and error, as log lines with its connector's name.
//!
//! Bounded by `limits.log` for each call and by `limits.log_rate` for the connector; what is more is dropped and counted.
//! The end of standard error is kept, since a trap carries no text of its own. Invariant: control characters are escaped,
//! so that a plugin cannot forge a line or steer a terminal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{OutputStream, StreamResult};

use super::Call;
use super::rate::Bucket;
use super::veil::Veil;
use crate::bindings::logging_draft::wasi::logging::logging::{self, Level};
use crate::clock;
use crate::feed::{Feed, Said};
use crate::id::Name;
use crate::limit::Rate;
use crate::message::trace::Trace;

/// Bytes of one line; a longer one is cut into several.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of standard error that are kept for the reason of a trap.
const TAIL_BYTES_MAX: usize = 2 * 1024;
/// What a guest may write at once.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// What all sandboxes of a connector share.
#[derive(Debug)]
pub(super) struct Grant {
    connector: Name,
    rate: Bucket,
    /// Lines over the rate that nobody was told of yet.
    dropped: AtomicU64,
    feed: Feed,
}

/// The log of one sandbox. Shared with the streams that the guest holds.
#[derive(Debug)]
pub(super) struct Session(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    grant: Arc<Grant>,
    veil: Veil,
    /// The id of the message, and what it came from; empty before the first call.
    delivery: String,
    queue: String,
    /// Counted from 1; 0 before the first call.
    attempt: u32,
    trace: Option<Trace>,
    bytes_left: u64,
    bytes_dropped: u64,
    out: Vec<u8>,
    error: Vec<u8>,
    tail: Vec<u8>,
}

/// Which stream of a guest it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Out,
    Error,
}

/// A guest's standard output or error.
pub(super) struct Stream {
    lines: Arc<Mutex<Lines>>,
    channel: Channel,
}

impl Grant {
    pub(super) fn new(connector: Name, rate: Rate, feed: Feed) -> Self {
        Self { connector, rate: Bucket::new(rate), dropped: AtomicU64::new(0), feed }
    }

    /// Whether a line may be written now; one that may not is counted.
    fn admits(&self) -> bool {
        let now = Instant::now();
        let admits = self.rate.take(now, now).is_ok();
        if !admits {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        admits
    }

    /// Says how many lines were dropped since it was said last, if any were.
    pub(super) fn tell_dropped(&self) -> u64 {
        let lines = self.dropped.swap(0, Ordering::Relaxed);
        if lines > 0 {
            let connector = &self.connector;
            let key = format!("connectors.{connector}.limits.log_rate");
            let text = format!("{lines} log lines were dropped: the plugin logs more than `{key}` allows");
            tracing::warn!(%connector, lines, key, "{text}");
            self.feed.say(connector.as_str(), Said { at_ms: clock::wall_ms(), level: "warn", text, ..Said::default() });
        }
        lines
    }
}

impl Session {
    pub(super) fn new(grant: Arc<Grant>, veil: Veil, bytes_max: u64) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            grant,
            veil,
            delivery: String::new(),
            queue: String::new(),
            attempt: 0,
            trace: None,
            bytes_left: bytes_max,
            bytes_dropped: 0,
            out: Vec::new(),
            error: Vec::new(),
            tail: Vec::new(),
        })))
    }

    pub(super) fn begin_call(&self, call: &Call<'_>, trace: Option<Trace>, bytes_max: u64) {
        let mut lines = lock(&self.0);
        let lines = &mut *lines;
        let (id, attempt) = call.causes.first().map_or(("", 0), |cause| (cause.id, cause.attempt));
        for (own, text) in [(&mut lines.delivery, id), (&mut lines.queue, call.queue)] {
            own.clear();
            own.push_str(text);
        }
        (lines.attempt, lines.trace) = (attempt, trace);
        (lines.bytes_left, lines.bytes_dropped) = (bytes_max, 0);
        lines.tail.clear();
    }

    /// Writes what is left of unfinished lines; answers what to say if anything was dropped.
    pub(super) fn end_call(&self) -> Option<String> {
        let mut lines = lock(&self.0);
        lines.flush(Channel::Out);
        lines.flush(Channel::Error);
        let (delivery, bytes) = (&lines.delivery, lines.bytes_dropped);
        (bytes > 0).then(|| format!("log dropped: over `limits.log` by {bytes} bytes, in delivery {delivery}"))
    }

    pub(super) fn stream(&self, channel: Channel) -> Stream {
        Stream { lines: self.0.clone(), channel }
    }

    /// The end of standard error in this call.
    pub(super) fn stderr_tail(&self) -> String {
        let lines = lock(&self.0);
        // Where it was cut within a character, there is a rest of it.
        let rest = lines.tail.iter().take(3).take_while(|byte| **byte & 0b1100_0000 == 0b1000_0000).count();
        lines.veil.hide(&String::from_utf8_lossy(&lines.tail[rest..])).into_owned()
    }
}

fn lock(lines: &Mutex<Lines>) -> MutexGuard<'_, Lines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    fn buffer(&mut self, channel: Channel) -> &mut Vec<u8> {
        match channel {
            Channel::Out => &mut self.out,
            Channel::Error => &mut self.error,
        }
    }

    fn write(&mut self, channel: Channel, bytes: &[u8]) {
        if channel == Channel::Error {
            self.keep_tail(bytes);
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(LINE_BYTES_MAX) {
                if self.buffer(channel).len() + part.len() > LINE_BYTES_MAX {
                    self.flush(channel);
                }
                if self.admit(part.len()) {
                    self.buffer(channel).extend_from_slice(part);
                }
            }
            if piece.ends_with(b"\n") {
                self.flush(channel);
            }
        }
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..];
        let excess = (self.tail.len() + kept.len()).saturating_sub(TAIL_BYTES_MAX);
        self.tail.drain(..excess);
        self.tail.extend_from_slice(kept);
    }

    fn flush(&mut self, channel: Channel) {
        let buffer = std::mem::take(self.buffer(channel));
        if buffer.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&buffer);
        let text = text.trim_end();
        if !text.is_empty() {
            self.print(if channel == Channel::Error { Level::Warn } else { Level::Info }, "", text);
        }
    }

    fn admit(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if bytes > self.bytes_left {
            self.bytes_left = 0;
            self.bytes_dropped = self.bytes_dropped.saturating_add(bytes);
            return false;
        }
        self.bytes_left -= bytes;
        true
    }

    /// A line over the rate is gone before it costs anything, also where the operator's filter lets none through.
    fn print(&self, level: Level, context: &str, text: &str) {
        if !self.grant.admits() {
            return;
        }
        let (connector, delivery) = (&self.grant.connector, self.delivery.as_str());
        let (context, text) = (escaped(&self.veil.hide(context)), escaped(&self.veil.hide(text)));
        let attempt = (self.attempt > 0).then_some(self.attempt);
        let trace_id = self.trace.as_ref().map(Trace::id);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(target: "bulkhead::plugin", %connector, delivery, attempt, trace_id, context, "{text}")
            };
        }
        match level {
            Level::Trace => line!(trace),
            Level::Debug => line!(debug),
            Level::Info => line!(info),
            Level::Warn => line!(warn),
            Level::Error | Level::Critical => line!(error),
        }
        let text = if context.is_empty() { text } else { format!("{context}: {text}") };
        let delivery = (!delivery.is_empty()).then(|| format!("{connector}:{}:{delivery}", self.queue));
        let trace_id = trace_id.map(str::to_owned);
        let said = Said { at_ms: clock::wall_ms(), level: label(level), delivery, attempt, trace_id, text };
        self.grant.feed.say(connector.as_str(), said);
    }
}

fn label(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error | Level::Critical => "error",
    }
}

/// One line, whatever the text holds.
fn escaped(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\t' {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

pub(super) fn link(linker: &mut Linker<super::Session>) -> wasmtime::Result<()> {
    logging::add_to_linker::<super::Session, HasSelf<super::Session>>(linker, |session| session)
}

impl logging::Host for super::Session {
    fn log(&mut self, level: Level, context: String, message: String) {
        let mut lines = lock(&self.log.0);
        // A line that is filtered away costs its bytes too: a limit must not depend on the operator's filter.
        if lines.admit(context.len() + message.len()) {
            let end = message.floor_char_boundary(LINE_BYTES_MAX);
            lines.print(level, &context[..context.floor_char_boundary(TAIL_BYTES_MAX)], &message[..end]);
        }
    }
}

#[wasmtime_wasi_io::async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        lock(&self.lines).write(self.channel, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}
