//! From a checked configuration to a host: the ledger laid out, everything built, nothing started.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::Host;
use super::assembly::{Assembly, Member, layout};
use super::plugins::Plugins;
use super::reload::{Present, Reading, Reloader, Telling, way_out};
use super::running::Roster;
use super::series::Series;
use crate::audit::{Audit, Event, Kind};
use crate::broker::Broker;
use crate::capability::{Services, http};
use crate::clock;
use crate::config::{self, Loaded};
use crate::egress::Egress;
use crate::feed::Feed;
use crate::id::Name;
use crate::ledger::{Directory, Ledger};
use crate::metrics::Metrics;
use crate::runtime::permit::Permits;
use crate::secret_store::SecretStore;
use crate::telemetry::otlp::{Exporter, Means, Tracer};
use crate::trigger::webhook::server::Served;

impl Host {
    /// Connects loaded plugins with an open ledger; what kept it from that is in the audit record. `reading` is how the
    /// configuration is read again.
    ///
    /// # Errors
    /// The ledger cannot be read or written, or a plugin does not start with its grants.
    pub async fn assemble(
        loaded: Loaded,
        plugins: Plugins,
        secrets: SecretStore,
        reading: Reading,
        ledger: Ledger,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let feed = Feed::default();
        let audit = Audit::open_or_warn(&loaded.config.host.data_dir, feed.clone());
        audit.note(start_of(&loaded.config.origin));
        let secrets = Arc::new(secrets);
        let egress = Egress::start(Handle::current(), way_out(&loaded.config));
        let http = http::Services::new(egress, secrets.clone(), metrics.clone(), audit.clone());
        let (tracer, exporter) = tracing_of(&loaded.config, &metrics, &audit, &secrets);
        let (ledger_too, masks) = (Some(ledger.clone()), loaded.config.host.masks.clone());
        let services = Services {
            ledger: ledger_too,
            metrics,
            audit: audit.clone(),
            feed,
            secrets,
            http,
            tracer: tracer.masked(&masks),
            masks,
        };
        let present = Present::new(loaded, plugins, services, false);
        let connected = Self::connect(present, reading, ledger, exporter).await;
        connected.inspect_err(|error| audit.close(Event::failed(error)))
    }

    async fn connect(
        present: Present,
        reading: Reading,
        ledger: Ledger,
        exporter: Option<Exporter>,
    ) -> anyhow::Result<Self> {
        let Services { metrics, audit, feed, secrets, .. } = present.services.clone();
        let directory = Arc::new(ledger.configure(&layout(present.config()))?);
        metrics.configured(&present.config().origin.sha256);
        let permits = Permits::new(present.budget(), metrics.sandbox_reserved_bytes());
        let (engine, broker) = (present.plugins.engine.clone(), Broker::local(ledger.clone())?);
        let (reloader, orders) = Reloader::new(
            reading,
            present,
            Telling { metrics: metrics.clone(), audit: audit.clone(), feed: feed.clone() },
        );
        let mut host = Self {
            engine,
            ledger,
            directory,
            broker,
            metrics,
            audit,
            feed,
            series: Series::new(),
            started_ms: clock::wall_ms(),
            sealed: secrets.sealed().clone(),
            backing_up: Arc::default(),
            permits,
            under_way: TaskTracker::new(),
            members: BTreeMap::new(),
            roster: watch::Sender::default(),
            served: watch::Sender::default(),
            reloader,
            orders,
            exporter,
        };
        host.tell_orphans(&host.directory);
        let present = host.reloader.present();
        let assembly = host.assembly(&present, &host.directory);
        let mut members = BTreeMap::new();
        for settings in present.config().connectors.iter().filter(|connector| connector.enabled) {
            members.insert(settings.name.clone(), assembly.member(settings, None).await?);
        }
        host.members = members;
        host.publish();
        Ok(host)
    }

    pub(super) fn assembly<'a>(&'a self, present: &'a Present, directory: &'a Directory) -> Assembly<'a> {
        Assembly {
            config: present.config(),
            plugins: &present.plugins,
            ledger: &self.ledger,
            directory,
            broker: &self.broker,
            services: &present.services,
            permits: &self.permits,
            under_way: &self.under_way,
        }
    }

    /// Shows the members to those who look at them again and again.
    pub(super) fn publish(&self) {
        let running: Roster = self.members.values().filter_map(|member| member.running.clone()).collect();
        self.roster.send_replace(Arc::new(running));
        let hooks = self.members.values().filter_map(|member: &Member| member.hook.clone()).collect();
        let proxies = self.reloader.present().config().host.trusted_proxies.clone();
        self.served.send_replace(Arc::new(Served { hooks, proxies }));
    }

    /// Says what waits for connectors that are in no configuration.
    pub(super) fn tell_orphans(&self, directory: &Directory) {
        let mut totals: BTreeMap<(&Name, &Name), u64> = BTreeMap::new();
        for orphan in directory.orphans() {
            *totals.entry((&orphan.queue, &orphan.connector)).or_default() += orphan.messages;
        }
        for ((queue, connector), messages) in totals {
            self.metrics.orphaned(queue, connector, messages);
            if messages == 0 {
                continue;
            }
            tracing::warn!(
                %queue, %connector, messages,
                "messages wait for a connector that has left the configuration; they are kept for the queue's `retention`, or until `bulkhead queues forget {queue} {connector}`"
            );
        }
    }
}

/// What traces are told to, and what sends them on; nothing where they go nowhere.
fn tracing_of(
    config: &config::Config,
    metrics: &Metrics,
    audit: &Audit,
    secrets: &Arc<SecretStore>,
) -> (Tracer, Option<Exporter>) {
    let Some(settings) = &config.host.otlp else { return (Tracer::default(), None) };
    let (metrics, audit, secrets) = (metrics.clone(), audit.clone(), secrets.clone());
    let (tracer, exporter) = Exporter::start(settings, Means { egress: way_out(config), secrets, metrics, audit });
    (tracer, Some(exporter))
}

fn start_of(origin: &config::Origin) -> Event {
    let sources = origin.files.iter().map(|file| file.display().to_string()).collect();
    let event = Event::new(Kind::Start, "", concat!("bulkhead ", env!("CARGO_PKG_VERSION")));
    Event { sources, sha256: origin.sha256.clone(), ..event }
}
