//! Texts about a message that may repeat what is masked in it: reasons, log lines, addresses of requests.
//!
//! Values are found as they are, percent-encoded and escaped, and cut short; a plugin that means to tell one in another
//! way can. Where not all of them can be known, no text is shown. Invariant: the work for a text is bounded by its length
//! and by what is kept here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use super::json::{self, Seen, Unreadable, unescaped};
use super::masks::{Masks, mark};
use super::spelling::{self, Reader};
use crate::message::Header;

/// Values of the messages of one call.
const VALUES_MAX: usize = 4_096;
/// Bytes of them all.
const BYTES_MAX: usize = 256 << 10;
/// A shorter value is looked for as a whole word: it is a part of many.
const PART_BYTES_MIN: usize = 4;
/// So much of a value's beginning is found anywhere; less of it at the end of a text alone, where it was cut.
const BEGINNING_BYTES_MIN: usize = 12;
/// In the stead of a text.
const TOO_MUCH: &str = "<masked: the text is not shown, for its message has more masked values than are looked for>";

/// The masked values of some messages.
#[derive(Clone, Debug, Default)]
pub struct Repeats {
    /// By their first bytes.
    values: BTreeMap<u8, Vec<Vec<u8>>>,
    words: Vec<String>,
    count: usize,
    bytes: usize,
    is_too_much: bool,
}

impl Masks {
    /// What texts about these messages must not repeat.
    #[must_use]
    pub fn repeats<'m>(&self, messages: impl IntoIterator<Item = (&'m [Header], &'m [u8])>) -> Repeats {
        let mut repeats = Repeats::default();
        if self.is_empty() {
            return repeats;
        }
        for (headers, body) in messages {
            headers.iter().filter(|(name, _)| self.hides(name)).for_each(|(_, value)| repeats.add(value));
            self.repeats_of_body(body, &mut repeats);
        }
        repeats
    }

    fn repeats_of_body(&self, body: &[u8], repeats: &mut Repeats) {
        let Some(tree) = self.tree() else { return };
        let walked = json::walk(body, tree, |seen| {
            match seen {
                Seen::HiddenText(raw) | Seen::HiddenName(raw) => repeats.add(&unescaped(raw)),
                Seen::HiddenNumber(number) => repeats.add_number(number),
                Seen::Shown(_) | Seen::Masked(_) => {}
            }
            Ok(())
        });
        if walked == Err(Unreadable) && !self.is_plain(body) {
            // Whatever of it may be a value.
            let text = String::from_utf8_lossy(body);
            let is_between = |character: char| {
                character.is_whitespace()
                    || character.is_control()
                    || matches!(character, '"' | '\'' | '{' | '}' | '[' | ']' | ',' | ':' | ';' | '=' | '&' | '<' | '>')
                    || character == char::REPLACEMENT_CHARACTER
            };
            text.split(is_between).filter(|word| word.len() >= PART_BYTES_MIN).for_each(|word| repeats.add(word));
        }
    }
}

impl Repeats {
    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0 && !self.is_too_much
    }

    /// A text as it may be shown.
    #[must_use]
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.is_empty() || text.is_empty() {
            return text.into();
        }
        if self.is_too_much {
            return TOO_MUCH.into();
        }
        let mut found = self.find(text);
        if found.is_empty() {
            return text.into();
        }
        found.sort_unstable_by_key(|range| (range.start, range.end));
        let (mut shown, mut end) = (String::with_capacity(text.len()), 0);
        for range in found {
            if range.start >= end {
                shown.push_str(&text[end..range.start]);
                shown.push_str(&mark(""));
            }
            end = end.max(range.end);
        }
        shown.push_str(&text[end..]);
        shown.into()
    }

    /// Looks for a value, in each way in which programs write it.
    fn add(&mut self, value: &str) {
        let value = value.trim();
        // Whoever prints a value of several lines prints several lines.
        for line in value.lines().map(str::trim).filter(|_| value.contains(['\n', '\r'])) {
            self.add_line(line);
        }
        self.add_line(value);
    }

    fn add_line(&mut self, value: &str) {
        self.keep(value);
        if !value.is_ascii() {
            for style in [Escapes::JsonLower, Escapes::JsonUpper, Escapes::Rust] {
                self.keep(&style.write(value));
            }
        }
    }

    fn add_number(&mut self, number: &str) {
        self.keep(number);
        if let Ok(read) = number.parse::<f64>() {
            let written = read.to_string();
            if written != number {
                self.keep(&written);
            }
        }
    }

    fn keep(&mut self, value: &str) {
        if value.is_empty() || self.is_too_much {
            return;
        }
        (self.count, self.bytes) = (self.count + 1, self.bytes + value.len());
        self.is_too_much = self.count > VALUES_MAX || self.bytes > BYTES_MAX;
        if value.len() < PART_BYTES_MIN {
            self.words.push(value.to_owned());
            return;
        }
        let alike = self.values.entry(value.as_bytes()[0]).or_default();
        if !alike.iter().any(|known| known == value.as_bytes()) {
            alike.push(value.as_bytes().to_vec());
        }
    }

    /// Where something of a value stands; each range begins and ends between characters.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = self.end_of_value(text).into_iter().collect();
        found.extend(self.words.iter().flat_map(|word| whole_words(text, word)));
        let (mut reader, mut at) = (Reader::default(), 0);
        // A text that was cut says so.
        let end = text.trim_end_matches(['…', '.', ' ']).len();
        while at < text.len() {
            match self.begins(&mut reader, &text.as_bytes()[at..], end.saturating_sub(at)) {
                Some(length) => {
                    let range = at..ceil(text, at + length);
                    at = range.end;
                    found.push(range);
                }
                None => at = ceil(text, at + 1),
            }
        }
        found
    }

    /// How many bytes of a text spell a value, or enough of its beginning; `end` is where a text ends that was cut.
    fn begins(&self, reader: &mut Reader, text: &[u8], end: usize) -> Option<usize> {
        let mut longest = None;
        let firsts = spelling::firsts(text);
        for value in firsts.into_iter().flatten().filter_map(|first| self.values.get(&first)).flatten() {
            let (of_value, of_text) = reader.common(value, text);
            let is_cut = of_value >= PART_BYTES_MIN && of_text >= end;
            if of_value == value.len() || of_value >= BEGINNING_BYTES_MIN || is_cut {
                longest = longest.max(Some(of_text));
            }
        }
        longest
    }

    /// The end of a value with which a text begins that was cut in front; or what is left of one that was cut behind too.
    fn end_of_value(&self, text: &str) -> Option<Range<usize>> {
        let bytes = text.as_bytes();
        let head = bytes.get(..PART_BYTES_MIN)?;
        let ends = |value: &Vec<u8>| {
            let begins = (1..).zip(value.get(1..)?.windows(PART_BYTES_MIN)).filter(|(_, part)| *part == head);
            let mut rests = begins.map(|(start, _)| &value[start..]);
            rests
                .find(|rest| bytes.starts_with(rest) || rest.starts_with(bytes))
                .map(|rest| rest.len().min(bytes.len()))
        };
        self.values.values().flatten().filter_map(ends).max().map(|length| 0..ceil(text, length))
    }
}

/// How characters beyond ASCII are escaped.
#[derive(Clone, Copy)]
enum Escapes {
    JsonLower,
    JsonUpper,
    Rust,
}

impl Escapes {
    fn write(self, text: &str) -> String {
        let mut escaped = String::with_capacity(text.len() * 2);
        for character in text.chars() {
            if character.is_ascii() {
                escaped.push(character);
                continue;
            }
            // Writing into a String cannot fail.
            let _ = match self {
                Self::Rust => write!(escaped, "{}", character.escape_unicode()),
                Self::JsonLower => {
                    let units = &mut [0; 2];
                    character.encode_utf16(units).iter().try_for_each(|unit| write!(escaped, "\\u{unit:04x}"))
                }
                Self::JsonUpper => {
                    let units = &mut [0; 2];
                    character.encode_utf16(units).iter().try_for_each(|unit| write!(escaped, "\\u{unit:04X}"))
                }
            };
        }
        escaped
    }
}

/// Where a word stands that is no part of another.
fn whole_words<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
    let is_part = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    text.match_indices(word).map(|(start, word)| start..start + word.len()).filter(move |range| {
        !is_part(text[..range.start].chars().next_back()) && !is_part(text[range.end..].chars().next())
    })
}

/// The next place between two characters.
fn ceil(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::super::masks::tests::masks;
    use super::*;

    fn repeats(body: &str) -> Repeats {
        let headers = [("x-api-key".to_owned(), "k-12345678".to_owned()), ("other".to_owned(), "shown".to_owned())];
        masks(&["/email", "/cards/*"]).repeats([(&headers[..], body.as_bytes())])
    }

    #[track_caller]
    fn check(body: &str, text: &str, shown: &str) {
        assert_eq!(repeats(body).hide(text), shown);
    }

    #[test]
    fn a_text_shows_no_masked_value_in_whatever_spelling() {
        let body =
            r#"{"email":"ann/lee@x.example","cards":[{"n":4111111111111111,"cvv":"123","who":"Jörg Ü."}],"id":"o-77"}"#;
        check(body, "order o-77 of ann/lee@x.example: no", "order o-77 of <masked>: no");
        check(body, "GET /c/ann%2Flee%40x.example?a", "GET /c/<masked>?a");
        check(body, r#"{"m":"ann\/lee@x.example"}"#, r#"{"m":"<masked>"}"#);
        check(body, "card 4111111111111111, cvv 123, id 1234", "card <masked>, cvv <masked>, id 1234");
        check(body, "key k-12345678, shown", "key <masked>, shown");
        check(body, "\\u004aörg Ü. or J\\u00f6rg \\u00dc.", "<masked> or <masked>");
        check(body, "J\\u00F6rg \\u00DC. or J\\u{f6}rg \\u{dc}.", "<masked> or <masked>");
        check(body, "nothing of it", "nothing of it");
    }

    #[test]
    fn a_value_that_was_cut_is_not_shown_either() {
        let body = r#"{"email":"a-long-name@mail.example","cards":["line one\nsecond line\nthird"]}"#;
        check(body, "for a-long-name@mail…", "for <masked>…");
        check(body, "for a-lo", "for <masked>");
        check(body, "mail.example is down", "<masked> is down");
        check(body, "to a-long-name@mai [cut]", "to <masked> [cut]");
        check(body, "second line", "<masked>");
        check(body, "long-name@mail.ex", "<masked>");
    }

    #[test]
    fn where_not_all_values_are_known_no_text_is_shown() {
        let many: Vec<String> = (0..=VALUES_MAX).map(|it| format!("\"value-{it}\"")).collect();
        check(&format!("{{\"cards\":[[{}]]}}", many.join(",")), "anything", TOO_MUCH);
        check(r#"{"email":"x@y.example""#, "expected `}` after x@y.example", "expected `}` after <masked>");
    }
}
