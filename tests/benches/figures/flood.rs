//! Load over connections that are kept, with requests that were written before: the senders take little of the cores.
//!
//! It speaks what is asked over TCP, one answer for each request; which bytes are a whole answer is the protocol's to say.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) const CONNECTIONS: usize = 64;

/// Whether these bytes are a whole answer; an error if they say that the request has failed.
pub(crate) type Whole = fn(&[u8]) -> anyhow::Result<bool>;

/// Sends all of them, one after the other on each connection.
pub(crate) async fn flood(address: SocketAddr, requests: &[Vec<u8>], whole: Whole) -> anyhow::Result<Duration> {
    let started = send(address, requests, whole, None).await?.0;
    Ok(started.elapsed())
}

/// Sends them at a rate, on whatever connection is free; milliseconds from when each was to be sent to its answer.
pub(crate) async fn pace(address: SocketAddr, requests: &[Vec<u8>], rate: usize) -> anyhow::Result<Vec<f64>> {
    Ok(send(address, requests, http, Some(rate)).await?.1)
}

/// A whole answer by HTTP, of 2xx.
pub(crate) fn http(heard: &[u8]) -> anyhow::Result<bool> {
    let Some(end) = heard.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let head = std::str::from_utf8(&heard[..end]).context("a head is text")?;
    ensure!(head.starts_with("HTTP/1.1 2"), "answered: {head}");
    let mut length = 0;
    for (name, value) in head.lines().filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().context("a length is a number")?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("answered in chunks, of which nobody here knows the end: {head}");
        }
    }
    Ok(heard.len() >= end + 4 + length)
}

/// A request by HTTP.
pub(crate) fn post(address: SocketAddr, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// When it began, and for each request the milliseconds from when it was to be sent: at its turn, or as soon as can be.
async fn send(
    address: SocketAddr,
    requests: &[Vec<u8>],
    whole: Whole,
    rate: Option<usize>,
) -> anyhow::Result<(Instant, Vec<f64>)> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(address, whole).await?);
    }
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

/// A connection that is kept, with one request at a time on its way.
pub(crate) struct Connection {
    stream: TcpStream,
    heard: Vec<u8>,
    whole: Whole,
}

impl Connection {
    #[expect(clippy::disallowed_methods, reason = "a sender of the figures' own")]
    pub(crate) async fn open(address: SocketAddr, whole: Whole) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, heard: Vec::with_capacity(4096), whole })
    }

    /// Sends one request, and waits for its whole answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.heard.clear();
        loop {
            ensure!(self.stream.read_buf(&mut self.heard).await? > 0, "the server has hung up");
            if (self.whole)(&self.heard)? {
                return Ok(&self.heard);
            }
        }
    }
}
