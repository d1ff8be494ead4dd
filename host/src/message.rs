//! What travels through queues, before and after it is accepted.
//!
//! Owns the shapes only: where a message is stored belongs to the ledger, what happened to it to [`crate::settlement`].
//! Invariant: header names are lower case; a body is bytes, never text.

pub mod request;
pub mod trace;

use serde::{Deserialize, Serialize};

/// One header of a message: a lower-case name and its value. A name may repeat.
pub type Header = (String, String);

/// An accepted message as every subscription sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Stable over every redelivery.
    pub id: String,
    /// What the sender ordered it by, if anything.
    pub key: Option<String>,
    /// In the order in which the sender gave them.
    pub headers: Vec<Header>,
    /// The payload.
    pub body: Vec<u8>,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub enqueued_at_ms: u64,
    /// When it stops being worth delivering, if ever.
    pub expires_at_ms: Option<u64>,
    /// The id of the message that it was made from, if any.
    pub parent: Option<String>,
    /// How many connectors it has passed through in this host.
    pub hops: u32,
}

impl Message {
    /// Its size for every account and limit: body, headers, id and key.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        size_bytes(&self.id, self.key.as_deref(), &self.headers, &self.body)
    }
}

/// A message that is to be accepted; its id is decided already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// Given by the sender, or derived.
    pub id: String,
    /// What to order it by, if anything.
    pub key: Option<String>,
    /// In the sender's order.
    pub headers: Vec<Header>,
    /// The payload.
    pub body: Vec<u8>,
    /// Deliver no sooner than this after the commit, in milliseconds.
    pub delay_ms: Option<u64>,
    /// Not worth delivering later than this after the commit, in milliseconds.
    pub expires_ms: Option<u64>,
    /// The id of the message that it was made from, if any.
    pub parent: Option<String>,
    /// The parent's hops plus one; 0 for what came from outside.
    pub hops: u32,
}

impl Draft {
    /// Its size for every account and limit: body, headers, id and key.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        size_bytes(&self.id, self.key.as_deref(), &self.headers, &self.body)
    }
}

/// What a tick of a schedule looks like in a connector's inbox: the body of its message, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// Which of the connector's schedules.
    pub schedule: String,
    /// The planned time, in milliseconds since the Unix epoch.
    pub planned_at_ms: u64,
    /// The schedule's `input`, as JSON.
    pub input: Option<String>,
    /// Whether somebody fired it, not the clock.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
}

impl Tick {
    /// As the body of a message.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are JSON")
    }

    /// A message of an inbox as the tick that it is; `None` where it is none. A request has headers and is never one,
    /// whatever its body looks like.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        if message.headers.is_empty() { Self::from_json(&message.body) } else { None }
    }

    /// From the body of a message; `None` where it is no tick.
    #[must_use]
    pub fn from_json(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

/// Bytes of an id.
const ID_BYTES_MAX: usize = 256;
/// Bytes of a key.
const KEY_BYTES_MAX: usize = 512;
/// Headers of a message.
pub const HEADERS_MAX: usize = 64;
/// Bytes of a header's name.
const HEADER_NAME_BYTES_MAX: usize = 128;
/// Bytes of a header's value.
const HEADER_VALUE_BYTES_MAX: usize = 8 * 1024;
/// The longest `delay-ms` of a draft: 30 days.
pub const DELAY_MS_MAX: u64 = 30 * 86_400 * 1000;
/// The longest `expires-ms` of a draft, ten years: far enough, and safe to add to any time.
pub const EXPIRES_MS_MAX: u64 = 3653 * 86_400 * 1000;

/// Whether id, key and headers of a message that somebody hands in are well-formed.
///
/// # Errors
/// The text says what is not, and what is allowed; it repeats nothing of the message.
pub fn check(id: &str, key: Option<&str>, headers: &[Header]) -> Result<(), String> {
    if id.is_empty() || id.len() > ID_BYTES_MAX || has_control(id) {
        return Err(format!("its id is malformed: use 1 to {ID_BYTES_MAX} bytes without control characters"));
    }
    if key.is_some_and(|key| key.is_empty() || key.len() > KEY_BYTES_MAX || has_control(key)) {
        return Err(format!("its key is malformed: use 1 to {KEY_BYTES_MAX} bytes without control characters"));
    }
    if headers.len() > HEADERS_MAX {
        return Err(format!("it has {} headers: {HEADERS_MAX} are the most", headers.len()));
    }
    for (place, (name, value)) in headers.iter().enumerate() {
        if name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX || !name.bytes().all(is_header_name) {
            return Err(format!("the name of its header {place} is malformed: use lower-case letters, digits and `-`"));
        }
        if value.len() > HEADER_VALUE_BYTES_MAX || has_control(value) {
            return Err(format!(
                "the value of its header {place} is malformed: use at most {HEADER_VALUE_BYTES_MAX} bytes without control characters"
            ));
        }
    }
    Ok(())
}

fn has_control(text: &str) -> bool {
    // Nearly every text is of these alone, and is looked through without being decoded.
    !text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && text.chars().any(|character| character.is_control() && character != '\t')
}

/// A token of HTTP, without upper case.
fn is_header_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn size_bytes(id: &str, key: Option<&str>, headers: &[Header], body: &[u8]) -> u64 {
    let headers: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    (id.len() + key.map_or(0, str::len) + headers + body.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(id: &str, key: Option<&str>, header: (&str, &str)) -> bool {
        check(id, key, &[(header.0.to_owned(), header.1.to_owned())]).is_err()
    }

    #[test]
    fn malformed_parts_are_refused() {
        assert!(!refused("id-1", Some("key"), ("content-type", "text/plain; a=\tb")));
        assert!(refused("", None, ("a", "b")));
        assert!(refused("a\n", None, ("a", "b")));
        assert!(refused("a", Some(""), ("a", "b")));
        assert!(refused("a", None, ("A", "b")));
        assert!(refused("a", None, ("a", "b\r\nc: d")));
        assert!(refused(&"a".repeat(257), None, ("a", "b")));
    }
}
