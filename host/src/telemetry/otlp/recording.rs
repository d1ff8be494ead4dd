//! What is recorded of one call of a plugin while it goes on: the span of the attempt, and those of what it publishes.
//!
//! Requests have spans of their own, which are handed in when they end. What a plugin says itself is bounded here.
//! Invariant: a recording holds no more than its bounds, whatever a plugin does.

use std::borrow::Cow;

use super::span::{self, Attribute, Event, Kind, Span, Value, size_of_attribute};
use crate::message::trace::Trace;

/// Attributes that a plugin may give one attempt.
pub const ATTRIBUTES_MAX: usize = 32;
/// Events that a plugin may tell of one attempt.
pub const EVENTS_MAX: usize = 32;
/// Attributes of one event.
pub const EVENT_ATTRIBUTES_MAX: usize = 8;
/// Bytes of a name.
const KEY_BYTES_MAX: usize = 128;
/// Bytes of a text; a longer one is cut.
const TEXT_BYTES_MAX: usize = 1024;
/// Bytes of all that a plugin says of one attempt.
const BYTES_MAX: usize = 16 * 1024;
/// Spans of messages that one call publishes: enough to see what it does.
const PUBLISHES_MAX: usize = 100;
/// What stands before the names of the host's own attributes: a plugin does not speak for the host.
const RESERVED: [&str; 2] = ["bulkhead.", "messaging."];

/// One call.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The span of the attempt: of the present trace, at a step of its own.
    pub attempt: Span,
    /// Whether it is made for several deliveries, each of a trace of its own.
    pub is_batch: bool,
    publishes: Vec<(Option<usize>, Span)>,
    publishes_dropped: u32,
    bytes_left: usize,
}

/// Why something that a plugin says is left out, as in `bulkhead_denied_total{reason}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is too much of it.
    Limit,
    /// The name is malformed, or one of the host's.
    Invalid,
}

impl Recording {
    /// Of a call for one delivery, which is the step of `delivery`.
    #[must_use]
    pub fn of_one(delivery: Trace, state: Option<&str>) -> Self {
        let mut attempt = Span::new(delivery.next(), Some(delivery.step()), Kind::Internal, "attempt");
        attempt.state = state.map(str::to_owned);
        Self::new(attempt, false)
    }

    /// Of a call for several deliveries: a trace of its own, which follows from each of theirs.
    #[must_use]
    pub fn of_many(deliveries: impl Iterator<Item = Trace>) -> Self {
        let mut attempt = Span::new(Trace::begin().recorded(true), None, Kind::Internal, "attempt");
        deliveries.for_each(|delivery| attempt.link(delivery));
        Self::new(attempt, true)
    }

    fn new(attempt: Span, is_batch: bool) -> Self {
        Self { attempt, is_batch, publishes: Vec::new(), publishes_dropped: 0, bytes_left: BYTES_MAX }
    }

    /// A message was published; `cause` is the place of the delivery that it was made from, where there are several.
    pub fn published(&mut self, cause: Option<usize>, span: impl FnOnce() -> Span) {
        if self.publishes.len() < PUBLISHES_MAX {
            self.publishes.push((cause, span()));
        } else {
            self.publishes_dropped = self.publishes_dropped.saturating_add(1);
        }
    }

    /// Takes the spans of what was published, where it is kept, and says in the attempt what is not.
    pub fn take_publishes(&mut self, is_kept: impl Fn(Option<usize>) -> bool) -> Vec<Span> {
        let (kept, dropped): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.publishes).into_iter().partition(|(cause, _)| is_kept(*cause));
        if !dropped.is_empty() {
            self.attempt.set("bulkhead.publishes.discarded", dropped.len());
        }
        if self.publishes_dropped > 0 {
            self.attempt.set("bulkhead.publishes.not_shown", self.publishes_dropped);
        }
        kept.into_iter().map(|(_, span)| span).collect()
    }

    /// A plugin's own word about the attempt; a later one of the same name takes the place of an earlier one.
    ///
    /// # Errors
    /// It is left out.
    pub fn set_attribute(&mut self, key: String, value: Value) -> Result<(), Unfit> {
        let attribute = (Cow::Owned(key), bounded(value));
        if !is_key(&attribute.0) {
            self.attempt.attributes_dropped = self.attempt.attributes_dropped.saturating_add(1);
            return Err(Unfit::Invalid);
        }
        let known = self.attempt.attributes.iter().position(|(key, _)| *key == attribute.0);
        let has_room = known.is_some() || self.attempt.attributes.len() < ATTRIBUTES_MAX;
        if !has_room || !self.take(size_of_attribute(&attribute)) {
            self.attempt.attributes_dropped = self.attempt.attributes_dropped.saturating_add(1);
            return Err(Unfit::Limit);
        }
        match known {
            Some(place) => self.attempt.attributes[place] = attribute,
            None => self.attempt.attributes.push(attribute),
        }
        Ok(())
    }

    /// What a plugin tells of this moment.
    ///
    /// # Errors
    /// It is left out.
    pub fn add_event(&mut self, name: &str, attributes: Vec<(String, Value)>) -> Result<(), Unfit> {
        let fits = attributes.len() <= EVENT_ATTRIBUTES_MAX;
        let attributes: Vec<Attribute> = attributes
            .into_iter()
            .take(EVENT_ATTRIBUTES_MAX)
            .map(|(key, value)| (Cow::Owned(key), bounded(value)))
            .collect();
        let is_valid = is_key(name) && attributes.iter().all(|(key, _)| is_key(key));
        let bytes = name.len() + attributes.iter().map(size_of_attribute).sum::<usize>();
        let has_room = fits && self.attempt.events.len() < EVENTS_MAX;
        if !is_valid || !has_room || !self.take(bytes) {
            self.attempt.events_dropped = self.attempt.events_dropped.saturating_add(1);
            return Err(if is_valid { Unfit::Limit } else { Unfit::Invalid });
        }
        self.attempt.events.push(Event { at: span::now(), name: Cow::Owned(name.to_owned()), attributes });
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> bool {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.unwrap_or(self.bytes_left);
        left.is_some()
    }
}

fn is_key(text: &str) -> bool {
    (1..=KEY_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        && !RESERVED.iter().any(|reserved| text.starts_with(reserved))
}

fn bounded(value: Value) -> Value {
    match value {
        Value::Text(text) if text.len() > TEXT_BYTES_MAX => {
            Value::Text(Cow::Owned(text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()))
        }
        value => value,
    }
}
