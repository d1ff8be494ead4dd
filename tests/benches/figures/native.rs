//! The product's ledger and broker with native code in the place of a sandbox: what remains of a pipeline's cost when
//! the plugin costs nothing.
//!
//! Leases, settlements, derived ids, reservations, removal and the second subscriber are the product's own; there is no
//! gate, no limit and no run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bulkhead_host::broker::{Broker, KeysInBatch, Subscription, SubscriptionSettings, Worker};
use bulkhead_host::clock::Clock;
use bulkhead_host::id::{self, Kind, Name};
use bulkhead_host::ledger::{
    ConnectorLayout, Consumption, Directory, From, Layout, Ledger, QueuePolicy, Reservation, Settings, StateUsage,
};
use bulkhead_host::message::Draft;
use bulkhead_host::metrics::Metrics;
use bulkhead_host::settlement::{
    ConnectorId, Delivery, Outcome, Publish, QueueId, Settlement, StateChanges, SubscriptionId,
};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::order::{invoice, order};

const BATCH: usize = 64;
const DISCARD_BATCH: usize = 256;
const WORKERS: usize = 2;
/// Settlements of a worker on their way to the disk at once.
const OUTSTANDING_MAX: usize = 4;
/// Messages of one append.
const CHUNK: u64 = 1_000;

/// A worker with all that it needs.
struct Lane {
    ledger: Ledger,
    worker: Worker,
    reading: Reading,
    batch: usize,
    /// Where the invoices go; the discarding one publishes nothing.
    publishes_to: Option<QueueId>,
}

/// Messages a second of one pass over `messages`.
pub(crate) fn pass(messages: u64) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let settings = Settings { min_free: Some(0), ..Settings::new(folder.path().to_owned()) };
        let ledger = Ledger::open(settings, Clock::default(), Metrics::default())?;
        let directory = ledger.configure(&layout())?;
        let queue = |name| directory.queue(name).context("the layout names it");
        fill(&ledger, queue("in")?, messages).await?;
        let broker = Broker::local(ledger.clone())?;
        let (settled, mut settling) = mpsc::channel(64);
        let started = Instant::now();
        let mut lanes = JoinSet::new();
        let map = subscribe(&broker, &directory, "map")?;
        let discard = subscribe(&broker, &directory, "discard")?;
        for _ in 0..WORKERS {
            lanes.spawn(lane(&ledger, &map, BATCH, Some(queue("out")?)).run(settled.clone()));
        }
        lanes.spawn(lane(&ledger, &discard, DISCARD_BATCH, None).run(settled));
        let mut left = usize::try_from(2 * messages)?;
        while left > 0 {
            tokio::select! {
                Some(count) = settling.recv() => left -= count,
                Some(ended) = lanes.join_next() => ended??,
            }
        }
        let elapsed = started.elapsed();
        lanes.shutdown().await;
        let arrived = ledger.tail(queue("out")?).borrow().seq;
        ensure!(arrived == messages, "{arrived} of {messages} messages have arrived");
        #[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
        Ok(messages as f64 / elapsed.as_secs_f64())
    })
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn layout() -> Layout {
    let policy = QueuePolicy { max_bytes: 16 << 30, ..QueuePolicy::default() };
    let connector = |of| ConnectorLayout {
        name: name(of),
        was: None,
        consumes: vec![Consumption { queue: name("in"), from: From::Oldest }],
        has_inbox: false,
        dead_retention: Duration::from_secs(60),
        state_max: StateUsage { keys: 10_000, bytes: 64 << 20 },
        on_dead: None,
    };
    Layout {
        routes: Vec::new(),
        queues: BTreeMap::from([(name("in"), policy.clone()), (name("out"), policy)]),
        connectors: vec![connector("map"), connector("discard")],
    }
}

async fn fill(ledger: &Ledger, queue: QueueId, messages: u64) -> anyhow::Result<()> {
    let mut numbers = 1..=messages;
    loop {
        let draft = |number| Draft { id: format!("m-{number}"), body: order(number).into_bytes(), ..Draft::default() };
        let chunk: Vec<_> =
            numbers.by_ref().take(usize::try_from(CHUNK)?).map(|number| (queue, draft(number))).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        ledger.append(chunk).await?;
    }
}

/// Who reads, and where.
#[derive(Clone)]
struct Reading {
    subscription: Subscription,
    id: SubscriptionId,
    connector: ConnectorId,
}

fn subscribe(broker: &Broker, directory: &Directory, connector: &str) -> anyhow::Result<Reading> {
    let known = "the layout names it";
    let id = directory.subscription("in", connector).context(known)?;
    let settings = SubscriptionSettings {
        subscription: id,
        queue: directory.queue("in").context(known)?,
        pending_max: 100_000,
        keys: KeysInBatch::Several,
    };
    let connector = directory.connector(connector).context(known)?;
    Ok(Reading { subscription: broker.subscribe(settings)?, id, connector })
}

fn lane(ledger: &Ledger, reading: &Reading, batch: usize, publishes_to: Option<QueueId>) -> Lane {
    Lane {
        ledger: ledger.clone(),
        worker: reading.subscription.worker(),
        reading: reading.clone(),
        batch,
        publishes_to,
    }
}

impl Lane {
    /// Works for ever, saying what gets to the disk.
    async fn run(self, settled: mpsc::Sender<usize>) -> anyhow::Result<()> {
        let mut outstanding = FuturesOrdered::new();
        loop {
            tokio::select! {
                biased;
                Some(count) = outstanding.next() => settled.send(count?).await?,
                batch = self.worker.lease(self.batch, Duration::ZERO), if outstanding.len() <= OUTSTANDING_MAX => {
                    self.worker.begin(&batch);
                    let count = batch.deliveries.len();
                    let (settlement, reservation) = self.map(batch.deliveries)?;
                    let receipt = self.worker.settle(settlement);
                    drop(reservation);
                    outstanding.push_back(async move { receipt.await.map(|()| count) });
                }
            }
        }
    }

    /// What a run of the plugin would have decided.
    fn map(&self, deliveries: Vec<Delivery>) -> anyhow::Result<(Settlement, Reservation)> {
        let mut settlement = Settlement {
            subscription: self.reading.id,
            connector: self.reading.connector,
            outcomes: deliveries.iter().map(|delivery| (delivery.origin, Outcome::Done)).collect(),
            publishes: Vec::new(),
            state: StateChanges::default(),
            tick: None,
            mark: None,
        };
        let mut reservation = Reservation::default();
        let Some(queue) = self.publishes_to else { return Ok((settlement, reservation)) };
        for Delivery { message, .. } in deliveries {
            let draft = Draft {
                id: id::derive(Kind::Publish, &["map", "out", &message.id], 0),
                key: message.key,
                body: invoice(&message.body),
                parent: Some(message.id),
                hops: message.hops + 1,
                ..Draft::default()
            };
            reservation.absorb(self.ledger.reserve(queue, draft.size_bytes())?);
            settlement.publishes.push(Publish { queue, draft });
        }
        Ok((settlement, reservation))
    }
}
