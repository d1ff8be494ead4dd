//! Loading the plugins of a configuration, before anything else is opened: a plugin that cannot run starts nothing.
//!
//! Each distinct plugin is read, compiled and linked once, however many connectors name it. Invariant: nothing is written
//! before all of them are accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::lock;
use crate::capability::{Allow, Grants, Services, Subject};
use crate::config::{Config, Connector, Loaded, Plugin as Source, Problem, Reuse, Severity};
use crate::limit::{CompileLimits, Limit, Limits};
use crate::metrics::Metrics;
use crate::plugin_store::{self, PluginStore};
use crate::runtime::compile::{self, Compiled, LoadError, Maker, compile};
use crate::runtime::engine::Settings;
use crate::runtime::inspect::{Inspection, config_schema, inspect};
use crate::runtime::{Engine, Export, Linked, Plugin};
use crate::settlement::ConnectorId;

/// What to do about a plugin that is none.
const HELP: &str = "give the path of a component, or builtin:NAME";

/// What to do about one that is not signed.
const SIGN_HELP: &str = "`minisign -S -m PATH` signs it with the secret key; take `key` out to run it unsigned";

/// What to do about what an engine that runs has no room for.
const RESTART_HELP: &str = "restart the host for it";

/// What a sandbox may have at most while the host runs, where the configuration that it is started with asks for less: so that
/// a limit can be raised. It is address space, of which a slot of the pool has more anyway; another slot would take memory.
const MEMORY_ROOM_BYTES: u64 = 1 << 30;

/// The plugins of all connectors, and the engine that they are compiled for.
pub struct Plugins {
    pub(super) engine: Engine,
    /// By connector.
    pub(super) linked: BTreeMap<String, Linked>,
    /// The same before it was linked.
    pub(super) compiled: BTreeMap<String, Compiled>,
    /// Each distinct one once, by the hash of its bytes.
    distinct: BTreeMap<String, Distinct>,
    /// What is most likely not meant, but works.
    pub warnings: Vec<Problem>,
}

impl Plugins {
    /// How many there are, and how many of them had not to be compiled.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.distinct.len(), self.distinct.values().filter(|distinct| distinct.compiled.is_cached()).count())
    }

    /// What a connector's plugin is; `None` where it has none.
    pub async fn inspection(&self, connector: &str) -> Option<Inspection> {
        let (looking, compiled) = (self.engine.clone(), self.compiled.get(connector)?.clone());
        // One that panics is looked at in vain.
        self.engine.guests().spawn(async move { inspect(&looking, &compiled).await }).await.ok()
    }

    /// Keeps what had to be compiled for the next start, in a data directory that exists by now.
    pub fn keep(&self, data_dir: &Path) {
        let is_new = |distinct: &&Distinct| distinct.is_new && !distinct.compiled.is_cached();
        let compiled: Vec<&Compiled> = self.distinct.values().filter(is_new).map(|it| &it.compiled).collect();
        tracing::info!(plugins = self.distinct.len(), compiled = compiled.len(), "plugins are loaded");
        if compiled.is_empty() {
            return;
        }
        match PluginStore::open(data_dir) {
            Ok(store) => compiled.into_iter().for_each(|compiled| compile::keep(&self.engine, &store, compiled)),
            Err(error) => tracing::warn!("compiled plugins are not kept, the next start compiles again: {error:#}"),
        }
    }

    /// The hash of the plugin that a connector has; empty where it has none.
    pub(super) fn hash_of(&self, connector: &str) -> &str {
        self.compiled.get(connector).map_or("", Compiled::sha256)
    }
}

/// Loads the plugins, and compares them with those that were accepted. Writes nothing.
///
/// # Errors
/// One problem for each plugin that cannot be used, at its key, and the warnings beside them.
pub async fn prepare(loaded: &Loaded, metrics: &Metrics) -> Result<Plugins, Vec<Problem>> {
    accepted(loaded, load(loaded, metrics).await?).await
}

/// The same for a host that runs: in its engine, and without what it has loaded `before`.
///
/// # Errors
/// As in [`prepare`], and where the pool of sandboxes has no room for what is asked.
pub(super) async fn prepare_again(
    loaded: &Loaded,
    metrics: &Metrics,
    before: &Plugins,
) -> Result<Plugins, Vec<Problem>> {
    let problems = beyond(loaded, before.engine.settings());
    let known = before.distinct.iter().map(|(hash, it)| (hash.clone(), Distinct { is_new: false, ..it.clone() }));
    match load_with(loaded, metrics, before.engine.clone(), known.collect()).await {
        Ok(plugins) if problems.is_empty() => accepted(loaded, plugins).await,
        Ok(_) => Err(problems),
        Err(more) => Err([problems, more].concat()),
    }
}

async fn accepted(loaded: &Loaded, plugins: Plugins) -> Result<Plugins, Vec<Problem>> {
    let problems = lock::compare(loaded, &plugins).await;
    if problems.is_empty() { Ok(plugins) } else { Err([problems, plugins.warnings].concat()) }
}

/// What does not fit into a pool that was made for another configuration.
fn beyond(loaded: &Loaded, pool: Settings) -> Vec<Problem> {
    let config = &loaded.config;
    let wanted = settings(config);
    let mut problems = Vec::new();
    if wanted.kept > pool.kept {
        let message = format!(
            "`reuse = \"always\"` would keep {} sandboxes between runs, and the host was started with room for {}",
            wanted.kept, pool.kept
        );
        problems.push(loaded.problem("connectors", message, RESTART_HELP));
    }
    let is_larger = |connector: &&Connector| connector.limits.memory_bytes > pool.memory_bytes_max;
    problems.extend(config.connectors.iter().filter(is_larger).map(|connector| {
        let key = format!("connectors.{}.limits.memory", connector.name);
        loaded.problem(&key, "larger than the host that runs was started for", RESTART_HELP)
    }));
    problems
}

/// Reads, compiles, links and starts the plugin of every connector, enabled or not.
pub(super) async fn load(loaded: &Loaded, metrics: &Metrics) -> Result<Plugins, Vec<Problem>> {
    let wanted = settings(&loaded.config);
    let roomy = Settings { memory_bytes_max: wanted.memory_bytes_max.max(MEMORY_ROOM_BYTES), ..wanted };
    let engine = Engine::start(roomy)
        .map_err(|error| vec![loaded.problem("host", format!("{error:#}"), "see `host.runs` and `limits.memory`")])?;
    load_with(loaded, metrics, engine, BTreeMap::new()).await
}

/// The same in this engine, with plugins that are loaded by now.
async fn load_with(
    loaded: &Loaded,
    metrics: &Metrics,
    engine: Engine,
    known: BTreeMap<String, Distinct>,
) -> Result<Plugins, Vec<Problem>> {
    let config = &loaded.config;
    let mut loader = Loader {
        store: store(&config.host.data_dir),
        services: Services::idle(Handle::current()),
        sources: BTreeMap::new(),
        known,
        engine: engine.clone(),
        limits: config.host.compile,
    };
    let (mut linked, mut compiled) = (BTreeMap::new(), BTreeMap::new());
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let mut by_schema: BTreeMap<Arc<str>, Vec<&Connector>> = BTreeMap::new();
    let with_plugin = config.connectors.iter().filter_map(|connector| Some((connector, connector.plugin.as_ref()?)));
    for (connector, source) in with_plugin {
        match loader.load(connector, source).await {
            Ok((plugin, component, schema)) => {
                if let Some(schema) = schema {
                    by_schema.entry(schema).or_default().push(connector);
                }
                warnings.extend(warn_of_conflicts(loaded, connector, &plugin));
                linked.insert(connector.name.to_string(), plugin);
                compiled.insert(connector.name.to_string(), component);
            }
            Err(refusal) => problems.push(refusal.told(loaded, connector, metrics)),
        }
    }
    // A schema is compiled once, however many connectors have it.
    let misfits = by_schema.iter().flat_map(|(schema, connectors)| loaded.misfits(connectors, schema));
    let (wrong, odd): (Vec<_>, Vec<_>) = misfits.partition(|misfit| misfit.severity == Severity::Error);
    problems.extend(wrong);
    warnings.extend(odd);
    if !problems.is_empty() {
        problems.append(&mut warnings);
        return Err(problems);
    }
    let used: BTreeSet<String> = loader.sources.into_values().flatten().collect();
    let distinct = loader.known.into_iter().filter(|(hash, _)| used.contains(hash)).collect();
    Ok(Plugins { engine, linked, compiled, distinct, warnings })
}

fn settings(config: &Config) -> Settings {
    let limits = config.connectors.iter().map(|connector| connector.limits.memory_bytes);
    let memory_bytes_max = limits.max().unwrap_or(Limits::default().memory_bytes);
    let keepers = config.connectors.iter().filter(|connector| connector.reuse == Reuse::Always);
    let kept = keepers.map(Connector::workers).sum();
    Settings { runs: config.host.runs, kept, memory_bytes_max, is_emulated: false }
}

/// What earlier starts have compiled.
fn store(data_dir: &Path) -> Option<PluginStore> {
    let found = PluginStore::find(data_dir);
    found.inspect_err(|error| tracing::warn!("plugins are compiled without a cache: {error:#}")).ok().flatten()
}

/// Why a plugin cannot be used, and what to do.
#[derive(Clone, Debug)]
struct Refusal {
    message: String,
    help: String,
    /// The key of the compiler's bound that bit, if one did.
    bound: Option<&'static str>,
}

impl Refusal {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into(), bound: None }
    }

    fn of(error: &LoadError, message: String) -> Self {
        let bound = error.key();
        let help = bound.map_or_else(|| HELP.to_owned(), |key| format!("raise `{key}` where the plugin is worth it"));
        Self { bound, ..Self::new(message, help) }
    }

    fn told(self, loaded: &Loaded, connector: &Connector, metrics: &Metrics) -> Problem {
        let path = format!("connectors.{}.plugin", connector.name);
        if let Some(key) = self.bound {
            metrics.limit_hit(&connector.name, Limit::Compile);
            let (connector, limit) = (&connector.name, Limit::Compile.label());
            // Nobody can ask for the metrics of a host that does not start.
            tracing::error!(%connector, limit, key, "the plugin is over a bound of the compiler");
        }
        loaded.problem(&path, self.message, self.help)
    }
}

/// One distinct plugin.
#[derive(Clone)]
struct Distinct {
    compiled: Compiled,
    linked: Linked,
    /// Limits under which it was started already.
    started: Vec<Limits>,
    /// Of its `config`, once it was asked.
    schema: Option<Option<Arc<str>>>,
    /// Whether it was not loaded before.
    is_new: bool,
}

/// A plugin that a connector can run, and the schema of its `config`, if it says one.
type Ready = (Linked, Compiled, Option<Arc<str>>);

/// Plugins by what names them; one that was refused is not tried again.
struct Loader {
    engine: Engine,
    limits: CompileLimits,
    store: Option<PluginStore>,
    /// Nothing stands behind a plugin while it is checked.
    services: Services,
    sources: BTreeMap<String, Result<String, Refusal>>,
    /// By the hash of their bytes.
    known: BTreeMap<String, Distinct>,
}

impl Loader {
    /// Connectors that name the same plugin share what is made of it; it is started once for each set of limits.
    async fn load(&mut self, connector: &Connector, plugin: &Source) -> Result<Ready, Refusal> {
        let source = match plugin {
            Source::Path(path) => path.display().to_string(),
            Source::Signed { path, key } => format!("{} (signed by {key})", path.display()),
            Source::Builtin(name) => format!("builtin:{name}"),
        };
        if !self.sources.contains_key(&source) {
            let distinct = self.distinct(&source, plugin);
            self.sources.insert(source.clone(), distinct);
        }
        let hash = self.sources.get(&source).cloned().unwrap_or_else(|| Err(Refusal::new("it is not loaded", HELP)))?;
        let Some(distinct) = self.known.get_mut(&hash) else { return Err(Refusal::new("it is not loaded", HELP)) };
        if !distinct.started.contains(&connector.limits) {
            let checked = start(&self.engine, &self.services, &distinct.linked, connector).await;
            checked.map_err(|error| Refusal::new(format!("{source}: {error}"), ""))?;
            distinct.started.push(connector.limits.clone());
        }
        check_exports(&distinct.linked, connector)?;
        if distinct.schema.is_none() {
            let schema = schema(&self.engine, &distinct.linked).await;
            distinct.schema = Some(schema.map_err(|error| Refusal::new(format!("{source}: {error}"), ""))?);
        }
        Ok((distinct.linked.clone(), distinct.compiled.clone(), distinct.schema.clone().flatten()))
    }

    /// Loads a plugin, unless its bytes are known; their hash.
    fn distinct(&mut self, source: &str, plugin: &Source) -> Result<String, Refusal> {
        let read;
        let (maker, bytes) = match plugin {
            Source::Path(path) | Source::Signed { path, .. } => {
                let unread = |error: LoadError| Refusal::of(&error, error.to_string());
                read = plugin_store::read(path, self.limits.size_bytes).map_err(|error| unread(error.into()))?;
                (Maker::Anybody(self.limits), &read[..])
            }
            Source::Builtin(name) => {
                let missing = || Refusal::new(format!("there is no built-in plugin `{name}`"), HELP);
                (Maker::Host, plugin_store::builtin(name).ok_or_else(missing)?)
            }
        };
        if let Source::Signed { path, key } = plugin {
            let unsigned = |error| Refusal::new(format!("{}: {error}", path.display()), SIGN_HELP);
            plugin_store::signature::check(path, bytes, key).map_err(unsigned)?;
        }
        let hash = compile::hash(bytes);
        if self.known.contains_key(&hash) {
            return Ok(hash);
        }
        let compiled = compile(&self.engine, self.store.as_ref(), maker, bytes)
            .map_err(|error| Refusal::of(&error, format!("{source}: {error}")))?;
        let linked =
            Linked::new(&self.engine, &compiled).map_err(|error| Refusal::new(format!("{source}: {error}"), ""))?;
        self.known.insert(hash.clone(), Distinct { compiled, linked, started: Vec::new(), schema: None, is_new: true });
        Ok(hash)
    }
}

/// Starts a plugin once under a connector's limits.
async fn start(engine: &Engine, services: &Services, linked: &Linked, connector: &Connector) -> Result<(), String> {
    let name = connector.name.clone();
    let subject = Subject { lineage: name.clone(), name, id: ConnectorId(0) };
    let limits = connector.limits.clone();
    let grants = Grants::new(services, subject, limits, &serde_json::Map::new(), Allow::default());
    let plugin = Plugin::new(linked.clone(), Arc::new(grants));
    let starting = engine.guests().spawn(async move { plugin.check().await });
    starting.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Asks the plugin what its `config` may be.
async fn schema(engine: &Engine, linked: &Linked) -> Result<Option<Arc<str>>, String> {
    if !linked.exports(Export::About) {
        return Ok(None);
    }
    let (asking, of) = (engine.clone(), linked.clone());
    let asked = engine.guests().spawn(async move { config_schema(&asking, of).await });
    let schema = asked.await.map_err(|error| error.to_string())??;
    Ok(schema.map(Arc::from))
}

/// What triggers a connector must be something that its plugin exports.
fn check_exports(plugin: &Linked, connector: &Connector) -> Result<(), Refusal> {
    let consumes = plugin.exports(Export::Consumer) || plugin.exports(Export::BatchConsumer);
    if connector.consume.is_some() && !consumes {
        let message = "the plugin does not take messages: it exports neither `consumer` nor `batch-consumer`";
        return Err(Refusal::new(message, "take `consume` away, or name a plugin that consumes"));
    }
    if !connector.schedules.is_empty() && !plugin.exports(Export::Scheduled) {
        let message = "the plugin does not run by the clock: it does not export `scheduled`";
        return Err(Refusal::new(message, "take `schedule` away, or name a plugin that can be scheduled"));
    }
    let asks_it = connector.webhook.as_ref().is_some_and(|webhook| webhook.publish.is_none());
    if asks_it && !plugin.exports(Export::Webhook) {
        let message = "the plugin does not take requests: it does not export `webhook`";
        let help =
            "name a plugin that does, or store them with `webhook.publish` for a connector that consumes the queue";
        return Err(Refusal::new(message, help));
    }
    let is_batch = connector.consume.is_some() && plugin.exports(Export::BatchConsumer);
    if is_batch && connector.allow.http.iter().any(|grant| grant.idempotency) {
        let message = "`idempotency = true` means nothing here: the plugin takes many messages in one call";
        return Err(Refusal::new(message, "take `idempotency` out of `allow.http`"));
    }
    Ok(())
}

/// Runs beside each other that change the same state conflict, and one of them runs again.
fn warn_of_conflicts(loaded: &Loaded, connector: &Connector, plugin: &Linked) -> Option<Problem> {
    let concurrency = connector.consume.as_ref().map_or(1, |consume| consume.concurrency);
    if concurrency == 1 || !plugin.may_keep_state() {
        return None;
    }
    let key = format!("connectors.{}.consume.concurrency", connector.name);
    let message = "the plugin may keep state: of runs at the same time that touch one key, all but one run again";
    let help = "set it to 1, or leave it where runs seldom meet at a key; `bulkhead_conflicts_total` counts them";
    Some(loaded.warning(&key, message, help))
}
