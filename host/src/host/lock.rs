//! Plugins against `bulkhead.lock`: what runs is what was accepted, and an upgrade that needs more is refused until it is
//! accepted too.
//!
//! What a plugin needs is asked of the component that was compiled. Where the bytes are the accepted ones, nothing is
//! asked and nothing runs.

use std::collections::BTreeMap;

use tokio::runtime::Handle;

use super::gate;
use super::plugins::{Plugins, load};
use crate::config::{Connector, Loaded, Lock, Locked, Problem};
use crate::id::Name;
use crate::metrics::Metrics;
use crate::runtime::Engine;
use crate::runtime::compile::Compiled;
use crate::runtime::inspect::inspect;

/// What `bulkhead lock` has changed, by connector.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Renewed {
    /// Were not in the file.
    pub added: Vec<String>,
    /// Have other bytes than before.
    pub changed: Vec<String>,
    /// Have left the configuration, or have a built-in plugin now.
    pub removed: Vec<String>,
}

/// Every plugin that is not the one that was accepted; none where there is no lock file.
pub(super) async fn compare(loaded: &Loaded, plugins: &Plugins) -> Vec<Problem> {
    let lock = match loaded.lock() {
        Ok(Some(lock)) => lock,
        Ok(None) => return Vec::new(),
        Err(problem) => return vec![*problem],
    };
    let mut problems = Vec::new();
    for (connector, compiled) in foreign(loaded, plugins) {
        let Some(accepted) = lock.connectors.get(connector.name.as_str()) else {
            let message = "the plugin is not in `bulkhead.lock`";
            problems.push(problem(loaded, connector, message, "`bulkhead lock` accepts what is new".to_owned()));
            continue;
        };
        if accepted.sha256 != compiled.sha256() {
            problems.push(differs(loaded, connector, compiled, accepted, &plugins.engine).await);
        }
    }
    problems
}

async fn differs(
    loaded: &Loaded,
    connector: &Connector,
    compiled: &Compiled,
    accepted: &Locked,
    engine: &Engine,
) -> Problem {
    let (name, sha256) = (&connector.name, compiled.sha256());
    let message = format!(
        "the plugin is not the one that `bulkhead.lock` names: its sha256 is {sha256}, not {}",
        accepted.sha256
    );
    match needs(engine, connector, compiled).await.map(|needed| needed.needs_beyond(accepted)) {
        Ok(more) if more.is_empty() => {
            let help = "where the change is meant, `bulkhead lock` takes it over: it needs nothing more than before";
            problem(loaded, connector, &message, help.to_owned())
        }
        Ok(more) => {
            let message = format!("{message}; and it needs more than before: {}", more.join(", "));
            problem(loaded, connector, &message, format!("where it may, `bulkhead lock --accept {name}` takes it over"))
        }
        Err(why) => problem(loaded, connector, &format!("{message}; and {why}"), String::new()),
    }
}

/// Accepts the plugins of a configuration: those that are new, those that need nothing more, and those that are named.
/// Nothing is written where one needs more and is not.
///
/// # Errors
/// A plugin cannot be used, or needs more than was accepted.
pub async fn renew(loaded: &Loaded, accept: &[Name]) -> Result<(Lock, Renewed), Vec<Problem>> {
    let plugins = load(loaded, &Metrics::default()).await?;
    let before = match loaded.lock() {
        Ok(lock) => lock.unwrap_or_default().connectors,
        Err(problem) => return Err(vec![*problem]),
    };
    let (mut connectors, mut problems, mut renewed) = (BTreeMap::new(), Vec::new(), Renewed::default());
    for (connector, compiled) in foreign(loaded, &plugins) {
        let name = connector.name.to_string();
        let needed = match needs(&plugins.engine, connector, compiled).await {
            Ok(needed) => needed,
            Err(why) => {
                problems.push(problem(loaded, connector, &why, String::new()));
                continue;
            }
        };
        match before.get(&name) {
            None => renewed.added.push(name.clone()),
            Some(accepted) if accepted.sha256 == needed.sha256 => {}
            Some(accepted) if !needed.needs_beyond(accepted).is_empty() && !accept.contains(&connector.name) => {
                problems.push(differs(loaded, connector, compiled, accepted, &plugins.engine).await);
            }
            Some(_) => renewed.changed.push(name.clone()),
        }
        connectors.insert(name, needed);
    }
    renewed.removed = before.into_keys().filter(|name| !connectors.contains_key(name)).collect();
    if problems.is_empty() { Ok((Lock { connectors }, renewed)) } else { Err(problems) }
}

/// Built-in plugins need no entry.
fn foreign<'a>(loaded: &'a Loaded, plugins: &'a Plugins) -> impl Iterator<Item = (&'a Connector, &'a Compiled)> {
    let connectors = loaded.config.connectors.iter();
    let foreign = connectors.filter(|connector| connector.is_foreign());
    foreign.filter_map(|connector| Some((connector, plugins.compiled.get(connector.name.as_str())?)))
}

async fn needs(engine: &Engine, connector: &Connector, compiled: &Compiled) -> Result<Locked, String> {
    let (looking, of) = (engine.clone(), compiled.clone());
    let inspection = engine.guests().spawn(async move { inspect(&looking, &of).await });
    let inspection = inspection.await.map_err(|error| error.to_string())?;
    if let Some(problem) = inspection.problem {
        return Err(format!("it cannot say what it needs: {problem}"));
    }
    Ok(Locked {
        sha256: inspection.sha256,
        imports: inspection.imports.into_iter().map(|import| import.name).collect(),
        wants: inspection.wants,
        granted: gate::permissions(Handle::current(), connector),
    })
}

fn problem(loaded: &Loaded, connector: &Connector, message: &str, help: String) -> Problem {
    loaded.problem(&format!("connectors.{}.plugin", connector.name), message, help)
}
