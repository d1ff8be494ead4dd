//! The figures of `docs/performance.md`: `cargo xtask bench [--json] [NAME…]`.
//!
//! Each part measures what a user runs and checks what came out; a wrong result is an error, not a figure. What is
//! compared alternates within one run, because machines are noisy: ratios travel, seconds do not.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark talks to the person who started it")]

mod backlog;
mod bare;
mod connectors;
mod flood;
mod footprint;
mod gate;
mod kills;
mod lone;
mod native;
mod neighbour;
mod order;
mod page;
mod peers;
mod pipeline;
mod receiver;
mod redrive;
mod reference;
mod reload;
mod report;
mod resident;
mod sandbox;
mod schedules;
mod send;
mod sink;
mod start;
mod tracing;
mod webhooks;

use std::process::ExitCode;

use bulkhead_host::plugin_store::compiler;
use bulkhead_host::runtime::compile;
use clap::Parser;

use report::{Figure, percentile};
use send::Through;

/// Measures Bulkhead
#[derive(Parser)]
struct Arguments {
    /// Print the figures as JSON on standard output
    #[arg(long)]
    json: bool,
    /// Messages of one pass through a pipeline
    #[arg(long, default_value_t = 300_000)]
    messages: u64,
    /// Rounds of everything that alternates; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The long backlog
    #[arg(long, default_value_t = 1_000_000)]
    backlog: u64,
    #[command(flatten)]
    peers: peers::Options,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Parts to measure: sandbox, start, reload, footprint, page, gate, kills, neighbour, schedules, ingest, roundtrip, lone, send, redrive, pipeline, tracing, connectors, backlog; all when none is named
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Sandbox,
    Pipeline,
    Tracing,
    Send,
    Backlog,
    Start,
    Reload,
    Footprint,
    Page,
    Gate,
    Kills,
    Neighbour,
    Schedules,
    Ingest,
    Roundtrip,
    Redrive,
    Lone,
    Connectors,
}

const ALL: [Part; 18] = [
    Part::Sandbox,
    Part::Start,
    Part::Reload,
    Part::Footprint,
    Part::Page,
    Part::Gate,
    Part::Kills,
    Part::Neighbour,
    Part::Schedules,
    Part::Ingest,
    Part::Roundtrip,
    Part::Lone,
    Part::Send,
    Part::Redrive,
    Part::Pipeline,
    Part::Tracing,
    Part::Connectors,
    Part::Backlog,
];

fn main() -> anyhow::Result<ExitCode> {
    // A host compiles plugins in a process of its own, which is its binary once more: here it is this one.
    if std::env::args().nth(1).as_deref() == Some(compiler::VERB) {
        return Ok(compile::serve());
    }
    let arguments = Arguments::parse();
    let mut figures = Vec::new();
    for part in ALL.into_iter().filter(|part| arguments.parts.is_empty() || arguments.parts.contains(part)) {
        for figure in measure(part, &arguments)? {
            figure.show();
            figures.push(figure);
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(part: Part, arguments: &Arguments) -> anyhow::Result<Vec<Figure>> {
    match part {
        Part::Sandbox => sandbox::measure(),
        Part::Footprint => footprint::measure(),
        Part::Gate => gate::measure(),
        Part::Kills => kills::measure(),
        Part::Neighbour => neighbour::measure(),
        Part::Schedules => schedules::measure(),
        Part::Ingest => webhooks::ingest(arguments.rounds, peers::durable(&arguments.peers)),
        Part::Roundtrip => webhooks::roundtrip(arguments.rounds, peers::asking(&arguments.peers)),
        Part::Pipeline => pipeline(arguments),
        Part::Tracing => tracing::measure(arguments.rounds, arguments.messages),
        Part::Send => send(arguments),
        Part::Redrive => redrive(arguments),
        Part::Backlog => backlog(arguments),
        Part::Lone => lone::measure(arguments.rounds),
        Part::Connectors => connectors::measure(arguments.rounds, arguments.messages),
        Part::Reload => Ok(vec![Figure::of_rounds(
            "reload_1000_ms",
            "ms",
            &reload::rounds()?,
            "from the request until it is answered, 1,000 connectors of one plugin, one of them changed",
        )]),
        Part::Page => Ok(vec![Figure::of_rounds(
            "ui_first_load_kb",
            "KiB",
            &[page::first_load_kib()?],
            "all files of the web page with their headers, uncompressed, before the first answer of the API",
        )]),
        Part::Start => Ok(vec![Figure::of_rounds(
            "start_100_connectors_ms",
            "ms",
            &start::rounds(),
            "from the start of the process until it runs, 100 connectors of 4 plugins, warm compile cache",
        )]),
    }
}

fn pipeline(arguments: &Arguments) -> anyhow::Result<Vec<Figure>> {
    let messages = arguments.messages;
    let (mut reference, mut wasm, mut again, mut native) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut peers = peers::mapping(&arguments.peers, messages);
    for _ in 0..arguments.rounds {
        reference.push(reference::pass(messages)?);
        wasm.push(pipeline::pass(messages)?);
        native.push(native::pass(messages)?);
        peers::take_turns(&mut peers)?;
        again.push(pipeline::pass(messages)?);
    }
    let how = "SQLite and wasmtime alone, the same plugin, payload, batch and workers";
    let reference = Figure::of_rounds("pipeline_reference_per_second", "messages/s", &reference, how);
    let how = "the product's ledger and broker, the map in native code";
    let native = Figure::of_rounds("pipeline_native_per_second", "messages/s", &native, how).against(&reference);
    let how = "queue, JSON map of 1 KB in Wasm, queue; batch 64, 2 workers, a second subscriber; count, ids and payloads checked";
    let chance = Figure::of_chance("pipeline_again_ratio", &wasm, &again);
    let wasm = Figure::of_rounds("pipeline_wasm_per_second", "messages/s", &wasm, how).against(&reference);
    let ratio = Figure {
        name: "pipeline_wasm_to_native_ratio",
        value: wasm.value / native.value,
        unit: "ratio",
        against: None,
        ratio: None,
        note: None,
    };
    let compared = peers::figures(peers, &wasm);
    Ok([vec![reference, native, wasm, chance, ratio], compared].concat())
}

fn send(arguments: &Arguments) -> anyhow::Result<Vec<Figure>> {
    let (mut file, mut host) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        file.push(send::pass(arguments.messages, Through::File)?);
        host.push(send::pass(arguments.messages, Through::Host)?);
    }
    let how = "`send --lines`, 1 KB, one producer, no host running; the whole process";
    let file = Figure::of_rounds("send_per_second", "messages/s", &file, how);
    let how = "the same through a running host";
    Ok(vec![Figure::of_rounds("send_to_host_per_second", "messages/s", &host, how).against(&file), file])
}

fn redrive(arguments: &Arguments) -> anyhow::Result<Vec<Figure>> {
    let rounds: Vec<f64> = (0..arguments.rounds).map(|_| redrive::pass()).collect::<Result<_, _>>()?;
    let how = "`dead retry --all` of 100,000 letters of 1 KB, no host running; the whole process";
    Ok(vec![Figure::of_rounds("redrive_per_second", "letters/s", &rounds, how)])
}

fn backlog(arguments: &Arguments) -> anyhow::Result<Vec<Figure>> {
    const SHORT: u64 = 1_000;
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        short.push(backlog::pass(SHORT, arguments.messages)?);
        long.push(backlog::pass(arguments.backlog, arguments.messages)?);
    }
    let (short, long) = (percentile(&short, 50), percentile(&long, 50));
    Ok(vec![Figure {
        name: "backlog_cost_ratio",
        value: long / short,
        unit: "ratio",
        against: None,
        ratio: None,
        note: Some(format!(
            "{long:.2} us a message while {} wait, {short:.2} us while {SHORT} do; appended as fast as settled",
            arguments.backlog
        )),
    }])
}
