//! `builtin:log`: writes each message to the connector's log.
//!
//! For looking at what flows through a queue. It publishes nothing and needs no grant.

mod line;
mod settings;

use bulkhead_sdk::log;
use bulkhead_sdk::prelude::*;

pub use settings::{Config, Level};

/// The connector.
pub struct Log;

impl Consumer for Log {
    fn handle(message: Message) -> Result<(), Failure> {
        let config: Config = config::load()?;
        log::log!(target: "message", config.level.into(), "{}", line::of(&message));
        Ok(())
    }
}

export!(
    /// Writes each message to the log.
    Log: Consumer,
    name = "log",
    config = Config,
);
