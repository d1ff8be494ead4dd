//! A collector of traces on loopback, which reads what it is sent by itself.
//!
//! The reader knows protobuf's wire format and the numbers of OTLP's schema (`opentelemetry/proto/trace/v1/trace.proto`),
//! and shares nothing with the host. What is no well-formed request, or holds a field that the schema does not have,
//! panics.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Answer, Fixture, Request};

/// A collector; it ends when dropped.
#[derive(Debug)]
pub struct Collector(Fixture);

/// One span, as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    /// In hex.
    pub trace: String,
    /// In hex.
    pub id: String,
    /// In hex, if it has one.
    pub parent: Option<String>,
    /// `tracestate`.
    pub state: String,
    /// What it is called.
    pub name: String,
    /// `internal`, `server`, `client`, `producer`, `consumer`.
    pub kind: &'static str,
    /// In nanoseconds since the Unix epoch.
    pub start: u64,
    /// In nanoseconds since the Unix epoch.
    pub end: u64,
    /// What is said about it.
    pub attributes: BTreeMap<String, Value>,
    /// How many were left out.
    pub attributes_dropped: u64,
    /// What happened meanwhile.
    pub events: Vec<(String, BTreeMap<String, Value>)>,
    /// How many were left out.
    pub events_dropped: u64,
    /// Trace and span of each.
    pub links: Vec<(String, String)>,
    /// The text of the status, where that is an error.
    pub error: Option<String>,
    /// What is said about whoever sent it.
    pub resource: BTreeMap<String, Value>,
}

impl Collector {
    /// Takes everything.
    #[must_use]
    pub fn start() -> Self {
        Self::answering(|_| Answer::status(200))
    }

    /// Answers as it is told; what it does not answer with 200 it has not taken.
    #[must_use]
    pub fn answering(decide: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self(Fixture::start(decide))
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.0.requests()
    }

    /// Waits until there were `count` requests.
    #[track_caller]
    pub fn wait_for(&self, count: usize, within: Duration) {
        self.0.wait_for(count, within);
    }

    /// All spans so far, in the order in which they came.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.requests().iter().flat_map(|request| read(&request.body)).collect()
    }
}

impl Span {
    /// A text that is said about it; empty where there is none.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.attributes.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

/// The spans of one `ExportTraceServiceRequest`.
fn read(body: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    for (number, resource_spans) in fields(body) {
        assert_eq!(number, 1, "a field of ExportTraceServiceRequest");
        let resource_spans = fields(resource_spans.bytes());
        let mut resource = BTreeMap::new();
        for (_, field) in resource_spans.iter().filter(|(number, _)| *number == 1) {
            resource.extend(fields(field.bytes()).iter().map(|(_, pair)| attribute(pair.bytes())));
        }
        for (number, field) in &resource_spans {
            match number {
                1 | 3 => {}
                2 => spans.extend(scope_spans(field.bytes(), &resource)),
                other => panic!("a field {other} of ResourceSpans"),
            }
        }
    }
    spans
}

fn scope_spans(bytes: &[u8], resource: &BTreeMap<String, Value>) -> Vec<Span> {
    let all = fields(bytes);
    assert!(all.iter().all(|(number, _)| (1..=3).contains(number)), "fields of ScopeSpans");
    let spans = all.iter().filter(|(number, _)| *number == 2);
    spans.map(|(_, field)| Span { resource: resource.clone(), ..span(field.bytes()) }).collect()
}

fn span(bytes: &[u8]) -> Span {
    const KINDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];
    let mut span = Span::default();
    for (number, field) in fields(bytes) {
        match number {
            1 => span.trace = id(&field, 16),
            2 => span.id = id(&field, 8),
            3 => span.state = field.text(),
            4 => span.parent = Some(id(&field, 8)),
            5 => span.name = field.text(),
            6 => span.kind = KINDS[usize::try_from(field.number()).expect("a kind")],
            7 => span.start = field.number(),
            8 => span.end = field.number(),
            9 => span.attributes.extend([attribute(field.bytes())]),
            10 => span.attributes_dropped = field.number(),
            11 => span.events.push(event(field.bytes())),
            12 => span.events_dropped = field.number(),
            13 => span.links.push(link(field.bytes())),
            14 => assert!(field.number() > 0, "links that were left out"),
            15 => span.error = status(field.bytes()),
            16 => assert_eq!(field.number() & 0x101, 0x101, "it is recorded, and whose its parent is is known"),
            other => panic!("a field {other} of Span"),
        }
    }
    assert!(!span.trace.is_empty() && !span.id.is_empty() && span.start <= span.end && span.start > 0, "{span:?}");
    span
}

fn event(bytes: &[u8]) -> (String, BTreeMap<String, Value>) {
    let all = fields(bytes);
    let text = |wanted| all.iter().find(|(number, _)| *number == wanted).map_or(String::new(), |(_, it)| it.text());
    assert!(all.iter().any(|(number, at)| *number == 1 && at.number() > 0), "an event has a time");
    let attributes = all.iter().filter(|(number, _)| *number == 3).map(|(_, it)| attribute(it.bytes()));
    (text(2), attributes.collect())
}

fn link(bytes: &[u8]) -> (String, String) {
    let all = fields(bytes);
    let part = |wanted, bytes| id(&all.iter().find(|(number, _)| *number == wanted).expect("a link has both").1, bytes);
    (part(1, 16), part(2, 8))
}

fn status(bytes: &[u8]) -> Option<String> {
    let all = fields(bytes);
    let is_error = all.iter().any(|(number, field)| *number == 3 && field.number() == 2);
    let text = all.iter().find(|(number, _)| *number == 2).map_or(String::new(), |(_, it)| it.text());
    is_error.then_some(text)
}

fn attribute(bytes: &[u8]) -> (String, Value) {
    let all = fields(bytes);
    let [(1, key), (2, value)] = &all[..] else { panic!("a pair is a key and a value: {all:?}") };
    let value = fields(value.bytes());
    let [(number, value)] = &value[..] else { panic!("a value is one of several: {value:?}") };
    let value = match number {
        1 => json!(value.text()),
        2 => json!(value.number() == 1),
        3 => json!(value.number().cast_signed()),
        4 => json!(f64::from_bits(value.number())),
        other => panic!("a value of kind {other}"),
    };
    (key.text(), value)
}

fn id(field: &Field<'_>, bytes: usize) -> String {
    let id = field.bytes();
    assert!(id.len() == bytes && id.iter().any(|byte| *byte != 0), "an id of {bytes} bytes: {id:?}");
    data_encoding::HEXLOWER.encode(id)
}

/// One field of a message.
#[derive(Debug)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn number(&self) -> u64 {
        let Self::Number(number) = self else { panic!("no number: {self:?}") };
        *number
    }

    fn bytes(&self) -> &'a [u8] {
        let Self::Bytes(bytes) = self else { panic!("no bytes: {self:?}") };
        bytes
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).expect("a string is UTF-8")
    }
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().expect("8 bytes"))),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).expect("a length");
                Field::Bytes(take(&mut bytes, length))
            }
            5 => Field::Number(u32::from_le_bytes(take(&mut bytes, 4).try_into().expect("4 bytes")).into()),
            other => panic!("wire type {other}"),
        };
        all.push((tag >> 3, field));
    }
    all
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at_checked(count).expect("a field ends within its message");
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return number;
        }
    }
    panic!("a number of more than ten bytes");
}
