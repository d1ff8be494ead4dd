//! `cargo xtask`: the tasks of the workspace. Each installs what a fresh machine lacks, says so, and then runs.
//!
//! `test` is the whole of what must hold before a merge; `demo` shows the main job with real servers; `crash` attacks a
//! host for as long as one likes, and `soak` offers it too much meanwhile; `package` makes the crates that are published.
//! No task knows how the host works inside: all of them drive cargo and the built binary.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a task talks to the person who started it")]

mod bench;
mod cargo;
mod crash;
mod demo;
mod package;
mod soak;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the Bulkhead workspace.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check format and lints, run all tests and doc tests, build the documentation
    Test,
    /// Run three connectors between a real API and a receiver that fails now and then, and account for every record
    Demo(demo::Options),
    /// Kill and stop a host again and again, and prove that it keeps its promises
    Crash(crash::Options),
    /// Offer a host twice as much as it lets through, for minutes, with strikes and plugins that mean harm
    Soak(soak::Options),
    /// Measure the figures of docs/performance.md in release mode
    Bench(bench::Options),
    /// Make the crates that are published, and check each where nothing of the repository is around it
    Package(package::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Test => test::run(),
        Task::Demo(options) => demo::run(&options),
        Task::Crash(options) => crash::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Package(options) => package::run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
