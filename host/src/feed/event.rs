//! The events, as they are told.
//!
//! Names, times and texts that were made for people; no body, and no header. Invariant: what an event says of itself is
//! complete without the events before it.

use schemars::JsonSchema;
use serde::Serialize;

use super::tail::Line;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An attempt at a delivery has ended, and what it came to is on disk.
    Delivery,
    /// A connector is held back for a reason, or no longer.
    Held,
    /// A plugin has logged a line.
    Log,
    /// Something is in the audit record.
    Audit,
    /// The configuration was read again.
    Reload,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Delivery, Self::Held, Self::Log, Self::Audit, Self::Reload];

    /// Its place in a set.
    pub(super) fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Its name.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Held => "held",
            Self::Log => "log",
            Self::Audit => "audit",
            Self::Reload => "reload",
        }
    }
}

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "DeliveryEvent")]
pub struct Delivered {
    /// When, as RFC 3339.
    pub at: String,
    /// Whose delivery it was.
    pub connector: String,
    /// From which queue.
    pub queue: String,
    /// `CONNECTOR:QUEUE:MESSAGE_ID`.
    pub delivery: String,
    /// The message's id.
    pub message_id: String,
    /// `done`, `retry` or `dead`; `held` where it was put off at no charge, `cancelled` where a later tick took its place,
    /// `failed` where a sender was told that it failed, `expired` where it was too old.
    pub outcome: &'static str,
    /// Counted from 1.
    pub attempt: u32,
    /// How long the attempt took.
    pub seconds: f64,
    /// Why it did not succeed.
    pub reason: Option<String>,
}

/// A connector is held back, or no longer.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "HeldEvent")]
pub struct HeldChange {
    /// When, as RFC 3339.
    pub at: String,
    /// Which connector.
    pub connector: String,
    /// Why, as in `bulkhead_held{reason}`.
    pub reason: &'static str,
    /// Whether it is held for this reason from now on.
    pub is_held: bool,
}

/// The configuration was read again.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ReloadEvent")]
pub struct Reloaded {
    /// When, as RFC 3339.
    pub at: String,
    /// `done` or `refused`.
    pub outcome: &'static str,
    /// By whom.
    pub asked_by: &'static str,
    /// What it changed, one thing each; or what is wrong with the configuration.
    pub changes: Vec<String>,
}

/// A line of a connector's log.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LogEvent {
    /// Whose it is.
    pub connector: String,
    /// As in `GET connectors/{name}/logs`.
    #[serde(flatten)]
    pub line: Line,
}

impl LogEvent {
    pub(super) fn new(connector: &str, line: &Line) -> Self {
        Self { connector: connector.to_owned(), line: line.clone() }
    }
}

/// Events that a reader was too slow for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "LostEvent")]
pub struct Lost {
    /// How many of those that it wanted.
    pub count: u64,
}
