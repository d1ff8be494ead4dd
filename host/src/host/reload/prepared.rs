//! From files to everything that a switch needs, checked as at a start. Changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::part::{self, Part};
use super::{Change, Reading, Unchanged, fixed};
use crate::capability::Services;
use crate::config::{Config, Host, Loaded, Problem};
use crate::egress::{self, Egress};
use crate::host::front::takes_webhooks;
use crate::host::plugins::{Plugins, prepare_again};
use crate::host::secrets::{Moment, missing_secrets};
use crate::id::Name;
use crate::metrics::Metrics;
use crate::runtime::permit::Budget;
use crate::secret_store::{Environment, SecretStore};

/// What a host runs with.
pub(in crate::host) struct Present {
    pub(super) loaded: Loaded,
    pub(in crate::host) plugins: Plugins,
    pub(in crate::host) services: Services,
    /// Of every connector, enabled or not.
    pub(super) parts: BTreeMap<Name, Part>,
    /// Whether somebody listens for webhooks.
    pub(super) has_door: bool,
}

/// What it would run with next.
pub(in crate::host) type Next = Present;

impl Present {
    /// The whole of it, with services for connectors that are built from now on.
    pub(in crate::host) fn new(loaded: Loaded, plugins: Plugins, services: Services, has_door: bool) -> Self {
        let parts = part::all(&loaded, &plugins, &services.secrets);
        let has_door = has_door || takes_webhooks(&loaded.config);
        Self { loaded, plugins, services, parts, has_door }
    }

    pub(in crate::host) fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// What all runs together may use.
    pub(in crate::host) fn budget(&self) -> Budget {
        let config = self.config();
        Budget { runs: config.host.runs, memory_bytes: config.memory_for_runs() }
    }

    /// Whether a connector runs unchanged after `next` has taken this one's place.
    pub(super) fn keeps(&self, name: &Name, next: &Next) -> bool {
        let is_enabled = self.config().connector(name).is_some_and(|connector| connector.enabled);
        is_enabled && self.parts.get(name) == next.parts.get(name)
    }
}

/// How requests leave under a configuration.
pub(in crate::host) fn way_out(config: &Config) -> egress::Settings {
    let Host { admin, listen, roots, proxy, .. } = &config.host;
    egress::Settings { listeners: vec![*admin, *listen], roots: roots.clone(), proxy: proxy.clone() }
}

/// For connectors that are built from now on: the same as until now, unless another way out or other secrets are asked for.
fn services(loaded: &Loaded, environment: &Environment, present: &Present) -> Services {
    let (new, old) = (&loaded.config, present.config());
    let now = way_out(new);
    let is_other = now != way_out(old);
    // Values are read when they are used: it is their sources that make them the same.
    let services = present.services.clone();
    let (tracer, masks) = (services.tracer.clone().masked(&new.host.masks), new.host.masks.clone());
    let services = Services { tracer, masks, ..services };
    if !is_other && new.secrets == old.secrets {
        return services;
    }
    // Nothing is missing, so nothing can be refused here but a file that has just gone.
    let empty = |_| SecretStore::empty(&new.host.data_dir);
    let secrets = Arc::new(SecretStore::open(&new.secrets, environment).unwrap_or_else(empty));
    let egress = is_other.then(|| Egress::start(Handle::current(), now));
    let http = present.services.http.renewed(secrets.clone(), egress);
    Services { secrets, http, ..services }
}

/// Reads and checks everything, and compares it with what runs.
pub(super) async fn prepare(
    reading: &Reading,
    present: &Present,
    metrics: &Metrics,
) -> Result<(Box<Next>, Change), Unchanged> {
    let loaded = (reading.load)().map_err(Unchanged::Refused)?;
    let mut problems: Vec<Problem> = fixed::problems(&loaded, present);
    problems.extend(missing_secrets(&loaded, &reading.environment, Moment::Reload));
    let plugins = match prepare_again(&loaded, metrics, &present.plugins).await {
        Ok(plugins) if problems.is_empty() => plugins,
        Ok(_) => return Err(Unchanged::Refused(problems)),
        Err(more) => return Err(Unchanged::Refused([problems, more].concat())),
    };
    let services = services(&loaded, &reading.environment, present);
    let next = Present::new(loaded, plugins, services, present.has_door);
    let change = Change::between(present, &next);
    Ok((Box::new(next), change))
}
