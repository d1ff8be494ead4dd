//! Ticks by the clock.

use std::time::Duration;

/// One entry of a connector's `schedule`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// "default" where it has no name of its own.
    pub name: String,
    /// The period; ticks count from the Unix epoch plus a fixed phase per schedule.
    pub every: Duration,
    /// What the tick hands to the plugin, as JSON.
    pub input: Option<String>,
}
