//! A way through a JSON body that tells what lies at masked places, and what does not.
//!
//! Reads the bytes once, without a tree of values, so that duplicate members are all seen and nothing but the places is
//! changed by whoever cuts them out. A body may be several values, one after the other, as in NDJSON. Invariants: it does
//! not recurse, and what it reads is JSON or refused as a whole.

use std::borrow::Cow;
use std::ops::Range;

use super::pointer::{Reached, Tree};

/// Arrays and objects within each other: more than any parser in use takes, and few enough to keep.
const DEPTH_MAX: usize = 1_000;

/// Why a body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// What is seen on the way.
#[derive(Debug)]
pub(super) enum Seen<'b, 'w> {
    /// A name or a string that no pointer means, without its quotation marks, escaped as it was written.
    Shown(&'b str),
    /// A string within a masked place, likewise.
    HiddenText(&'b str),
    /// A name within a masked place, likewise: where members are keyed by what they are about, it is as much a value.
    HiddenName(&'b str),
    /// A number within a masked place, as it was written.
    HiddenNumber(&'b str),
    /// The end of a masked place.
    Masked(Spot<'w>),
}

/// A masked place.
#[derive(Debug)]
pub(super) struct Spot<'w> {
    /// Where its value stands in the body.
    pub(super) range: Range<usize>,
    value: usize,
    frames: &'w [Frame],
    body: &'w str,
}

/// A step into a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Token<'b> {
    /// A member, by its name as it was written.
    Name(&'b str),
    /// An element, by its place.
    Index(usize),
}

/// An array or object that has not ended.
#[derive(Debug)]
struct Frame {
    is_array: bool,
    /// Of the member that is read now, where it is an object.
    name: Range<usize>,
    index: usize,
    reached: Reached,
    start: usize,
}

struct Walk<'b, 't> {
    text: &'b str,
    at: usize,
    tree: &'t Tree,
    frames: Vec<Frame>,
    /// Values before this one, where there are several.
    value: usize,
    /// Where the masked value begins that is read now, and how many frames are around it.
    hidden: Option<(usize, usize)>,
}

impl Token<'_> {
    /// As a pointer names it.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Name(raw) => unescaped(raw),
            Self::Index(index) => index.to_string().into(),
        }
    }
}

impl Spot<'_> {
    /// The pointer to exactly this place; in front the number of its value, where there are several and it is not the
    /// first. None where it takes more than `bytes_max`, beyond which nothing is read: names may be as long as a body, and
    /// stand around each of its places.
    pub(super) fn path(&self, bytes_max: usize) -> Option<String> {
        let mut path = if self.value > 0 { format!("{} ", self.value + 1) } else { String::new() };
        for frame in self.frames {
            path.push('/');
            if frame.is_array {
                path.push_str(&frame.index.to_string());
            } else {
                for character in Characters(&self.body[frame.name.clone()]) {
                    match character {
                        '~' => path.push_str("~0"),
                        '/' => path.push_str("~1"),
                        other => path.push(other),
                    }
                    if path.len() > bytes_max {
                        return None;
                    }
                }
            }
        }
        (path.len() <= bytes_max).then_some(path)
    }
}

impl Frame {
    fn token<'b>(&self, text: &'b str) -> Token<'b> {
        if self.is_array { Token::Index(self.index) } else { Token::Name(&text[self.name.clone()]) }
    }
}

/// Goes through a body from its beginning to its end.
pub(super) fn walk<'b>(
    body: &'b [u8],
    tree: &Tree,
    mut see: impl FnMut(Seen<'b, '_>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let text = std::str::from_utf8(body).map_err(|_| Unreadable)?;
    // Some writers put a byte order mark in front; the ranges count it.
    let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut walk = Walk { text, at, tree, frames: Vec::new(), value: 0, hidden: None };
    walk.skip_space();
    while walk.at < text.len() {
        walk.one(&mut see)?;
        let end = walk.at;
        walk.skip_space();
        if walk.at == end && end < text.len() {
            return Err(Unreadable);
        }
        walk.value += 1;
    }
    Ok(())
}

/// A string as it was meant; half of a surrogate pair stands for an unknown character.
pub(super) fn unescaped(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return raw.into();
    }
    Characters(raw).collect::<String>().into()
}

/// What is left of a string, character by character as it was meant.
struct Characters<'b>(&'b str);

impl Iterator for Characters<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let first = self.0.chars().next()?;
        let rest = &self.0[first.len_utf8()..];
        let (character, length) = if first == '\\' { escaped(rest.as_bytes()) } else { (first, 0) };
        self.0 = rest.get(length..).unwrap_or_default();
        Some(character)
    }
}

/// What an escape behind its backslash stands for, and how long it is; it was checked on the way.
fn escaped(escape: &[u8]) -> (char, usize) {
    let character = match escape.first() {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unit(escape),
        Some(other) => char::from(*other),
        None => char::REPLACEMENT_CHARACTER,
    };
    (character, 1)
}

fn unit(escape: &[u8]) -> (char, usize) {
    let hex =
        |at: usize| -> Option<u32> { u32::from_str_radix(std::str::from_utf8(escape.get(at..at + 4)?).ok()?, 16).ok() };
    let first = hex(1).unwrap_or_default();
    let second = if escape.get(5..7) == Some(b"\\u") { hex(7) } else { None };
    if let (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) = (first, second) {
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (low - 0xdc00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 11);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 5)
}

impl<'b> Walk<'b, '_> {
    /// One value with all that is in it.
    fn one(&mut self, see: &mut impl FnMut(Seen<'b, '_>) -> Result<(), Unreadable>) -> Result<(), Unreadable> {
        let mut reached = self.tree.start();
        loop {
            let is_over = self.begin(std::mem::take(&mut reached), see)?;
            if is_over && self.end(see)? {
                return Ok(());
            }
            reached = self.next(see)?;
        }
    }

    /// A value begins; whether it is over, too.
    fn begin(
        &mut self,
        reached: Reached,
        see: &mut impl FnMut(Seen<'b, '_>) -> Result<(), Unreadable>,
    ) -> Result<bool, Unreadable> {
        let start = self.at;
        if self.hidden.is_none() && self.tree.ends(&reached) {
            self.hidden = Some((start, self.frames.len()));
        }
        let is_hidden = self.hidden.is_some();
        match self.byte().ok_or(Unreadable)? {
            b'"' => {
                let raw = self.string()?;
                see(if is_hidden { Seen::HiddenText(raw) } else { Seen::Shown(raw) })?;
            }
            b'-' | b'0'..=b'9' => {
                let number = self.number()?;
                if is_hidden {
                    see(Seen::HiddenNumber(number))?;
                }
            }
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            b'n' => self.word("null")?,
            open @ (b'{' | b'[') => return self.open(open == b'[', start, reached),
            _ => return Err(Unreadable),
        }
        self.leave_hidden(start, see)?;
        Ok(true)
    }

    /// An array or object begins; whether it is over, too: its end is behind it then.
    fn open(&mut self, is_array: bool, start: usize, reached: Reached) -> Result<bool, Unreadable> {
        if self.frames.len() == DEPTH_MAX {
            return Err(Unreadable);
        }
        self.at += 1;
        self.skip_space();
        // Within something masked nothing is looked for.
        let reached = if self.hidden.is_some() { Reached::new() } else { reached };
        // Counts up to its first element.
        self.frames.push(Frame { is_array, name: 0..0, index: usize::MAX, reached, start });
        Ok(self.byte() == Some(if is_array { b']' } else { b'}' }))
    }

    /// What a value stands in ends as well, as far as it does; whether everything has ended.
    fn end(&mut self, see: &mut impl FnMut(Seen<'b, '_>) -> Result<(), Unreadable>) -> Result<bool, Unreadable> {
        while let Some(frame) = self.frames.last() {
            let (is_array, start) = (frame.is_array, frame.start);
            self.skip_space();
            match self.byte().ok_or(Unreadable)? {
                b',' => {
                    self.at += 1;
                    self.skip_space();
                    return Ok(false);
                }
                b']' if is_array => {}
                b'}' if !is_array => {}
                _ => return Err(Unreadable),
            }
            self.at += 1;
            self.frames.pop();
            self.leave_hidden(start, see)?;
        }
        Ok(true)
    }

    /// Steps to the next element or member; what pointers reach there.
    fn next(&mut self, see: &mut impl FnMut(Seen<'b, '_>) -> Result<(), Unreadable>) -> Result<Reached, Unreadable> {
        if self.frames.last().is_some_and(|frame| !frame.is_array) {
            if self.byte() != Some(b'"') {
                return Err(Unreadable);
            }
            let start = self.at + 1;
            let raw = self.string()?;
            see(if self.hidden.is_some() { Seen::HiddenName(raw) } else { Seen::Shown(raw) })?;
            self.skip_space();
            if self.byte() != Some(b':') {
                return Err(Unreadable);
            }
            self.at += 1;
            self.skip_space();
            if let Some(frame) = self.frames.last_mut() {
                frame.name = start..start + raw.len();
            }
        }
        let Some(frame) = self.frames.last_mut() else { return Err(Unreadable) };
        frame.index = frame.index.wrapping_add(1);
        if frame.reached.is_empty() {
            Ok(Reached::new())
        } else {
            Ok(self.tree.step(&frame.reached, frame.token(self.text)))
        }
    }

    /// A value that began at `start` has ended.
    fn leave_hidden(
        &mut self,
        start: usize,
        see: &mut impl FnMut(Seen<'b, '_>) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        if self.hidden != Some((start, self.frames.len())) {
            return Ok(());
        }
        self.hidden = None;
        let range = start..self.at;
        see(Seen::Masked(Spot { range, value: self.value, frames: &self.frames, body: self.text }))
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Unreadable> {
        let is_there = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += word.len();
        is_there.then_some(()).ok_or(Unreadable)
    }

    /// Without its quotation marks; the present byte is the first.
    fn string(&mut self) -> Result<&'b str, Unreadable> {
        let (text, start) = (self.text, self.at + 1);
        let mut at = start;
        loop {
            match text.as_bytes().get(at).ok_or(Unreadable)? {
                b'"' => break,
                b'\\' => at += escape_bytes(&text.as_bytes()[at..]).ok_or(Unreadable)?,
                0..=0x1f => return Err(Unreadable),
                _ => at += 1,
            }
        }
        self.at = at + 1;
        Ok(&text[start..at])
    }

    fn number(&mut self) -> Result<&'b str, Unreadable> {
        let start = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        let whole = self.digits()?;
        if whole > 1 && self.text.as_bytes()[self.at - whole] == b'0' {
            return Err(Unreadable);
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    /// One at least; how many.
    fn digits(&mut self) -> Result<usize, Unreadable> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(self.at - start) } else { Err(Unreadable) }
    }
}

/// The bytes of the escape that a text begins with.
fn escape_bytes(text: &[u8]) -> Option<usize> {
    match text.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => text.get(2..6)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}
