//! Values looked for in a text, all at once, in any mixture of the spellings of [`super::spelling`] and of letter case.
//!
//! The values lie in order, so that those with a common beginning are followed as one range until they part. Invariant: the
//! work is counted step by step, and a search that would take more than it may ends without an answer.

use std::ops::Range;

use super::spelling;

/// So much of a value is enough to know it by, where a text was cut.
pub(super) const PART_BYTES_MIN: usize = 4;
/// So much of a value's beginning is found anywhere; less of it at the end of a text alone, where it was cut.
const BEGINNING_BYTES_MIN: usize = 12;
/// A step along a spelling, against one along plain bytes.
const STEP_WORK: u64 = 8;

/// What a search may still take.
#[derive(Debug)]
pub(super) struct Work(pub(super) u64);

/// The values.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// In order, in lower case; each once.
    values: Vec<Entry>,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    value: Vec<u8>,
    /// Whether it is looked for as a whole word alone, since it is a part of many.
    is_word: bool,
}

/// A way to read a text, as far as it has come: the values that begin so, and the end of what was read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    from: usize,
    to: usize,
    end: usize,
}

impl Work {
    fn spend(&mut self, work: u64) -> Option<()> {
        self.0 = self.0.checked_sub(work)?;
        Some(())
    }
}

impl Index {
    /// Of values in order and in lower case, each with whether it is a whole word.
    pub(super) fn new(values: impl IntoIterator<Item = (Vec<u8>, bool)>) -> Self {
        let values: Vec<Entry> = values.into_iter().map(|(value, is_word)| Entry { value, is_word }).collect();
        let bytes = values.iter().map(|entry| entry.value.len() as u64).sum();
        Self { values, bytes }
    }

    /// Where something of a value stands, each range between characters; none where it takes too much work.
    pub(super) fn find(&self, text: &str, work: &mut Work) -> Option<Vec<Range<usize>>> {
        // A text that was cut may say so, and may have been cut within a character.
        let cut = text.trim_end_matches(['…', '.', ' ', char::REPLACEMENT_CHARACTER]).len();
        let mut found: Vec<Range<usize>> = self.end_of_value(text, cut, work)?.into_iter().collect();
        let (mut ways, mut next) = (Vec::new(), Vec::new());
        for (at, _) in text.char_indices() {
            if let Some(end) = self.longest(text, at, cut, (&mut ways, &mut next), work)? {
                found.push(at..ceil(text, end));
            }
        }
        Some(found)
    }

    /// Where a value ends that begins at `start`, or enough of its beginning; a text that was cut ends at `cut`.
    fn longest(
        &self,
        text: &str,
        start: usize,
        cut: usize,
        (ways, next): (&mut Vec<Way>, &mut Vec<Way>),
        work: &mut Work,
    ) -> Option<Option<usize>> {
        let mut longest = None;
        ways.clear();
        ways.push(Way { from: 0, to: self.values.len(), end: start });
        for read in 1.. {
            for way in ways.drain(..) {
                spelling::readings(&text.as_bytes()[way.end..], |byte, length| {
                    next.extend(self.narrowed(way, read - 1, byte.to_ascii_lowercase(), length));
                });
                work.spend(STEP_WORK)?;
            }
            next.sort_unstable();
            next.dedup();
            std::mem::swap(ways, next);
            if ways.is_empty() {
                break;
            }
            for way in &*ways {
                // The value that is all of what was read comes before those that go on.
                let Entry { value, is_word } = &self.values[way.from];
                let is_whole = value.len() == read && (!is_word || is_whole_word(text, start, way.end));
                let is_cut = read >= PART_BYTES_MIN && way.end >= cut;
                if is_whole || read >= BEGINNING_BYTES_MIN || is_cut {
                    longest = longest.max(Some(way.end));
                }
            }
        }
        Some(longest)
    }

    /// Those of a way's values that have `byte` at this place.
    fn narrowed(&self, way: Way, at: usize, byte: u8, length: usize) -> Option<Way> {
        let values = &self.values[way.from..way.to];
        let from = values.partition_point(|entry| entry.value.get(at) < Some(&byte));
        let to = from + values[from..].partition_point(|entry| entry.value.get(at) == Some(&byte));
        (from < to).then_some(Way { from: way.from + from, to: way.from + to, end: way.end + length })
    }

    /// The end of a value with which a text begins that was cut in front; or what is left of one that was cut behind too.
    fn end_of_value(&self, text: &str, cut: usize, work: &mut Work) -> Option<Option<Range<usize>>> {
        let start = text.len() - text.trim_start_matches(char::REPLACEMENT_CHARACTER).len();
        let head = text.get(start..cut).unwrap_or_default().to_ascii_lowercase().into_bytes();
        if head.len() < PART_BYTES_MIN {
            return Some(None);
        }
        work.spend(self.bytes + head.len() as u64)?;
        let borders = borders(&head);
        let rest = |entry: &Entry| rest_in(&entry.value, &head, &borders);
        let longest = self.values.iter().filter(|entry| !entry.is_word).map(rest).max().unwrap_or_default();
        Some((longest >= PART_BYTES_MIN).then(|| start..ceil(text, start + longest)))
    }
}

/// For each beginning of a text, how much of its end is a shorter beginning.
fn borders(text: &[u8]) -> Vec<usize> {
    let (mut borders, mut length) = (vec![0; text.len()], 0);
    for at in 1..text.len() {
        while length > 0 && text[at] != text[length] {
            length = borders[length - 1];
        }
        length += usize::from(text[at] == text[length]);
        borders[at] = length;
    }
    borders
}

/// How much of the head of a text is the end of a value, or a part of it that goes to the head's end. The value's own
/// beginning is left out.
fn rest_in(value: &[u8], head: &[u8], borders: &[usize]) -> usize {
    let mut length = 0;
    for byte in value.iter().skip(1) {
        while length > 0 && *byte != head[length] {
            length = borders[length - 1];
        }
        length += usize::from(*byte == head[length]);
        if length == head.len() {
            break;
        }
    }
    length
}

/// Whether no letter and no digit stands beside.
fn is_whole_word(text: &str, start: usize, end: usize) -> bool {
    let is_part = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    let behind = text.get(end..);
    !is_part(text[..start].chars().next_back()) && behind.is_some_and(|behind| !is_part(behind.chars().next()))
}

/// The next place between two characters.
fn ceil(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(values: &[String]) -> Index {
        let sorted: std::collections::BTreeSet<_> = values.iter().map(|value| value.clone().into_bytes()).collect();
        Index::new(sorted.into_iter().map(|value| (value, false)))
    }

    /// What a search takes.
    fn taken(values: &[String], text: &str) -> u64 {
        let mut work = Work(u64::MAX);
        index(values).find(text, &mut work).unwrap();
        u64::MAX - work.0
    }

    #[test]
    fn values_with_one_beginning_take_no_more_than_one() {
        let values: Vec<String> = (0..4_000).map(|it| format!("{}{it:06}", "a".repeat(11))).collect();
        let text = "a".repeat(1_200);
        let bytes: usize = values.iter().map(String::len).sum();
        assert!(taken(&values, &text) <= taken(&values[..1], &text) + bytes as u64);
        assert!(taken(&values, &text) < 16 * STEP_WORK * 1_200 + bytes as u64);
    }

    #[test]
    fn a_value_of_one_letter_ends_at_its_bound() {
        let value = ["a".repeat(200_000)];
        assert!(index(&value).find(&"a".repeat(16_000), &mut Work(1 << 20)).is_none());
        assert_eq!(rest_in(b"xabab", b"abab", &borders(b"abab")), 4);
        assert_eq!(rest_in(b"xabab", b"bab!", &borders(b"bab!")), 3);
        assert_eq!(rest_in(b"abab", b"abab", &borders(b"abab")), 2);
    }
}
