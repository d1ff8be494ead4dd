//! The connector's `config`.

use bulkhead_sdk::log;
use bulkhead_sdk::prelude::*;

/// `config` of `builtin:log`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The level of each line.
    pub level: Level,
}

/// How loud a line is.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For following a program step by step.
    Trace,
    /// For finding an error.
    Debug,
    /// For watching.
    #[default]
    Info,
    /// Something odd.
    Warn,
    /// Someone must act.
    Error,
}

impl From<Level> for log::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::Trace,
            Level::Debug => Self::Debug,
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}
