//! Restate as a durable queue: calls of a service that are accepted for later, each known again by its key.
//!
//! It keeps a call in its log before it accepts it, and runs none of them meanwhile: each is for an hour later. Nobody
//! verifies a signature.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use bulkhead_tests::Signal;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use super::server::{Place, version};
use super::{Peer, npm};
use crate::flood::{Connection, flood, http, post};
use crate::webhooks::{BODY_BYTES, REQUESTS};

const PACKAGE: &str = "@restatedev/restate-server";
const VERSION: &str = "1.7.12";
const JSON: &str = "content-type: application/json\r\naccept: application/json\r\n";
/// What a service says about itself, in the form and for the protocol of this version.
const MANIFEST: &str = "application/vnd.restate.endpointmanifest.v3+json";
const PROTOCOL: u32 = 5;

pub(crate) fn find() -> anyhow::Result<Peer> {
    let folder = npm::package(PACKAGE, VERSION)?;
    let modules = folder.join("node_modules");
    let platforms = ["linux-x64", "linux-arm64"].map(|it| modules.join(format!("{PACKAGE}-{it}/bin/restate-server")));
    let program = platforms.into_iter().find(|program| program.exists()).context("Restate is not made for this")?;
    let version = version(&program, "--version").context("Restate does not start here")?;
    let how = format!(
        "{version}: calls accepted for an hour later, one node, fsync of its log; 1 KB, 64 connections, known again by key"
    );
    Ok(Peer::new("restate_send_per_second", "calls/s", how, move || round(&program)))
}

fn round(program: &Path) -> anyhow::Result<f64> {
    // For those who call, for its administrator, and for its other nodes, if it had any.
    let (place, admin, nodes) = (Place::new()?, Place::new()?, Place::new()?);
    let (address, admin) = (place.address, admin.address);
    let configuration = place.write("restate.toml", &configuration(address, admin, nodes.address))?;
    let mut restate = Command::new(program);
    let mut server = place.start(restate.arg("--no-logo").arg("--config-file").arg(configuration), Signal::KILL)?;
    let about = json!({ "uri": format!("http://{}/", service()?), "use_http_11": true }).to_string();
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        server.answers(admin, &post(admin, "/deployments", JSON, about.as_bytes())).await.context("Restate")?;
        let (first, warm) = (calls(address, "first", 1), calls(address, "warm", REQUESTS / 10));
        let full = calls(address, "full", REQUESTS);
        server.answers(address, &first[0]).await.context("Restate")?;
        let _ = flood(address, &warm, http).await?;
        let took = flood(address, &full, http).await?;
        let (kept, sent) = (kept(admin).await?, 1 + warm.len() + full.len());
        ensure!(kept == json!(sent), "Restate has {kept} calls, where {sent} were accepted");
        Ok(full.len() as f64 / took.as_secs_f64())
    })
}

/// One node, with all that belongs to one. It keeps each record of its log in one place, and syncs it there.
fn configuration(address: SocketAddr, admin: SocketAddr, nodes: SocketAddr) -> String {
    format!(
        "disable-telemetry = true\n\
         log-filter = \"warn\"\n\
         node-name = \"peer\"\n\
         base-dir = \"data\"\n\
         listen-mode = \"tcp\"\n\
         bind-address = \"{nodes}\"\n\
         default-replication = 1\n\
         [ingress]\n\
         bind-address = \"{address}\"\n\
         [admin]\n\
         bind-address = \"{admin}\"\n\
         [log-server]\n\
         rocksdb-disable-wal-fsync = false\n"
    )
}

/// The service, which says what it is and is never called; its address.
fn service() -> anyhow::Result<SocketAddr> {
    let services = json!([{ "name": "Orders", "ty": "SERVICE", "handlers": [{ "name": "take" }] }]);
    let manifest = json!({
        "protocolMode": "REQUEST_RESPONSE", "minProtocolVersion": PROTOCOL, "maxProtocolVersion": PROTOCOL,
        "services": services,
    });
    let manifest = manifest.to_string();
    let routes = Router::new().route("/discover", get(async move || ([(CONTENT_TYPE, MANIFEST)], manifest)));
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    let serve = async move { axum::serve(listener, routes).await };
    thread::Builder::new().name("service".to_owned()).spawn(move || runtime.block_on(serve))?;
    Ok(address)
}

fn calls(address: SocketAddr, name: &str, count: usize) -> Vec<Vec<u8>> {
    let body = "x".repeat(BODY_BYTES);
    let one = |n| {
        let headers = format!("content-type: application/octet-stream\r\nidempotency-key: {name}-{n}\r\n");
        post(address, "/Orders/take/send?delay=1h", &headers, body.as_bytes())
    };
    (0..count).map(one).collect()
}

/// How many calls it has, as it says by SQL.
async fn kept(admin: SocketAddr) -> anyhow::Result<Value> {
    let query = json!({ "query": "SELECT count(*) AS calls FROM sys_invocation" }).to_string();
    let mut connection = Connection::open(admin, chunks).await?;
    let heard = connection.ask(&post(admin, "/query", JSON, query.as_bytes())).await?;
    let heard = String::from_utf8_lossy(heard);
    let answers = || format!("Restate answers {heard:?}");
    let rows: Value = serde_json::from_str(&joined(&heard).with_context(answers)?).with_context(answers)?;
    Ok(rows["rows"][0]["calls"].clone())
}

/// The body of an answer in chunks, each behind a line with its length.
fn joined(heard: &str) -> Option<String> {
    let (_, mut rest) = heard.split_once("\r\n\r\n")?;
    let mut body = String::new();
    loop {
        let (length, after) = rest.split_once("\r\n")?;
        let (chunk, after) = after.split_at_checked(usize::from_str_radix(length, 16).ok()?)?;
        if chunk.is_empty() {
            return Some(body);
        }
        body += chunk;
        rest = after.strip_prefix("\r\n")?;
    }
}

/// A whole answer in chunks: the last of them is empty.
fn chunks(heard: &[u8]) -> anyhow::Result<bool> {
    let is_known = heard.len() < 10 || heard.starts_with(b"HTTP/1.1 2");
    ensure!(is_known, "Restate answers {}", String::from_utf8_lossy(heard));
    Ok(heard.ends_with(b"\r\n0\r\n\r\n"))
}
