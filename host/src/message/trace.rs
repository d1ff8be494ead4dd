//! The trace that a message belongs to, as its `traceparent` and `tracestate` headers say (W3C Trace Context).
//!
//! Reads and writes it; whether one is begun for what has none, and whether it is recorded, is decided in
//! `telemetry::otlp`. Invariant: an id is what the header had to say, 32 digits that are not all zero; anything else is no
//! trace.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::Header;

/// The header, as messages and requests have it.
pub const TRACEPARENT: &str = "traceparent";
/// What the systems that a trace has passed say to each other beside it.
pub const TRACESTATE: &str = "tracestate";
/// Characters of a trace's id.
const ID: usize = 32;
/// Characters of the id of one step in a trace.
const STEP: usize = 16;
/// Characters of a `tracestate` that is carried on, as the standard asks for at least; a longer one is left out.
const STATE_MAX: usize = 512;
/// The flag that says that whoever began the trace records it.
const SAMPLED: u8 = 1;

/// Which trace it is, and the step in it that comes before. Cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    id: [u8; ID],
    step: u64,
    /// As they came: whether the trace is kept by those who look at it.
    flags: u8,
}

impl Trace {
    /// The trace of a message with these headers, if it belongs to one.
    #[must_use]
    pub fn of(headers: &[Header]) -> Option<Self> {
        Self::parse(&headers.iter().find(|(name, _)| name == TRACEPARENT)?.1)
    }

    /// Reads `00-TRACE-STEP-FLAGS`; a later version may have more behind it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let [version, id, step, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let is_known = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        let is_named = |text: &str, digits| is_hex(text, digits) && text.bytes().any(|byte| byte != b'0');
        if !is_known || !is_named(id, ID) || !is_named(step, STEP) || !is_hex(flags, 2) {
            return None;
        }
        let (step, flags) = (u64::from_str_radix(step, 16).ok()?, u8::from_str_radix(flags, 16).ok()?);
        Some(Self { id: id.as_bytes().try_into().ok()?, step, flags })
    }

    /// One that begins here; nothing is recorded of it unless that is said ([`Trace::recorded`]).
    ///
    /// # Panics
    /// When the operating system has no randomness, without which nothing here can be safe.
    #[must_use]
    pub fn begin() -> Self {
        let mut bytes = [0; 24];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        let (id, step) = bytes.split_at(16);
        Self::of_bytes(id.try_into().unwrap_or([1; 16]), u64::from_le_bytes(step.try_into().unwrap_or([1; 8])))
    }

    /// One that begins with a message: the same for each delivery and each attempt at it. FNV-1a, mixed, since it must
    /// only spread, and is made for every message that has no trace.
    #[must_use]
    pub fn of_message(id: &str) -> Self {
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let seeds = (0xcbf2_9ce4_8422_2325, 0x9e37_79b9_7f4a_7c15);
        let hashed = id.bytes().fold(seeds, |(one, other), byte| (step(one, byte), step(other, byte)));
        let mix = |hash: u64| {
            let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
            let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
            mixed ^ (mixed >> 33)
        };
        let (first, second) = (mix(hashed.0), mix(hashed.1));
        let bytes = (u128::from(first) << 64 | u128::from(second)).to_be_bytes();
        Self::of_bytes(bytes, first.rotate_left(32) ^ second)
    }

    fn of_bytes(bytes: [u8; 16], step: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut id = [b'0'; ID];
        for (pair, byte) in id.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        // An id of zeros is none.
        id[ID - 1] = if bytes == [0; 16] { b'1' } else { id[ID - 1] };
        Self { id, step: step.max(1), flags: 0 }
    }

    /// Its id, as logs show it.
    #[must_use]
    pub fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or_default()
    }

    /// Its id, as a number.
    #[must_use]
    pub fn number(&self) -> u128 {
        u128::from_str_radix(self.id(), 16).unwrap_or_default()
    }

    /// The last 56 bits of its id, which are random wherever it began.
    #[must_use]
    pub fn chance(&self) -> u64 {
        // For every message: the digits are known to be digits.
        let digit = |byte: u8| u64::from(if byte <= b'9' { byte - b'0' } else { byte - b'a' + 10 });
        self.id[ID - 14..].iter().fold(0, |bits, byte| bits << 4 | digit(*byte))
    }

    /// The step in it that comes before whatever is done now.
    #[must_use]
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Whether it is the same trace, at whatever step.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id
    }

    /// Whether it is recorded by whoever began it.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same, recorded or not.
    #[must_use]
    pub fn recorded(self, is_recorded: bool) -> Self {
        let flags = if is_recorded { self.flags | SAMPLED } else { self.flags & !SAMPLED };
        Self { flags, ..self }
    }

    /// The same trace at a step of which nothing is known but its name; the same name has the same id.
    #[must_use]
    pub fn at(self, step: &str) -> Self {
        let digest = Sha256::digest(step.as_bytes());
        let bytes = digest[..8].try_into().unwrap_or([1; 8]);
        Self { step: u64::from_be_bytes(bytes).max(1), ..self }
    }

    /// The same trace at a step that nothing else is called.
    #[must_use]
    pub fn next(self) -> Self {
        Self { step: Self::begin().step, ..self }
    }

    /// The header for what is done next.
    #[must_use]
    pub fn header(&self) -> String {
        let mut text = String::with_capacity(55);
        let _ = write!(text, "00-{}-{:016x}-{:02x}", self.id(), self.step, self.flags);
        text
    }

    /// The header for a step in it; the same `step` has the same id.
    #[must_use]
    pub fn parent_of(&self, step: &str) -> String {
        self.at(step).header()
    }
}

/// The `tracestate` of a message with these headers, where it is one that can be carried on.
#[must_use]
pub fn state_of(headers: &[Header]) -> Option<&str> {
    let state = &headers.iter().find(|(name, _)| name == TRACESTATE)?.1;
    let is_text = state.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    (is_text && !state.is_empty() && state.len() <= STATE_MAX).then_some(state)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_trace_is_read_and_carried_on() {
        let headers = [("traceparent".to_owned(), format!("00-{ID}-00f067aa0ba902b7-01"))];
        let trace = Trace::of(&headers).expect("it is well-formed");
        assert_eq!((trace.header(), trace.is_recorded()), (headers[0].1.clone(), true));
        let next = trace.parent_of("a");
        assert_eq!((trace.id(), &next[..36], &next[52..]), (ID, &*format!("00-{ID}-"), "-01"));
        assert_eq!(Trace::parse(&next), Some(trace.at("a")));
        assert_ne!(next, trace.parent_of("b"));
        assert!(trace.recorded(false).header().ends_with("-00"));
    }

    #[test]
    fn what_is_malformed_is_no_trace() {
        for text in [
            "".to_owned(),
            "00-1-2-01".to_owned(),
            format!("00-{ID}-00f067aa0ba902b7"),
            format!("ff-{ID}-00f067aa0ba902b7-01"),
            format!("00-{ID}-00f067aa0ba902b7-01-more"),
            format!("00-{ID}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{}-00f067aa0ba902b7-01", ID.to_uppercase()),
            format!("00-{ID}-+0f067aa0ba902b7-01"),
        ] {
            assert_eq!(Trace::parse(&text), None, "{text}");
        }
        assert!(Trace::parse(&format!("01-{ID}-00f067aa0ba902b7-01-more")).is_some());
    }

    #[test]
    fn a_message_begins_the_same_trace_again_and_another_message_another() {
        let (one, other) = (Trace::of_message("a"), Trace::of_message("b"));
        assert_eq!(one, Trace::of_message("a"));
        assert!(!one.is_same(&other) && one.step() != other.step());
        assert_eq!(Trace::parse(&one.header()), Some(one));
        assert_eq!(u128::from(one.chance()), one.number() & ((1 << 56) - 1));
    }

    #[test]
    fn a_state_that_is_too_long_or_no_text_is_left_out() {
        let state = |value: &str| state_of(&[("tracestate".to_owned(), value.to_owned())]).map(str::to_owned);
        assert_eq!(state("a=1,b=2").as_deref(), Some("a=1,b=2"));
        for value in ["", "a=\u{7}", &"a".repeat(513)] {
            assert_eq!(state(value), None, "{value}");
        }
    }
}
