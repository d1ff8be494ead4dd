//! One attempt at a delivery with its effects, for the history.
//!
//! Names, sizes and times only: no body, no value of a header or a secret, no query. Invariant: an attempt is kept after
//! what it came to is on disk, never before.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConnectorId;

/// Effects that are kept of one attempt.
pub const EFFECTS_MAX: usize = 100;

/// The outcome of an attempt that was put off at no charge, after it had sent a request.
pub const HELD: &str = "held";
/// The outcome of an attempt at a tick that was cut off after it had sent a request: a later tick took its place.
pub const CANCELLED: &str = "cancelled";
/// The outcome of a request that its connector could not answer: its sender was told, and there is no other attempt.
pub const FAILED: &str = "failed";

/// For which attempts a history is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Keep {
    /// Those that failed.
    #[default]
    Failures,
    /// All.
    All,
    /// Those that failed, and of the others this part, from 0 to 1; of one message all or none.
    Sample(f64),
}

/// One attempt that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Whose delivery it was.
    pub connector: ConnectorId,
    /// The name of the queue that it came from.
    pub queue: String,
    /// The message's id.
    pub message_id: String,
    /// The id of the message that it was made from.
    pub parent: Option<String>,
    /// When the message was accepted, in milliseconds since the Unix epoch.
    pub accepted_ms: u64,
    /// Counted from 1.
    pub number: u32,
    /// When it began, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
    /// `done`, `retry` or `dead`; `held`, `cancelled` and `failed` as [`HELD`], [`CANCELLED`] and [`FAILED`] say.
    pub outcome: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// In the order in which they began, [`EFFECTS_MAX`] at most.
    pub effects: Vec<Effect>,
}

/// What an attempt did to the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// A request was sent.
    Request {
        /// Its method.
        method: String,
        /// Its URL without the query.
        url: String,
        /// The status of the answer; none where it did not come, or not whole.
        status: Option<u16>,
        /// From the first byte out to the last byte in, in milliseconds; none where the call ended before.
        duration_ms: Option<u64>,
    },
    /// A message was published.
    Publish {
        /// To this queue.
        queue: String,
        /// The message's id.
        id: String,
        /// Whether it was committed: what a failed call publishes is dropped.
        is_committed: bool,
    },
    /// State was written.
    State {
        /// So many keys.
        keys: usize,
    },
    /// A secret was seen, or put into a request.
    Secret {
        /// Its name.
        name: String,
    },
}

impl Keep {
    /// Whether an attempt at this message is kept although it succeeded.
    #[must_use]
    pub fn keeps_success(self, message_id: &str) -> bool {
        match self {
            Self::Failures => false,
            Self::All => true,
            Self::Sample(part) => place(message_id) < part,
        }
    }
}

/// Where a message lies between 0 and 1: the same for all its attempts. FNV-1a, mixed, since it must only spread.
fn place(message_id: &str) -> f64 {
    let hash = message_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let upper = u32::try_from(mixed >> 32).unwrap_or(u32::MAX);
    f64::from(upper) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_about_the_part_that_it_says() {
        let kept = |part| (0..10_000).filter(|id| Keep::Sample(part).keeps_success(&id.to_string())).count();
        assert_eq!((kept(0.0), kept(1.0)), (0, 10_000));
        assert!((800..1_200).contains(&kept(0.1)), "{}", kept(0.1));
    }
}
