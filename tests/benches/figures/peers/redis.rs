//! Redis as a durable queue: a stream, whose entries are on disk before they are acknowledged.
//!
//! What it is sent is written in its protocol by hand. Nobody verifies a signature, no HTTP is spoken, and an entry that
//! comes again is another one: a stream knows no ids but its own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use bulkhead_tests::Signal;

use super::Peer;
use super::server::{Place, version};
use crate::flood::{Connection, flood};
use crate::webhooks::{BODY_BYTES, REQUESTS};

const SERVER: &str = "redis-server";
/// An entry is on disk before its answer; no snapshots, and no rewriting of the file meanwhile.
const SETTINGS: [&str; 8] =
    ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--auto-aof-rewrite-percentage", "0"];
const STREAM: &str = "orders";

pub(crate) fn find() -> anyhow::Result<Peer> {
    let missing = "Redis is not here: apt-get install redis-server";
    let version = version(Path::new(SERVER), "--version").context(missing)?;
    let how = format!("{version}: XADD, appendonly, appendfsync always; 1 KB, 64 connections, not known again");
    Ok(Peer::new("redis_xadd_per_second", "entries/s", how, round))
}

fn round() -> anyhow::Result<f64> {
    let place = Place::new()?;
    let address = place.address;
    let mut redis = Command::new(SERVER);
    redis.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string(), "--dir"]);
    let mut server = place.start(redis.arg(place.path()).args(SETTINGS), Signal::KILL)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        server.listens(address).await.context("Redis")?;
        let (warm, full) = (entries("warm", REQUESTS / 10), entries("full", REQUESTS));
        let _ = flood(address, &warm, answer).await?;
        let took = flood(address, &full, answer).await?;
        let mut connection = Connection::open(address, answer).await?;
        let kept = String::from_utf8_lossy(connection.ask(&command(&["XLEN", STREAM])).await?).into_owned();
        let sent = warm.len() + full.len();
        ensure!(kept == format!(":{sent}\r\n"), "Redis has {kept:?}, where {sent} entries were added");
        Ok(full.len() as f64 / took.as_secs_f64())
    })
}

fn entries(name: &str, count: usize) -> Vec<Vec<u8>> {
    let body = "x".repeat(BODY_BYTES);
    (0..count).map(|n| command(&["XADD", STREAM, "*", "id", &format!("{name}-{n}"), "body", &body])).collect()
}

/// The words of a command: their count, and before each its length.
fn command(words: &[&str]) -> Vec<u8> {
    let words = words.iter().flat_map(|word| [format!("${}", word.len()), (*word).to_owned()]);
    let lines: Vec<String> = words.collect();
    format!("*{}\r\n{}\r\n", lines.len() / 2, lines.join("\r\n")).into_bytes()
}

/// A number is one line, and a text is two.
fn answer(heard: &[u8]) -> anyhow::Result<bool> {
    let lines = match heard.first() {
        None => return Ok(false),
        Some(b':') => 1,
        Some(b'$') => 2,
        Some(_) => bail!("Redis answers {:?}", String::from_utf8_lossy(heard)),
    };
    Ok(heard.ends_with(b"\r\n") && heard.windows(2).filter(|end| end == b"\r\n").count() == lines)
}
