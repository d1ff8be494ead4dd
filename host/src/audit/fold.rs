//! What repeats: told at once, and then with a count, ever less often while it goes on.
//!
//! Pure; who tells, and when to look, is the parent's. What things are told apart by comes from the configuration and
//! from fixed words, never from a plugin. Invariants: the counts of all that was told add up to what was added, and what
//! comes again and again, in whatever rhythm, is soon told no more than twice in the longest window.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::bounded;
use super::event::{Kind, now};
use crate::id::Name;

/// What makes two things alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject<'a> {
    pub(super) kind: Kind,
    /// Whose it is; the host's own has none.
    pub(super) connector: Option<&'a Name>,
    pub(super) subject: &'static str,
    pub(super) reason: &'static str,
    pub(super) key: &'a str,
}

/// How long things of a kind are counted before the count is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    /// After the first of them.
    pub(super) first: Duration,
    /// Each window is twice as long as the one before, up to this; after as long without one of them they are forgotten.
    pub(super) longest: Duration,
}

/// What came after the first of its kind, until the window ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) kind: Kind,
    pub(super) connector: Option<Name>,
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
    fn new(subject: &Subject<'_>, text: &str) -> Self {
        let Subject { kind, connector, subject, reason, key } = *subject;
        let (connector, key, text) = (connector.cloned(), key.to_owned(), bounded(text));
        Self { kind, connector, subject, reason, key, text, count: 0, first: String::new() }
    }

    /// What makes it like others.
    pub(super) fn subject(&self) -> Subject<'_> {
        let Self { kind, connector, subject, reason, key, .. } = self;
        Subject { kind: *kind, connector: connector.as_ref(), subject, reason, key }
    }
}

/// What is counted, or was until a moment ago.
#[derive(Debug)]
struct Fold {
    windows: Windows,
    /// The present one, or the one that has ended last.
    window: Duration,
    ends: Instant,
    /// Nothing came in the last window: the next one is told at once.
    is_quiet: bool,
    folded: Folded,
}

/// All that is counted, by connector: one has no more of them than entries in its configuration and fixed words.
#[derive(Debug, Default)]
pub(super) struct Folds {
    of_connectors: HashMap<Name, Vec<Fold>>,
    of_host: Vec<Fold>,
}

impl Folds {
    /// Whether it is to be told now; otherwise it is counted.
    pub(super) fn add(&mut self, subject: &Subject<'_>, text: &str, windows: Windows, at: Instant) -> bool {
        let folds = match subject.connector {
            // Not through `entry`, which would take a copy of the name each time.
            Some(name) => match self.of_connectors.get_mut(name) {
                Some(folds) => folds,
                None => {
                    self.of_connectors.insert(name.clone(), vec![Fold::new(subject, text, windows, at)]);
                    return true;
                }
            },
            None => &mut self.of_host,
        };
        match folds.iter_mut().find(|fold| fold.folded.subject() == *subject) {
            Some(fold) => fold.add(text, at),
            None => {
                folds.push(Fold::new(subject, text, windows, at));
                true
            }
        }
    }

    /// What has repeated in a window that ended.
    pub(super) fn take_due(&mut self, at: Instant) -> Vec<Folded> {
        let mut due = Vec::new();
        let mut keep = |fold: &mut Fold| {
            due.extend(fold.take_due(at));
            !fold.is_over(at)
        };
        self.of_host.retain_mut(&mut keep);
        self.of_connectors.retain(|_, folds| {
            folds.retain_mut(&mut keep);
            !folds.is_empty()
        });
        due
    }

    /// All that has repeated and was not told.
    pub(super) fn take_all(&mut self) -> Vec<Folded> {
        let Self { of_connectors, of_host } = std::mem::take(self);
        of_connectors
            .into_values()
            .flatten()
            .chain(of_host)
            .map(|fold| fold.folded)
            .filter(|folded| folded.count > 0)
            .collect()
    }
}

impl Fold {
    fn new(subject: &Subject<'_>, text: &str, windows: Windows, at: Instant) -> Self {
        let (window, folded) = (windows.first, Folded::new(subject, text));
        Self { windows, window, ends: at + window, is_quiet: false, folded }
    }

    fn add(&mut self, text: &str, at: Instant) -> bool {
        if self.is_quiet {
            self.folded.text = bounded(text);
            self.begin_next(at);
            return true;
        }
        let folded = &mut self.folded;
        folded.count += 1;
        if folded.count == 1 {
            folded.first = now();
        }
        false
    }

    /// What comes at longer intervals than the first window gets longer ones too: else it would be told every time.
    fn begin_next(&mut self, at: Instant) {
        self.window = (self.window * 2).min(self.windows.longest);
        (self.ends, self.is_quiet) = (at + self.window, false);
    }

    /// The count so far, if its window has ended.
    fn take_due(&mut self, at: Instant) -> Option<Folded> {
        if self.is_quiet || self.ends > at {
            return None;
        }
        if self.folded.count == 0 {
            self.is_quiet = true;
            return None;
        }
        let told = self.folded.clone();
        self.folded.count = 0;
        self.begin_next(at);
        Some(told)
    }

    fn is_over(&self, at: Instant) -> bool {
        self.is_quiet && self.ends + self.windows.longest <= at
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { first: Duration::from_secs(10), longest: Duration::from_secs(600) };

    fn subject<'a>(connector: &'a Name, key: &'a str) -> Subject<'a> {
        Subject { kind: Kind::Refusal, connector: Some(connector), subject: "http", reason: "method", key }
    }

    /// One thing in each of these seconds: when it was told, and with which count.
    fn told(comes: impl Fn(u64) -> bool, seconds: u64) -> Vec<(u64, u64)> {
        let (name, start) = (Name::parse("orders").unwrap(), Instant::now());
        let (mut folds, mut told) = (Folds::default(), Vec::new());
        for second in 0..seconds {
            let at = start + Duration::from_secs(second);
            told.extend(folds.take_due(at).into_iter().map(|folded| (second, folded.count)));
            if comes(second) && folds.add(&subject(&name, "a"), "x", WINDOWS, at) {
                told.push((second, 1));
            }
        }
        told.extend(folds.take_all().into_iter().map(|folded| (seconds, folded.count)));
        let came = (0..seconds).filter(|second| comes(*second)).count() as u64;
        assert_eq!(told.iter().map(|(_, count)| count).sum::<u64>(), came, "they add up");
        told
    }

    #[test]
    fn the_first_is_told_at_once_and_the_others_when_the_window_ends() {
        let (name, start) = (Name::parse("orders").unwrap(), Instant::now());
        let mut folds = Folds::default();
        let told: Vec<bool> = (0..4).map(|_| folds.add(&subject(&name, "a"), "x", WINDOWS, start)).collect();
        assert_eq!(told, [true, false, false, false]);
        assert!(folds.add(&subject(&name, "b"), "x", WINDOWS, start), "another key is another thing");
        assert!(folds.take_due(start).is_empty());
        let due = folds.take_due(start + WINDOWS.first);
        assert_eq!(due.iter().map(|folded| (folded.key.as_str(), folded.count)).collect::<Vec<_>>(), [("a", 3)]);
        // What goes on is counted from now on, what has paused is told at once again.
        assert!(!folds.add(&subject(&name, "a"), "x", WINDOWS, start + WINDOWS.first));
        assert!(folds.add(&subject(&name, "b"), "x", WINDOWS, start + WINDOWS.first));
        assert_eq!(folds.take_all().iter().map(|folded| folded.count).sum::<u64>(), 1);
        assert!(folds.take_due(start + WINDOWS.longest).is_empty());
    }

    #[test]
    fn what_goes_on_is_told_ever_less_often() {
        let times: Vec<u64> = told(|_| true, 3_000).into_iter().map(|(second, _)| second).collect();
        assert_eq!(times, [0, 10, 30, 70, 150, 310, 630, 1_230, 1_830, 2_430, 3_000]);
    }

    #[test]
    fn no_rhythm_is_told_more_than_twice_in_the_longest_window() {
        let day = 24 * 3_600;
        for every in [9, 10, 11, 59, 60, 61, 599, 600, 601, 1_199] {
            let records = told(|second| second % every == 0, day).len() as u64;
            assert!(records <= 12 + 2 * day / 600, "every {every} s: {records} records a day");
        }
    }

    #[test]
    fn what_pauses_is_told_at_once_again_and_what_has_ended_begins_anew() {
        // A window from 30 to 70 in which nothing comes; at 100 the next begins, with 80 seconds.
        let paused = told(|second| second < 30 || second == 100 || second == 170, 200);
        assert_eq!(paused, [(0, 1), (10, 9), (30, 20), (100, 1), (180, 1)]);
        let ended = told(|second| second < 30 || second == 700 || second == 701, 800);
        assert_eq!(ended, [(0, 1), (10, 9), (30, 20), (700, 1), (710, 1)]);
    }
}
