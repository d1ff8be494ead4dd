//! Webhooks under load: stored before they are answered, and answered by a plugin that asks somebody else first.
//!
//! The load comes from this process, and was written (and signed) before. What was answered is counted in the ledger
//! afterwards.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use anyhow::ensure;
use aws_lc_rs::hmac;
use bulkhead_tests::{Bulkhead, guest};

use crate::bare::Server;
use crate::flood::{flood, http, pace, post};
use crate::peers::{self, Peer};
use crate::receiver::receiver;
use crate::report::{Figure, percentile};

pub(crate) const BODY_BYTES: usize = 1024;
/// Requests of one round, after a tenth of them that warms up. Few in a build without optimisation: its figures mean nothing.
pub(crate) const REQUESTS: usize = if cfg!(debug_assertions) { 3_000 } else { 60_000 };
/// The same where each asks somebody else.
pub(crate) const ROUNDTRIPS: usize = REQUESTS / 3;
/// How long half the load goes on.
const HALF_LOAD_SECONDS: usize = 3;
const SECRET: &str = "bulkhead-figures-0123456789abcdef";

/// `webhook_ingest_per_second` beside the same without the product, and `webhook_half_load_p99_ms`.
pub(crate) fn ingest(rounds: usize, mut peers: Vec<Peer>) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut bare, mut ingest, mut again, mut half) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(bare_round(&runtime, REQUESTS, signed)?);
        let (per_second, p99_ms) = ingest_round(&runtime)?;
        ingest.push(per_second);
        half.push(p99_ms);
        peers::take_turns(&mut peers)?;
        again.push(ingest_round(&runtime)?.0);
    }
    let how = "the same by axum and SQLite alone, in turn";
    let bare = Figure::of_rounds("bare_ingest_per_second", "requests/s", &bare, how);
    let how =
        "HMAC-SHA-256 verified, known again by id, on disk before 202; 1 KB, 64 connections, senders on the same cores";
    let chance = Figure::of_chance("webhook_ingest_again_ratio", &ingest, &again);
    let ingest = Figure::of_rounds("webhook_ingest_per_second", "requests/s", &ingest, how).against(&bare);
    let how = "the same at half that rate, from when each was to be sent";
    let half = Figure::of_rounds("webhook_half_load_p99_ms", "ms", &half, how);
    let compared = peers::figures(peers, &ingest);
    Ok([vec![bare, ingest, chance, half], compared].concat())
}

/// `webhook_roundtrip_per_second` beside the same without the product.
pub(crate) fn roundtrip(rounds: usize, mut peers: Vec<Peer>) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut bare, mut roundtrip, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let requests = |address, _: &str, count| vec![post(address, "/ask", "", b""); count];
        bare.push(bare_round(&runtime, ROUNDTRIPS, requests)?);
        roundtrip.push(roundtrip_round(&runtime)?);
        peers::take_turns(&mut peers)?;
        again.push(roundtrip_round(&runtime)?);
    }
    let how = "the same by axum, reqwest and SQLite alone, in turn";
    let bare = Figure::of_rounds("bare_roundtrip_per_second", "requests/s", &bare, how);
    let how = "webhook, plugin, HTTP out, answer, its mark on disk before; 64 connections";
    let chance = Figure::of_chance("webhook_roundtrip_again_ratio", &roundtrip, &again);
    let roundtrip = Figure::of_rounds("webhook_roundtrip_per_second", "requests/s", &roundtrip, how).against(&bare);
    let compared = peers::figures(peers, &roundtrip);
    Ok([vec![bare, roundtrip, chance], compared].concat())
}

/// So many requests to the server without the product, after a tenth of them that warms up.
fn bare_round(
    runtime: &tokio::runtime::Runtime,
    count: usize,
    requests: impl Fn(SocketAddr, &str, usize) -> Vec<Vec<u8>>,
) -> anyhow::Result<f64> {
    let (outside, _) = receiver()?;
    let server = Server::start(SECRET, outside)?;
    let address = server.address;
    let _ = runtime.block_on(flood(address, &requests(address, "warm", count / 10), http))?;
    let took = runtime.block_on(flood(address, &requests(address, "full", count), http))?;
    let (stored, sent) = (server.stop()?, (count / 10 + count) as u64);
    ensure!(stored == sent, "{stored} stored, where {sent} were accepted");
    Ok(count as f64 / took.as_secs_f64())
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
    let _ = runtime.block_on(flood(address, &signed(address, "warm", REQUESTS / 10), http))?;
    let requests = signed(address, "full", REQUESTS);
    let took = runtime.block_on(flood(address, &requests, http))?;
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
        let one = |n| post(address, "/ask", &format!("x-event: {name}-{n}\r\n"), body.as_bytes());
        (0..count).map(one).collect()
    };
    let _ = runtime.block_on(flood(address, &ask("warm", REQUESTS / 20), http))?;
    let requests = ask("full", ROUNDTRIPS);
    let took = runtime.block_on(flood(address, &requests, http))?;
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
        post(address, "/hooks/shop", &headers, body.as_bytes())
    };
    (0..count).map(one).collect()
}
