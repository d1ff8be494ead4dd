//! The trace that a message belongs to, as its `traceparent` and `tracestate` headers say (W3C Trace Context).
//!
//! Reads and writes it; whether one is begun for what has none, and whether it is recorded, is decided in
//! `telemetry::otlp`. Invariant: an id is what the header had to say, 32 digits that are not all zero; anything else is no
//! trace.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

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
/// Systems that a `tracestate` names, as the standard has it.
const STATE_MEMBERS_MAX: usize = 32;
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
    #[must_use]
    pub fn begin() -> Self {
        Self::of_halves(any(), any(), any())
    }

    /// One that begins with a message: the same for each delivery and each attempt at it.
    #[must_use]
    pub fn of_message(id: &str) -> Self {
        let (first, second) = spread(&[id]);
        Self::of_halves(first, second, first.rotate_left(32) ^ second)
    }

    fn of_halves(first: u64, second: u64, step: u64) -> Self {
        let mut id = [0; ID];
        write_hex(&mut id[..ID / 2], first);
        // An id of zeros is none.
        write_hex(&mut id[ID / 2..], second.max(1));
        Self { id, step: step.max(1), flags: 0 }
    }

    /// Its id, as logs show it.
    #[must_use]
    pub fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or_default()
    }

    /// Its id, as bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; ID / 2] {
        let mut bytes = [0; ID / 2];
        for (byte, pair) in bytes.iter_mut().zip(self.id.chunks_exact(2)) {
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        bytes
    }

    /// The last 56 bits of its id, which are random wherever it began.
    #[must_use]
    pub fn chance(&self) -> u64 {
        self.id[ID - 14..].iter().fold(0, |bits, byte| bits << 4 | u64::from(digit(*byte)))
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

    /// The same trace at a step that is known by these words; the same words have the same id.
    #[must_use]
    pub fn at(self, words: &[&str]) -> Self {
        let (first, second) = spread(words);
        Self { step: (first ^ second.rotate_left(17)).max(1), ..self }
    }

    /// The same trace at a step that nothing else is called.
    #[must_use]
    pub fn next(self) -> Self {
        Self { step: any().max(1), ..self }
    }

    /// The header for what is done next.
    #[must_use]
    pub fn header(&self) -> String {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..3 + ID].copy_from_slice(&self.id);
        write_hex(&mut text[36..36 + STEP], self.step);
        write_hex(&mut text[53..], u64::from(self.flags) << 56);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The header for a step in it; the same `step` has the same id.
    #[must_use]
    pub fn parent_of(&self, step: &str) -> String {
        self.at(&[step]).header()
    }
}

/// The `tracestate` of a message with these headers, where it is one that can be carried on.
#[must_use]
pub fn state_of(headers: &[Header]) -> Option<&str> {
    let state = headers.iter().find(|(name, _)| name == TRACESTATE)?.1.as_str();
    is_state(state).then_some(state)
}

/// Whether a text is a list of `KEY=VALUE` as W3C Trace Context has it, each key once, and not too long.
fn is_state(text: &str) -> bool {
    let members: Vec<&str> = text.split(',').map(|member| member.trim_matches([' ', '\t'])).collect();
    let mut keys = BTreeSet::new();
    let is_member = |member: &&str| {
        member.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value) && keys.insert(key.to_owned()))
    };
    text.len() <= STATE_MAX
        && members.len() <= STATE_MEMBERS_MAX
        && members.iter().any(|member| !member.is_empty())
        && members.iter().filter(|member| !member.is_empty()).all(is_member)
}

/// `a` to `z` or a digit first; `TENANT@SYSTEM` where several share a system.
fn is_key(key: &str) -> bool {
    let is_inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte);
    let is_part = |part: &str, most: usize| {
        part.len() <= most
            && part.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            && part.bytes().all(is_inside)
    };
    key.split_once('@').map_or(is_part(key, 256), |(tenant, system)| is_part(tenant, 241) && is_part(system, 14))
}

/// Printable, and not blank at its end.
fn is_value(value: &str) -> bool {
    let is_inside = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    value.len() <= 256 && value.bytes().all(is_inside) && value.bytes().last().is_some_and(|byte| byte != b' ')
}

/// A number that has not been before: they only have to differ, also from those of other processes.
fn any() -> u64 {
    static START: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let start = START.get_or_init(|| {
        let mut bytes = [0; 8];
        // Without randomness the address of a variable is different enough.
        let is_random = getrandom::fill(&mut bytes).is_ok();
        if is_random { u64::from_le_bytes(bytes) } else { std::ptr::from_ref(&bytes).addr() as u64 }
    });
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    mixed(start.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// Two numbers that these words decide. They must only spread, and are wanted for every message.
fn spread(words: &[&str]) -> (u64, u64) {
    let (mut one, mut other) = (0xcbf2_9ce4_8422_2325_u64, 0x9e37_79b9_7f4a_7c15_u64);
    for word in words {
        for chunk in word.as_bytes().chunks(8) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            let part = u64::from_le_bytes(eight);
            one = (one ^ part).wrapping_mul(0x2127_599b_f432_5c37).rotate_left(29);
            other = (other ^ part).wrapping_mul(0x8803_55f2_1e6d_1965).rotate_left(37);
        }
        one ^= word.len() as u64;
        other = other.wrapping_add(word.len() as u64).rotate_left(7);
    }
    (mixed(one), mixed(other))
}

/// The finalizer of MurmurHash 3: each bit of the input moves half of the output's.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let number = (number ^ (number >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

/// The first digits of a number, as many as there is room for.
fn write_hex(text: &mut [u8], number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (place, number) in text.iter_mut().zip((0..16).map(|nth| number << (4 * nth) >> 60)) {
        *place = DIGITS[usize::from(number.to_le_bytes()[0])];
    }
}

/// What a digit stands for; it is known to be one.
fn digit(digit: u8) -> u8 {
    if digit <= b'9' { digit - b'0' } else { digit - b'a' + 10 }
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
        assert_eq!(Trace::parse(&next), Some(trace.at(&["a"])));
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
        let number = u128::from_str_radix(one.id(), 16).expect("an id is digits");
        assert_eq!((u128::from(one.chance()), one.bytes()), (number & ((1 << 56) - 1), number.to_be_bytes()));
    }

    #[test]
    fn no_two_steps_are_called_alike() {
        let (trace, count) = (Trace::begin(), 10_000);
        let named: BTreeSet<u64> =
            (0..count).map(|nth| trace.at(&["delivery", "orders", &format!("m{nth}")]).step()).collect();
        let next: BTreeSet<u64> = (0..count).map(|_| trace.next().step()).collect();
        assert_eq!((named.len(), next.len(), named.intersection(&next).count()), (count, count, 0));
        assert_ne!(trace.at(&["ab", "c"]), trace.at(&["a", "bc"]));
        assert!(!Trace::begin().is_same(&Trace::begin()));
    }

    #[test]
    fn a_state_that_is_malformed_or_too_long_is_left_out() {
        let state = |value: &str| state_of(&[("tracestate".to_owned(), value.to_owned())]).map(str::to_owned);
        let many = |count: usize| (0..count).map(|nth| format!("k{nth}=1")).collect::<Vec<_>>().join(",");
        for value in
            ["a=1,b=2", "a=1, b=2", "rojo=00f067aa0ba902b7", "fw529a3039@dt=FfD1;2", "a= 1", "a=1,,b=2", &many(32)]
        {
            assert_eq!(state(value).as_deref(), Some(value), "{value}");
        }
        let long = format!("a={},b={}", "x".repeat(256), "y".repeat(256));
        let wrong = ["", ",", "a", "a=", "=1", "A=1", "a=1=2", "a=\u{7}", "a=\u{e4}", "a=1,a=2", "a@b@c=1", "a b=1"];
        for value in wrong.into_iter().chain([&*many(33), &*format!("a={}", "x".repeat(257)), &*long]) {
            assert_eq!(state(value), None, "{value}");
        }
    }
}
