//! TOML in, checked types out: everything is valid, or every problem is reported at once and nothing starts.
//!
//! Each layer below owns the type of its own settings; this module fills them. Invariant: a [`Config`] cannot be wrong
//! in itself (names resolve, numbers are in range, patterns parse); whether a plugin loads is seen later.

mod connector;
mod credential;
mod difference;
mod document;
mod environment;
mod excerpt;
mod flow;
mod grant;
mod host;
mod idle;
mod json_schema;
mod keys;
mod lock;
mod machine;
mod mask;
mod notice;
mod otlp;
mod plugin_schema;
mod problem;
mod quantity;
mod queue;
mod reference;
mod route;
mod schedule;
mod schema;
mod secrecy;
mod syntax;
mod validate;
mod verify;
mod view;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::capability::http::GrantSettings;
use crate::capability::rate::Rate;
use crate::delivery::retry;
use crate::egress::proxy::Proxy;
use crate::egress::trust::Roots;
use crate::id::Name;
use crate::ledger::{From, QueuePolicy, Route, led_to};
use crate::limit::{CompileLimits, Limits, MESSAGE_BYTES_DEFAULT};
use crate::listener::tls;
use crate::mask::Masks;
use crate::secret_store;
use crate::settlement::attempt::Keep;
use crate::telemetry::otlp::Settings as Otlp;
use crate::trigger::schedule::Settings as Schedule;
use crate::trigger::webhook::{self as hook, proxies::Proxies};

use document::{Sources, Table};
use problem::Report;
use view::View;

pub use excerpt::Mark;
pub use flow::{Edge, EdgeKind, Flow, Node, NodeKind, times};
pub use json_schema::json_schema;
pub use keys::BUILTINS;
pub use lock::{Lock, Locked};
pub use machine::memory_bytes;
pub use problem::{Problem, Severity, closest, suggestion};
pub use quantity::{duration, rate, show_duration, size};
pub use reference::reference;
pub use validate::is_secret_name;

/// Guests wait for each other and for the outside most of the time: a few for each core keep it busy.
const RUNS_PER_CORE: usize = 4;

/// The files of a configuration, before variables were filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// In their order, later ones over earlier ones.
    pub files: Vec<PathBuf>,
    /// Of their bytes, one file after the other, in hexadecimal.
    pub sha256: String,
}

/// The whole configuration, after all files are merged.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where all of it was read.
    pub origin: Origin,
    /// `[host]`.
    pub host: Host,
    /// `[secrets]`.
    pub secrets: BTreeMap<String, secret_store::Source>,
    /// Every queue that a table, a consumer or a publish grant names; inboxes are not in it.
    pub queues: BTreeMap<Name, QueuePolicy>,
    /// In the order of their names.
    pub connectors: Vec<Connector>,
    /// In the order of their names.
    pub routes: Vec<Route>,
}

impl Config {
    /// What runs may reserve: sandboxes that are kept between runs use their part of `host.memory` all the time, up to
    /// half of their limit, past which they are retired.
    #[must_use]
    pub fn memory_for_runs(&self) -> u64 {
        let keepers = self.connectors.iter().filter(|connector| connector.reuse == Reuse::Always);
        let kept: u64 = keepers.map(|it| (it.limits.memory_bytes / 2).saturating_mul(it.workers() as u64)).sum();
        self.host.memory.saturating_sub(kept)
    }

    /// A connector by its name.
    #[must_use]
    pub fn connector(&self, name: &Name) -> Option<&Connector> {
        let place = self.connectors.binary_search_by(|connector| connector.name.cmp(name)).ok()?;
        self.connectors.get(place)
    }

    /// Every queue that messages of this one may be copied to, by however many routes.
    #[must_use]
    pub fn led_to(&self, queue: &Name) -> Vec<&Name> {
        led_to(queue, &self.routes).into_iter().collect()
    }

    /// The key that says how large a message the queue takes: its own bound, or that of the consumer which takes the
    /// smallest.
    #[must_use]
    pub fn message_key(&self, queue: &Name) -> Option<String> {
        let reader = queue::smallest_reader(queue, &self.connectors);
        let of_readers = reader.map_or(MESSAGE_BYTES_DEFAULT, |reader| reader.limits.message_bytes);
        if self.queues.get(queue).is_some_and(|policy| policy.max_bytes < of_readers) {
            return Some(format!("queues.{queue}.max_bytes"));
        }
        reader.map(|it| format!("connectors.{}.limits.message", it.name))
    }

    /// What the sandboxes that may run at once may come to use.
    fn memory_at_most(&self) -> u64 {
        let each = |it: &Connector| std::iter::repeat_n(it.limits.memory_bytes, it.workers());
        let mut sandboxes: Vec<u64> = self.connectors.iter().filter(|it| it.enabled).flat_map(each).collect();
        sandboxes.sort_unstable_by(|a, b| b.cmp(a));
        sandboxes.iter().take(self.host.runs).fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }
}

impl Connector {
    /// Runs of it that may be under way at once.
    #[must_use]
    pub fn workers(&self) -> usize {
        let of_webhook = self.webhook.as_ref().filter(|it| it.publish.is_none()).map_or(0, |it| it.concurrency);
        let of_inbox = of_webhook.max(usize::from(!self.schedules.is_empty()));
        self.consume.as_ref().map_or(0, |consume| consume.concurrency) + of_inbox
    }

    /// Whether its plugin comes from a file, not from the host.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        matches!(self.plugin, Some(Plugin::Path(_) | Plugin::Signed { .. }))
    }

    /// Whether something lies in an inbox of its own until its plugin gets it.
    #[must_use]
    pub fn has_inbox(&self) -> bool {
        !self.schedules.is_empty() || self.webhook.as_ref().is_some_and(|webhook| webhook.publish.is_none())
    }
}

/// A configuration that is valid in itself.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What was configured.
    pub config: Config,
    /// What is most likely not meant, but works.
    pub warnings: Vec<Problem>,
    sources: Sources,
    tree: Table,
}

impl Loaded {
    /// A problem that was found later, as when a plugin does not load; `key` is the TOML path that it is about.
    #[must_use]
    pub fn problem(&self, key: &str, message: impl Into<String>, help: impl Into<String>) -> Problem {
        self.found(Severity::Error, key, message.into(), help.into())
    }

    /// Every file that it was made of: its own, the lock file beside them, and the plugins.
    #[must_use]
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let plugins = self.config.connectors.iter().filter_map(|connector| connector.plugin.as_ref()?.path());
        let own = self.config.origin.files.iter().cloned().chain([self.lock_path()]);
        own.chain(plugins.map(Path::to_owned)).collect()
    }

    /// The same for what works, but is most likely not meant.
    #[must_use]
    pub fn warning(&self, key: &str, message: impl Into<String>, help: impl Into<String>) -> Problem {
        self.found(Severity::Warning, key, message.into(), help.into())
    }

    fn found(&self, severity: Severity, key: &str, message: String, help: String) -> Problem {
        self.sources.problem(document::place_of(&self.tree, key), severity, key, message, help)
    }

    /// A problem of a key itself, or of what is missing below it, not of its value.
    fn at_key(&self, severity: Severity, of: &str, key: &str, message: String, help: String) -> Problem {
        let place = document::key_place_of(&self.tree, of).unwrap_or_else(|| document::place_of(&self.tree, of));
        self.sources.problem(place, severity, key, message, help)
    }
}

/// Reads files in their order (later ones override earlier ones), fills `${VAR}` from `environment`, checks everything.
///
/// # Errors
/// Every problem at once, in the order of the files, and the warnings after them.
pub fn load(files: &[PathBuf], environment: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Vec<Problem>> {
    let (sources, unreadable) = Sources::read(files);
    let mut report = Report::new(&sources);
    for (place, unreadable) in unreadable {
        report.problem(place, "", unreadable.message, unreadable.help);
    }
    let mut tree = sources.merged(&keys::ROOT, &mut report);
    if report.has_problems() {
        // What else is wrong cannot be told from half a file.
        let (problems, warnings) = report.finish();
        return Err([problems, warnings].concat());
    }
    fill(&mut tree, environment, &mut report);
    validate::validate(&tree, &mut report);
    let config = build(&View::root(&tree, &keys::ROOT), sources.origin(), &mut report);
    let (problems, warnings) = report.finish();
    if problems.is_empty() {
        Ok(Loaded { config, warnings, sources, tree })
    } else {
        Err([problems, warnings].concat())
    }
}

/// Fills variables everywhere but in `[secrets]`.
fn fill(tree: &mut Table, environment: &dyn Fn(&str) -> Option<String>, report: &mut Report<'_>) {
    for (key, entry) in tree.iter_mut().filter(|(key, _)| *key != "secrets") {
        environment::fill(&mut entry.node, &document::join("", key), environment, report);
    }
}

fn build(root: &View<'_>, origin: Origin, report: &mut Report<'_>) -> Config {
    let host = root.child_or_empty("host");
    let runs = host::runs(&host);
    let connectors = connector::connectors(root, runs, report);
    // Beside a problem it would be noise: most likely the table is there under a misspelt name.
    if root.named("connectors").is_empty() && !report.has_problems() {
        report.warning(root.place, "connectors", "no connector is configured", "add a table `[connectors.NAME]`");
    }
    let routes = route::routes(root, report);
    let secrets = host::secrets(root, report);
    let names: Vec<&str> = secrets.keys().map(String::as_str).collect();
    let config = Config {
        origin,
        host: host::host(&host, &names, report),
        secrets,
        queues: queue::queues(root, &connectors, &routes, report),
        connectors,
        routes,
    };
    host::check_memory(&host, &config, report);
    host::check_listeners(&host, &config, report);
    notice::check_circles(root, &config, report);
    config
}

/// A path that means the same in every folder.
fn whole(path: &Path) -> PathBuf {
    // It fails where there is no present folder.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// `[host]`.
#[derive(Clone, Debug)]
pub struct Host {
    /// Ledger, compile cache, admin token; relative to the file that names it, by default `data` beside the first file.
    pub data_dir: PathBuf,
    /// Webhooks.
    pub listen: SocketAddr,
    /// Believed about the way of a request to a webhook.
    pub trusted_proxies: Proxies,
    /// Shown by the listener for webhooks.
    pub certificate: Option<tls::Certificate>,
    /// Health, metrics, API.
    pub admin: SocketAddr,
    /// Extra names under which the admin listener may be asked (`Host` header).
    pub admin_hosts: Vec<String>,
    /// Whether `/metrics` needs no token.
    pub metrics_open: bool,
    /// How long runs may settle after SIGTERM.
    pub grace: Duration,
    /// Sandboxes at once.
    pub runs: usize,
    /// Memory of all sandboxes together.
    pub memory: u64,
    /// Free disk below which nothing new is accepted; `None` is the default of 512 MiB or 5 %, whichever is smaller.
    pub min_free: Option<u64>,
    /// Of which attempts a history is kept.
    pub history: Keep,
    /// What compiling one plugin may use.
    pub compile: CompileLimits,
    /// Trusted by requests beside the machine's roots.
    pub roots: Roots,
    /// Passed by requests to public places.
    pub proxy: Option<Proxy>,
    /// Where traces go.
    pub otlp: Option<Otlp>,
    /// What of messages is never shown.
    pub masks: Masks,
}

/// Where a plugin's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// A file; relative to the config file that names it.
    Path(PathBuf),
    /// The same, with a signature beside it.
    Signed {
        /// The file.
        path: PathBuf,
        /// The public key that it must be signed with.
        key: String,
    },
    /// Embedded in the binary.
    Builtin(String),
}

impl Plugin {
    /// Its file, unless it is embedded.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) | Self::Signed { path, .. } => Some(path),
            Self::Builtin(_) => None,
        }
    }

    /// The whole path of its file, or `builtin:NAME`.
    #[must_use]
    pub fn source(&self) -> String {
        match self {
            Self::Path(path) | Self::Signed { path, .. } => whole(path).display().to_string(),
            Self::Builtin(name) => format!("builtin:{name}"),
        }
    }
}

/// Whether a sandbox outlives its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// A fresh sandbox for every run.
    Never,
    /// Kept while it succeeds, retired at half its memory.
    Always,
}

/// `consume` of a connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consume {
    /// The queue.
    pub queue: Name,
    /// Where a new subscription begins.
    pub from: From,
    /// Deliveries of a run.
    pub batch: usize,
    /// How long a run waits to fill its batch.
    pub batch_wait: Duration,
    /// Runs at once.
    pub concurrency: usize,
    /// Unfinished messages before the subscription reads no further.
    pub pending_max: usize,
}

/// `allow` of a connector; what is not named is refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allow {
    /// Queues it may publish to.
    pub publish: Vec<Name>,
    /// Secrets it may see.
    pub secrets: Vec<String>,
    /// Requests it may send.
    pub http: Vec<GrantSettings>,
}

/// One `[connectors.X]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Connector {
    /// X.
    pub name: Name,
    /// What runs; nothing, where a webhook only stores.
    pub plugin: Option<Plugin>,
    /// The plugin's own settings.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// Off keeps its messages and starts nothing.
    pub enabled: bool,
    /// The name that it had before.
    pub was: Option<Name>,
    /// Deliveries dying in a row that pause it; 0 is never.
    pub brake: u32,
    /// Attempts at deliveries in a time, where they are bounded.
    pub rate: Option<Rate>,
    /// Whether a sandbox outlives its run.
    pub reuse: Reuse,
    /// How long dead letters are kept.
    pub dead_retention: Duration,
    /// Bytes of dead letters at which the connector is held.
    pub dead_max_bytes: u64,
    /// The queue that is told of each of its dead letters, if any.
    pub on_dead: Option<Name>,
    /// The queue it reads, if any.
    pub consume: Option<Consume>,
    /// Its schedules, if any.
    pub schedules: Vec<Schedule>,
    /// The requests from outside that it takes, if any.
    pub webhook: Option<hook::Settings>,
    /// When failures are tried again.
    pub retry: retry::Policy,
    /// What a sandbox and a call may use.
    pub limits: Limits,
    /// What it may do.
    pub allow: Allow,
}
