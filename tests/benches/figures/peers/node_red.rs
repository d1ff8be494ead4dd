//! Node-RED at the round trip: a request comes in, a function makes another of it, and its answer goes back.
//!
//! Nothing of it is kept on disk.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use bulkhead_tests::Signal;
use serde_json::{Value, json};

use super::server::{Place, Server, roundtrip, version};
use super::{Peer, npm};

/// It runs on the Node 18 of Debian 12; 5 needs 22.9.
const VERSION: &str = "4.1.15";

pub(crate) fn find() -> anyhow::Result<Peer> {
    let node = version(Path::new("node"), "--version").context("Node-RED needs Node: apt-get install nodejs npm")?;
    let program = npm::package("node-red", VERSION)?.join("node_modules/node-red/red.js");
    let how = format!(
        "Node-RED {VERSION}, Node {node}: http in, function, http request (kept alive), http response; 64 connections, nothing on disk"
    );
    Ok(Peer::new("node_red_roundtrip_per_second", "requests/s", how, move || {
        roundtrip(|place, outside| start(&program, place, outside))
    }))
}

fn start(program: &Path, place: &Place, outside: SocketAddr) -> anyhow::Result<Server> {
    let (address, folder) = (place.address, place.path());
    // Without its editor: whoever reaches that runs programs.
    let settings = json!({
        "uiHost": address.ip(), "uiPort": address.port(), "httpAdminRoot": false, "userDir": folder,
        "flowFile": "flows.json", "telemetry": { "enabled": false },
    });
    let settings = place.write("settings.js", &format!("module.exports = {settings}"))?;
    let _ = place.write("flows.json", &flow(outside).to_string())?;
    let mut node = Command::new("node");
    node.arg(program).arg("--settings").arg(settings).env("NODE_ENV", "production");
    place.start(&mut node, Signal::KILL)
}

fn flow(outside: SocketAddr) -> Value {
    let function = format!("msg.url = 'http://{outside}/'; msg.headers = {{}}; msg.payload = ''; return msg;");
    // A node without a place on the sheet would be taken for settings of others.
    json!([
        { "id": "flow", "type": "tab", "label": "flow" },
        { "id": "in", "z": "flow", "x": 0, "y": 0, "wires": [["function"]],
          "type": "http in", "url": "/ask", "method": "post" },
        { "id": "function", "z": "flow", "x": 0, "y": 0, "wires": [["ask"]],
          "type": "function", "func": function, "outputs": 1 },
        { "id": "ask", "z": "flow", "x": 0, "y": 0, "wires": [["answer"]],
          "type": "http request", "method": "POST", "ret": "txt", "persist": true },
        { "id": "answer", "z": "flow", "x": 0, "y": 0, "wires": [], "type": "http response" },
    ])
}
