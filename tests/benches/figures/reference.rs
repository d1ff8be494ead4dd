//! The same way without the product around it: SQLite and wasmtime, and nothing else.
//!
//! One table, a cursor, a writer with group commit and fsync, a reader ahead of it, and a fresh sandbox for every batch;
//! no limits, no metrics, no removal, no second subscriber. It is the floor that the product is held against, and it
//! runs beside it: on another machine both move.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use anyhow::{anyhow, ensure};
use bulkhead_host::bindings::bulkhead::connector::queue::{self, PublishError};
use bulkhead_host::bindings::bulkhead::connector::types;
use bulkhead_host::bindings::exports::bulkhead::connector::consumer::GuestIndices;
use rusqlite::{Connection, params};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker, ResourceTable};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::order::order;

const BATCH: i64 = 64;
const LANES: usize = 2;
/// Settlements of a lane on their way to the disk at once.
const OUTSTANDING_MAX: usize = 4;
/// Settlements of one commit.
const GROUP_MAX: usize = 32;
/// Row ids of the queue `out` begin here.
const OUT: i64 = 1 << 40;

/// What a sandbox of the reference holds.
struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
    published: Vec<types::Draft>,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl types::Host for Guest {}

impl queue::Host for Guest {
    fn publish(&mut self, _queue: String, mut messages: Vec<types::Draft>) -> Result<Vec<String>, PublishError> {
        self.published.append(&mut messages);
        Ok(vec![String::new()])
    }
}

/// A plugin that is ready to run.
struct Plugin {
    engine: Engine,
    instance: InstancePre<Guest>,
    indices: GuestIndices,
}

/// A message in order.
struct Row {
    seq: i64,
    id: String,
    body: Vec<u8>,
}

struct Settlement {
    first: i64,
    count: i64,
    published: Vec<(String, types::Draft)>,
    on_disk: oneshot::Sender<()>,
}

/// Messages a second of one pass over `messages`.
pub(crate) fn pass(messages: u64) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("reference.db");
    fill(&file, messages)?;
    let plugin = Arc::new(plugin()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(LANES).enable_all().build()?;
    let started = Instant::now();
    runtime.block_on(lanes(&file, &plugin))?;
    let elapsed = started.elapsed();
    let arrived: i64 = open(&file)?.query_row("SELECT count(*) FROM message WHERE id > ?1", [OUT], |row| row.get(0))?;
    ensure!(arrived == i64::try_from(messages)?, "{arrived} of {messages} messages have arrived");
    #[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
    Ok(messages as f64 / elapsed.as_secs_f64())
}

#[expect(clippy::disallowed_methods, reason = "a file of its own, which no host has open")]
fn open(file: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(file)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "wal_autocheckpoint", 8000)?;
    db.pragma_update(None, "cache_size", -65_536)?;
    Ok(db)
}

fn fill(file: &Path, messages: u64) -> anyhow::Result<()> {
    let mut db = open(file)?;
    db.execute_batch(
        "CREATE TABLE message (id INTEGER PRIMARY KEY, message_id TEXT, key TEXT, headers TEXT, body BLOB, enqueued_ms INTEGER);
         CREATE TABLE subscription (queue INTEGER PRIMARY KEY, cursor INTEGER);
         INSERT INTO subscription VALUES (0, 0)",
    )?;
    let transaction = db.transaction()?;
    let mut insert = transaction.prepare("INSERT INTO message VALUES (?1, ?2, NULL, '[]', ?3, 0)")?;
    for number in 1..=messages {
        insert.execute(params![i64::try_from(number)?, format!("m-{number}"), order(number).as_bytes()])?;
    }
    drop(insert);
    Ok(transaction.commit()?)
}

fn plugin() -> anyhow::Result<Plugin> {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(64)
        .total_core_instances(256)
        .total_memories(64)
        .total_tables(256)
        .total_stacks(64)
        .max_memory_size(64 << 20)
        .linear_memory_keep_resident(4 << 20)
        .table_keep_resident(1 << 20);
    let mut config = Config::new();
    config.wasm_component_model(true).concurrency_support(false).epoch_interruption(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let wrong = |error: wasmtime::Error| anyhow!("{error:#}");
    let engine = Engine::new(&config).map_err(wrong)?;
    let component = Component::from_file(&engine, bulkhead_tests::guest("map")).map_err(wrong)?;
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(wrong)?;
    types::add_to_linker::<Guest, HasSelf<Guest>>(&mut linker, |guest| guest).map_err(wrong)?;
    queue::add_to_linker::<Guest, HasSelf<Guest>>(&mut linker, |guest| guest).map_err(wrong)?;
    // The log that every guest may write, and this one does not.
    let mut logging = linker.instance("wasi:logging/logging@0.1.0-draft").map_err(wrong)?;
    logging.func_new("log", |_, _, _, _| Ok(())).map_err(wrong)?;
    let instance = linker.instantiate_pre(&component).map_err(wrong)?;
    let indices = GuestIndices::new(&instance).map_err(wrong)?;
    Ok(Plugin { engine, instance, indices })
}

async fn lanes(file: &Path, plugin: &Arc<Plugin>) -> anyhow::Result<()> {
    let (settle, settlements) = sync_channel(64);
    let writer = open(file)?;
    let writer = std::thread::Builder::new().name("writer".into()).spawn(move || write(writer, &settlements))?;
    let (lease, leased) = mpsc::channel(16);
    let reader = open(file)?;
    let reader = std::thread::Builder::new().name("reader".into()).spawn(move || read(&reader, &lease))?;
    let leased = Arc::new(Mutex::new(leased));
    let mut lanes = JoinSet::new();
    for _ in 0..LANES {
        lanes.spawn(lane(leased.clone(), settle.clone(), plugin.clone()));
    }
    drop(settle);
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    reader.join().map_err(|_| anyhow!("the reader panicked"))??;
    writer.join().map_err(|_| anyhow!("the writer panicked"))??;
    Ok(())
}

async fn lane(
    leased: Arc<Mutex<mpsc::Receiver<Vec<Row>>>>,
    settle: SyncSender<Settlement>,
    plugin: Arc<Plugin>,
) -> anyhow::Result<()> {
    let mut outstanding = std::collections::VecDeque::new();
    loop {
        let Some(rows) = leased.lock().await.recv().await else { break };
        let (first, count) = (rows[0].seq, i64::try_from(rows.len())?);
        let published = run(&plugin, rows).await.map_err(|error| anyhow!("{error:#}"))?;
        let (on_disk, receipt) = oneshot::channel();
        settle.send(Settlement { first, count, published, on_disk }).map_err(|_| anyhow!("the writer has gone"))?;
        outstanding.push_back(receipt);
        if outstanding.len() >= OUTSTANDING_MAX
            && let Some(oldest) = outstanding.pop_front()
        {
            oldest.await?;
        }
    }
    for receipt in outstanding {
        receipt.await?;
    }
    Ok(())
}

async fn run(plugin: &Plugin, rows: Vec<Row>) -> wasmtime::Result<Vec<(String, types::Draft)>> {
    let guest =
        Guest { wasi: WasiCtx::builder().build(), table: ResourceTable::new(), published: Vec::with_capacity(1) };
    let mut store = Store::new(&plugin.engine, guest);
    #[expect(clippy::disallowed_methods, reason = "the guest is known: nothing is ever stopped here")]
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    let started = plugin.instance.instantiate_async(&mut store).await?;
    let guest = plugin.indices.load(&mut store, &started)?;
    let mut published = Vec::with_capacity(rows.len());
    for row in rows {
        let message = types::Message {
            id: &row.id,
            queue: "in",
            key: None,
            headers: &[],
            body: &row.body,
            attempt: 1,
            enqueued_at_ms: 0,
            expires_at_ms: None,
            parent: None,
            hops: 0,
        };
        let answered = guest.call_handle(&mut store, message).await?;
        wasmtime::ensure!(answered.is_ok(), "the plugin does not fail");
        let drafts = (0..).zip(store.data_mut().published.drain(..));
        published.extend(drafts.map(|(ordinal, draft): (u32, _)| (format!("{}/map/{ordinal}", row.id), draft)));
    }
    Ok(published)
}

fn read(db: &Connection, lease: &mpsc::Sender<Vec<Row>>) -> rusqlite::Result<()> {
    let mut select =
        db.prepare("SELECT id, message_id, body FROM message WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3")?;
    let mut cursor = 0;
    loop {
        let page = select.query_map(params![cursor, OUT, BATCH], |row| {
            Ok(Row { seq: row.get(0)?, id: row.get(1)?, body: row.get(2)? })
        })?;
        let rows = page.collect::<rusqlite::Result<Vec<Row>>>()?;
        let Some(last) = rows.last() else { return Ok(()) };
        cursor = last.seq;
        if lease.blocking_send(rows).is_err() {
            return Ok(());
        }
    }
}

fn write(mut db: Connection, settlements: &Receiver<Settlement>) -> rusqlite::Result<()> {
    let (mut tail, mut cursor, mut ahead) = (OUT, 0, BTreeMap::new());
    while let Ok(first) = settlements.recv() {
        let group: Vec<Settlement> = std::iter::once(first).chain(settlements.try_iter().take(GROUP_MAX - 1)).collect();
        let transaction = db.transaction()?;
        let mut insert = transaction.prepare_cached("INSERT INTO message VALUES (?1, ?2, ?3, '[]', ?4, 0)")?;
        for settlement in &group {
            for (id, draft) in &settlement.published {
                tail += 1;
                insert.execute(params![tail, id, draft.key, draft.body])?;
            }
            ahead.insert(settlement.first, settlement.count);
        }
        drop(insert);
        while let Some(count) = ahead.remove(&(cursor + 1)) {
            cursor += count;
        }
        transaction.prepare_cached("UPDATE subscription SET cursor = ?1")?.execute([cursor])?;
        transaction.commit()?;
        for settlement in group {
            // Its lane may have ended by an error, which is reported there.
            let _ = settlement.on_disk.send(());
        }
    }
    Ok(())
}
