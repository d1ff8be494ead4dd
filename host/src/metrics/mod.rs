//! Every metric of the host: the only place that knows their names.
//!
//! Families are reached through typed methods, so that labels come from the configuration and from fixed words, never
//! from guest or message text. Hot paths resolve their own [`ConnectorMetrics`] once and count without a lookup.
//! Units are base units (seconds, bytes), as Prometheus asks; the text is OpenMetrics 1.0, or the older one.

mod families;
mod plugin;
mod spread;
mod text;
mod timing;

use std::sync::{Arc, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::id::Name;
use crate::limit::Limit;
use crate::message::trace::Trace;

pub(crate) use plugin::LABELS_MAX;
pub use plugin::{Figure, PluginMetrics};
pub use spread::{Counts, Spread};
pub use timing::Timing;

use timing::Examples;

use families::{
    Configured, Delivered, Denied, Ended, Families, HeldBy, Hooked, LimitHit, OfConnector, OfHost, OfQueue,
    OfSubscription, Requested, Why,
};

/// A gauge of seconds or other fractions.
pub type FloatGauge = Gauge<f64, std::sync::atomic::AtomicU64>;

/// What a plugin may do to the world, as in `bulkhead_denied_total{effect}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// An HTTP request.
    Http,
    /// A publish.
    Publish,
    /// A read or write of state.
    State,
    /// A read of a secret.
    Secret,
    /// A socket.
    Socket,
    /// A name lookup.
    Lookup,
    /// A file.
    Filesystem,
    /// A figure of the plugin's own.
    Metric,
    /// What the plugin adds to its trace.
    Trace,
}

impl Effect {
    /// The metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Publish => "publish",
            Self::State => "state",
            Self::Secret => "secret",
            Self::Socket => "socket",
            Self::Lookup => "lookup",
            Self::Filesystem => "filesystem",
            Self::Metric => "metric",
            Self::Trace => "trace",
        }
    }
}

/// Why a connector takes no work, as in `bulkhead_held{reason}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Held {
    /// An operator paused it.
    Paused,
    /// Its brake went on.
    Brake,
    /// A queue that it publishes to is full.
    Full,
    /// Too much unfinished work.
    Pending,
    /// Too many dead letters.
    DeadLetters,
    /// A circuit breaker is open.
    Breaker,
    /// No room on the disk.
    Disk,
    /// It runs alone after repeated conflicts of state.
    Conflict,
    /// It has had what its rate allows.
    Rate,
}

impl Held {
    /// The metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Brake => "brake",
            Self::Full => "full",
            Self::Pending => "pending",
            Self::DeadLetters => "dead_letters",
            Self::Breaker => "breaker",
            Self::Disk => "disk",
            Self::Conflict => "conflict",
            Self::Rate => "rate",
        }
    }
}

/// All families and the registry that prints them. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Examples::None)
    }
}

/// How one subscription stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Backlog {
    /// Its queue.
    pub queue: Name,
    /// Who reads it.
    pub connector: Name,
    /// Not settled yet.
    pub messages: u64,
    /// Age of the oldest of them.
    pub oldest_seconds: f64,
}

/// The figures of one connector's deliveries.
#[derive(Clone, Debug)]
pub struct ConnectorMetrics {
    /// Settled with success.
    pub done: Counter,
    /// Put off.
    pub retry: Counter,
    /// Those of them that were held back and cost no attempt: no failure, and in no family.
    pub put_off: Counter,
    /// Made a dead letter.
    pub dead: Counter,
    /// Wall time of one attempt.
    attempt_seconds: Timing,
    /// The same, to be read.
    pub attempts: Spread,
    /// From enqueue to settled.
    pub delivery_seconds: Timing,
    /// Settlements discarded because state had changed.
    pub conflicts: Counter,
}

impl ConnectorMetrics {
    /// An attempt has ended that took so long; `trace` is its own, where it is recorded.
    pub fn attempted(&self, seconds: f64, trace: Option<&Trace>) {
        self.attempt_seconds.observe(seconds, trace);
        self.attempts.observe(seconds);
    }
}

impl Metrics {
    fn new(examples: Examples) -> Self {
        let families = Families::new(examples);
        families.register();
        Self(Arc::new(families))
    }

    /// With traces as examples for what attempts and deliveries took.
    #[must_use]
    pub fn with_examples() -> Self {
        Self::new(Examples::Traces)
    }

    /// The figures that a connector's hot path counts, looked up once.
    #[must_use]
    pub fn of_connector(&self, connector: &Name) -> ConnectorMetrics {
        let deliveries = |outcome: &str| {
            let labels = Delivered { connector: connector.to_string(), outcome: outcome.to_owned() };
            self.0.deliveries.get_or_create_owned(&labels)
        };
        let labels = of_connector(connector);
        ConnectorMetrics {
            done: deliveries("done"),
            retry: deliveries("retry"),
            put_off: Counter::default(),
            dead: deliveries("dead"),
            attempt_seconds: self.0.attempt_seconds.get_or_create_owned(&labels),
            attempts: self.attempts_of(connector),
            delivery_seconds: self.0.delivery_seconds.get_or_create_owned(&labels),
            conflicts: self.0.conflicts.get_or_create_owned(&labels),
        }
    }

    /// They go on where a connector is built anew.
    fn attempts_of(&self, connector: &Name) -> Spread {
        let mut attempts = self.0.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.entry(connector.to_string()).or_default().clone()
    }

    /// How all subscriptions stand, and the dead letters of each connector; what is not named is not shown any more.
    pub fn standing(&self, backlogs: &[Backlog], dead_letters: &[(Name, u64)]) {
        // Nobody reads them between.
        let _registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.queue_backlog.clear();
        self.0.queue_oldest_seconds.clear();
        self.0.dead_letters.clear();
        for Backlog { queue, connector, messages, oldest_seconds } in backlogs {
            let labels = of_subscription(queue, connector);
            self.0.queue_backlog.get_or_create(&labels).set(signed(*messages));
            self.0.queue_oldest_seconds.get_or_create(&labels).set(*oldest_seconds);
        }
        for (connector, letters) in dead_letters {
            self.0.dead_letters.get_or_create(&of_connector(connector)).set(signed(*letters));
        }
    }

    /// One request was answered with `status`, or failed (`error`). `host` is the grant's pattern.
    pub fn http_request(&self, connector: &Name, host: &str, status: &str, seconds: f64) {
        let (connector, host, status) = (connector.to_string(), host.to_owned(), status.to_owned());
        self.0
            .http_request_seconds
            .get_or_create(&OfHost { connector: connector.clone(), host: host.clone() })
            .observe(seconds);
        self.0.http_requests.get_or_create(&Requested { connector, host, status }).inc();
    }

    /// The gate refused an effect.
    pub fn denied(&self, connector: &Name, effect: Effect, reason: &'static str) {
        let (effect, reason) = (effect.label().to_owned(), reason.to_owned());
        self.0.denied.get_or_create(&Denied { connector: connector.to_string(), effect, reason }).inc();
    }

    /// An answer repeated a credential, which was blotted out.
    pub fn scrubbed(&self, connector: &Name) {
        self.0.scrubbed.get_or_create(&of_connector(connector)).inc();
    }

    /// A limit bit.
    pub fn limit_hit(&self, connector: &Name, limit: Limit) {
        let labels = LimitHit { connector: connector.to_string(), limit: limit.label().to_owned() };
        self.0.limit_hits.get_or_create(&labels).inc();
    }

    /// One request to a webhook, by what it was answered.
    pub fn webhook(&self, connector: &str, status: u16) {
        let labels = Hooked { connector: connector.to_owned(), status: status.to_string() };
        self.0.webhooks.get_or_create(&labels).inc();
    }

    /// From a tick's planned time to its enqueueing.
    pub fn schedule_lag(&self, connector: &Name, seconds: f64) {
        self.0.schedule_lag_seconds.get_or_create(&of_connector(connector)).observe(seconds);
    }

    /// One group commit.
    pub fn ledger_commit(&self, settlements: usize, seconds: f64) {
        self.0.ledger_commit_seconds.observe(seconds);
        self.0.ledger_commit_settlements.observe(f64::from(u32::try_from(settlements).unwrap_or(u32::MAX)));
    }

    /// Size of the write-ahead log.
    pub fn ledger_wal(&self, bytes: u64) {
        self.0.ledger_wal_bytes.set(signed(bytes));
    }

    /// The size that was told last.
    #[must_use]
    pub fn ledger_wal_bytes(&self) -> u64 {
        u64::try_from(self.0.ledger_wal_bytes.get()).unwrap_or(0)
    }

    /// A connector is held back for a reason, or no longer.
    pub fn held(&self, connector: &Name, reason: Held, is_held: bool) {
        let labels = HeldBy { connector: connector.to_string(), reason: reason.label().to_owned() };
        self.0.held.get_or_create(&labels).set(i64::from(is_held));
    }

    /// A repeat of a message was dropped.
    pub fn duplicate(&self, queue: &Name) {
        self.0.duplicates.get_or_create(&OfQueue { queue: queue.to_string() }).inc();
    }

    /// Routes went round, and so many copies were not made.
    pub fn unrouted(&self, queue: &Name, copies: u64) {
        self.0.unrouted.get_or_create(&OfQueue { queue: queue.to_string() }).inc_by(copies);
    }

    /// Messages expired before a connector settled them.
    pub fn expired(&self, queue: &Name, connector: &Name, messages: u64) {
        self.0.expired.get_or_create(&of_subscription(queue, connector)).inc_by(messages);
    }

    /// Messages that wait for a connector that has left the configuration.
    pub fn orphaned(&self, queue: &Name, connector: &Name, messages: u64) {
        self.0.orphaned_messages.get_or_create(&of_subscription(queue, connector)).set(signed(messages));
    }

    /// This configuration is in use, by the hash of its files; no other one is.
    pub fn configured(&self, sha256: &str) {
        // Nobody reads it between.
        let _registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.config_info.clear();
        self.0.config_info.get_or_create(&Configured { sha256: sha256.to_owned() }).set(1);
    }

    /// The configuration was read again: `done`, or `refused`.
    pub fn reloaded(&self, outcome: &'static str) {
        self.0.reloads.get_or_create(&Ended { outcome: outcome.to_owned() }).inc();
    }

    /// Host code panicked in a run; the run was charged, the host lives.
    pub fn panicked(&self) {
        self.0.panics.inc();
    }

    /// An attempt is not kept in the history.
    pub fn history_dropped(&self) {
        self.0.history_dropped.inc();
    }

    /// Spans were taken by the collector.
    pub fn spans_exported(&self, count: usize) {
        self.0.spans_exported.inc_by(count as u64);
    }

    /// Spans will never reach the collector: `queue` (there was no room), `export` (it could not be reached), `refused`,
    /// `stopped`.
    pub fn spans_dropped(&self, reason: &'static str, count: usize) {
        self.0.spans_dropped.get_or_create(&Why { reason: reason.to_owned() }).inc_by(count as u64);
    }

    /// Memory that is reserved for runs under way; whoever admits them moves it.
    #[must_use]
    pub fn sandbox_reserved_bytes(&self) -> Gauge {
        self.0.sandbox_reserved_bytes.clone()
    }

    /// A circuit breaker of a connector opened (1) or closed again (-1). `host` is the grant's pattern.
    pub fn breaker_open(&self, connector: &Name, host: &str, change: i64) {
        let labels = OfHost { connector: connector.to_string(), host: host.to_owned() };
        self.0.breaker_open.get_or_create(&labels).inc_by(change);
    }

    /// A sandbox was made.
    pub fn sandbox(&self, seconds: f64) {
        self.0.sandbox_seconds.observe(seconds);
    }

    /// Records a plugin's own figure.
    ///
    /// # Errors
    /// A fixed word for `bulkhead_denied_total{reason}`: the name or the labels are malformed, or there are too many.
    pub fn plugin(
        &self,
        connector: &Name,
        name: &str,
        labels: &[(String, String)],
        figure: Figure,
    ) -> Result<(), &'static str> {
        let mut registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.plugin.record(&mut registry, connector, name, labels, figure)
    }

    /// All metrics in the older text of Prometheus.
    #[must_use]
    pub fn plain_text(&self) -> String {
        text::plain(&self.text())
    }

    /// All metrics as OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        let registry = self.0.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing into a `String` cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

fn of_connector(connector: &Name) -> OfConnector {
    OfConnector { connector: connector.to_string() }
}

fn of_subscription(queue: &Name, connector: &Name) -> OfSubscription {
    OfSubscription { queue: queue.to_string(), connector: connector.to_string() }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_documented_ones() {
        let metrics = Metrics::default();
        let connector = Name::parse("orders").expect("a name");
        metrics.of_connector(&connector).done.inc();
        metrics.denied(&connector, Effect::Http, "not_granted");
        metrics.plugin(&connector, "rows", &[], Figure::Count(1)).expect("a good name");
        metrics.plugin(&connector, "rows_total", &[], Figure::Count(1)).expect("the same name, as it is printed");
        assert_eq!(metrics.plugin(&connector, "rows_total", &[], Figure::Gauge(1.0)), Err("invalid"));
        let text = metrics.text();
        for line in [
            r#"bulkhead_deliveries_total{connector="orders",outcome="done"} 1"#,
            r#"bulkhead_denied_total{connector="orders",effect="http",reason="not_granted"} 1"#,
            r#"bulkhead_plugin_rows_total{connector="orders"} 2"#,
            "bulkhead_panics_total 0",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
