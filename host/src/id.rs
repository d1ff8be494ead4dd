//! Names from the configuration, and ids derived from what a message was made from.
//!
//! Invariant: the same parents give the same id on every redelivery, so receivers can drop repeats.

use std::fmt;
use std::sync::Arc;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

/// The longest name of a queue or connector.
pub const NAME_BYTES_MAX: usize = 63;

/// A checked name of a queue or a connector: `[a-z0-9_-]{1,63}`; an inbox's begins with `@`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks a name that an operator wrote.
    ///
    /// # Errors
    /// The text says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let well_formed = !text.is_empty()
            && text.len() <= NAME_BYTES_MAX
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        if well_formed {
            Ok(Self(text.into()))
        } else {
            Err(format!("`{text}` is not a name: use 1 to {NAME_BYTES_MAX} of a-z, 0-9, `_` and `-`"))
        }
    }

    /// The private queue under a connector's schedules and webhooks.
    #[must_use]
    pub fn inbox_of(connector: &Self) -> Self {
        Self(format!("@{connector}").into())
    }

    /// A name that was checked before it was stored.
    pub(crate) fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// Whether this is an inbox's name.
    #[must_use]
    pub fn is_inbox(&self) -> bool {
        self.0.starts_with('@')
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", &*self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What an id is derived for; part of what is hashed, so that kinds never collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A message published while handling another.
    Publish,
    /// A tick of a schedule.
    Tick,
    /// An `Idempotency-Key`.
    Idempotency,
    /// An event of a webhook whose own id cannot be a message's.
    Event,
    /// What tells of a dead letter.
    Notice,
    /// A copy that a route makes.
    Route,
}

impl Kind {
    fn label(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Tick => "tick",
            Self::Idempotency => "idempotency",
            Self::Event => "event",
            Self::Notice => "notice",
            Self::Route => "route",
        }
    }
}

/// Derives an id: 128 bits of SHA-256 over the parts, each with its length in front, in lower-case base32 (26 characters).
#[must_use]
pub fn derive(kind: Kind, parts: &[&str], ordinal: u64) -> String {
    let mut hashed: SmallVec<[u8; 256]> = SmallVec::new();
    for part in std::iter::once(kind.label()).chain(parts.iter().copied()) {
        hashed.extend_from_slice(&(part.len() as u64).to_le_bytes());
        hashed.extend_from_slice(part.as_bytes());
    }
    hashed.extend_from_slice(&ordinal.to_le_bytes());
    encode(&Sha256::digest(&hashed)[..16])
}

/// A fresh random id for a message that came from outside without one.
///
/// # Panics
/// When the operating system has no randomness, without which nothing here can be safe.
#[must_use]
pub fn random() -> String {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    encode(&bytes)
}

fn encode(bytes: &[u8]) -> String {
    let mut text = BASE32_NOPAD.encode(bytes);
    text.make_ascii_lowercase();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_parents_give_the_same_id() {
        let id = derive(Kind::Publish, &["connector", "queue", "parent"], 0);
        assert_eq!(id, derive(Kind::Publish, &["connector", "queue", "parent"], 0));
        assert_eq!(id.len(), 26);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(derive(Kind::Publish, &["ab", "c"], 0), derive(Kind::Publish, &["a", "bc"], 0));
        assert_ne!(derive(Kind::Publish, &["a"], 0), derive(Kind::Tick, &["a"], 0));
        assert_ne!(derive(Kind::Publish, &["a"], 0), derive(Kind::Publish, &["a"], 1));
    }

    #[test]
    fn odd_names_are_refused() {
        for text in ["", "A", "a.b", "@a", "a/b", "ä", &"a".repeat(64)] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
        assert!(Name::parse("a-b_9").is_ok());
    }
}
