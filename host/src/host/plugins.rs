//! Loading the plugins of a configuration, before anything else is opened: a plugin that cannot run starts nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::capability::{Grants, Services};
use crate::config::{Config, Connector, Loaded, Plugin as Source, Problem, Reuse};
use crate::limit::Limits;
use crate::plugin_store::{self, PluginStore};
use crate::runtime::compile::{Compiled, compile};
use crate::runtime::engine::Settings;
use crate::runtime::{Engine, Export, Plugin};

/// Compiled plugins by connector, and the engine that they are compiled for.
pub struct Plugins {
    pub(super) engine: Engine,
    pub(super) compiled: BTreeMap<String, Compiled>,
}

/// Reads, compiles and links the plugin of every connector, enabled or not.
///
/// # Errors
/// One problem for each plugin that cannot be used, at its key.
pub async fn prepare(loaded: &Loaded) -> Result<Plugins, Vec<Problem>> {
    let config = &loaded.config;
    let engine = Engine::start(settings(config))
        .map_err(|error| vec![loaded.problem("host", format!("{error:#}"), "see `host.runs` and `limits.memory`")])?;
    let store = store(&config.host.data_dir);
    let mut plugins = Plugins { engine, compiled: BTreeMap::new() };
    let mut problems = Vec::new();
    let mut sources: BTreeMap<String, Compiled> = BTreeMap::new();
    for connector in &config.connectors {
        let key = format!("connectors.{}.plugin", connector.name);
        match load(&plugins.engine, store.as_ref(), connector, &mut sources).await {
            Ok(compiled) => {
                plugins.compiled.insert(connector.name.to_string(), compiled);
            }
            Err((message, help)) => problems.push(loaded.problem(&key, message, help)),
        }
    }
    if problems.is_empty() { Ok(plugins) } else { Err(problems) }
}

fn settings(config: &Config) -> Settings {
    let limits = config.connectors.iter().map(|connector| connector.limits.memory_bytes);
    let memory_bytes_max = limits.max().unwrap_or(Limits::default().memory_bytes);
    let keepers = config.connectors.iter().filter(|connector| connector.reuse == Reuse::Always);
    let kept = keepers.map(|connector| connector.consume.as_ref().map_or(0, |consume| consume.concurrency) + 1).sum();
    Settings { runs: config.host.runs, kept, memory_bytes_max }
}

/// The compile cache; none where the data directory does not exist yet, because a check writes nothing.
fn store(data_dir: &Path) -> Option<PluginStore> {
    if !data_dir.is_dir() {
        return None;
    }
    PluginStore::open(data_dir).inspect_err(|error| tracing::warn!(%error, "plugins are compiled without a cache")).ok()
}

/// Connectors that name the same plugin share what is compiled of it.
async fn load(
    engine: &Engine,
    store: Option<&PluginStore>,
    connector: &Connector,
    sources: &mut BTreeMap<String, Compiled>,
) -> Result<Compiled, (String, String)> {
    let help = "give the path of a component, or builtin:NAME";
    let source = match &connector.plugin {
        Source::Path(path) => path.display().to_string(),
        Source::Builtin(name) => format!("builtin:{name}"),
    };
    if !sources.contains_key(&source) {
        let read;
        let bytes = match &connector.plugin {
            Source::Path(path) => {
                read = plugin_store::read(path).map_err(|error| (error.to_string(), help.to_owned()))?;
                &read
            }
            Source::Builtin(name) => plugin_store::builtin(name)
                .ok_or_else(|| (format!("there is no built-in plugin `{name}`"), help.to_owned()))?,
        };
        let compiled =
            compile(engine, store, bytes).map_err(|error| (format!("{source}: {error}"), help.to_owned()))?;
        sources.insert(source.clone(), compiled);
    }
    let compiled = sources[&source].clone();
    let services = Services::idle(Handle::current());
    let grants = Arc::new(Grants::none(&services, connector.name.clone()));
    let plugin =
        on_guests(engine, &compiled, grants).await.map_err(|error| (format!("{source}: {error}"), String::new()))?;
    check_exports(&plugin, connector)?;
    Ok(compiled)
}

async fn on_guests(engine: &Engine, compiled: &Compiled, grants: Arc<Grants>) -> Result<Plugin, String> {
    let (engine, compiled) = (engine.clone(), compiled.clone());
    let guests = engine.guests().clone();
    let loading = guests.spawn(async move { Plugin::load(&engine, &compiled, grants).await });
    loading.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// What triggers a connector must be something that its plugin exports.
fn check_exports(plugin: &Plugin, connector: &Connector) -> Result<(), (String, String)> {
    let consumes = plugin.exports(Export::Consumer) || plugin.exports(Export::BatchConsumer);
    if connector.consume.is_some() && !consumes {
        let message = "the plugin does not take messages: it exports neither `consumer` nor `batch-consumer`";
        return Err((message.to_owned(), "take `consume` away, or name a plugin that consumes".to_owned()));
    }
    if !connector.schedules.is_empty() && !plugin.exports(Export::Scheduled) {
        let message = "the plugin does not run by the clock: it does not export `scheduled`";
        return Err((message.to_owned(), "take `schedule` away, or name a plugin that can be scheduled".to_owned()));
    }
    let is_batch = connector.consume.is_some() && plugin.exports(Export::BatchConsumer);
    if is_batch && connector.allow.http.iter().any(|grant| grant.idempotency) {
        let message = "`idempotency = true` means nothing here: the plugin takes many messages in one call";
        return Err((message.to_owned(), "take `idempotency` out of `allow.http`".to_owned()));
    }
    Ok(())
}
