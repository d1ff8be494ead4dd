//! Spans: one step of a trace each, with when it was and what is to be said about it.
//!
//! Values only: who makes them says what they mean, `wire` writes them down. Invariant: no credential, header, body or
//! query is ever put into one; texts are bounded by whoever puts them in.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock;
use crate::message::trace::Trace;

/// A time in nanoseconds since the Unix epoch.
pub type Nanos = u64;

/// What a step is to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work inside the host.
    Internal = 1,
    /// A request that was answered.
    Server = 2,
    /// A request that was sent.
    Client = 3,
    /// A message that was published.
    Producer = 4,
    /// A message that was handled.
    Consumer = 5,
}

/// What is said about a span.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A whole number.
    Integer(i64),
    /// Any number.
    Number(f64),
    /// Yes or no.
    Boolean(bool),
}

/// One thing that is said, under its name.
pub type Attribute = (Cow<'static, str>, Value);

/// Something that happened at one moment of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Nanos,
    /// What.
    pub name: Cow<'static, str>,
    /// What else there is to say.
    pub attributes: Vec<Attribute>,
}

/// One step of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Which trace, and which step of it this is.
    pub trace: Trace,
    /// What other systems said beside it.
    pub state: Option<String>,
    /// The step before; none where the trace begins here.
    pub parent: Option<u64>,
    /// Whether the step before was another system's.
    pub is_parent_remote: bool,
    /// Of few kinds: never an id.
    pub name: String,
    /// What it is to the step before.
    pub kind: Kind,
    /// When it began.
    pub start: Nanos,
    /// When it ended.
    pub end: Nanos,
    /// What is said about it.
    pub attributes: Vec<Attribute>,
    /// Not said, for there was too much of it.
    pub attributes_dropped: u32,
    /// What happened meanwhile.
    pub events: Vec<Event>,
    /// Not told, for there were too many.
    pub events_dropped: u32,
    /// Steps that it follows from beside the one before.
    pub links: Vec<Trace>,
    /// Left out, for there were too many.
    pub links_dropped: u32,
    /// Why it did not work, if it did not.
    pub error: Option<String>,
}

/// Links of one span: those of a large batch would be most of its trace.
const LINKS_MAX: usize = 128;
/// Bytes of the text of an error.
const ERROR_BYTES_MAX: usize = 1024;

impl Span {
    /// One that is at the step of `trace`, and begins and ends now.
    #[must_use]
    pub fn new(trace: Trace, parent: Option<u64>, kind: Kind, name: impl Into<String>) -> Self {
        let now = now();
        Self {
            trace,
            state: None,
            parent,
            is_parent_remote: false,
            name: name.into(),
            kind,
            start: now,
            end: now,
            // As many as most have.
            attributes: Vec::with_capacity(10),
            attributes_dropped: 0,
            events: Vec::new(),
            events_dropped: 0,
            links: Vec::new(),
            links_dropped: 0,
            error: None,
        }
    }

    /// Says one thing more about it.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.attributes.push((Cow::Borrowed(key), value.into()));
    }

    /// It follows from this step, too.
    pub fn link(&mut self, to: Trace) {
        if self.links.len() < LINKS_MAX {
            self.links.push(to);
        } else {
            self.links_dropped = self.links_dropped.saturating_add(1);
        }
    }

    /// It did not work: `kind` is one of few words, `text` is for people.
    pub fn fail(&mut self, kind: impl Into<Value>, text: &str) {
        // A plugin may have said it, too.
        self.attributes.retain(|(key, _)| key != "error.type");
        self.set("error.type", kind);
        self.error = Some(text[..text.floor_char_boundary(ERROR_BYTES_MAX)].to_owned());
    }

    /// It has ended, at this moment.
    pub fn end_now(&mut self) {
        self.end = now().max(self.start);
    }

    /// About what it takes in memory, and what it will take on its way.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let attributes = |all: &[Attribute]| -> usize { all.iter().map(size_of_attribute).sum() };
        let events = self.events.iter().map(|event| event.name.len() + attributes(&event.attributes) + 64);
        size_of::<Self>()
            + self.name.len()
            + self.state.as_ref().map_or(0, String::len)
            + self.error.as_ref().map_or(0, String::len)
            + self.links.len() * size_of::<Trace>()
            + attributes(&self.attributes)
            + events.sum::<usize>()
    }
}

/// About what it takes in memory.
#[must_use]
pub fn size_of_attribute((key, value): &Attribute) -> usize {
    let text = if let Value::Text(text) = value { text.len() } else { 8 };
    size_of::<Attribute>() + key.len() + text
}

/// The present moment.
#[must_use]
pub fn now() -> Nanos {
    nanos(clock::wall())
}

/// A moment of the ledger's clock.
#[must_use]
pub fn of_millis(ms: u64) -> Nanos {
    ms.saturating_mul(1_000_000)
}

fn nanos(time: SystemTime) -> Nanos {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
