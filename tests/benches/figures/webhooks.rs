//! Webhooks under load: stored before they are answered, and answered by a plugin that asks somebody else first.
//!
//! The load comes from this process, over connections that are kept, with requests that were written (and signed) before;
//! so the senders take as little of the cores as they can. What was answered is counted in the ledger afterwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aws_lc_rs::hmac;
use bulkhead_tests::{Bulkhead, guest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::report::{Figure, percentile};

const CONNECTIONS: usize = 64;
const BODY_BYTES: usize = 1024;
/// Requests of one round, after a tenth of them that warms up.
const REQUESTS: usize = 60_000;
/// How long half the load goes on.
const HALF_LOAD_SECONDS: usize = 3;
const SECRET: &str = "bulkhead-figures-0123456789abcdef";

/// `webhook_ingest_per_second`, `webhook_half_load_p99_ms`, `webhook_roundtrip_per_second`.
pub(crate) fn measure(rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut ingest, mut half, mut roundtrip) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (per_second, p99_ms) = ingest_round(&runtime)?;
        ingest.push(per_second);
        half.push(p99_ms);
        roundtrip.push(roundtrip_round(&runtime)?);
    }
    let how =
        "HMAC-SHA-256 verified, known again by id, on disk before 202; 1 KB, 64 connections, senders on the same cores";
    let ingest = Figure::of_rounds("webhook_ingest_per_second", "requests/s", &ingest, how);
    let how = "the same at half that rate, from when each was to be sent";
    let half = Figure::of_rounds("webhook_half_load_p99_ms", "ms", &half, how);
    let how = "webhook, plugin, HTTP out, answer, its mark on disk before; 64 connections";
    let roundtrip = Figure::of_rounds("webhook_roundtrip_per_second", "requests/s", &roundtrip, how);
    Ok(vec![ingest, half, roundtrip])
}

fn ingest_round(runtime: &tokio::runtime::Runtime) -> anyhow::Result<(f64, f64)> {
    let verify = "{ scheme = 'standard-webhooks', secret = 'key' }";
    let toml = format!(
        "[secrets]\nkey = {{ env = 'FIGURES_KEY' }}\n[queues.orders]\nmax_bytes = '4GiB'\n\
         [connectors.intake]\nwebhook = {{ path = '/hooks/shop', verify = {verify}, publish = 'orders' }}\n"
    );
    let encoded = format!("whsec_{}", data_encoding::BASE64.encode(SECRET.as_bytes()));
    let host = Bulkhead::new(&toml).variable("FIGURES_KEY", &encoded);
    let running = host.start();
    let address = host.webhooks();
    let _ = runtime.block_on(flood(address, &signed(address, "warm", REQUESTS / 10)))?;
    let requests = signed(address, "full", REQUESTS);
    let took = runtime.block_on(flood(address, &requests))?;
    let per_second = REQUESTS as f64 / took.as_secs_f64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of some thousands")]
    let rate = (per_second / 2.0) as usize;
    let paced = signed(address, "half", rate * HALF_LOAD_SECONDS);
    let latencies = runtime.block_on(pace(address, &paced, rate))?;
    running.kill9();
    let stored = host.ledger().messages("orders").len();
    let sent = REQUESTS / 10 + REQUESTS + paced.len();
    ensure!(stored == sent, "{stored} messages, where {sent} were accepted");
    Ok((per_second, percentile(&latencies, 99)))
}

fn roundtrip_round(runtime: &tokio::runtime::Runtime) -> anyhow::Result<f64> {
    let (outside, answered) = receiver()?;
    let verify = "{ scheme = 'none', id = { header = 'x-event' } }";
    let toml = format!(
        "[connectors.it]\nplugin = '{}'\nwebhook = {{ path = '/ask', verify = {verify}, respond = 'connector' }}\n\
         allow.http = [{{ url = 'http://{outside}/*', methods = ['POST'], private = true }}]\n\
         limits = {{ requests_at_once = 64 }}\n",
        guest("hook").display()
    );
    let host = Bulkhead::new(&toml);
    let running = host.start();
    let address = host.webhooks();
    let ask = |name: &str, count| -> Vec<Vec<u8>> {
        let body = format!("fetch http://{outside}/");
        let one = |n| whole(address, "/ask", &format!("x-event: {name}-{n}\r\n"), body.as_bytes());
        (0..count).map(one).collect()
    };
    let _ = runtime.block_on(flood(address, &ask("warm", REQUESTS / 20)))?;
    let requests = ask("full", REQUESTS / 3);
    let took = runtime.block_on(flood(address, &requests))?;
    let _ = running.terminate().ok();
    let expected = REQUESTS / 20 + requests.len();
    let answered = answered.load(Ordering::Relaxed);
    ensure!(answered == expected, "{answered} requests came out, where {expected} went in");
    Ok(requests.len() as f64 / took.as_secs_f64())
}

/// Requests as Standard Webhooks signs them.
fn signed(address: SocketAddr, name: &str, count: usize) -> Vec<Vec<u8>> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let body = "x".repeat(BODY_BYTES);
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let one = |n| {
        let id = format!("{name}-{n}");
        let tag = hmac::sign(&key, format!("{id}.{now}.{body}").as_bytes());
        let tag = data_encoding::BASE64.encode(tag.as_ref());
        let headers = format!(
            "content-type: application/json\r\nwebhook-id: {id}\r\nwebhook-timestamp: {now}\r\nwebhook-signature: v1,{tag}\r\n"
        );
        whole(address, "/hooks/shop", &headers, body.as_bytes())
    };
    (0..count).map(one).collect()
}

fn whole(address: SocketAddr, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Sends all of them, one after the other on each connection.
async fn flood(address: SocketAddr, requests: &[Vec<u8>]) -> anyhow::Result<Duration> {
    let started = send(address, requests, None).await?.0;
    Ok(started.elapsed())
}

/// Sends them at a rate, on whatever connection is free; milliseconds from when each was to be sent to its answer.
async fn pace(address: SocketAddr, requests: &[Vec<u8>], rate: usize) -> anyhow::Result<Vec<f64>> {
    Ok(send(address, requests, Some(rate)).await?.1)
}

/// When it began, and for each request the milliseconds from when it was to be sent: at its turn, or as soon as can be.
async fn send(address: SocketAddr, requests: &[Vec<u8>], rate: Option<usize>) -> anyhow::Result<(Instant, Vec<f64>)> {
    let connections = connect(address).await?;
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let sending = connections.into_iter().map(|mut connection| {
        let next = &next;
        async move {
            let mut latencies = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let Some(request) = requests.get(n) else { return anyhow::Ok(latencies) };
                let turn = rate.map(|rate| started + Duration::from_secs_f64(n as f64 / rate as f64));
                if let Some(turn) = turn {
                    tokio::time::sleep_until(turn.into()).await;
                }
                let at = turn.unwrap_or_else(Instant::now);
                connection.ask(request).await?;
                latencies.push(at.elapsed().as_secs_f64() * 1e3);
            }
        }
    });
    Ok((started, futures_util::future::try_join_all(sending).await?.concat()))
}

#[expect(clippy::disallowed_methods, reason = "a sender of the figures' own")]
async fn connect(address: SocketAddr) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        connections.push(Connection { stream, heard: Vec::with_capacity(4096) });
    }
    Ok(connections)
}

struct Connection {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Connection {
    /// Sends one request, and waits for an answer of 2xx.
    async fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        self.heard.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.heard).await? > 0, "the host has hung up");
            let Some(end) = self.heard.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.heard[..end]).context("a head is text")?;
            ensure!(head.starts_with("HTTP/1.1 2"), "answered: {head}");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if self.heard.len() >= end + 4 + length {
                return Ok(());
            }
        }
    }
}

/// Answers every request at once, on a thread of its own; its address, and how many it has answered.
fn receiver() -> anyhow::Result<(SocketAddr, Arc<AtomicUsize>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let answered = Arc::new(AtomicUsize::new(0));
    let count = answered.clone();
    let serve = async move {
        let mut answering = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let count = count.clone();
            answering.spawn(async move { answer_all(stream, &count).await });
        }
    };
    std::thread::Builder::new().name("receiver".to_owned()).spawn(move || runtime.block_on(serve))?;
    Ok((address, answered))
}

async fn answer_all(mut stream: TcpStream, answered: &AtomicUsize) {
    let mut head = [0; 4096];
    let _ = stream.set_nodelay(true);
    // A request without a body comes in one piece.
    while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
        answered.fetch_add(1, Ordering::Relaxed);
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}
