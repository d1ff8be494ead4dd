//! Each of the host's hot paths, alone and as often as it takes.
//!
//! Everything happens one after the other and by itself, so that the count depends on the code and hardly on the machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bulkhead_host::broker::{Broker, KeysInBatch, SubscriptionSettings};
use bulkhead_host::clock::Clock;
use bulkhead_host::id::{self, Kind, Name};
use bulkhead_host::ledger::{
    ConnectorLayout, Consumption, Directory, From, Layout, Ledger, QueuePolicy, Settings, StateUsage,
};
use bulkhead_host::limit::Limits;
use bulkhead_host::message::Draft;
use bulkhead_host::metrics::Metrics;
use bulkhead_host::plugin_store::PluginStore;
use bulkhead_host::runtime::compile::{Compiled, Maker, compile, keep};
use bulkhead_host::runtime::failure::Failure;
use bulkhead_host::runtime::{self, Engine, engine};
use bulkhead_host::settlement::{Delivery, Outcome, Publish, QueueId, Settlement, StateChanges};
use bulkhead_tests::inside::{delivery, grants, permits, scope};

/// Messages of one append, and of one lease.
const BATCH: usize = 50;
const BODY_BYTES: usize = 1024;
/// How often each happens before it is counted: what is made once is there then.
const WARM: usize = 100;
/// How often each happens in a round: a multiple of [`BATCH`].
pub(crate) const TIMES: usize = 100;
/// Each is counted so often, of which the least counts: threads that wait for each other take some more on a busy machine.
pub(crate) const ROUNDS: usize = 5;
const ALL: usize = WARM + ROUNDS * TIMES;
/// In the order in which they are taken: messages of 1 KB stored, 50 in a request; leased and settled, each with one publish
/// of 1 KB, 50 in a batch; stored, each in a request, and known again by its id; calls of one plugin in a kept sandbox, each
/// with one publish of 256 bytes; the same, each in a fresh sandbox.
pub(crate) const PATHS: [&str; 5] = ["append", "settle", "receive", "call", "run"];

/// Takes all of them, in an empty folder, and calls [`mark_of_a_path`] before each round, and after the last one of a path.
pub(crate) fn take(folder: &Path, plugin: &Plugin) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let queues = Queues::open(&folder.join("queues"), None)?;
        append(&queues).await?;
        settle(&queues).await?;
        receive(&Queues::open(&folder.join("intake"), Some(Duration::from_secs(3600)))?).await?;
        call(&folder.join("calls"), plugin).await
    })
}

/// Says where a round begins or the last one ends, when so much was done.
fn mark(done: usize) {
    if done >= WARM && (done - WARM).is_multiple_of(TIMES) {
        mark_of_a_path();
    }
}

/// What callgrind begins to count anew at.
#[inline(never)]
fn mark_of_a_path() {
    std::hint::black_box(());
}

/// A plugin, and where its code is kept.
pub(crate) struct Plugin<'a> {
    pub(crate) file: &'a Path,
    pub(crate) store: &'a Path,
}

impl Plugin<'_> {
    /// Takes the code from the store, or compiles it into it.
    pub(crate) fn code(&self, engine: &Engine) -> anyhow::Result<Compiled> {
        let store = PluginStore::open(self.store)?;
        let compiled = compile(engine, Some(&store), Maker::Host, &std::fs::read(self.file)?)?;
        keep(engine, &store, &compiled);
        Ok(compiled)
    }
}

pub(crate) fn engine() -> anyhow::Result<Engine> {
    Engine::start(engine::Settings { is_emulated: true, ..engine::Settings::default() })
}

/// A ledger with the queues `in` and `out` and the connector `map` between them.
struct Queues {
    ledger: Ledger,
    directory: Directory,
}

impl Queues {
    fn open(folder: &Path, dedup: Option<Duration>) -> anyhow::Result<Self> {
        std::fs::create_dir(folder)?;
        let name = |text| Name::parse(text).map_err(anyhow::Error::msg);
        let policy = QueuePolicy { dedup, ..QueuePolicy::default() };
        let map = ConnectorLayout {
            name: name("map")?,
            was: None,
            consumes: vec![Consumption { queue: name("in")?, from: From::Oldest }],
            has_inbox: false,
            dead_retention: Duration::from_secs(60),
            state_max: StateUsage { keys: 10_000, bytes: 64 << 20 },
            on_dead: None,
        };
        let queues = BTreeMap::from([(name("in")?, policy.clone()), (name("out")?, policy)]);
        let settings = Settings { min_free: Some(0), ..Settings::new(folder.to_owned()) };
        let ledger = Ledger::open(settings, Clock::default(), Metrics::default())?;
        let directory = ledger.configure(&Layout { routes: Vec::new(), queues, connectors: vec![map] })?;
        Ok(Self { ledger, directory })
    }
}

/// The message with this number.
fn message(number: usize) -> Draft {
    Draft { id: format!("message-{number}"), body: vec![b'x'; BODY_BYTES], ..Draft::default() }
}

async fn append(queues: &Queues) -> anyhow::Result<()> {
    let queue = queues.directory.queue("in").context("the layout names it")?;
    for first in (0..ALL).step_by(BATCH) {
        mark(first);
        let batch = (first..first + BATCH).map(|number| (queue, message(number))).collect();
        ensure!(queues.ledger.append(batch).await?.len() == BATCH, "not all were stored");
    }
    mark(ALL);
    Ok(())
}

async fn receive(queues: &Queues) -> anyhow::Result<()> {
    let queue = queues.directory.queue("in").context("the layout names it")?;
    for number in 0..ALL {
        mark(number);
        let _ = queues.ledger.receive(queue, message(number), None).await?;
    }
    mark(ALL);
    Ok(())
}

/// All that was stored before.
async fn settle(queues: &Queues) -> anyhow::Result<()> {
    let Queues { ledger, directory } = queues;
    let known = "the layout names it";
    let settings = SubscriptionSettings {
        subscription: directory.subscription("in", "map").context(known)?,
        queue: directory.queue("in").context(known)?,
        pending_max: 100_000,
        keys: KeysInBatch::Several,
    };
    let (out, connector) = (directory.queue("out").context(known)?, directory.connector("map").context(known)?);
    let subscription = settings.subscription;
    let broker = Broker::local(ledger.clone())?;
    let messages = broker.subscribe(settings)?;
    let worker = messages.worker();
    for first in (0..ALL).step_by(BATCH) {
        mark(first);
        // Whole batches, however long they take to be read.
        let batch = worker.lease(BATCH, Duration::from_secs(120)).await;
        ensure!(batch.deliveries.len() == BATCH, "no whole batch");
        worker.begin(&batch);
        let outcomes = batch.deliveries.iter().map(|delivery| (delivery.origin, Outcome::Done)).collect();
        let publishes: Vec<_> = batch.deliveries.into_iter().map(|delivery| publish(out, delivery)).collect();
        let reservation = ledger.reserve(out, publishes.iter().map(|publish| publish.draft.size_bytes()).sum())?;
        let (state, tick, mark) = (StateChanges::default(), None, None);
        let receipt = worker.settle(Settlement { subscription, connector, outcomes, publishes, state, tick, mark });
        drop(reservation);
        receipt.await?;
    }
    mark(ALL);
    Ok(())
}

/// The same message once more.
fn publish(queue: QueueId, delivery: Delivery) -> Publish {
    let id = id::derive(Kind::Publish, &["map", "out", &delivery.message.id], 0);
    let parent = Some(delivery.message.id);
    Publish { queue, draft: Draft { id, parent, body: delivery.message.body, hops: 1, ..Draft::default() } }
}

async fn call(folder: &Path, plugin: &Plugin<'_>) -> anyhow::Result<()> {
    std::fs::create_dir(folder)?;
    let (engine, grants) = (engine()?, Arc::new(grants(folder, Limits::default())?));
    let compiled = plugin.code(&engine)?;
    ensure!(compiled.is_cached(), "what was compiled before is not there");
    let guests = engine.guests().clone();
    let calls = guests.spawn(async move {
        let plugin = runtime::Plugin::load(&engine, &compiled, grants).await?;
        let (permits, name) = (permits(), Name::parse("orders").map_err(anyhow::Error::msg)?);
        let permit = permits.acquire(&name, Limits::default().memory_bytes).await;
        let failed = |failure: Failure| anyhow::Error::msg(failure.reason().to_owned());
        for is_fresh in [false, true] {
            let mut sandbox = plugin.sandbox(&permit).await.map_err(failed)?;
            for time in 0..ALL {
                mark(time);
                if is_fresh {
                    sandbox = plugin.sandbox(&permit).await.map_err(failed)?;
                }
                let staged = sandbox.handle(&scope(), &delivery()).await.map_err(failed)?;
                ensure!(staged.publishes.len() == 1, "the plugin has not published");
            }
            mark(ALL);
        }
        Ok(())
    });
    calls.await?
}
