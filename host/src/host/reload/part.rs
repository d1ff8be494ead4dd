//! What one connector is made of, out of the whole configuration and what lies around it.
//!
//! Invariant: where two parts are equal, the connector that was built of one is as good as one built of the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::Present;
use crate::config::{Config, Connector, Loaded};
use crate::egress::proxy::Proxy;
use crate::egress::trust::Roots;
use crate::host::plugins::Plugins;
use crate::id::Name;
use crate::ledger::{QueuePolicy, Route};
use crate::mask::{Masks, Secret};
use crate::secret_store::{SecretStore, Source};
use crate::settlement::attempt::Keep;

/// Names, sources and values of secrets.
type Values = BTreeMap<String, (Source, Result<Secret, String>)>;

/// One connector's part.
#[derive(PartialEq)]
pub(super) struct Part {
    settings: Connector,
    /// The queues that it reads and those where something of it lands, with the key that bounds their messages.
    queues: BTreeMap<Name, (QueuePolicy, Option<String>)>,
    /// From the queues that it publishes to, by however many steps.
    routes: Vec<Route>,
    secrets: Values,
    /// Of its plugin's bytes.
    sha256: String,
    host: OfHost,
}

/// What all connectors have to do with.
#[derive(PartialEq)]
struct OfHost {
    history: Keep,
    roots: Roots,
    proxy: Option<Proxy>,
    masks: Masks,
    listeners: [SocketAddr; 2],
}

/// Of every connector, enabled or not.
pub(super) fn all(loaded: &Loaded, plugins: &Plugins, secrets: &SecretStore) -> BTreeMap<Name, Part> {
    let config = &loaded.config;
    let sources = config.secrets.iter();
    let values = sources.map(|(name, source)| (name.clone(), (source.clone(), secrets.get(name)))).collect();
    let queue = |(name, policy): (&Name, &QueuePolicy)| (name.clone(), (policy.clone(), config.message_key(name)));
    let whole = Whole { loaded, queues: config.queues.iter().map(queue).collect(), values };
    let part = |connector: &Connector| {
        let sha256 = plugins.hash_of(connector.name.as_str());
        (connector.name.clone(), Part::of(connector, sha256, &whole))
    };
    config.connectors.iter().map(part).collect()
}

/// What parts are cut out of.
struct Whole<'l> {
    loaded: &'l Loaded,
    queues: BTreeMap<Name, (QueuePolicy, Option<String>)>,
    values: Values,
}

impl Part {
    fn of(connector: &Connector, sha256: &str, whole: &Whole<'_>) -> Self {
        let config = &whole.loaded.config;
        let written = written_to(connector, config);
        let used = connector.consume.iter().map(|consume| &consume.queue).chain(written.iter().copied());
        let queue = |name: &Name| Some((name.clone(), whole.queues.get(name)?.clone()));
        let host = &config.host;
        Self {
            queues: used.filter_map(queue).collect(),
            routes: config.routes.iter().filter(|route| written.contains(&route.from)).cloned().collect(),
            secrets: secrets_of(connector, whole),
            sha256: sha256.to_owned(),
            host: OfHost {
                history: host.history,
                roots: host.roots.clone(),
                proxy: host.proxy.clone(),
                masks: host.masks.clone(),
                listeners: [host.admin, host.listen],
            },
            // A name that it had does not matter any more.
            settings: Connector { was: None, ..connector.clone() },
        }
    }

    /// Which keys make it another than `before`, as in `queues.orders.dedup`; its own table's are left out.
    pub(super) fn keys_beside(&self, loaded: &Loaded, before: (&Self, &Present)) -> Vec<String> {
        let (old, present) = before;
        let mut keys = Vec::new();
        for (name, queue) in &self.queues {
            if old.queues.get(name).is_some_and(|before| before != queue) {
                let written =
                    loaded.differing(&["queues", name.as_str()], (&present.loaded, &["queues", name.as_str()]));
                let follows = vec![format!("queues.{name}")];
                keys.extend(if written.is_empty() { follows } else { written });
            }
        }
        let routes = self.routes.iter().filter(|route| !old.routes.contains(route));
        let gone = old.routes.iter().filter(|route| !self.routes.contains(route));
        let routes: BTreeSet<&Name> = routes.chain(gone).map(|route| &route.name).collect();
        keys.extend(routes.into_iter().map(|route| format!("routes.{route}")));
        let is_other = |(name, value): &(&String, _)| old.secrets.get(*name).is_some_and(|before| before != *value);
        keys.extend(self.secrets.iter().filter(is_other).map(|(name, _)| format!("secrets.{name}")));
        if self.host != old.host {
            let of_host = loaded.differing(&["host"], (&present.loaded, &["host"]));
            keys.extend(of_host.into_iter().filter(|key| OF_HOST.iter().any(|of| key.starts_with(of))));
        }
        keys
    }

    /// The hashes of both plugins, where they differ.
    pub(super) fn upgrade(&self, before: &Self) -> Option<[String; 2]> {
        (self.sha256 != before.sha256).then(|| [before.sha256.clone(), self.sha256.clone()])
    }
}

/// Keys of `[host]` that connectors are built with.
const OF_HOST: [&str; 6] = ["host.history", "host.tls.ca_file", "host.proxy", "host.mask", "host.listen", "host.admin"];

/// Where something lands that it publishes or stores.
fn written_to<'c>(connector: &'c Connector, config: &'c Config) -> BTreeSet<&'c Name> {
    let stores = connector.webhook.iter().filter_map(|webhook| webhook.publish.as_ref());
    let own: Vec<&Name> = connector.allow.publish.iter().chain(stores).collect();
    own.iter().flat_map(|queue| config.led_to(queue)).chain(own.iter().copied()).collect()
}

fn secrets_of(connector: &Connector, whole: &Whole<'_>) -> Values {
    let Whole { loaded, values, .. } = whole;
    let own =
        ["allow", "webhook"].map(|table| loaded.secrets_named_in(&["connectors", connector.name.as_str(), table]));
    let names = own.into_iter().flatten().chain(loaded.secrets_named_in(&["host", "proxy"]));
    names.filter_map(|name| Some((name.to_owned(), values.get(name)?.clone()))).collect()
}
