//! The last log lines of each connector, in memory.
//!
//! Bounded for each connector by lines and bytes, and over all of them by bytes: then the oldest line of all goes first.
//! Invariant: the bounds hold after every line, whoever wrote it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::clock::rfc3339;

/// Lines of one connector: some screens.
const LINES_MAX: usize = 500;
/// Bytes of the lines of one connector: a connector that writes long ones shall not push out the others.
const BYTES_MAX: usize = 256 << 10;
/// Bytes of the lines of all connectors.
const ALL_BYTES_MAX: usize = 32 << 20;
/// What a line takes beside its texts.
const LINE_BYTES: usize = 256;

/// What was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    /// In which delivery, `CONNECTOR:QUEUE:MESSAGE_ID`.
    pub delivery: Option<String>,
    /// In which attempt at it.
    pub attempt: Option<u32>,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
    /// On one line.
    pub text: String,
}

/// A line that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "LogLine")]
pub struct Line {
    /// Its number, larger than that of every line before, of whatever connector.
    pub seq: u64,
    /// When, as RFC 3339.
    pub at: String,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    /// In which delivery, as `CONNECTOR:QUEUE:MESSAGE_ID`; of a call with several messages, the first.
    pub delivery: Option<String>,
    /// In which attempt at it.
    pub attempt: Option<u32>,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
    /// What was said, on one line.
    pub text: String,
}

#[derive(Debug, Default)]
pub(super) struct Tails {
    last: u64,
    bytes: usize,
    /// By their numbers: the oldest first.
    lines: BTreeMap<u64, (Arc<str>, Arc<Line>)>,
    connectors: HashMap<Arc<str>, Tail>,
}

#[derive(Debug, Default)]
struct Tail {
    seqs: VecDeque<u64>,
    bytes: usize,
}

impl Line {
    fn bytes(&self) -> usize {
        self.text.len() + self.delivery.as_ref().map_or(0, String::len) + LINE_BYTES
    }
}

impl Tails {
    pub(super) fn add(&mut self, connector: &str, said: Said) -> Arc<Line> {
        let Said { at_ms, level, delivery, attempt, trace_id, text } = said;
        self.last += 1;
        let line = Arc::new(Line { seq: self.last, at: rfc3339(at_ms), level, delivery, attempt, trace_id, text });
        let name = match self.connectors.get_key_value(connector) {
            Some((name, _)) => name.clone(),
            None => Arc::from(connector),
        };
        let tail = self.connectors.entry(name.clone()).or_default();
        tail.seqs.push_back(line.seq);
        tail.bytes += line.bytes();
        self.bytes += line.bytes();
        self.lines.insert(line.seq, (name, line.clone()));
        while let Some(oldest) = self.too_much(connector) {
            self.remove(oldest);
        }
        line
    }

    /// The line that has to go next, if one has to.
    fn too_much(&self, connector: &str) -> Option<u64> {
        let tail = self.connectors.get(connector)?;
        if tail.seqs.len() > LINES_MAX || tail.bytes > BYTES_MAX {
            return tail.seqs.front().copied();
        }
        if self.bytes > ALL_BYTES_MAX { self.lines.keys().next().copied() } else { None }
    }

    fn remove(&mut self, seq: u64) {
        let Some((name, line)) = self.lines.remove(&seq) else { return };
        self.bytes -= line.bytes();
        let Some(tail) = self.connectors.get_mut(&name) else { return };
        tail.bytes -= line.bytes();
        // Of one connector the oldest goes first, too.
        tail.seqs.pop_front();
        if tail.seqs.is_empty() {
            self.connectors.remove(&name);
        }
    }

    pub(super) fn lines(&self, connector: &str, after: Option<u64>, count: usize) -> (Vec<Arc<Line>>, u64) {
        // A number from before a restart says nothing.
        let after = after.filter(|after| *after <= self.last);
        let Some(tail) = self.connectors.get(connector) else { return (Vec::new(), after.unwrap_or(self.last)) };
        let begin = match after {
            Some(after) => tail.seqs.partition_point(|seq| *seq <= after),
            None => tail.seqs.len().saturating_sub(count),
        };
        let line = |seq: &u64| Some(self.lines.get(seq)?.1.clone());
        let lines: Vec<_> = tail.seqs.iter().skip(begin).take(count).filter_map(line).collect();
        let last = lines.last().map_or(after.unwrap_or(self.last), |line| line.seq);
        (lines, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(tails: &mut Tails, connector: &str, bytes: usize) {
        tails.add(connector, Said { text: "x".repeat(bytes), ..Said::default() });
    }

    fn seqs(tails: &Tails, connector: &str, after: Option<u64>, count: usize) -> Vec<u64> {
        tails.lines(connector, after, count).0.iter().map(|line| line.seq).collect()
    }

    #[test]
    fn the_last_lines_of_a_connector_are_kept_and_paged() {
        let mut tails = Tails::default();
        say(&mut tails, "b", 1);
        (0..LINES_MAX + 10).for_each(|_| say(&mut tails, "a", 1));
        let all = seqs(&tails, "a", None, 10_000);
        assert_eq!((all.len(), all.first(), all.last()), (LINES_MAX, Some(&12), Some(&511)));
        assert_eq!(seqs(&tails, "a", None, 2), [510, 511]);
        assert_eq!(seqs(&tails, "a", Some(3), 2), [12, 13]);
        assert_eq!(tails.lines("a", Some(511), 2), (Vec::new(), 511));
        assert_eq!(tails.lines("c", Some(7), 2), (Vec::new(), 7));
        assert_eq!(seqs(&tails, "b", None, 2), [1]);
    }

    #[test]
    fn bytes_are_bounded_for_each_connector_and_for_all() {
        let mut tails = Tails::default();
        (0..100).for_each(|_| say(&mut tails, "a", 8 << 10));
        assert!((20..=32).contains(&seqs(&tails, "a", None, 1_000).len()));
        for nth in 0..200 {
            (0..100).for_each(|_| say(&mut tails, &format!("c{nth}"), 8 << 10));
        }
        assert!(tails.bytes <= ALL_BYTES_MAX, "{}", tails.bytes);
        let kept: usize = tails.lines.values().map(|(_, line)| line.bytes()).sum();
        assert_eq!(kept, tails.bytes);
        assert!(seqs(&tails, "a", None, 1_000).is_empty() && !seqs(&tails, "c199", None, 1_000).is_empty());
        assert_eq!(tails.connectors.values().map(|tail| tail.seqs.len()).sum::<usize>(), tails.lines.len());
    }
}
