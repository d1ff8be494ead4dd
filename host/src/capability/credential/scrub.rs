//! Credentials that an answer repeats are blotted out before a plugin sees it.
//!
//! Finds the value as it is, and in the forms in which servers echo things: base64 (also inside something longer),
//! hexadecimal, and any mixture of percent-encoded and JSON-escaped characters. Defence in depth: the receiver knows the value anyway, and a receiver
//! that wants to smuggle it can. Invariant: lengths stay, so what an answer says of its length stays true.

use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use bytes::{Bytes, BytesMut};
use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};
use zeroize::Zeroize;

use crate::mask::Secret;
use crate::mask::spelling::{self, Fit, Reader};

/// What is shorter occurs by chance: an answer must not be spoilt for it.
const BYTES_MIN: usize = 4;
/// The same for what is left of a value in base64 when its ends, which depend on what stands beside it, are cut off.
const CORE_BYTES_MIN: usize = 6;
/// Stands for every byte of a credential.
const BLOT: u8 = b'*';

/// What to look for in the answers to one request.
pub(crate) struct Scrubber {
    finder: AhoCorasick,
    needles: Needles,
    /// Looked for in every spelling.
    values: Vec<Secret>,
    bytes_max: usize,
}

struct Needles(Vec<Vec<u8>>);

impl Drop for Needles {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}

impl Scrubber {
    /// `None` where nothing is worth looking for.
    pub(crate) fn new<'a>(values: impl IntoIterator<Item = &'a Secret>) -> Option<Self> {
        let values: Vec<Secret> =
            values.into_iter().filter(|value| value.expose().len() >= BYTES_MIN).cloned().collect();
        let mut needles = BTreeSet::new();
        values.iter().for_each(|value| encode(value.expose(), &mut needles));
        let needles = Needles(needles.into_iter().collect());
        let spelled_max = values.iter().map(|value| value.expose().len() * spelling::BYTES_MAX).max()?;
        let bytes_max = needles.0.iter().map(Vec::len).max()?.max(spelled_max);
        let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&needles.0).ok()?;
        Some(Self { finder, needles, values, bytes_max })
    }

    /// Blots out what it finds; whether it found anything.
    pub(crate) fn scrub(&self, bytes: &mut [u8]) -> bool {
        let found = self.find(&mut Reader::default(), bytes, bytes.len());
        found.iter().for_each(|range| bytes[range.clone()].fill(BLOT));
        !found.is_empty()
    }

    /// What is found and begins before `end`.
    fn find(&self, reader: &mut Reader, bytes: &[u8], end: usize) -> Vec<Range<usize>> {
        let encoded = self.finder.find_iter(bytes).map(|found| found.range()).take_while(|range| range.start < end);
        let spelled = (0..end).filter_map(|start| Some(start..start + self.spelled(reader, &bytes[start..])?));
        encoded.chain(spelled).collect()
    }

    /// How many bytes of a text spell one of the values, if it begins with one.
    fn spelled(&self, reader: &mut Reader, text: &[u8]) -> Option<usize> {
        let mut found = None;
        for value in self.values.iter().map(Secret::expose) {
            if text.first().is_some_and(|first| spelling::may_begin(value, *first))
                && let Fit::Whole(length) = reader.fit(value, text)
            {
                found = found.max(Some(length));
            }
        }
        found
    }

    /// Whether more of a text may make it one of the values.
    fn may_go_on(&self, reader: &mut Reader, text: &[u8]) -> bool {
        let goes_on = |value: &[u8]| {
            text.first().is_some_and(|first| spelling::may_begin(value, *first)) && reader.fit(value, text) == Fit::Part
        };
        self.values.iter().map(Secret::expose).any(goes_on)
    }

    /// Where the end of `bytes` begins that may be the beginning of something to be found.
    fn tail(&self, reader: &mut Reader, bytes: &[u8]) -> usize {
        let first = bytes.len().saturating_sub(self.bytes_max - 1);
        let begins = |start: &usize| {
            let rest = &bytes[*start..];
            self.may_go_on(reader, rest)
                || self.needles.0.iter().any(|needle| needle.len() > rest.len() && needle.starts_with(rest))
        };
        (first..bytes.len()).find(begins).unwrap_or(bytes.len())
    }
}

/// The pieces of one body, which may break a credential in two.
#[derive(Default)]
pub(crate) struct Stream {
    kept: BytesMut,
    reader: Reader,
}

impl Stream {
    /// What may go on now, and whether something was blotted out.
    pub(crate) fn push(&mut self, scrubber: &Scrubber, chunk: &[u8]) -> (Bytes, bool) {
        self.kept.extend_from_slice(chunk);
        // What begins in the tail may be the shorter of two things to be found: the next piece decides.
        let tail = scrubber.tail(&mut self.reader, &self.kept);
        let found = scrubber.find(&mut self.reader, &self.kept, tail);
        found.iter().for_each(|range| self.kept[range.clone()].fill(BLOT));
        let end = found.iter().map(|range| range.end).fold(tail, usize::max);
        (self.kept.split_to(end).freeze(), !found.is_empty())
    }

    /// What was kept back, at the end of the body.
    pub(crate) fn finish(&mut self, scrubber: &Scrubber) -> (Bytes, bool) {
        let found = scrubber.scrub(&mut self.kept);
        (self.kept.split().freeze(), found)
    }
}

/// Adds every encoding of a value as a whole.
fn encode(value: &[u8], needles: &mut BTreeSet<Vec<u8>>) {
    needles.insert(HEXLOWER.encode(value).into_bytes());
    needles.insert(HEXUPPER.encode(value).into_bytes());
    for encoding in [BASE64, BASE64URL] {
        let alone = encoding.encode(value);
        needles.insert(alone.trim_end_matches('=').as_bytes().to_vec());
        needles.insert(alone.into_bytes());
        for before in 0..3 {
            let encoded = encoding.encode(&[&[0; 2][..before], value].concat());
            // A character that carries bits of a neighbour differs with it.
            let whole = (before * 8).div_ceil(6)..(before + value.len()) * 8 / 6;
            if whole.len() >= CORE_BYTES_MIN {
                needles.insert(encoded.as_bytes()[whole].to_vec());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const VALUE: &[u8] = b"s3cr+t/\"value\" ~1";

    fn scrubber() -> Scrubber {
        Scrubber::new(&[Secret::new(VALUE.to_vec())]).unwrap()
    }

    fn check_gone(text: &[u8], form: &[u8]) {
        for cut in 0..text.len() {
            let (scrubber, mut stream) = (scrubber(), Stream::default());
            let (mut out, first) = stream.push(&scrubber, &text[..cut]);
            let (more, second) = stream.push(&scrubber, &text[cut..]);
            let (rest, third) = stream.finish(&scrubber);
            out = [out, more, rest].concat().into();
            assert!(first || second || third, "{:?} cut at {cut}", String::from_utf8_lossy(text));
            assert_eq!(out.len(), text.len());
            assert!(!out.windows(form.len()).any(|bytes| bytes == form), "cut at {cut}");
        }
    }

    #[test]
    fn every_form_is_found_wherever_it_is_cut() {
        let forms = [
            VALUE.to_vec(),
            HEXLOWER.encode(VALUE).into_bytes(),
            HEXUPPER.encode(VALUE).into_bytes(),
            BASE64.encode(VALUE).as_bytes()[..VALUE.len() * 8 / 6].to_vec(),
            b"s3cr%2Bt%2F%22value%22%20~1".to_vec(),
            b"s3cr%2bt%2f%22value%22%20~1".to_vec(),
            b"s3cr%2Bt/%22value%22+%7e1".to_vec(),
            b"s3cr%252Bt%252F%2522value%2522%2520~1".to_vec(),
            b"s3cr\\u002bt/\\\"value\\\"\\u0020~1".to_vec(),
            b"s3cr+t/\\\"value\\\" ~1".to_vec(),
            b"s3cr+t\\/\\\"value\\\" ~1".to_vec(),
        ];
        for form in forms {
            check_gone(&[b"before ", form.as_slice(), b" after"].concat(), &form);
        }
    }

    #[test]
    fn base64_is_found_inside_something_longer() {
        for (before, after) in [("", ""), ("u:", ""), ("us:", "x"), ("use:", "xy"), ("user:", "xyz")] {
            let encoded = BASE64.encode(&[before.as_bytes(), VALUE, after.as_bytes()].concat());
            let mut bytes = encoded.clone().into_bytes();
            assert!(scrubber().scrub(&mut bytes), "{encoded}");
            let blotted = bytes.iter().filter(|byte| **byte == BLOT).count();
            assert!(blotted >= VALUE.len(), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn what_is_not_a_credential_passes_at_once() {
        let (scrubber, mut stream) = (scrubber(), Stream::default());
        let (out, found) = stream.push(&scrubber, b"data: hello\n\n");
        assert_eq!((out.as_ref(), found), (b"data: hello\n\n".as_slice(), false));
        let (out, found) = stream.push(&scrubber, b"data: s3c");
        assert_eq!((out.as_ref(), found), (b"data: ".as_slice(), false));
        assert_eq!(stream.finish(&scrubber).0.as_ref(), b"s3c");
        assert!(Scrubber::new(&[Secret::new(b"abc".to_vec())]).is_none());
    }

    proptest::proptest! {
        #[test]
        fn other_bytes_stay_as_they_are(text in proptest::collection::vec(0_u8..4, 0..200), cut in 0_usize..200) {
            let text: Vec<u8> = text.into_iter().map(|at| VALUE[usize::from(at)]).collect();
            let (scrubber, mut stream) = (scrubber(), Stream::default());
            let cut = cut.min(text.len());
            let first = stream.push(&scrubber, &text[..cut]).0;
            let second = stream.push(&scrubber, &text[cut..]).0;
            proptest::prop_assert_eq!([first, second, stream.finish(&scrubber).0].concat(), text);
        }
    }
}
