//! `bulkhead lock`: accepts the plugins as they are, so that others are refused from now on.

use std::process::ExitCode;

use anyhow::{Context, anyhow};

use super::main::{Failed, Outcome, complain_of};
use super::output::print;
use super::{Lock, unusable};
use crate::audit::{Audit, Event};
use crate::config::{self, Loaded};
use crate::host::{self, Renewed};
use crate::id::Name;

/// Writes the lock file, or says what would need more than before.
///
/// # Errors
/// A name stands for nothing that can be accepted, or the file cannot be written.
pub async fn run(loaded: &Loaded, arguments: &Lock, as_json: bool) -> Outcome {
    for name in &arguments.accept {
        let connector = loaded.config.connectors.iter().find(|connector| connector.name == *name);
        if !connector.is_some_and(config::Connector::is_foreign) {
            return Err(Failed::Unusable(anyhow!("no connector `{name}` has a plugin from a file")));
        }
    }
    let (lock, renewed) = match host::renew_lock(loaded, &arguments.accept).await {
        Ok(renewed) => renewed,
        Err(problems) => {
            complain_of(&problems);
            return Ok(unusable());
        }
    };
    let path = loaded.lock_path();
    lock.write(loaded).with_context(|| format!("`{}` cannot be written", path.display()))?;
    if loaded.config.host.data_dir.is_dir() {
        Audit::note_beside(&loaded.config.host.data_dir, &events(&lock, &renewed, &arguments.accept));
    }
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

/// Who is trusted from now on, as the audit record has it.
fn events(lock: &config::Lock, renewed: &Renewed, accept: &[Name]) -> Vec<Event> {
    let event = |name: &String, reason: &str| {
        let sha256 = lock.connectors.get(name).map(|locked| locked.sha256.clone()).unwrap_or_default();
        Event { reason: reason.to_owned(), sha256, ..Event::action("lock", "").of(name) }
    };
    let is_accepted = |name: &String| accept.iter().any(|accepted| accepted.as_str() == name);
    let changed =
        renewed.changed.iter().map(|name| event(name, if is_accepted(name) { "accepted" } else { "changed" }));
    let added = renewed.added.iter().map(|name| event(name, "added"));
    let events: Vec<Event> =
        added.chain(changed).chain(renewed.removed.iter().map(|name| event(name, "removed"))).collect();
    if events.is_empty() { vec![Event::action("lock", "no plugin was added, changed or removed")] } else { events }
}
