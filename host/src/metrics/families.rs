//! The families of metrics: their names, their labels, what they are for.
//!
//! How they are counted is [`super`]'s. A new metric is a field here, a line in [`Families::register`] and a method there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::timing::{Examples, Timing};
use super::{FloatGauge, PluginMetrics, Spread};

macro_rules! labels {
    ($($name:ident { $($field:ident),* })*) => {
        $(#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name { $(pub(super) $field: String),* })*
    };
}

labels! {
    OfConnector { connector }
    OfQueue { queue }
    OfSubscription { queue, connector }
    Delivered { connector, outcome }
    Requested { connector, host, status }
    OfHost { connector, host }
    Denied { connector, effect, reason }
    LimitHit { connector, limit }
    HeldBy { connector, reason }
    Hooked { connector, status }
    Build { version }
    Ended { outcome }
    Configured { sha256 }
    Why { reason }
}

/// Buckets of a histogram of seconds, from 100 µs to 100 s.
#[derive(Clone)]
pub(super) struct Seconds;

/// How many there are, beside the one without an end.
pub(super) const SECONDS_BUCKETS: u16 = 21;

/// Their ends.
pub(super) fn seconds_buckets() -> impl Iterator<Item = f64> {
    exponential_buckets(0.000_1, 2.0, SECONDS_BUCKETS)
}

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(seconds_buckets())
    }
}

pub(super) type SecondsFamily<Labels> = Family<Labels, Histogram, Seconds>;

/// Every family, under its name in [`Families::register`].
pub(super) struct Families {
    pub(super) registry: Mutex<Registry>,
    pub(super) plugin: PluginMetrics,
    /// What `attempt_seconds` counts, by connector, to be read.
    pub(super) attempts: Mutex<HashMap<String, Spread>>,
    pub(super) deliveries: Family<Delivered, Counter>,
    pub(super) attempt_seconds: Family<OfConnector, Timing, Examples>,
    pub(super) delivery_seconds: Family<OfConnector, Timing, Examples>,
    pub(super) queue_backlog: Family<OfSubscription, Gauge>,
    pub(super) queue_oldest_seconds: Family<OfSubscription, FloatGauge>,
    pub(super) dead_letters: Family<OfConnector, Gauge>,
    pub(super) http_requests: Family<Requested, Counter>,
    pub(super) http_request_seconds: SecondsFamily<OfHost>,
    pub(super) denied: Family<Denied, Counter>,
    pub(super) scrubbed: Family<OfConnector, Counter>,
    pub(super) limit_hits: Family<LimitHit, Counter>,
    pub(super) webhooks: Family<Hooked, Counter>,
    pub(super) schedule_lag_seconds: SecondsFamily<OfConnector>,
    pub(super) ledger_commit_seconds: Histogram,
    pub(super) ledger_commit_settlements: Histogram,
    pub(super) ledger_wal_bytes: Gauge,
    pub(super) held: Family<HeldBy, Gauge>,
    pub(super) conflicts: Family<OfConnector, Counter>,
    pub(super) duplicates: Family<OfQueue, Counter>,
    pub(super) unrouted: Family<OfQueue, Counter>,
    pub(super) expired: Family<OfSubscription, Counter>,
    pub(super) orphaned_messages: Family<OfSubscription, Gauge>,
    pub(super) config_info: Family<Configured, Gauge>,
    pub(super) reloads: Family<Ended, Counter>,
    pub(super) panics: Counter,
    pub(super) history_dropped: Counter,
    pub(super) sandbox_seconds: Histogram,
    pub(super) sandbox_reserved_bytes: Gauge,
    pub(super) breaker_open: Family<OfHost, Gauge>,
    pub(super) spans_exported: Counter,
    pub(super) spans_dropped: Family<Why, Counter>,
}

impl Families {
    pub(super) fn new(examples: Examples) -> Self {
        Self {
            registry: Mutex::new(Registry::default()),
            plugin: PluginMetrics::default(),
            attempts: Mutex::default(),
            deliveries: Family::default(),
            attempt_seconds: Family::new_with_constructor(examples),
            delivery_seconds: Family::new_with_constructor(examples),
            queue_backlog: Family::default(),
            queue_oldest_seconds: Family::default(),
            dead_letters: Family::default(),
            http_requests: Family::default(),
            http_request_seconds: Family::new_with_constructor(Seconds),
            denied: Family::default(),
            scrubbed: Family::default(),
            limit_hits: Family::default(),
            webhooks: Family::default(),
            schedule_lag_seconds: Family::new_with_constructor(Seconds),
            ledger_commit_seconds: Seconds.new_metric(),
            ledger_commit_settlements: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            ledger_wal_bytes: Gauge::default(),
            held: Family::default(),
            conflicts: Family::default(),
            duplicates: Family::default(),
            unrouted: Family::default(),
            expired: Family::default(),
            orphaned_messages: Family::default(),
            config_info: Family::default(),
            reloads: Family::default(),
            panics: Counter::default(),
            history_dropped: Counter::default(),
            // From 1 µs: instantiation is measured in microseconds.
            sandbox_seconds: Histogram::new(exponential_buckets(0.000_001, 2.0, 18)),
            sandbox_reserved_bytes: Gauge::default(),
            breaker_open: Family::default(),
            spans_exported: Counter::default(),
            spans_dropped: Family::default(),
        }
    }

    /// Counters are registered without `_total`: the encoder appends it.
    pub(super) fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = &mut *registry;
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION").to_owned() }).set(1);
        add(registry, "build_info", "Version of the running binary", &build);
        add(registry, "deliveries", "Deliveries by outcome: done, retry, dead", &self.deliveries);
        add(registry, "attempt_seconds", "Wall time of one attempt", &self.attempt_seconds);
        add(registry, "delivery_seconds", "From enqueue to settled", &self.delivery_seconds);
        add(registry, "queue_backlog", "Unsettled messages of a subscription", &self.queue_backlog);
        add(registry, "queue_oldest_seconds", "Age of the oldest unsettled message", &self.queue_oldest_seconds);
        add(registry, "dead_letters", "Dead letters kept", &self.dead_letters);
        add(registry, "http_requests", "Requests sent by connectors", &self.http_requests);
        add(
            registry,
            "http_request_seconds",
            "From the first byte out to the last byte in",
            &self.http_request_seconds,
        );
        add(registry, "denied", "Effects refused by the gate", &self.denied);
        add(registry, "scrubbed", "Answers that repeated a credential", &self.scrubbed);
        add(registry, "limit_hits", "Limits that bit", &self.limit_hits);
        add(registry, "webhooks", "Requests to webhooks, by what they were answered", &self.webhooks);
        add(
            registry,
            "schedule_lag_seconds",
            "From a tick's planned time to its enqueueing",
            &self.schedule_lag_seconds,
        );
        add(registry, "ledger_commit_seconds", "Time of one group commit", &self.ledger_commit_seconds);
        add(registry, "ledger_commit_settlements", "Settlements of one group commit", &self.ledger_commit_settlements);
        add(registry, "ledger_wal_bytes", "Size of the write-ahead log", &self.ledger_wal_bytes);
        add(registry, "held", "1 while a connector takes no work for this reason", &self.held);
        add(registry, "conflicts", "Settlements discarded because state had changed", &self.conflicts);
        add(registry, "duplicates", "Messages dropped as repeats", &self.duplicates);
        add(registry, "unrouted", "Copies that routes in a circle did not make", &self.unrouted);
        add(registry, "expired", "Messages that expired unsettled", &self.expired);
        add(registry, "orphaned_messages", "Messages of removed connectors", &self.orphaned_messages);
        add(registry, "config_info", "Hash of the configuration's files that are in use", &self.config_info);
        add(registry, "reloads", "Configurations read again, by outcome: done, refused", &self.reloads);
        add(registry, "panics", "Panics of host code caught at a run's border", &self.panics);
        add(
            registry,
            "history_dropped",
            "Attempts that came too fast to be kept in the history",
            &self.history_dropped,
        );
        add(registry, "sandbox_seconds", "Time to instantiate a sandbox", &self.sandbox_seconds);
        add(
            registry,
            "sandbox_reserved_bytes",
            "Memory that the sandboxes of runs under way may come to use: at most `host.memory`",
            &self.sandbox_reserved_bytes,
        );
        add(registry, "breaker_open", "Open circuit breakers among the hosts of a grant", &self.breaker_open);
        add(registry, "trace_spans_exported", "Spans that the collector has taken", &self.spans_exported);
        add(registry, "trace_spans_dropped", "Spans that never reach the collector", &self.spans_dropped);
    }
}

fn add<Metric>(registry: &mut Registry, name: &str, help: &str, metric: &Metric)
where
    Metric: prometheus_client::registry::Metric + EncodeMetric + Clone,
{
    registry.register(format!("bulkhead_{name}"), help, metric.clone());
}
