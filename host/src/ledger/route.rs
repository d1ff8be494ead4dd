//! Routes: copies of messages from one queue into others, by a condition, in the transaction that accepts them.
//!
//! A copy is a message of its own, one hop further and with an id derived from its parent's, so that a redelivery that
//! publishes the parent again makes the same copies. Invariant: what one message comes to is bounded, by hops and by
//! number, however routes lead in a circle.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::write::{Log, Write};
use crate::id::{self, Kind, Name};
use crate::limit::HOPS_MAX;
use crate::message::Draft;
use crate::settlement::QueueId;

/// Copies of one message, copies of copies included: routes that split and lead in a circle would double at every hop.
const COPIES_MAX: usize = 64;

/// `[routes.X]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name in the configuration.
    pub name: Name,
    /// Where messages are copied from.
    pub from: Name,
    /// Where copies go.
    pub to: Vec<Name>,
    /// Which messages; none is all of them.
    pub when: Option<Condition>,
}

/// `when` of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What is looked at.
    pub subject: Subject,
    /// What it must be.
    pub test: Test,
}

/// What of a message a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Every header of this name, which is in lower case.
    Header(String),
    /// The value in a JSON body at this pointer (RFC 6901); a body that is no JSON has none.
    Pointer(String),
}

/// What a condition asks of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// It is there.
    Present,
    /// It is this value; a header is this text, or the JSON text of what is no text.
    Equals(Value),
    /// Its text, or the JSON text of what is none, is like this: `*` stands for any characters, also none.
    Matches(String),
}

/// A route in numbers.
#[derive(Clone, Debug)]
pub(super) struct Laid {
    pub(super) route: Route,
    pub(super) to: Vec<QueueId>,
}

/// Every queue that messages of `from` may be copied to, by however many routes.
#[must_use]
pub fn led_to<'r>(from: &Name, routes: &'r [Route]) -> BTreeSet<&'r Name> {
    let mut by_queue: BTreeMap<&Name, Vec<&Name>> = BTreeMap::new();
    for route in routes {
        by_queue.entry(&route.from).or_default().extend(&route.to);
    }
    let mut found = BTreeSet::new();
    let mut waiting = by_queue.get(from).cloned().unwrap_or_default();
    while let Some(queue) = waiting.pop() {
        if found.insert(queue) {
            waiting.extend(by_queue.get(queue).into_iter().flatten());
        }
    }
    found
}

impl Condition {
    /// `body` is parsed when it is looked at for the first time.
    fn holds(&self, draft: &Draft, body: &OnceCell<Option<Value>>) -> bool {
        match &self.subject {
            Subject::Header(name) => {
                let mut values = draft.headers.iter().filter(|(header, _)| header == name);
                values.any(|(_, value)| self.test.holds_for_text(value))
            }
            Subject::Pointer(pointer) => {
                let body = body.get_or_init(|| serde_json::from_slice(&draft.body).ok());
                body.as_ref().and_then(|body| body.pointer(pointer)).is_some_and(|value| self.test.holds_for(value))
            }
        }
    }
}

impl Test {
    fn holds_for(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Present, _) => true,
            (Self::Equals(wanted), _) => wanted == value,
            (Self::Matches(pattern), _) => is_like(&text_of(value), pattern),
        }
    }

    fn holds_for_text(&self, text: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Equals(wanted) => text_of(wanted) == text,
            Self::Matches(pattern) => is_like(text, pattern),
        }
    }
}

impl Write<'_> {
    /// Makes the copies of a message that was stored just now, and the copies of these.
    pub(super) fn copy_along_routes(
        &mut self,
        log: &mut Log<'_>,
        queue: QueueId,
        draft: &Draft,
    ) -> rusqlite::Result<()> {
        let mut waiting = self.copies(queue, draft);
        let mut made = 0;
        while let Some((to, copy)) = waiting.pop_front() {
            if copy.hops > HOPS_MAX || made == COPIES_MAX {
                self.changes.unrouted.push((to.0, 1 + waiting.len() as u64));
                return Ok(());
            }
            made += 1;
            let is_new = self.store(log, to, &copy)?.is_none();
            if is_new {
                waiting.extend(self.copies(to, &copy));
            }
        }
        Ok(())
    }

    fn copies(&self, queue: QueueId, draft: &Draft) -> VecDeque<(QueueId, Draft)> {
        let routes = self.book.queue(queue.0).map_or(&[][..], |queue| &queue.routes);
        let body = OnceCell::new();
        let taken = routes.iter().filter(|it| it.route.when.as_ref().is_none_or(|when| when.holds(draft, &body)));
        let copies = taken.flat_map(|it| {
            let targets = it.to.iter().zip(&it.route.to);
            targets.map(|(to, name)| (*to, copy(&it.route.name, name, draft)))
        });
        copies.collect()
    }
}

fn copy(route: &Name, to: &Name, parent: &Draft) -> Draft {
    Draft {
        id: id::derive(Kind::Route, &[route.as_str(), to.as_str(), &parent.id], 0),
        parent: Some(parent.id.clone()),
        hops: parent.hops + 1,
        ..parent.clone()
    }
}

/// A text as it is, anything else as JSON.
fn text_of(value: &Value) -> Cow<'_, str> {
    value.as_str().map_or_else(|| value.to_string().into(), Cow::from)
}

/// Whether a text is like a pattern in which `*` stands for any characters.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').map_or(("", rest), |(middle, last)| (middle, last));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text, expected) in [
            ("order", "order", true),
            ("order", "orders", false),
            ("order.*", "order.paid", true),
            ("*.paid", "order.paid", true),
            ("*.paid", "order.paid.twice", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("aa*a", "aa", false),
            ("*", "", true),
            ("**", "x", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(is_like(text, pattern), expected, "{pattern} {text}");
        }
    }
}
