//! Connectors over the API: what each is made of, how it stands, and what it has done lately.
//!
//! What it is made of comes from the configuration, how it stands from what runs. Invariant: one that is not enabled is
//! listed as the others are, with nothing that only a running one has.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::query::{Asked, Nothing};
use super::schedules::Scheduled;
use super::series::rounded_ms;
use super::{Problem, unknown_connector};
use crate::admin::{Admin, fill_in_flight};
use crate::clock::rfc3339;
use crate::config;
use crate::delivery::retry;
use crate::host::Running;
use crate::host::series::{Recent, Totals};
use crate::ledger::{QueueReport, SubscriptionReport};
use crate::limit::Limits;

/// A connector as the list shows it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Connector")]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether the configuration lets it run.
    pub enabled: bool,
    /// The path of its plugin, or `builtin:NAME`; none where a webhook only stores.
    pub plugin: Option<String>,
    /// The hash of the plugin, in hexadecimal.
    pub plugin_sha256: Option<String>,
    /// What makes deliveries for it.
    pub triggers: Vec<Trigger>,
    /// The queues that it may publish to, or that its webhook stores in.
    pub publishes: Vec<String>,
    /// The URL patterns that it may send requests to.
    pub hosts: Vec<String>,
    /// Why it is held back, as in `bulkhead_held{reason}`.
    pub held: Vec<String>,
    /// Deliveries that a run holds now.
    pub running: u64,
    /// Messages that it has not settled.
    pub backlog: u64,
    /// Age of the oldest of them.
    pub oldest_seconds: Option<u64>,
    /// Dead letters kept.
    pub dead: u64,
    /// What its deliveries have come to since the process began.
    pub totals: Outcomes,
    /// Deliveries a second that were settled or put off, over the last five minutes.
    pub rate_per_second: f64,
    /// The part of them that did not succeed, from 0 to 1; none where there were none.
    pub error_ratio: Option<f64>,
    /// The time that half of the attempts of these minutes stayed within.
    pub p50_ms: Option<f64>,
    /// The time that 99 of 100 of them stayed within.
    pub p99_ms: Option<f64>,
    /// How a delivery failed last, since the connector began to run.
    pub last_failure: Option<Failure>,
}

/// What makes deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Trigger {
    /// Messages of a queue.
    Queue {
        /// Its name.
        queue: String,
    },
    /// The clock.
    Schedule {
        /// Its name.
        schedule: String,
        /// When it fires, as it is configured.
        times: String,
        /// The next planned time, as RFC 3339; none where the connector is not enabled.
        next: Vec<String>,
    },
    /// Requests from outside.
    Webhook {
        /// Where they come in.
        path: String,
        /// Which methods they may have.
        methods: Vec<String>,
        /// The queue that they are stored in, where it is not the connector's inbox.
        publish: Option<String>,
    },
}

/// What deliveries have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Outcomes {
    /// Settled with success.
    pub done: u64,
    /// Put off.
    pub retry: u64,
    /// Made dead letters.
    pub dead: u64,
}

/// How a delivery failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Failure {
    /// When, as RFC 3339.
    pub at: String,
    /// Why.
    pub reason: String,
}

/// A connector with all that it may do.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "ConnectorInFull")]
pub struct InFull {
    /// What the list shows.
    #[serde(flatten)]
    pub entry: Entry,
    /// What it may do, in plain words, one right each; nothing else has an effect on the world.
    pub rights: Vec<String>,
    /// What a sandbox and a call may use, under the keys of `limits`: sizes in bytes, times as `cpu_ms` and `wall_ms`.
    pub limits: Map<String, Value>,
    /// When failures are tried again.
    pub retry: Retry,
}

/// When failures are tried again.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Retry {
    /// Attempts before a dead letter.
    pub attempts: u32,
    /// Delay before the second attempt.
    pub first_ms: u64,
    /// Growth from one delay to the next.
    pub factor: f64,
    /// The longest delay.
    pub max_ms: u64,
    /// No attempt begins later than this after the message was accepted.
    pub within_seconds: Option<u64>,
    /// The failures that are tried again.
    pub on: Vec<String>,
}

/// How everything stands at one moment.
struct Standing<'a> {
    admin: &'a Admin,
    running: BTreeMap<&'a str, &'a Running>,
    /// By the name of the connector.
    subscriptions: BTreeMap<&'a str, Vec<&'a SubscriptionReport>>,
    schedules: BTreeMap<&'a str, Vec<&'a Scheduled>>,
    dead: BTreeMap<String, u64>,
}

pub(super) async fn list(State(admin): State<Admin>, Asked(_): Asked<Nothing>) -> Result<Json<Vec<Entry>>, Problem> {
    with_standing(&admin, admin.ledger.queues()?, |standing| {
        let connectors = &admin.in_use.config().connectors;
        Ok(Json(connectors.iter().map(|connector| standing.entry(connector)).collect()))
    })
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Asked(_): Asked<Nothing>,
) -> Result<Json<InFull>, Problem> {
    let connectors = &admin.in_use.config().connectors;
    let connector = connectors.iter().find(|connector| connector.name.as_str() == name);
    let connector = connector.ok_or_else(|| unknown_connector(&admin.directory, &name))?;
    with_standing(&admin, admin.ledger.queues_read_by(&name)?, |standing| {
        Ok(Json(InFull {
            entry: standing.entry(connector),
            rights: admin.in_use.rights(connector),
            limits: limits(&connector.limits),
            retry: Retry::of(&connector.retry),
        }))
    })
}

fn with_standing<T>(
    admin: &Admin,
    mut reports: Vec<QueueReport>,
    look: impl FnOnce(&Standing<'_>) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let roster = admin.connectors.borrow().clone();
    reports.iter_mut().for_each(|report| fill_in_flight(&roster, report));
    let mut subscriptions = BTreeMap::<&str, Vec<_>>::new();
    for subscription in reports.iter().flat_map(|QueueReport { subscriptions, .. }| subscriptions) {
        subscriptions.entry(subscription.connector.as_str()).or_default().push(subscription);
    }
    let mut schedules = BTreeMap::<&str, Vec<_>>::new();
    for scheduled in admin.schedules.iter() {
        schedules.entry(scheduled.connector()).or_default().push(scheduled);
    }
    let dead = admin.ledger.dead_counts()?.into_iter().map(|(name, count)| (name.to_string(), count)).collect();
    let running = roster.iter().map(|running| (running.connector.name.as_str(), &**running)).collect();
    look(&Standing { admin, running, subscriptions, schedules, dead })
}

impl Standing<'_> {
    fn entry(&self, connector: &config::Connector) -> Entry {
        let name = connector.name.as_str();
        let running = self.running.get(name).copied();
        let own = self.subscriptions.get(name).map_or(&[][..], Vec::as_slice);
        let totals = running.map(Totals::of_running).unwrap_or_default();
        let recent = Lately::of(&self.admin.series.recent(&connector.name, &totals));
        let failure = running.and_then(|running| running.connector.teller.last_failure());
        let reasons = running.map(|running| running.connector.hold.reasons()).unwrap_or_default();
        let stored = connector.webhook.iter().filter_map(|webhook| webhook.publish.as_ref());
        Entry {
            name: name.to_owned(),
            enabled: connector.enabled,
            plugin: connector.plugin.as_ref().map(config::Plugin::source),
            plugin_sha256: self.admin.in_use.plugin_sha256(name).map(str::to_owned),
            triggers: self.triggers(connector),
            publishes: connector.allow.publish.iter().chain(stored).map(ToString::to_string).collect(),
            hosts: connector.allow.http.iter().map(|grant| grant.pattern.to_string()).collect(),
            held: reasons.iter().map(|reason| reason.label().to_owned()).collect(),
            running: own.iter().map(|subscription| subscription.in_flight).sum(),
            backlog: own.iter().map(|subscription| subscription.backlog).sum(),
            oldest_seconds: own.iter().filter_map(|subscription| subscription.oldest_seconds).max(),
            dead: self.dead.get(name).copied().unwrap_or(0),
            totals: Outcomes { done: totals.done, retry: totals.retry, dead: totals.dead },
            rate_per_second: recent.rate_per_second,
            error_ratio: recent.error_ratio,
            p50_ms: recent.p50_ms,
            p99_ms: recent.p99_ms,
            last_failure: failure.map(|it| Failure { at: rfc3339(it.at_ms), reason: it.reason }),
        }
    }

    fn triggers(&self, connector: &config::Connector) -> Vec<Trigger> {
        let now_ms = self.admin.ledger.clock().now_ms();
        let queue = connector.consume.iter().map(|consume| Trigger::Queue { queue: consume.queue.to_string() });
        let scheduled = self.schedules.get(connector.name.as_str()).map_or(&[][..], Vec::as_slice);
        let schedules = scheduled.iter().map(|scheduled| Trigger::Schedule {
            schedule: scheduled.name().to_owned(),
            times: scheduled.times(),
            next: scheduled.next(1, now_ms),
        });
        let webhook = connector.webhook.iter().map(|webhook| Trigger::Webhook {
            path: webhook.path.to_string(),
            methods: webhook.methods.clone(),
            publish: webhook.publish.as_ref().map(ToString::to_string),
        });
        queue.chain(schedules).chain(webhook).collect()
    }
}

/// What five minutes came to.
struct Lately {
    rate_per_second: f64,
    error_ratio: Option<f64>,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl Lately {
    #[expect(clippy::cast_precision_loss, reason = "a rate of so many deliveries needs no last digit")]
    fn of(Recent { within, totals }: &Recent) -> Self {
        let (failed, all) = (totals.retry + totals.dead, totals.done + totals.retry + totals.dead);
        let within_ms = |part| totals.attempts.quantile_seconds(part).map(rounded_ms);
        Self {
            // A host that has just started has not done a thousand a second for having done one in a millisecond.
            rate_per_second: all as f64 / within.as_secs_f64().max(1.0),
            error_ratio: (all > 0).then(|| failed as f64 / all as f64),
            p50_ms: within_ms(0.5),
            p99_ms: within_ms(0.99),
        }
    }
}

impl Retry {
    fn of(policy: &retry::Policy) -> Self {
        let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            attempts: policy.attempts,
            first_ms: ms(policy.first),
            factor: policy.factor,
            max_ms: ms(policy.max),
            within_seconds: policy.within.map(|within| within.as_secs()),
            on: policy.on.iter().map(|cause| cause.word().to_owned()).collect(),
        }
    }
}

/// Every limit under its key; a time with its unit.
fn limits(limits: &Limits) -> Map<String, Value> {
    let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).into();
    let all: [(&str, Value); 16] = [
        ("memory", limits.memory_bytes.into()),
        ("cpu_ms", ms(limits.cpu)),
        ("wall_ms", ms(limits.wall)),
        ("message", limits.message_bytes.into()),
        ("publishes", limits.publishes.into()),
        ("publish_bytes", limits.publish_bytes.into()),
        ("handles", limits.handles.into()),
        ("log", limits.log_bytes.into()),
        ("log_rate", limits.log_rate.to_string().into()),
        ("requests", limits.requests.into()),
        ("requests_at_once", limits.requests_at_once.into()),
        ("request_bytes", limits.request_bytes.into()),
        ("response_bytes", limits.response_bytes.into()),
        ("state", limits.state_bytes.into()),
        ("state_keys", limits.state_keys.into()),
        ("hostcall", limits.hostcall_bytes.into()),
    ];
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
