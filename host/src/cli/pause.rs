//! `bulkhead pause` and `bulkhead resume`: a connector stops and goes on; both survive a restart.

use super::main::Failed;
use super::output::print;
use super::target::Target;
use crate::config::Config;
use crate::id::Name;

/// Pauses a connector.
///
/// # Errors
/// There is no such connector, or the ledger cannot be opened or changed.
pub async fn pause(config: &Config, connector: &Name, as_json: bool) -> Result<(), Failed> {
    let target = Target::find(config)?;
    let paused = target.pause(connector.as_str()).await;
    target.close();
    paused?;
    let text = format!("{connector} is paused: `bulkhead resume {connector}` lets it go on");
    Ok(print(&if as_json { serde_json::json!({ "paused": connector.as_str() }).to_string() } else { text })?)
}

/// Lets a connector go on.
///
/// # Errors
/// There is no such connector, or the ledger cannot be opened or changed.
pub async fn resume(config: &Config, connector: &Name, as_json: bool) -> Result<(), Failed> {
    let target = Target::find(config)?;
    let resumed = target.resume(connector.as_str()).await;
    target.close();
    resumed?;
    let text = format!("{connector} goes on");
    Ok(print(&if as_json { serde_json::json!({ "resumed": connector.as_str() }).to_string() } else { text })?)
}
