//! The embedded store under local queues, state, schedules and dead letters.
//!
//! The one place that knows SQL. Its interface is the domain's, because a second ledger will follow.

mod unmerged;

use std::time::Duration;

pub use unmerged::{Full, Ledger, Reservation, StateUsage};

/// Whether a queue keeps the order of its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// Messages are delivered as they come, several at once.
    #[default]
    None,
    /// A message waits until the earlier ones of its key are settled.
    Key,
}

/// `[queues.X]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePolicy {
    /// Whether the order of keys is kept.
    pub ordering: Ordering,
    /// How long a message stays where nobody subscribes, and an orphaned subscription keeps its messages.
    pub retention: Duration,
    /// Not removed before this age, even when settled.
    pub keep: Option<Duration>,
    /// Removed at this age although unsettled: counted and logged.
    pub expires: Option<Duration>,
    /// Bound of the stored bytes.
    pub max_bytes: u64,
    /// Window in which a second message with the same id is dropped.
    pub dedup: Option<Duration>,
    /// Bound of remembered ids.
    pub dedup_max: u64,
    /// Largest message that the queue takes, from the `limits.message` of its consumers.
    pub message_bytes: u64,
}

impl Default for QueuePolicy {
    fn default() -> Self {
        Self {
            ordering: Ordering::None,
            retention: Duration::from_secs(7 * 86_400),
            keep: None,
            expires: None,
            max_bytes: 1 << 30,
            dedup: None,
            dedup_max: 20_000_000,
            message_bytes: crate::limit::MESSAGE_BYTES_DEFAULT,
        }
    }
}

/// Where a new subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// At the oldest message that is kept.
    #[default]
    Oldest,
    /// After what is there already.
    Latest,
}
