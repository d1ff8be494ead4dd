//! What repeats: told once at once, and once more with a count when its window ends.
//!
//! Pure; who tells, and when to look, is the parent's. What things are told apart by comes from the configuration and
//! from fixed words, never from a plugin. Invariant: the counts of all that was told add up to what was added.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::bounded;
use super::event::{Kind, now};
use crate::id::Name;

/// What makes two things alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subject<'a> {
    pub(super) kind: Kind,
    pub(super) connector: &'a Name,
    pub(super) subject: &'static str,
    pub(super) reason: &'static str,
    pub(super) key: &'a str,
}

/// What came after the first of its kind, until the window ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) kind: Kind,
    pub(super) connector: Name,
    pub(super) subject: &'static str,
    pub(super) reason: &'static str,
    pub(super) key: String,
    /// That of the first.
    pub(super) text: String,
    pub(super) count: u64,
    /// When the first of these came.
    pub(super) first: String,
}

impl Folded {
    fn is(&self, subject: &Subject<'_>) -> bool {
        let Subject { kind, connector, subject, reason, key } = *subject;
        (self.kind, &self.connector, self.subject, self.reason, self.key.as_str())
            == (kind, connector, subject, reason, key)
    }
}

#[derive(Debug)]
struct Open {
    ends: Instant,
    window: Duration,
    folded: Folded,
}

/// Windows that are open.
#[derive(Debug, Default)]
pub(super) struct Folds {
    hash: RandomState,
    /// By the hash of their subject: one that exists is found without a copy of its names.
    open: HashMap<u64, Vec<Open>>,
}

impl Folds {
    /// Whether this is the first of its kind, to be told now; otherwise it is counted.
    pub(super) fn add(&mut self, subject: &Subject<'_>, text: &str, window: Duration, at: Instant) -> bool {
        let alike = self.open.entry(self.hash.hash_one(subject)).or_default();
        if let Some(open) = alike.iter_mut().find(|open| open.folded.is(subject)) {
            let folded = &mut open.folded;
            folded.count += 1;
            if folded.count == 1 {
                folded.first = now();
            }
            return false;
        }
        let Subject { kind, connector, subject, reason, key } = *subject;
        alike.push(Open {
            ends: at + window,
            window,
            folded: Folded {
                kind,
                connector: connector.clone(),
                subject,
                reason,
                key: key.to_owned(),
                text: bounded(text),
                count: 0,
                first: String::new(),
            },
        });
        true
    }

    /// What has repeated in a window that ended: it stays open for another. One in which nothing came is closed.
    pub(super) fn take_due(&mut self, at: Instant) -> Vec<Folded> {
        let mut due = Vec::new();
        for alike in self.open.values_mut() {
            alike.retain_mut(|open| {
                if open.ends > at {
                    return true;
                }
                if open.folded.count > 0 {
                    due.push(ended(&mut open.folded));
                    open.ends = at + open.window;
                    return true;
                }
                false
            });
        }
        self.open.retain(|_, alike| !alike.is_empty());
        due
    }

    /// All that has repeated and was not told.
    pub(super) fn take_all(&mut self) -> Vec<Folded> {
        let open = std::mem::take(&mut self.open).into_values().flatten();
        open.map(|mut open| ended(&mut open.folded)).filter(|folded| folded.count > 0).collect()
    }
}

/// The count so far, which begins anew.
fn ended(folded: &mut Folded) -> Folded {
    let told = folded.clone();
    folded.count = 0;
    told
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn subject<'a>(connector: &'a Name, key: &'a str) -> Subject<'a> {
        Subject { kind: Kind::Refusal, connector, subject: "http", reason: "method", key }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_when_the_window_ends() {
        let (name, start) = (Name::parse("orders").unwrap(), Instant::now());
        let mut folds = Folds::default();
        let told: Vec<bool> = (0..4).map(|_| folds.add(&subject(&name, "a"), "x", WINDOW, start)).collect();
        assert_eq!(told, [true, false, false, false]);
        assert!(folds.add(&subject(&name, "b"), "x", WINDOW, start), "another key is another thing");
        assert!(folds.take_due(start).is_empty());
        let due = folds.take_due(start + WINDOW);
        assert_eq!(due.iter().map(|folded| (folded.key.as_str(), folded.count)).collect::<Vec<_>>(), [("a", 3)]);
        // What goes on is counted from now on, what has ended is told at once again.
        assert!(!folds.add(&subject(&name, "a"), "x", WINDOW, start + WINDOW));
        assert!(folds.add(&subject(&name, "b"), "x", WINDOW, start + WINDOW));
        assert_eq!(folds.take_all().iter().map(|folded| folded.count).sum::<u64>(), 1);
        assert!(folds.take_due(start + WINDOW * 9).is_empty());
    }
}
