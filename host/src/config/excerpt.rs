//! The line of a file that a problem points at, as it may be shown.
//!
//! Only lines, never whole values: what spans several lines is pointed at where it begins. Invariant: what
//! [`super::secrecy`] hides is not in a [`Mark`], not even its length.

use std::ops::Range;

/// What stands where something is hidden.
const HIDDEN: char = '…';
/// Some editors begin a file with it; it has no width and belongs to no line.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// A line, and the part of it that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The file, as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters of the file; of what `text` shows it may be another one.
    pub column: usize,
    /// The line without its end, and without what is hidden.
    pub text: String,
    /// The bytes of `text` that are meant.
    pub span: Range<usize>,
    /// What it has to do with the problem; empty for the place of the problem itself.
    pub label: String,
}

/// Line and column of a byte, both from 1, the column in characters.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let offset = offset.min(text.len());
    let start = line_start(text, offset);
    let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
    // Continuation bytes begin with 10: what is left counts characters.
    let before = text.as_bytes().get(start..offset).unwrap_or_default();
    (line, before.iter().filter(|byte| **byte & 0xC0 != 0x80).count() + 1)
}

/// The line in which `place` begins, without what is `hidden` (in order), and where `place` is in it.
pub(super) fn line(text: &str, place: Range<usize>, hidden: &[Range<usize>]) -> (String, Range<usize>) {
    let start = line_start(text, place.start.min(text.len()));
    let rest = &text[start..];
    let line = rest.split('\n').next().unwrap_or_default().trim_end_matches('\r');
    let place = place.start.saturating_sub(start).min(line.len())..place.end.saturating_sub(start).min(line.len());
    let mut shown = Shown { text: String::with_capacity(line.len()), place, span: 0..0 };
    let mut done = 0;
    let in_line = hidden.iter().filter(|range| range.end > start && range.start < start + line.len());
    for range in in_line {
        let (from, to) = (range.start.saturating_sub(start).max(done), (range.end - start).min(line.len()));
        if from >= to {
            continue;
        }
        shown.plain(line, done..from);
        shown.hide(from..to);
        done = to;
    }
    shown.plain(line, done..line.len());
    shown.ended(line.len());
    (shown.text, shown.span)
}

/// A line that is put together, and where the place in it has come to lie.
struct Shown {
    text: String,
    place: Range<usize>,
    span: Range<usize>,
}

impl Shown {
    fn plain(&mut self, line: &str, range: Range<usize>) {
        let base = self.text.len();
        for (edge, moved) in [(self.place.start, &mut self.span.start), (self.place.end, &mut self.span.end)] {
            if range.contains(&edge) {
                *moved = base + edge - range.start;
            }
        }
        self.text.push_str(&line[range]);
    }

    fn hide(&mut self, range: Range<usize>) {
        if range.contains(&self.place.start) {
            self.span.start = self.text.len();
        }
        self.text.push(HIDDEN);
        if range.contains(&self.place.end) {
            self.span.end = self.text.len();
        }
    }

    /// What lies at the end of the line lies in no part of it.
    fn ended(&mut self, length: usize) {
        if self.place.start == length {
            self.span.start = self.text.len();
        }
        if self.place.end == length {
            self.span.end = self.text.len();
        }
        self.span.end = self.span.end.max(self.span.start);
    }
}

fn line_start(text: &str, offset: usize) -> usize {
    match text.as_bytes()[..offset].iter().rposition(|byte| *byte == b'\n') {
        Some(newline) => newline + 1,
        None if text.starts_with(BYTE_ORDER_MARK) && offset >= BYTE_ORDER_MARK.len() => BYTE_ORDER_MARK.len(),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        assert_eq!(line_and_column("a\nö = 1\n", 2), (2, 1));
        assert_eq!(line_and_column("a\nö = 1\n", 5), (2, 3));
        assert_eq!(line_and_column("\u{feff}a = 1", 3), (1, 1));
        assert_eq!(line_and_column("", 9), (1, 1));
    }

    fn check(text: &str, place: Range<usize>, hidden: Option<Range<usize>>, expected: &str, marked: &str) {
        let (shown, span) = line(text, place, hidden.as_slice());
        assert_eq!((shown.as_str(), &shown[span]), (expected, marked), "{text:?}");
    }

    #[test]
    fn the_place_is_found_again_in_what_is_shown() {
        check("a = 1\r\nbc = 23\r\n", 12..14, None, "bc = 23", "23");
        check("\u{feff}a = 1", 7..8, None, "a = 1", "1");
        check("a = 'secret', b = 2", 4..12, Some(5..11), "a = '…', b = 2", "'…'");
        check("a = 'secret', b = 2", 18..19, Some(5..11), "a = '…', b = 2", "2");
        check("a = 'secret', b = 2", 6..8, Some(5..11), "a = '…', b = 2", "…");
        check("a = 'one\ntwo'\nb = 1", 4..13, Some(5..12), "a = '…", "'…");
        check("a = 'one\ntwo'\nb = 1", 9..9, Some(5..12), "…'", "…");
        check("a =", 3..3, None, "a =", "");
        check("a = [\n", 6..6, None, "", "");
    }
}
