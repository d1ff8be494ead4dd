//! What one would pick instead, at the same work in turn with the product: `cargo xtask bench --compare`.
//!
//! A peer that is not on this machine is left out with a word that says how to get it. Each is started for its round, in a
//! temporary folder of its own and on a free port of loopback, and ended with its round, however that ends. What one of
//! them has kept is counted afterwards: too little is an error and no figure.

mod benthos;
mod nats;
mod node_red;
mod npm;
mod postgres;
mod redis;
mod restate;
mod server;
mod wasmtime;

use std::path::PathBuf;

use crate::report::Figure;

/// Which of them take part.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Beside ingest, roundtrip and pipeline, measure those peers that are on this machine
    #[arg(long)]
    compare: bool,
    /// The binary of Benthos or Redpanda Connect, which is measured with them
    #[arg(long, requires = "compare")]
    benthos: Option<PathBuf>,
    /// The binary of wasmtime, whose `wasmtime serve` is measured with them
    #[arg(long, requires = "compare")]
    wasmtime: Option<PathBuf>,
}

/// One that is on this machine.
pub(crate) struct Peer {
    name: &'static str,
    unit: &'static str,
    how: String,
    /// One round, from its start to its end; how many in a second.
    round: Box<dyn Fn() -> anyhow::Result<f64>>,
    rounds: Vec<f64>,
}

/// Those that keep messages of 1 KB on disk before they say so.
pub(crate) fn durable(options: &Options) -> Vec<Peer> {
    present(options, || vec![postgres::find(), redis::find(), nats::find(), restate::find()])
}

/// Those that answer a request after they have asked somebody else.
pub(crate) fn asking(options: &Options) -> Vec<Peer> {
    let (wasmtime, benthos) = (options.wasmtime.as_deref(), options.benthos.as_deref());
    present(options, || vec![wasmtime::find(wasmtime), benthos::asking(benthos), node_red::find()])
}

/// Those that map orders as the plugin does, without keeping them.
pub(crate) fn mapping(options: &Options, messages: u64) -> Vec<Peer> {
    present(options, || vec![benthos::mapping(options.benthos.as_deref(), messages)])
}

/// One round of each.
pub(crate) fn take_turns(peers: &mut [Peer]) -> anyhow::Result<()> {
    for peer in peers {
        let per_second = (peer.round)()?;
        peer.rounds.push(per_second);
    }
    Ok(())
}

/// Each peer's figure, and after it the product's once more, compared with that one.
pub(crate) fn figures(peers: Vec<Peer>, product: &Figure) -> Vec<Figure> {
    let compare = |peer: Peer| {
        let theirs = Figure::of_rounds(peer.name, peer.unit, &peer.rounds, &peer.how);
        let ours = Figure { note: Some("the same rounds as above".to_owned()), ..product.clone() }.against(&theirs);
        [theirs, ours]
    };
    peers.into_iter().flat_map(compare).collect()
}

fn present(options: &Options, find: impl FnOnce() -> Vec<anyhow::Result<Peer>>) -> Vec<Peer> {
    if !options.compare {
        return Vec::new();
    }
    let mut peers = Vec::new();
    for found in find() {
        match found {
            Ok(peer) => peers.push(peer),
            Err(missing) => eprintln!("left out: {missing:#}"),
        }
    }
    peers
}

impl Peer {
    fn new(
        name: &'static str,
        unit: &'static str,
        how: String,
        round: impl Fn() -> anyhow::Result<f64> + 'static,
    ) -> Self {
        Self { name, unit, how, round: Box::new(round), rounds: Vec::new() }
    }
}
