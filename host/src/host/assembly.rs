//! Building connectors: from names in the configuration to connected parts.
//!
//! Knows one configuration at a time; which of its connectors are built is the caller's matter. Invariant: what is built
//! does nothing before it is started.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::{RwLock, Semaphore};
use tokio_util::task::TaskTracker;

use super::gate;
use super::plugins::Plugins;
use super::running::Running;
use crate::audit::{Event, Kind};
use crate::broker::{Broker, KeysInBatch, Subscription, SubscriptionSettings};
use crate::capability::queue::Target;
use crate::capability::rate::Bucket;
use crate::capability::{Grants, Services, Subject};
use crate::config::{self, Config};
use crate::delivery::brake::Brake;
use crate::delivery::connector::{Connector, Entry};
use crate::delivery::direct::Direct;
use crate::delivery::history::History;
use crate::delivery::hold::Hold;
use crate::delivery::supersession::Supersession;
use crate::delivery::teller::Teller;
use crate::delivery::tracing::Tracing;
use crate::id::Name;
use crate::ledger::{self, ConnectorLayout, Directory, Layout, Ledger, Ordering, QueuePolicy, StateUsage};
use crate::runtime::permit::Permits;
use crate::runtime::{Export, Plugin};
use crate::settlement::{ConnectorId, QueueId, SubscriptionId};
use crate::trigger::clockwork::Clockwork;
use crate::trigger::overlap::Overlap;
use crate::trigger::queue::Consumption;
use crate::trigger::schedule::Plan;
use crate::trigger::webhook::verify::{Means, Verifier};
use crate::trigger::webhook::{Foundation, HEAD_BYTES_MAX, Hook, Respond, Runs};

/// Deliveries of an inbox's run: requests come as fast as any messages.
const INBOX_BATCH: usize = 32;

/// What the configuration says about queues and connectors, as the ledger takes it.
#[must_use]
pub fn layout(config: &Config) -> Layout {
    let connectors = config.connectors.iter().map(|connector| ConnectorLayout {
        name: connector.name.clone(),
        was: connector.was.clone(),
        consumes: connector
            .consume
            .iter()
            .map(|consume| ledger::Consumption { queue: consume.queue.clone(), from: consume.from })
            .collect(),
        has_inbox: connector.has_inbox(),
        dead_retention: connector.dead_retention,
        state_max: StateUsage { keys: connector.limits.state_keys, bytes: connector.limits.state_bytes },
        on_dead: connector.on_dead.clone(),
    });
    let mut queues = config.queues.clone();
    for connector in &config.connectors {
        // The inbox of a webhook remembers what was accepted, also where it is stored somewhere else.
        let policy = connector.webhook.as_ref().map(|webhook| QueuePolicy {
            marks: Some(webhook.dedup),
            message_bytes: webhook.body_bytes_max + HEAD_BYTES_MAX,
            ..QueuePolicy::default()
        });
        queues.extend(policy.map(|policy| (Name::inbox_of(&connector.name), policy)));
    }
    Layout { queues, connectors: connectors.collect(), routes: config.routes.clone() }
}

/// What every connector is built with.
pub(super) struct Assembly<'a> {
    pub(super) config: &'a Config,
    pub(super) plugins: &'a Plugins,
    pub(super) ledger: &'a Ledger,
    pub(super) directory: &'a Directory,
    pub(super) broker: &'a Broker,
    pub(super) services: &'a Services,
    pub(super) permits: &'a Permits,
    pub(super) under_way: &'a TaskTracker,
}

/// One connector that is enabled, as it is built.
#[derive(Default)]
pub(super) struct Member {
    /// What runs its plugin, if it has one.
    pub(super) running: Option<Arc<Running>>,
    /// Its webhook, if it has one.
    pub(super) hook: Option<Arc<Hook>>,
}

impl Assembly<'_> {
    /// Builds a connector, which does not run yet; `before` is the webhook whose place its own takes.
    ///
    /// # Errors
    /// The ledger cannot be read or changed.
    pub(super) async fn member(&self, settings: &config::Connector, before: Option<&Hook>) -> anyhow::Result<Member> {
        let cannot = || format!("connector `{}` cannot start", settings.name);
        let running = match &settings.plugin {
            Some(plugin) => Some(Arc::new(self.connector(settings, plugin).await.with_context(cannot)?)),
            None => None,
        };
        let connector = running.as_ref().map(|running| running.connector.clone());
        let hook = self.hook(settings, connector, before).with_context(cannot)?.map(Arc::new);
        Ok(Member { running, hook })
    }

    async fn connector(&self, settings: &config::Connector, source: &config::Plugin) -> anyhow::Result<Running> {
        let name = &settings.name;
        let id = self.directory.connector(name.as_str()).context("it has no number in the ledger")?;
        let lineage = self.directory.lineage(name.as_str()).map_or_else(|| name.clone(), Name::stored);
        let plugin = self.plugin(settings, source, Subject { name: name.clone(), lineage: lineage.clone(), id })?;
        let metrics = &self.services.metrics;
        let feed = &self.services.feed;
        let hold = Hold::new(name.clone(), metrics.clone(), feed.clone());
        for reason in self.ledger.holds(id)? {
            hold.set(reason);
            tracing::warn!(connector = %name, reason = reason.label(), "held since before this start: `bulkhead resume {name}`");
        }
        let connector = Arc::new(Connector {
            name: name.clone(),
            id,
            plugin,
            keeps_sandbox: settings.reuse == config::Reuse::Always,
            history: History::new(self.config.host.history, id, self.ledger.clone()),
            tracing: Tracing { tracer: self.services.tracer.clone(), connector: name.clone() },
            policy: settings.retry.clone(),
            rate: settings.rate.map(Bucket::new),
            brake: Brake::new(settings.brake),
            hold,
            metrics: metrics.of_connector(name),
            teller: Teller::new(name.clone(), feed.clone(), self.ledger.clock().clone()),
            ledger: self.ledger.clone(),
            clock: self.ledger.clock().clone(),
            permits: self.permits.clone(),
            turns: Arc::new(RwLock::new(())),
        });
        let mut consumptions = Vec::new();
        if let Some(consume) = &settings.consume {
            consumptions.push(self.consumption(settings, &connector, consume).await?);
        }
        let mut clockworks = Vec::new();
        if settings.has_inbox() {
            let supersession = Arc::new(self.supersession(settings, id));
            let inbox = self.inbox(settings, &connector, supersession.clone()).await?;
            clockworks = self.clockworks(settings, &connector, &lineage, &supersession)?;
            consumptions.push(inbox);
        }
        Ok(Running::new(connector, settings.dead_max_bytes, consumptions, clockworks))
    }

    fn plugin(
        &self,
        settings: &config::Connector,
        source: &config::Plugin,
        subject: Subject,
    ) -> anyhow::Result<Plugin> {
        let linked = self.plugins.linked.get(settings.name.as_str()).context("its plugin is not loaded")?.clone();
        let grants = gate::grants(self.services, subject, settings, |queue| self.target(queue));
        self.record(settings, source, &grants);
        Ok(Plugin::new(linked, Arc::new(grants)))
    }

    /// Whoever reads the record later knows what ran and what it could do.
    fn record(&self, settings: &config::Connector, source: &config::Plugin, grants: &Grants) {
        let may = grants.permissions().into_iter().chain(settings.webhook.iter().map(|webhook| webhook.permission()));
        let sha256 = self.plugins.hash_of(settings.name.as_str()).to_owned();
        self.note_grants(settings, Event { sources: vec![source.source()], sha256, ..grants_of(may.collect()) });
    }

    fn note_grants(&self, settings: &config::Connector, event: Event) {
        self.services.audit.note_in_turn(event.of(settings.name.as_str()));
    }

    fn target(&self, queue: &Name) -> Option<Target> {
        let id = self.directory.queue(queue.as_str())?;
        let (message_bytes, message_key) = (self.ledger.policy(id).message_bytes, self.config.message_key(queue));
        Some(Target { name: queue.clone(), id, message_bytes, message_key })
    }

    async fn consumption(
        &self,
        settings: &config::Connector,
        connector: &Connector,
        consume: &config::Consume,
    ) -> anyhow::Result<Consumption> {
        let queue = &consume.queue;
        let is_batch = connector.plugin.exports(Export::BatchConsumer);
        let keys = if is_batch { KeysInBatch::One } else { KeysInBatch::Several };
        let subscription = self.subscribe(connector, queue, consume.pending_max, keys).await?;
        let queue_text: Arc<str> = queue.as_str().into();
        let entry = if is_batch { Entry::Batch { queue: queue_text } } else { Entry::Message { queue: queue_text } };
        let policy = self.config.queues.get(queue.as_str());
        Ok(Consumption {
            queue: queue.clone(),
            subscription_id: self.subscription_id(queue, &settings.name)?,
            subscription,
            entry,
            is_ordered: policy.is_some_and(|policy| policy.ordering == Ordering::Key),
            batch: consume.batch,
            batch_wait: consume.batch_wait,
            concurrency: consume.concurrency,
            publishes_to: self.publishes_to(settings, Some(queue)),
        })
    }

    /// Where something lands that it may publish, by routes too; without the queue whose room it makes itself.
    fn publishes_to(&self, settings: &config::Connector, consumed: Option<&Name>) -> Vec<QueueId> {
        let granted = &settings.allow.publish;
        let led_to = granted.iter().flat_map(|queue| self.config.led_to(queue));
        let all: BTreeSet<&Name> = granted.iter().chain(led_to).filter(|queue| Some(*queue) != consumed).collect();
        all.into_iter().filter_map(|queue| self.directory.queue(queue.as_str())).collect()
    }

    fn supersession(&self, settings: &config::Connector, id: ConnectorId) -> Supersession {
        let cancelling = settings.schedules.iter().filter(|schedule| schedule.overlap == Overlap::Cancel);
        let names = cancelling.map(|schedule| schedule.name.clone()).collect();
        Supersession::new(id, self.ledger.clone(), names)
    }

    async fn inbox(
        &self,
        settings: &config::Connector,
        connector: &Connector,
        supersession: Arc<Supersession>,
    ) -> anyhow::Result<Consumption> {
        let queue = Name::inbox_of(&connector.name);
        let subscription = self.subscribe(connector, &queue, usize::MAX, KeysInBatch::Several).await?;
        // Ticks are rare, and those of one connector do not run beside each other.
        let takes_requests = settings.schedules.is_empty();
        let concurrency = settings.webhook.as_ref().filter(|_| takes_requests).map_or(1, |webhook| webhook.concurrency);
        Ok(Consumption {
            subscription_id: self.subscription_id(&queue, &settings.name)?,
            subscription,
            entry: Entry::Inbox { queue: queue.as_str().into(), supersession },
            is_ordered: false,
            batch: if takes_requests { INBOX_BATCH } else { 1 },
            batch_wait: std::time::Duration::ZERO,
            concurrency,
            publishes_to: self.publishes_to(settings, None),
            queue,
        })
    }

    /// The webhook of a connector, if it has one; `connector` is what runs its plugin, if it has one.
    fn hook(
        &self,
        settings: &config::Connector,
        connector: Option<Arc<Connector>>,
        before: Option<&Hook>,
    ) -> anyhow::Result<Option<Hook>> {
        let Some(webhook) = &settings.webhook else { return Ok(None) };
        if settings.plugin.is_none() {
            self.note_grants(settings, grants_of(vec![webhook.permission()]));
        }
        let name = Name::inbox_of(&settings.name);
        let inbox = self.directory.queue(name.as_str()).context("its inbox has no number in the ledger")?;
        let target = match &webhook.publish {
            Some(queue) => self.directory.queue(queue.as_str()).context("its queue has no number in the ledger")?,
            None => inbox,
        };
        let runs = match (webhook.respond, connector) {
            (Respond::Connector { .. }, Some(connector)) => {
                let subscription = self.subscription_id(&name, &settings.name)?;
                let places = Arc::new(Semaphore::new(webhook.concurrency));
                let engine = self.plugins.engine.clone();
                let direct = Direct { connector, inbox: name.as_str().into(), subscription, places, engine };
                Some(Runs { direct, under_way: self.under_way.clone() })
            }
            _ => None,
        };
        let Services { secrets, audit, http, .. } = &self.services;
        let path = format!("connectors.{}.webhook.verify", settings.name);
        let means = Means { connector: &settings.name, path: &path, secrets, audit, http };
        let verifier = Verifier::new(&webhook.verify, &means);
        for fault in verifier.faults() {
            tracing::error!(connector = %settings.name, key = path, fault, "no request can be verified with this secret");
        }
        let (ledger, audit) = (self.ledger.clone(), audit.clone());
        let connector = settings.name.clone();
        let tracer = self.services.tracer.clone();
        let foundation = Foundation { connector, verifier, inbox, target, runs, ledger, audit, tracer };
        Ok(Some(Hook::new(webhook.clone(), foundation, before)))
    }

    fn subscription_id(&self, queue: &Name, connector: &Name) -> anyhow::Result<SubscriptionId> {
        self.directory.subscription(queue.as_str(), connector.as_str()).context("it has no subscription in the ledger")
    }

    async fn subscribe(
        &self,
        connector: &Connector,
        queue: &Name,
        pending_max: usize,
        keys: KeysInBatch,
    ) -> anyhow::Result<Subscription> {
        let subscription = self.subscription_id(queue, &connector.name)?;
        let queue_id = self.directory.queue(queue.as_str());
        let name = queue;
        let queue = queue_id.with_context(|| format!("queue `{name}` has no number in the ledger"))?;
        let crashed = self.broker.crashed(subscription, queue)?;
        let charged = connector.charge_crashed(subscription, name, crashed).await;
        charged.context("cannot charge the messages that were running when the process died")?;
        self.broker.subscribe(SubscriptionSettings { subscription, queue, pending_max, keys })
    }

    fn clockworks(
        &self,
        settings: &config::Connector,
        connector: &Connector,
        lineage: &Name,
        supersession: &Arc<Supersession>,
    ) -> anyhow::Result<Vec<Arc<Clockwork>>> {
        let (inbox, subscription) = self.directory.inbox(&connector.name).context("it has no inbox in the ledger")?;
        let clockwork = |schedule: &crate::trigger::schedule::Settings| {
            Arc::new(Clockwork {
                connector: connector.name.clone(),
                lineage: lineage.to_string(),
                connector_id: connector.id,
                inbox,
                subscription,
                settings: schedule.clone(),
                plan: Plan::new(lineage.as_str(), schedule),
                supersession: supersession.clone(),
                ledger: self.ledger.clone(),
                clock: self.ledger.clock().clone(),
                metrics: self.services.metrics.clone(),
                tracer: self.services.tracer.clone(),
            })
        };
        Ok(settings.schedules.iter().map(clockwork).collect())
    }
}

/// What somebody may do from now on.
fn grants_of(permissions: Vec<String>) -> Event {
    let text = if permissions.is_empty() { "may do nothing" } else { "" };
    Event { permissions, ..Event::new(Kind::Grants, "", text) }
}
