//! What a plugin says: `wasi:logging` and its standard output and error, as log lines with its connector's name.
//!
//! Bounded by `limits.log` for each call; what is more is dropped and counted. The end of standard error is kept, since a
//! trap carries no text of its own. Invariant: control characters are escaped, so that a plugin cannot forge a line or
//! steer a terminal.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi_io::poll::Pollable;
use wasmtime_wasi_io::streams::{OutputStream, StreamResult};

use super::Grants;
use super::veil::Veil;
use crate::bindings::logging_draft::wasi::logging::logging::{self, Level};
use crate::id::Name;
use crate::message::trace::Trace;

/// Bytes of one line; a longer one is cut into several.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Bytes of standard error that are kept for the reason of a trap.
const TAIL_BYTES_MAX: usize = 2 * 1024;
/// What a guest may write at once.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// The log of one sandbox. Shared with the streams that the guest holds.
#[derive(Debug)]
pub(super) struct Session(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    connector: Name,
    veil: Veil,
    delivery: String,
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

impl Session {
    pub(super) fn new(grants: &Grants, veil: Veil) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            connector: grants.subject.name.clone(),
            veil,
            delivery: String::new(),
            trace: None,
            bytes_left: grants.limits.log_bytes,
            bytes_dropped: 0,
            out: Vec::new(),
            error: Vec::new(),
            tail: Vec::new(),
        })))
    }

    pub(super) fn begin_call(&self, delivery: &str, trace: Option<Trace>, bytes_max: u64) {
        let mut lines = lock(&self.0);
        lines.delivery.clear();
        lines.delivery.push_str(delivery);
        lines.trace = trace;
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
        lines.veil.hide(&String::from_utf8_lossy(&lines.tail)).into_owned()
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

    fn print(&self, level: Level, context: &str, text: &str) {
        let (connector, delivery) = (&self.connector, self.delivery.as_str());
        let (context, text) = (escaped(&self.veil.hide(context)), escaped(&self.veil.hide(text)));
        let trace_id = self.trace.as_ref().map(Trace::id);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(target: "bulkhead::plugin", %connector, delivery, trace_id, context, "{text}")
            };
        }
        match level {
            Level::Trace => line!(trace),
            Level::Debug => line!(debug),
            Level::Info => line!(info),
            Level::Warn => line!(warn),
            Level::Error | Level::Critical => line!(error),
        }
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
