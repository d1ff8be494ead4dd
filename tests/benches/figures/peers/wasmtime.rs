//! `wasmtime serve` at the round trip: a proxy of `wasi:http`, in an instance that is made for each request.
//!
//! Its binary is taken from where it is told to be. Nothing of it is kept on disk.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use bulkhead_tests::{Signal, guest};

use super::Peer;
use super::server::{Place, Server, roundtrip, version};

pub(crate) fn find(program: Option<&Path>) -> anyhow::Result<Peer> {
    let program = program.context("wasmtime is taken from where it is told to be: --wasmtime PATH")?;
    let program = std::path::absolute(program)?;
    let version = version(&program, "--version").context("wasmtime is not there")?;
    let version = version.split(" (").next().unwrap_or_default();
    let how = format!(
        "{version}: `wasmtime serve`, an instance for each request, wasi:http out; 64 connections, nothing on disk"
    );
    Ok(Peer::new("wasmtime_serve_roundtrip_per_second", "requests/s", how, move || {
        roundtrip(|place, outside| start(&program, place, outside))
    }))
}

fn start(program: &Path, place: &Place, outside: SocketAddr) -> anyhow::Result<Server> {
    let mut wasmtime = Command::new(program);
    // What the standard library imports beside HTTP.
    wasmtime.args(["serve", "-S", "cli", "--addr", &place.address.to_string()]);
    wasmtime.args(["--env", &format!("OUTSIDE={outside}")]).arg(guest("proxy"));
    place.start(&mut wasmtime, Signal::KILL)
}
