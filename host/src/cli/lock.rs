//! `bulkhead lock`: accepts the plugins as they are, so that others are refused from now on.

use std::process::ExitCode;

use anyhow::{Context, anyhow};

use super::check::problems_text;
use super::main::{Failed, Outcome, complain};
use super::output::print;
use super::{Lock, unusable};
use crate::config::{Loaded, Plugin};
use crate::host;

/// Writes the lock file, or says what would need more than before.
///
/// # Errors
/// A name stands for nothing that can be accepted, or the file cannot be written.
pub async fn run(loaded: &Loaded, arguments: &Lock, as_json: bool) -> Outcome {
    for name in &arguments.accept {
        let connector = loaded.config.connectors.iter().find(|connector| connector.name == *name);
        if connector.is_none_or(|connector| matches!(connector.plugin, Plugin::Builtin(_))) {
            return Err(Failed::Unusable(anyhow!("no connector `{name}` has a plugin from a file")));
        }
    }
    let (lock, renewed) = match host::renew_lock(loaded, &arguments.accept).await {
        Ok(renewed) => renewed,
        Err(problems) => {
            complain(&problems_text(&problems));
            return Ok(unusable());
        }
    };
    let path = loaded.lock_path();
    lock.write(loaded).with_context(|| format!("`{}` cannot be written", path.display()))?;
    if as_json {
        print(&serde_json::to_string(&renewed).map_err(anyhow::Error::new)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (what, names) in [("added", &renewed.added), ("changed", &renewed.changed), ("removed", &renewed.removed)] {
        if !names.is_empty() {
            print(&format!("{what}: {}", names.join(", ")))?;
        }
    }
    print(&format!("{} of {} plugins in {}", lock.connectors.len(), loaded.config.connectors.len(), path.display()))?;
    Ok(ExitCode::SUCCESS)
}
