//! `cargo xtask bench`: builds the host and the benchmarks in release mode and runs them.

use std::path::PathBuf;

use crate::{cargo, toolchain};

/// `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print the figures as JSON on standard output
    #[arg(long)]
    json: bool,
    /// Messages of one pass through a pipeline
    #[arg(long)]
    messages: Option<u64>,
    /// Rounds of everything that alternates; the median counts
    #[arg(long)]
    rounds: Option<usize>,
    /// The long backlog
    #[arg(long)]
    backlog: Option<u64>,
    /// Beside ingest, roundtrip and pipeline, measure what one would pick instead, as far as it is on this machine
    #[arg(long)]
    compare: bool,
    /// The binary of Benthos or Redpanda Connect, which is measured with them
    #[arg(long, requires = "compare")]
    benthos: Option<PathBuf>,
    /// The binary of wasmtime, whose `wasmtime serve` is measured with them
    #[arg(long, requires = "compare")]
    wasmtime: Option<PathBuf>,
    /// Parts to measure: sandbox, start, gate, kills, neighbour, schedules, ingest, roundtrip, lone, send, redrive, pipeline, connectors, backlog; all when none is named
    parts: Vec<String>,
}

/// Runs them; whether every result was right.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    toolchain::require_plugin_target()?;
    let mut command = cargo::command(&["bench", "--locked", "-p", "bulkhead-tests", "--bench", "figures", "--"]);
    if options.json {
        command.arg("--json");
    }
    if options.compare {
        command.arg("--compare");
    }
    for (option, program) in [("--benthos", &options.benthos), ("--wasmtime", &options.wasmtime)] {
        if let Some(program) = program {
            // The benchmark runs in another folder.
            command.arg(option).arg(std::path::absolute(program)?);
        }
    }
    let numbers = [
        ("--messages", options.messages.map(|it| it.to_string())),
        ("--rounds", options.rounds.map(|it| it.to_string())),
        ("--backlog", options.backlog.map(|it| it.to_string())),
    ];
    for (name, value) in numbers {
        command.args(value.into_iter().flat_map(|value| [name.to_owned(), value]));
    }
    cargo::succeeds(command.args(&options.parts))
}
