//! The trace that a message belongs to, as its `traceparent` header says (W3C Trace Context).
//!
//! A trace is carried on and never begun: what has none gets none. Invariant: an id is what the header had to say, 32
//! digits that are not all zero; anything else is no trace.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::Header;

/// The header, as messages and requests have it.
pub const TRACEPARENT: &str = "traceparent";
/// Characters of a trace's id.
const ID: usize = 32;
/// Bytes of the id of one step in a trace.
const STEP_BYTES: usize = 8;

/// Which trace it is. Cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    id: [u8; ID],
    /// As they came: whether the trace is kept by those who look at it.
    flags: [u8; 2],
}

impl Trace {
    /// The trace of a message with these headers, if it belongs to one.
    #[must_use]
    pub fn of(headers: &[Header]) -> Option<Self> {
        Self::parse(&headers.iter().find(|(name, _)| name == TRACEPARENT)?.1)
    }

    /// Reads `00-TRACE-STEP-FLAGS`; a later version may have more behind it.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let [version, id, step, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let is_known = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        let is_named = |text: &str, digits| is_hex(text, digits) && text.bytes().any(|byte| byte != b'0');
        if !is_known || !is_named(id, ID) || !is_named(step, 2 * STEP_BYTES) || !is_hex(flags, 2) {
            return None;
        }
        Some(Self { id: id.as_bytes().try_into().ok()?, flags: flags.as_bytes().try_into().ok()? })
    }

    /// Its id, as logs show it.
    #[must_use]
    pub fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or_default()
    }

    /// The header for a step in it; the same `step` has the same id.
    #[must_use]
    pub fn parent_of(&self, step: &str) -> String {
        let digest = Sha256::digest(step.as_bytes());
        let mut text = format!("00-{}-", self.id());
        for byte in &digest[..STEP_BYTES] {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('-');
        text.extend(self.flags.map(char::from));
        text
    }
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
        let next = trace.parent_of("a");
        assert_eq!((trace.id(), &next[..36], &next[52..]), (ID, &*format!("00-{ID}-"), "-01"));
        assert_eq!(Trace::parse(&next), Some(trace));
        assert_ne!(next, trace.parent_of("b"));
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
        ] {
            assert_eq!(Trace::parse(&text), None, "{text}");
        }
        assert!(Trace::parse(&format!("01-{ID}-00f067aa0ba902b7-01-more")).is_some());
    }
}
