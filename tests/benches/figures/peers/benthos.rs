//! Benthos, or Redpanda Connect: at the round trip, and at the pipeline's map with nothing on disk.
//!
//! Its binary is taken from where it is told to be. What is counted is what it says that it has sent out.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bulkhead_tests::Signal;
use serde_json::Value;

use super::Peer;
use super::server::{Place, Server, roundtrip, version};
use crate::order::order;

/// The same as the plugin `map`.
const MAP: &str = "root.id = this.id\n\
                   root.email = this.customer.email.lowercase()\n\
                   root.total = this.items.map_each(item -> item.price * item.qty).sum()\n\
                   root.items = this.items.length()\n\
                   root.note = this.note\n";

/// At the round trip.
pub(crate) fn asking(program: Option<&Path>) -> anyhow::Result<Peer> {
    let (program, version) = find(program)?;
    let how = format!("Benthos {version}: http_server, mapping, http_client; 64 connections, nothing on disk");
    Ok(Peer::new("benthos_roundtrip_per_second", "requests/s", how, move || {
        roundtrip(|place, outside| start(&program, place, outside))
    }))
}

/// At the map, of so many messages.
pub(crate) fn mapping(program: Option<&Path>, messages: u64) -> anyhow::Result<Peer> {
    let (program, version) = find(program)?;
    let how =
        format!("Benthos {version}: lines of a file, the same JSON map of 1 KB in Bloblang, dropped; nothing on disk");
    Ok(Peer::new("benthos_map_per_second", "messages/s", how, move || map_round(&program, messages)))
}

fn find(program: Option<&Path>) -> anyhow::Result<(PathBuf, String)> {
    let program = program.context("Benthos is taken from where it is told to be: --benthos PATH")?;
    let program = std::path::absolute(program)?;
    let version = version(&program, "--version").context("Benthos is not there")?;
    Ok((program, version.trim_start_matches("Version: ").to_owned()))
}

fn start(program: &Path, place: &Place, outside: SocketAddr) -> anyhow::Result<Server> {
    let text = format!(
        "http: {{ enabled: false }}\n\
         logger: {{ level: ERROR }}\n\
         input: {{ http_server: {{ address: '{}', path: /ask, allowed_verbs: [POST] }} }}\n\
         pipeline: {{ processors: [ {{ mapping: 'root = \"\"' }} ] }}\n\
         output: {{ http_client: {{ url: 'http://{outside}/', verb: POST, max_in_flight: 64, propagate_response: true }} }}\n",
        place.address
    );
    let configuration = place.write("benthos.yaml", &text)?;
    place.start(Command::new(program).arg("run").arg(configuration), Signal::KILL)
}

/// What more messages take longer, so that its start does not count.
fn map_round(program: &Path, messages: u64) -> anyhow::Result<f64> {
    let (few, many) = (map(program, messages / 10)?, map(program, messages)?);
    let took = many.checked_sub(few).context("fewer messages took longer")?;
    Ok((messages - messages / 10) as f64 / took.as_secs_f64())
}

/// The time of a whole process that maps so many messages.
fn map(program: &Path, messages: u64) -> anyhow::Result<Duration> {
    let place = Place::new()?;
    let orders = place.path().join("orders.jsonl");
    let mut file = BufWriter::new(File::create(&orders)?);
    for number in 1..=messages {
        writeln!(file, "{}", order(number))?;
    }
    file.flush()?;
    drop(file);
    let text = format!(
        "http: {{ enabled: false }}\n\
         logger: {{ level: INFO, format: json }}\n\
         metrics: {{ logger: {{ push_interval: '' }} }}\n\
         input: {{ file: {{ paths: ['{}'], scanner: {{ lines: {{}} }} }} }}\n\
         pipeline: {{ threads: -1, processors: [ {{ mapping: '{}' }} ] }}\n\
         output: {{ drop: {{}} }}\n",
        orders.display(),
        // Within quotes, an empty line of YAML is the end of a line.
        MAP.replace('\n', "\n\n")
    );
    let configuration = place.write("benthos.yaml", &text)?;
    let log = place.path().join("log");
    let mut run = Command::new(program);
    run.arg("run").arg(configuration).stdin(Stdio::null()).stdout(File::create(&log)?).stderr(Stdio::null());
    let started = Instant::now();
    let status = run.status()?;
    let took = started.elapsed();
    let log = fs::read_to_string(&log)?;
    ensure!(status.success(), "it has failed:\n{log}");
    check(&log, messages)?;
    Ok(took)
}

/// Its counters say that each was mapped and has gone out.
fn check(log: &str, messages: u64) -> anyhow::Result<()> {
    let counter = |name: &str| {
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut value =
            lines.filter(|line| line["name"] == name).filter_map(|line| line["value"].as_str()?.parse().ok());
        value.next_back().unwrap_or(0_u64)
    };
    let (sent, failed) = (counter("output_sent"), counter("processor_error"));
    ensure!((sent, failed) == (messages, 0), "{sent} of {messages} messages were sent, {failed} not mapped:\n{log}");
    Ok(())
}
