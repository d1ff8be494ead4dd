//! Spans as OTLP has them on the wire: the protobuf message `ExportTraceServiceRequest`.
//!
//! Nine messages of one schema that does not change any more (`opentelemetry/proto`, 1.x), written by hand: the crates
//! that generate them bring forty others. Numbers beside the calls are the schema's field numbers. Invariant: a field with
//! its default value is left out, as protobuf 3 does.

use super::span::{Attribute, Event, Span, Value};
use crate::message::trace::Trace;

/// Who says so.
const SCOPE: &str = "bulkhead";
/// The conventions that names follow.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";
/// Wire types of protobuf.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;
/// Beside the flags of a trace: it is known whether the step before was another system's, and it was.
const KNOWS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

/// One request with these spans.
#[must_use]
pub(super) fn request(resource: &[Attribute], spans: &[Span]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |it| attributes(it, 1, resource));
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.text(1, SCOPE);
                scope.text(2, env!("CARGO_PKG_VERSION"));
            });
            spans.iter().for_each(|it| scope_spans.message(2, |message| span(message, it)));
        });
        resource_spans.text(3, SCHEMA_URL);
    });
    request.0
}

/// Of an answer (`ExportTraceServiceResponse`): how many spans the collector did not take, and its word why.
#[must_use]
pub(super) fn rejected(mut answer: &[u8]) -> (u64, String) {
    let (mut count, mut why) = (0, String::new());
    while let Some((1, BYTES, partial)) = field(&mut answer) {
        let Field::Bytes(mut partial) = partial else { break };
        while let Some((number, _, value)) = field(&mut partial) {
            match (number, value) {
                (1, Field::Number(rejected)) => count = rejected,
                (2, Field::Bytes(text)) => why = String::from_utf8_lossy(text).into_owned(),
                _ => {}
            }
        }
    }
    (count, why)
}

fn span(message: &mut Message, span: &Span) {
    message.bytes(1, &span.trace.bytes());
    message.bytes(2, &span.trace.step().to_be_bytes());
    message.text(3, span.state.as_deref().unwrap_or_default());
    if let Some(parent) = span.parent {
        message.bytes(4, &parent.to_be_bytes());
    }
    message.text(5, &span.name);
    message.number(6, span.kind as u64);
    message.fixed_64(7, span.start);
    message.fixed_64(8, span.end);
    attributes(message, 9, &span.attributes);
    message.number(10, span.attributes_dropped.into());
    span.events.iter().for_each(|it| message.message(11, |message| event(message, it)));
    message.number(12, span.events_dropped.into());
    span.links.iter().for_each(|it| message.message(13, |message| link(message, it)));
    message.number(14, span.links_dropped.into());
    if let Some(text) = &span.error {
        message.message(15, |status| {
            status.text(2, text);
            status.number(3, ERROR);
        });
    }
    let remote = if span.is_parent_remote { IS_REMOTE } else { 0 };
    message.fixed_32(16, flags(&span.trace) | KNOWS_REMOTE | remote);
}

fn event(message: &mut Message, event: &Event) {
    message.fixed_64(1, event.at);
    message.text(2, &event.name);
    attributes(message, 3, &event.attributes);
}

fn link(message: &mut Message, to: &Trace) {
    message.bytes(1, &to.bytes());
    message.bytes(2, &to.step().to_be_bytes());
    message.fixed_32(6, flags(to));
}

fn flags(trace: &Trace) -> u32 {
    u32::from(trace.is_recorded())
}

fn attributes(message: &mut Message, number: u64, all: &[Attribute]) {
    for (key, value) in all {
        message.message(number, |pair| {
            pair.text(1, key);
            // One of several: here a default value is written, too.
            pair.message(2, |any| match value {
                Value::Text(text) => any.bytes(1, text.as_bytes()),
                Value::Boolean(is) => any.varint_field(2, u64::from(*is)),
                Value::Integer(number) => any.varint_field(3, number.cast_unsigned()),
                Value::Number(number) => any.fixed_64_field(4, number.to_bits()),
            });
        });
    }
}

/// A message as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    fn tag(&mut self, number: u64, wire_type: u64) {
        self.varint(number << 3 | wire_type);
    }

    fn varint_field(&mut self, number: u64, value: u64) {
        self.tag(number, VARINT);
        self.varint(value);
    }

    fn fixed_64_field(&mut self, number: u64, value: u64) {
        self.tag(number, FIXED_64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn number(&mut self, number: u64, value: u64) {
        if value != 0 {
            self.varint_field(number, value);
        }
    }

    fn fixed_64(&mut self, number: u64, value: u64) {
        if value != 0 {
            self.fixed_64_field(number, value);
        }
    }

    fn fixed_32(&mut self, number: u64, value: u32) {
        if value != 0 {
            self.tag(number, FIXED_32);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn bytes(&mut self, number: u64, bytes: &[u8]) {
        self.tag(number, BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, number: u64, text: &str) {
        if !text.is_empty() {
            self.bytes(number, text.as_bytes());
        }
    }

    /// A message in this one. Its length stands before it and is known after it: there is room for one byte of it, which
    /// is enough for most, and what is behind moves for more.
    fn message(&mut self, number: u64, write: impl FnOnce(&mut Self)) {
        self.tag(number, BYTES);
        let start = self.0.len();
        self.0.push(0);
        write(self);
        let end = self.0.len();
        let mut length = (end - start - 1) as u64;
        let bytes = (64 - (length | 1).leading_zeros() as usize).div_ceil(7);
        if bytes > 1 {
            self.0.resize(end + bytes - 1, 0);
            self.0.copy_within(start + 1..end, start + bytes);
        }
        for place in &mut self.0[start..start + bytes - 1] {
            *place = length.to_le_bytes()[0] | 0x80;
            length >>= 7;
        }
        self.0[start + bytes - 1] = length.to_le_bytes()[0];
    }
}

/// What a field holds, as far as anybody asks.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Takes one field; `None` at the end, and where it is malformed or of a kind that no answer has.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, u64, Field<'a>)> {
    let tag = varint(bytes)?;
    match tag & 7 {
        VARINT => Some((tag >> 3, VARINT, Field::Number(varint(bytes)?))),
        BYTES => {
            let length = usize::try_from(varint(bytes)?).ok()?;
            let (value, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Some((tag >> 3, BYTES, Field::Bytes(value)))
        }
        _ => None,
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_takes_as_many_bytes_as_it_needs() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let text = vec![b'x'; length];
            let (mut nested, mut flat) = (Message::default(), Message::default());
            nested.message(1, |inner| inner.0.extend_from_slice(&text));
            flat.bytes(1, &text);
            assert!(nested.0 == flat.0, "{length}");
        }
    }

    #[test]
    fn an_answer_says_what_was_not_taken() {
        let mut answer = Message::default();
        answer.message(1, |partial| {
            partial.number(1, 300);
            partial.text(2, "too old");
        });
        assert_eq!(rejected(&answer.0), (300, "too old".to_owned()));
        for bytes in [&b""[..], b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x80\x80", b"<html>"] {
            assert_eq!(rejected(bytes), (0, String::new()), "{bytes:?}");
        }
    }
}
