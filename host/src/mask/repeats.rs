//! Texts about a message that may repeat what is masked in it: reasons, log lines, addresses of requests.
//!
//! Values are found as they are, percent-encoded and escaped, in another letter case, cut short, and in parts; a plugin that
//! means to tell one in another way can. Where not all of them can be known, no text is shown. Invariant: the work for a
//! text, and for all texts about a call, is bounded.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use percent_encoding::percent_decode_str;

use super::json::{self, Seen, Unreadable, unescaped};
use super::masks::{Masks, mark};
use super::search::{Index, PART_BYTES_MIN, Work};
use crate::message::Header;

/// Values of the messages of one call, with their parts.
const VALUES_MAX: usize = 16_384;
/// Bytes of them all.
const BYTES_MAX: usize = 512 << 10;
/// A word of a text from so many bytes on is looked for by itself: shorter ones are anybody's.
const WORD_BYTES_MIN: usize = 8;
/// What one text may take: a few hundredths of a second.
const TEXT_WORK_MAX: u64 = 8 << 20;
/// What all texts about one call may take: half a second.
const CALL_WORK_MAX: u64 = 256 << 20;
/// In the stead of a text.
const TOO_MUCH: &str = "<masked: the text is not shown, for its message has more masked values than are looked for>";
/// The same, of one that cannot be looked through.
const TOO_LONG: &str =
    "<masked: the text is not shown, for it takes too much work to look for its message's masked values in it>";

/// The masked values of some messages. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Repeats(Option<Arc<Known>>);

#[derive(Debug)]
struct Known {
    /// None where there is too much.
    index: Option<Index>,
    /// For all texts.
    work_left: AtomicU64,
}

/// What is to be looked for, while it is gathered.
#[derive(Default)]
struct Gathered {
    /// In lower case; with whether it is looked for as a whole word alone.
    values: BTreeMap<Vec<u8>, bool>,
    bytes: usize,
    is_too_much: bool,
}

impl Masks {
    /// What texts about these messages must not repeat.
    #[must_use]
    pub fn repeats<'m>(&self, messages: impl IntoIterator<Item = (&'m [Header], &'m [u8])>) -> Repeats {
        if self.is_empty() {
            return Repeats::default();
        }
        let mut gathered = Gathered::default();
        for (headers, body) in messages {
            headers.iter().filter(|(name, _)| self.hides(name)).for_each(|(_, value)| gathered.add_header(value));
            self.repeats_of_body(body, &mut gathered);
        }
        if gathered.values.is_empty() {
            return Repeats::default();
        }
        let index = (!gathered.is_too_much).then(|| Index::new(gathered.values));
        Repeats(Some(Arc::new(Known { index, work_left: AtomicU64::new(CALL_WORK_MAX) })))
    }

    fn repeats_of_body(&self, body: &[u8], gathered: &mut Gathered) {
        let Some(tree) = self.tree() else { return };
        let walked = json::walk(body, tree, |seen| {
            match seen {
                Seen::HiddenText(raw) | Seen::HiddenName(raw) => gathered.add(&unescaped(raw)),
                Seen::HiddenNumber(number) => gathered.add_number(number),
                Seen::Shown(_) | Seen::Masked(_) => {}
            }
            Ok(())
        });
        if walked == Err(Unreadable) && !self.is_plain(body) {
            // Whatever of it may be a value, also as a form or broken JSON means it.
            let text = String::from_utf8_lossy(body);
            for word in text.split(is_between).filter(|word| !word.is_empty()) {
                gathered.add(word);
                if word.contains(['%', '+']) {
                    gathered.add(&percent_decode_str(&word.replace('+', " ")).decode_utf8_lossy());
                }
                if word.contains('\\') {
                    gathered.add(&unescaped(word));
                }
            }
        }
    }
}

impl Repeats {
    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// A text as it may be shown.
    #[must_use]
    pub fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.0.as_deref() {
            Some(known) if !text.is_empty() => known.hide(text),
            _ => text.into(),
        }
    }
}

impl Known {
    fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(index) = &self.index else { return TOO_MUCH.into() };
        let allowed = self.work_left.load(Ordering::Relaxed).min(TEXT_WORK_MAX);
        let mut work = Work(allowed);
        let found = index.find(text, &mut work);
        let spent = allowed - work.0;
        let less = |left: u64| Some(left.saturating_sub(spent));
        let _ = self.work_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let Some(mut found) = found else { return TOO_LONG.into() };
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
}

impl Gathered {
    /// Looks for a value, in each way in which programs write it, and for its words.
    fn add(&mut self, value: &str) {
        if self.is_too_much {
            return;
        }
        let value = value.trim();
        // Whoever prints a value of several lines prints several lines.
        for line in value.lines().map(str::trim).filter(|_| value.contains(['\n', '\r'])) {
            self.add_line(line, false);
        }
        self.add_line(value, false);
        for word in value.split(is_between).map(|word| word.trim_matches(['.', '!', '?', '(', ')'])) {
            if word.len() >= WORD_BYTES_MIN || word.contains('@') {
                self.add_line(word, false);
            }
        }
    }

    /// The value of a header too: what stands behind a scheme, and each of its parts.
    fn add_header(&mut self, value: &str) {
        self.add(value);
        let (scheme, rest) = value.trim().split_once(char::is_whitespace).unwrap_or(("", value));
        // `Bearer` is no secret.
        let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        self.add_line(rest.trim(), false);
        let is_end = |character: char| character.is_whitespace() || matches!(character, ';' | ',' | '=' | '"');
        for part in if is_scheme { rest } else { value }.split(is_end).filter(|part| part.len() >= PART_BYTES_MIN) {
            self.add_line(part, part.len() < WORD_BYTES_MIN);
        }
    }

    fn add_line(&mut self, value: &str, is_word: bool) {
        self.keep(value, is_word);
        if !value.is_ascii() {
            for style in [Escapes::Json, Escapes::Rust] {
                self.keep(&style.write(value), is_word);
            }
        }
    }

    fn add_number(&mut self, number: &str) {
        self.keep(number, false);
        if let Ok(read) = number.parse::<f64>() {
            let written = read.to_string();
            if written != number {
                self.keep(&written, false);
            }
        }
    }

    fn keep(&mut self, value: &str, is_word: bool) {
        if value.is_empty() || self.is_too_much {
            return;
        }
        // A short one is a part of many.
        let is_word = is_word || value.len() < PART_BYTES_MIN;
        if let Some(known) = self.values.get_mut(&value.as_bytes().to_ascii_lowercase()) {
            *known &= is_word;
            return;
        }
        self.bytes += value.len();
        self.values.insert(value.as_bytes().to_ascii_lowercase(), is_word);
        self.is_too_much = self.values.len() > VALUES_MAX || self.bytes > BYTES_MAX;
    }
}

/// Whether a character stands between words, in whatever a text is written.
fn is_between(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(character, '"' | '\'' | '{' | '}' | '[' | ']' | ',' | ':' | ';' | '=' | '&' | '<' | '>')
        || character == char::REPLACEMENT_CHARACTER
}

/// How characters beyond ASCII are escaped.
#[derive(Clone, Copy)]
enum Escapes {
    Json,
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
                Self::Json => {
                    let units = &mut [0; 2];
                    character.encode_utf16(units).iter().try_for_each(|unit| write!(escaped, "\\u{unit:04x}"))
                }
            };
        }
        escaped
    }
}

#[cfg(test)]
mod tests {
    use super::super::masks::tests::masks;
    use super::*;

    fn repeats(body: &str) -> Repeats {
        let headers = [
            ("x-api-key".to_owned(), "k-12345678".to_owned()),
            ("other".to_owned(), "shown".to_owned()),
            ("authorization".to_owned(), "Bearer tok-abcdef-1234567890".to_owned()),
        ];
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
        check(body, "card 4111111111111111, cvv 123, id 1234", "card <masked>, <masked> <masked>, id 1234");
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

    #[test]
    fn parts_names_and_other_letter_case_are_hidden_too() {
        let body =
            r#"{"email":{"ann.secret@x.example":true,"to":"Ann Lee <lee@x.example>, or Schmidthuber."},"cards":[]}"#;
        check(body, "token tok-abcdef-1234567890 was refused", "token <masked> was refused");
        check(body, "no Bearer of TOK-abcdef-1234567890", "no Bearer of <masked>");
        check(body, "ann.secret@x.example, Ann.Secret@X.example", "<masked>, <masked>");
        check(body, "lee@x.example and schmidthuber", "<masked> and <masked>");
        let cookie = [("x-api-key".to_owned(), "sid=s3cr; user=ann-lee-77; k=Zm9vYmFyMTIzNA==".to_owned())];
        let hidden = masks(&[]).repeats([(&cookie[..], &b""[..])]);
        assert_eq!(hidden.hide("s3cr of ann-lee-77, Zm9vYmFyMTIzNA"), "<masked> of <masked>, <masked>");
        assert_eq!(hidden.hide("s3crypt"), "s3crypt");
    }

    #[test]
    fn a_text_that_was_cut_within_a_character_shows_no_rest() {
        let body = r#"{"email":"Jürgen Müßig-Größe"}"#;
        check(body, "\u{fffd}ßig-Größe called", "\u{fffd}<masked> called");
        check(body, "for Jürgen M\u{fffd}", "for <masked>\u{fffd}");
        check(body, "\u{fffd}rgen M\u{fffd}", "\u{fffd}<masked>\u{fffd}");
    }

    #[test]
    fn of_a_body_that_is_not_shown_each_word_is_hidden() {
        let body = "%65mail=ann%40x.example&pin=12&who=J%C3%B6rg+Lee";
        check(body, "ann@x.example, pin 12 of Jörg Lee", "<masked>, <masked> <masked> of <masked>");
    }

    #[test]
    fn texts_that_take_too_much_work_are_not_shown() {
        let body = format!(r#"{{"email":"{}"}}"#, "a".repeat(100_000));
        check(&body, &"a".repeat(16_000), TOO_LONG);
        let values: Vec<String> = (0..4_000).map(|it| format!("\"aaaaaaaaaaa{it:06}\"")).collect();
        let hidden = repeats(&format!("{{\"cards\":[[{}]]}}", values.join(",")));
        assert!(hidden.hide(&"a".repeat(1_200)).ends_with("a<masked>"));
        hidden.0.as_ref().unwrap().work_left.store(100_000, Ordering::Relaxed);
        let shown = [hidden.hide("nothing of it").into_owned(), hidden.hide("nothing of it").into_owned()];
        assert_eq!(shown, ["nothing of it", TOO_LONG], "all texts about a call have one bound");
    }
}
