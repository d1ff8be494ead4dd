//! The durable core at its boundary: messages in, settlements in, what is left after a crash out.
//!
//! A crash is a ledger whose folder is copied while it is open: what another process would find after kill -9.
#![allow(clippy::disallowed_methods, reason = "looks into the file after the ledger has closed it")]
#![allow(clippy::unwrap_used)]

mod crash;
mod dead;
mod file;
mod history;
mod layout;
mod lease;
mod model;
mod queue;
mod random;
mod settling;

use std::path::Path;
use std::time::Duration;

use bulkhead_host::broker::{Batch, Broker, KeysInBatch, Subscription, SubscriptionSettings, Worker};
use bulkhead_host::clock::Clock;
use bulkhead_host::id::Name;
use bulkhead_host::ledger::{
    AppendError, ConnectorLayout, Consumption, Directory, From, Layout, Ledger, OpenError, Ordering, QueuePolicy,
    QueueReport, Redrive, Settings, StateUsage,
};
use bulkhead_host::message::{Draft, Message};
use bulkhead_host::metrics::{Held, Metrics};
use bulkhead_host::settlement::{
    Delivery, Origin, Outcome, Publish, QueueId, SettleError, Settlement, StateChanges, SubscriptionId,
};

const DAY: Duration = Duration::from_secs(86_400);
const NO_WAIT: Duration = Duration::ZERO;

/// A ledger with queue `in`, read by `a` and whoever else is named, and queue `out`.
struct Host {
    ledger: Ledger,
    directory: Directory,
    broker: Broker,
    metrics: Metrics,
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn connector(text: &str) -> ConnectorLayout {
    ConnectorLayout {
        name: name(text),
        was: None,
        consumes: vec![Consumption { queue: name("in"), from: From::Oldest }],
        has_inbox: false,
        dead_retention: DAY,
        state_max: StateUsage { keys: 10_000, bytes: 64 << 20 },
        on_dead: None,
    }
}

fn layout(policy: QueuePolicy, connectors: &[&str]) -> Layout {
    let queues = [(name("in"), policy), (name("out"), QueuePolicy::default())].into();
    Layout { queues, connectors: connectors.iter().map(|text| connector(text)).collect(), routes: Vec::new() }
}

fn open(dir: &Path, layout: &Layout) -> Host {
    let metrics = Metrics::default();
    let ledger = Ledger::open(Settings::new(dir.to_owned()), Clock::default(), metrics.clone()).unwrap();
    let directory = ledger.configure(layout).unwrap();
    let broker = Broker::local(ledger.clone()).unwrap();
    Host { ledger, directory, broker, metrics }
}

/// What another process finds after kill -9: the files as they are at one moment. The ledger may empty its write-ahead log
/// into the file at any time, so they are read again until the log was the same before and after.
fn crashed(dir: &Path) -> tempfile::TempDir {
    copied(dir, tempfile::tempdir().unwrap())
}

fn copied(dir: &Path, copy: tempfile::TempDir) -> tempfile::TempDir {
    loop {
        let log = std::fs::read(dir.join("ledger.db-wal")).unwrap();
        for file in ["ledger.db", "inflight"] {
            std::fs::copy(dir.join(file), copy.path().join(file)).unwrap();
        }
        if std::fs::read(dir.join("ledger.db-wal")).unwrap() == log {
            std::fs::write(copy.path().join("ledger.db-wal"), log).unwrap();
            return copy;
        }
    }
}

fn draft(id: &str, key: Option<&str>) -> Draft {
    Draft { id: id.to_owned(), key: key.map(str::to_owned), body: id.as_bytes().to_vec(), ..Draft::default() }
}

fn outcomes(deliveries: &[Delivery], outcome: &Outcome) -> Vec<(Origin, Outcome)> {
    deliveries.iter().map(|delivery| (delivery.origin, outcome.clone())).collect()
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.id.as_str()).collect()
}

fn retry(due_ms: u64) -> Outcome {
    Outcome::Retry { due_ms, charged: true, reason: "no luck".to_owned() }
}

fn dead() -> Outcome {
    Outcome::Dead { reason: "hopeless".to_owned() }
}

impl Host {
    fn queue(&self, name: &str) -> QueueId {
        self.directory.queue(name).unwrap()
    }

    fn settings(&self, connector: &str) -> SubscriptionSettings {
        SubscriptionSettings {
            subscription: self.directory.subscription("in", connector).unwrap(),
            queue: self.queue("in"),
            pending_max: 1_000,
            keys: KeysInBatch::Several,
        }
    }

    /// Charges what took the process down, as a connector does that gives up after three attempts.
    async fn subscribe(&self, connector: &str) -> Subscription {
        let settings = self.settings(connector);
        let charge = |delivery: &Delivery| match delivery.attempt {
            3.. => (delivery.origin, dead()),
            _ => (delivery.origin, retry(self.now_ms())),
        };
        let crashed = self.broker.crashed(settings.subscription, settings.queue).unwrap();
        let outcomes = crashed.iter().map(charge).collect();
        self.ledger.settle(self.settlement(connector, outcomes)).await.unwrap();
        self.broker.subscribe(settings).unwrap()
    }

    async fn send(&self, drafts: &[Draft]) {
        let queue = self.queue("in");
        let appended = self.ledger.append(drafts.iter().map(|draft| (queue, draft.clone())).collect()).await.unwrap();
        assert_eq!(appended.len(), drafts.len());
    }

    async fn send_ids(&self, ids: &[&str]) {
        self.send(&ids.iter().map(|id| draft(id, None)).collect::<Vec<_>>()).await;
    }

    fn settlement(&self, connector: &str, outcomes: Vec<(Origin, Outcome)>) -> Settlement {
        let settings = self.settings(connector);
        Settlement {
            subscription: settings.subscription,
            connector: self.directory.connector(connector).unwrap(),
            outcomes,
            publishes: Vec::new(),
            state: StateChanges::default(),
            tick: None,
            mark: None,
        }
    }

    async fn settle(&self, worker: &Worker, connector: &str, batch: &[Delivery], outcome: &Outcome) {
        worker.settle(self.settlement(connector, outcomes(batch, outcome))).await.unwrap();
    }

    fn report(&self, queue: &str) -> QueueReport {
        self.ledger.queues().unwrap().into_iter().find(|report| report.queue == queue).unwrap()
    }

    fn now_ms(&self) -> u64 {
        self.ledger.clock().now_ms()
    }

    /// Ends without a clean stop: the files stay as they are.
    fn crash(self, dir: &Path) -> tempfile::TempDir {
        let copy = crashed(dir);
        self.ledger.close();
        copy
    }
}

async fn lease(worker: &Worker, max: usize) -> Batch {
    tokio::time::timeout(Duration::from_secs(20), worker.lease(max, NO_WAIT)).await.expect("something is deliverable")
}

/// Leases until so many deliveries have come.
async fn lease_all(worker: &Worker, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(lease(worker, count - all.len()).await.deliveries);
    }
    all
}
