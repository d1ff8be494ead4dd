//! NATS JetStream as a durable queue: a stream in a file, of which each message is on disk before it is acknowledged.
//!
//! What it is sent is written in its protocol by hand, each message under an id by which it is known again. Nobody verifies
//! a signature, and no HTTP is spoken.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bulkhead_tests::Signal;
use futures_util::future::try_join_all;
use serde_json::Value;

use super::Peer;
use super::server::{Place, version};
use crate::flood::{CONNECTIONS, Connection};
use crate::webhooks::{BODY_BYTES, REQUESTS};

/// Debian keeps it where only an administrator looks.
const PLACES: [&str; 2] = ["nats-server", "/usr/sbin/nats-server"];
const CONNECT: &str =
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"lang\":\"by hand\",\"version\":\"0\"}\r\n";
const STREAM: &str = "{\"name\":\"ORDERS\",\"subjects\":[\"orders\"],\"storage\":\"file\",\"retention\":\"workqueue\"}";

pub(crate) fn find() -> anyhow::Result<Peer> {
    let found =
        PLACES.iter().find_map(|place| Some((PathBuf::from(place), version(Path::new(place), "--version").ok()?)));
    let (program, version) = found.context("NATS is not here: apt-get install nats-server, of 2.10 or later")?;
    let place = Place::new()?;
    let mut check = Command::new(&program);
    let checked =
        check.arg("-t").arg("-c").arg(configuration(&place)?).stderr(Stdio::null()).stdout(Stdio::null()).status()?;
    ensure!(
        checked.success(),
        "{version} does not know `sync_interval: always`, which came with 2.10, and syncs long after it has \
         acknowledged: put a newer one first on the PATH"
    );
    let how = format!("{version}: JetStream, file, sync_interval always; 1 KB, 64 connections, known again by id");
    Ok(Peer::new("nats_publish_per_second", "messages/s", how, move || round(&program)))
}

/// Its pings come after the round: nobody here answers them.
fn configuration(place: &Place) -> anyhow::Result<PathBuf> {
    let (address, folder) = (place.address, place.path().display());
    let text = format!(
        "listen: \"{address}\"\nping_interval: \"1h\"\njetstream {{ store_dir: \"{folder}\", sync_interval: always }}\n"
    );
    place.write("nats.conf", &text)
}

fn round(program: &Path) -> anyhow::Result<f64> {
    let place = Place::new()?;
    let mut server = place.start(Command::new(program).arg("-c").arg(configuration(&place)?), Signal::KILL)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        server.listens(place.address).await.context("NATS")?;
        let mut publishers = Vec::new();
        for number in 0..CONNECTIONS {
            publishers.push(Publisher::open(&place, number).await?);
        }
        let created = publishers[0].request("$JS.API.STREAM.CREATE.ORDERS", STREAM).await?;
        ensure!(created.get("error").is_none(), "NATS makes no stream: {created}");
        let _ = publish(&mut publishers, "warm", REQUESTS / 10).await?;
        let per_second = publish(&mut publishers, "full", REQUESTS).await?;
        let state = publishers[0].request("$JS.API.STREAM.INFO.ORDERS", "").await?;
        let (kept, sent) = (&state["state"]["messages"], REQUESTS / 10 + REQUESTS);
        ensure!(*kept == sent, "NATS has {kept} messages, where {sent} were acknowledged");
        Ok(per_second)
    })
}

/// So many messages over all connections, one after the other on each; how many in a second.
async fn publish(publishers: &mut [Publisher], name: &str, count: usize) -> anyhow::Result<f64> {
    let share = publishers.len();
    let messages: Vec<Vec<Vec<u8>>> = publishers
        .iter()
        .enumerate()
        .map(|(nth, publisher)| {
            (nth..count).step_by(share).map(|n| publisher.message(&format!("{name}-{n}"))).collect()
        })
        .collect();
    let started = Instant::now();
    let sending = publishers.iter_mut().zip(&messages).map(|(publisher, messages)| async move {
        for message in messages {
            publisher.connection.ask(message).await?;
        }
        anyhow::Ok(())
    });
    let _ = try_join_all(sending).await?;
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// A connection with a subject of its own, at which it is answered.
struct Publisher {
    connection: Connection,
    inbox: String,
}

impl Publisher {
    async fn open(place: &Place, number: usize) -> anyhow::Result<Self> {
        let mut connection = Connection::open(place.address, acknowledgement).await?;
        let inbox = format!("_INBOX.{number}");
        connection.ask(format!("{CONNECT}SUB {inbox} 1\r\nPING\r\n").as_bytes()).await?;
        Ok(Self { connection, inbox })
    }

    async fn request(&mut self, subject: &str, body: &str) -> anyhow::Result<Value> {
        let request = format!("PUB {subject} {} {}\r\n{body}\r\n", self.inbox, body.len());
        let heard = String::from_utf8_lossy(self.connection.ask(request.as_bytes()).await?).into_owned();
        let (_, answer) = heard.rsplit_once("\r\n{").context("NATS answers without JSON")?;
        serde_json::from_str(&format!("{{{answer}")).with_context(|| format!("NATS answers {heard:?}"))
    }

    /// A message of the stream under an id.
    fn message(&self, id: &str) -> Vec<u8> {
        let headers = format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n");
        let (length, body) = (headers.len(), "x".repeat(BODY_BYTES));
        let whole = length + body.len();
        format!("HPUB orders {} {length} {whole}\r\n{headers}{body}\r\n", self.inbox).into_bytes()
    }
}

/// A message whose text has come whole, or the answer to the first ping. What else the server says is passed over.
fn acknowledgement(heard: &[u8]) -> anyhow::Result<bool> {
    let mut rest = heard;
    while let Some(end) = rest.windows(2).position(|end| end == b"\r\n") {
        let line = std::str::from_utf8(&rest[..end]).context("a line is text")?;
        rest = &rest[end + 2..];
        if line == "PONG" {
            return Ok(true);
        }
        ensure!(!line.starts_with("-ERR"), "NATS answers {line}");
        let Some(message) = line.strip_prefix("MSG ").or_else(|| line.strip_prefix("HMSG ")) else { continue };
        let length: usize = message.rsplit(' ').next().unwrap_or_default().parse().context("a length is a number")?;
        let Some(text) = rest.get(..length) else { return Ok(false) };
        let text = String::from_utf8_lossy(text);
        ensure!(!text.contains("\"error\""), "NATS refuses: {text}");
        return Ok(rest.len() >= length + 2);
    }
    Ok(false)
}
