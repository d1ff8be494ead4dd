//! How long a message takes that is alone: webhook, queue, plugin, HTTP request, in the built host.
//!
//! One event after the other, each when the one before has arrived and the host rests. Beside it what one commit takes on
//! the same disk, for an event is on disk before anybody may act on it.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_tests::{Answer, Bulkhead, Fixture, Request};
use rusqlite::params;

use crate::bare;
use crate::flood::{Connection, http, post};
use crate::report::{Figure, percentile};

/// Events of one round, after those that warm up.
const EVENTS: usize = 300;
const WARM: usize = 30;
/// The host rests for so long before each.
const REST: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(60);
const BODY_BYTES: usize = 1024;

/// `lone_message_p50_ms` beside `bare_commit_p50_ms`.
pub(crate) fn measure(rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let (mut commits, mut medians, mut late) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        commits.push(percentile(&commit_round()?, 50));
        let latencies = round()?;
        medians.push(percentile(&latencies, 50));
        late.push(percentile(&latencies, 99));
    }
    let commit =
        Figure::of_rounds("bare_commit_p50_ms", "ms", &commits, "one row of 1 KB, by SQLite alone, with its fsync");
    let how = format!(
        "from the request's first byte to the receiver; webhook, queue, `builtin:http-request`; {EVENTS} events a round, 99th percentile {:.2}",
        percentile(&late, 50)
    );
    let lone = Figure::of_rounds("lone_message_p50_ms", "ms", &medians, &how).against(&commit);
    Ok(vec![commit, lone])
}

/// Milliseconds of each event of a round.
fn round() -> anyhow::Result<Vec<f64>> {
    let (arrived, arrivals) = sync_channel(1);
    let arrived = Mutex::new(arrived);
    let server = Fixture::start(move |_: &Request| {
        let now = Instant::now();
        // Nobody waits any more when the round is over.
        let _ = arrived.lock().map(|arrived| arrived.send(now));
        Answer::status(200)
    });
    let host = Bulkhead::new(&toml(&server.url()));
    let running = host.start();
    let address = host.webhooks();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut connection = runtime.block_on(Connection::open(address, http))?;
    let body = "x".repeat(BODY_BYTES);
    let mut latencies = Vec::new();
    for number in 0..WARM + EVENTS {
        rest();
        let request = post(address, "/hook", &format!("x-event: e-{number}\r\n"), body.as_bytes());
        let started = Instant::now();
        let _ = runtime.block_on(connection.ask(&request))?;
        latencies.push(took(started, &arrivals)?);
    }
    let _ = running.terminate().ok();
    Ok(latencies.split_off(WARM))
}

fn took(started: Instant, arrivals: &Receiver<Instant>) -> anyhow::Result<f64> {
    let arrived = arrivals.recv_timeout(PATIENCE).context("an event does not arrive")?;
    Ok((arrived - started).as_secs_f64() * 1e3)
}

/// Milliseconds of each commit.
fn commit_round() -> anyhow::Result<Vec<f64>> {
    let folder = tempfile::tempdir()?;
    let db = bare::open(&folder.path().join("bare.db"))?;
    let body = vec![b'x'; BODY_BYTES];
    let mut latencies = Vec::new();
    for number in 0..i64::try_from(WARM + EVENTS)? {
        rest();
        let started = Instant::now();
        db.execute("INSERT INTO message VALUES (?1, 'id', NULL, '[]', ?2, 0)", params![number, body])?;
        latencies.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(latencies.split_off(WARM))
}

#[expect(clippy::disallowed_methods, reason = "what is measured is what happens after a rest")]
fn rest() {
    std::thread::sleep(REST);
}

fn toml(url: &str) -> String {
    format!(
        r#"
        [connectors.intake]
        webhook = {{ path = "/hook", verify = {{ scheme = "none", id = {{ header = "x-event" }} }}, publish = "in" }}
        [connectors.out]
        plugin = "builtin:http-request"
        consume = "in"
        config = {{ method = "POST", url = "{url}/" }}
        allow.http = [{{ url = "{url}/*", methods = ["POST"], private = true }}]
        "#
    )
}
