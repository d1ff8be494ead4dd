//! What the gate adds to a request: the same request to the same server, through a grant and by the bare client.
//!
//! Both on connections that are kept, one request after the other, rounds alternating. Through the gate means all of it:
//! parsing, matching, limits, headers, metrics, and the way from a guest's threads to egress's and back.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bulkhead_host::audit::Audit;
use bulkhead_host::bindings::bulkhead::connector::http::Request;
use bulkhead_host::capability::http::pattern::{AnyHost, UrlPattern};
use bulkhead_host::capability::http::{CallScope, Grant, GrantSettings, Holder, Services, Session};
use bulkhead_host::egress::{self, Egress};
use bulkhead_host::id::Name;
use bulkhead_host::limit::Limits;
use bulkhead_host::metrics::Metrics;
use bulkhead_host::secret_store::SecretStore;
use bulkhead_host::settlement::Barrier;
use tokio::runtime::{Builder, Runtime};

use crate::report::{Figure, percentile};

/// Requests of one round.
const REQUESTS: u32 = 2_000;
const ROUNDS: usize = 15;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

/// `gate_overhead_us`.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let url = format!("http://{}/orders/1", serve()?);
    let (guests, outside) = (runtime()?, runtime()?);
    let client = bare()?;
    let mut session = session(&outside, &url)?;
    let (mut gated, mut plain) = (Vec::new(), Vec::new());
    // The first round warms up and is not counted.
    for round in 0..=ROUNDS {
        let (through, without) =
            (guests.block_on(through_gate(&mut session, &url))?, guests.block_on(by_client(&client, &url))?);
        if round > 0 {
            gated.push(through);
            plain.push(without);
        }
    }
    let added: Vec<f64> = gated.iter().zip(&plain).map(|(gated, plain)| gated - plain).collect();
    let how = format!(
        "a GET through a grant takes {:.1} us, by the bare client {:.1} us; keep-alive, one at a time",
        percentile(&gated, 50),
        percentile(&plain, 50)
    );
    Ok(vec![Figure::of_rounds("gate_overhead_us", "us", &added, &how)])
}

async fn through_gate(session: &mut Session, url: &str) -> anyhow::Result<f64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    session.begin_call(CallScope { message_id: None, deadline, barrier: Barrier::default(), traced: None });
    let started = Instant::now();
    for _ in 0..REQUESTS {
        let request =
            Request { method: "GET".into(), url: url.into(), headers: Vec::new(), body: Vec::new(), timeout_ms: None };
        let response = session.send(request).await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        anyhow::ensure!(response.body == b"ok", "the server answered something else");
    }
    let microseconds = microseconds(started.elapsed());
    session.end_call();
    Ok(microseconds)
}

async fn by_client(client: &reqwest::Client, url: &str) -> anyhow::Result<f64> {
    let started = Instant::now();
    for _ in 0..REQUESTS {
        let body = client.get(url).send().await?.bytes().await?;
        anyhow::ensure!(&body[..] == b"ok", "the server answered something else");
    }
    Ok(microseconds(started.elapsed()))
}

fn microseconds(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1e6 / f64::from(REQUESTS)
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

#[expect(clippy::disallowed_methods, reason = "what the gate is compared with")]
fn bare() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().build()?)
}

/// A connector with one grant for this URL and the limits that a configuration gives it.
fn session(outside: &Runtime, url: &str) -> anyhow::Result<Session> {
    let egress = Egress::start(outside.handle().clone(), egress::Settings::default());
    let services =
        Services::new(egress, Arc::new(SecretStore::empty(Path::new(""))), Metrics::default(), Audit::default());
    let name = Name::parse("orders").map_err(anyhow::Error::msg)?;
    let pattern = url.strip_suffix('1').context("the URL ends with a number")?;
    let settings = GrantSettings {
        key: "connectors.orders.allow.http[0]".to_owned(),
        pattern: UrlPattern::parse(&format!("{pattern}*"), AnyHost::Refused).map_err(anyhow::Error::msg)?,
        methods: vec!["GET".to_owned()],
        private: true,
        timeout: None,
        first_byte: Duration::from_secs(60),
        max_request: None,
        max_response: None,
        idempotency: false,
        rate: None,
        breaker: None,
        auth: None,
        identity: None,
        placeholders: Vec::new(),
        max_signed_body: None,
    };
    let holder = Holder { connector: name.clone(), lineage: name };
    let limits = Limits { requests: u32::MAX, ..Limits::default() };
    Ok(Session::new(Grant::new(&services, holder, vec![settings], limits)))
}

/// Answers every request on a thread for each connection, as fast as a server can; it lasts as long as the process.
fn serve() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let accept = move || {
        for stream in listener.incoming().flatten() {
            let answering = thread::Builder::new().name("answer".to_owned()).spawn(|| answer(stream));
            answering.expect("a thread can be started");
        }
    };
    thread::Builder::new().name("server".to_owned()).spawn(accept)?;
    Ok(address)
}

/// Until the client hangs up.
fn answer(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            stream.write_all(ANSWER).ok()?;
        }
    }
}
