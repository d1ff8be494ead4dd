//! The webhooks' way without the product around it: axum, HMAC, SQLite and a client, and nothing else.
//!
//! One table and one of ids, one writer with group commit and fsync; no limits, no metrics, no removal, no sandbox, and
//! nothing but the body is kept of a request. It is what the product is held against, and it takes turns with it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context as _;
use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::post;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

/// Requests of one commit.
const GROUP_MAX: usize = 256;
/// Requests that wait for one: more than there are connections, so that nobody waits to be put in the queue.
const WAITING_MAX: usize = 1_024;

struct Put {
    id: [u8; 16],
    body: Bytes,
    on_disk: oneshot::Sender<()>,
}

#[derive(Clone)]
struct Shared {
    puts: SyncSender<Put>,
    client: reqwest::Client,
    outside: Arc<str>,
    key: Arc<hmac::Key>,
    number: Arc<AtomicU64>,
}

/// A server under load.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    runtime: tokio::runtime::Runtime,
    writer: JoinHandle<anyhow::Result<u64>>,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Verifies and stores what comes to `/hooks/shop`; asks `outside` about what comes to `/ask`, and stores that.
    pub(crate) fn start(secret: &str, outside: SocketAddr) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let db = open(&folder.path().join("bare.db"))?;
        let (puts, waiting) = sync_channel(WAITING_MAX);
        let writer = std::thread::Builder::new().name("bare-ledger".to_owned()).spawn(move || write(db, &waiting))?;
        #[expect(clippy::disallowed_methods, reason = "a client of the figures' own")]
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(128).build()?;
        let key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
        let outside = format!("http://{outside}/").into();
        let shared = Shared { puts, client, outside, key, number: Arc::default() };
        let routes = Router::new().route("/hooks/shop", post(hook)).route("/ask", post(ask)).with_state(shared);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Ok(Self { address, runtime, writer, _folder: folder })
    }

    /// Ends it; how many requests it has stored.
    pub(crate) fn stop(self) -> anyhow::Result<u64> {
        drop(self.runtime);
        self.writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of its own, which no host has open")]
pub(crate) fn open(file: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(file)?;
    db.pragma_update(None, "page_size", 8192)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "cache_size", -65_536)?;
    db.execute_batch(
        "CREATE TABLE message (id INTEGER PRIMARY KEY, message_id TEXT, key TEXT, headers TEXT, body BLOB, enqueued_ms INTEGER);
         CREATE TABLE seen (id BLOB PRIMARY KEY) WITHOUT ROWID",
    )?;
    Ok(db)
}

fn write(mut db: Connection, waiting: &Receiver<Put>) -> anyhow::Result<u64> {
    let mut stored = 0;
    while let Ok(first) = waiting.recv() {
        let group: Vec<Put> = std::iter::once(first).chain(waiting.try_iter().take(GROUP_MAX - 1)).collect();
        let transaction = db.transaction()?;
        {
            let mut seen = transaction.prepare_cached("INSERT OR IGNORE INTO seen VALUES (?1)")?;
            let mut insert = transaction.prepare_cached("INSERT INTO message VALUES (?1, ?2, NULL, '[]', ?3, 0)")?;
            for put in &group {
                if seen.execute([&put.id[..]])? == 1 {
                    stored += 1;
                    insert.execute(params![
                        i64::try_from(stored)?,
                        data_encoding::HEXLOWER.encode(&put.id),
                        &put.body[..]
                    ])?;
                }
            }
        }
        transaction.commit()?;
        for put in group {
            let _ = put.on_disk.send(());
        }
    }
    Ok(stored)
}

async fn hook(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Some(id) = verified(&shared.key, &headers, &body) else { return StatusCode::UNAUTHORIZED };
    shared.store(id, body, StatusCode::ACCEPTED).await
}

/// The first half of the signature, if it is right: an id that no other request has.
fn verified(key: &hmac::Key, headers: &HeaderMap, body: &[u8]) -> Option<[u8; 16]> {
    let header = |name| headers.get(name).map(HeaderValue::as_bytes);
    let mut signed = hmac::Context::with_key(key);
    for part in [header("webhook-id")?, b".", header("webhook-timestamp")?, b".", body] {
        signed.update(part);
    }
    let tag = signed.sign();
    let claimed = data_encoding::BASE64.decode(header("webhook-signature")?.strip_prefix(b"v1,")?).ok()?;
    aws_lc_rs::constant_time::verify_slices_are_equal(tag.as_ref(), &claimed).ok()?;
    tag.as_ref().first_chunk::<16>().copied()
}

async fn ask(State(shared): State<Shared>) -> StatusCode {
    let sent = shared.client.post(&*shared.outside).send().await;
    let Ok(answer) = sent.context("asking") else { return StatusCode::BAD_GATEWAY };
    let Ok(body) = answer.bytes().await else { return StatusCode::BAD_GATEWAY };
    let number = u128::from(shared.number.fetch_add(1, Ordering::Relaxed));
    let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes();
    shared.store(id, body, StatusCode::OK).await
}

impl Shared {
    async fn store(&self, id: [u8; 16], body: Bytes, stored: StatusCode) -> StatusCode {
        let (on_disk, waiting) = oneshot::channel();
        if self.puts.send(Put { id, body, on_disk }).is_err() {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        waiting.await.map_or(StatusCode::SERVICE_UNAVAILABLE, |()| stored)
    }
}
