//! `bulkhead-checker`: attacks a binary and reports. `cargo xtask crash` builds all that it needs.
#![expect(clippy::print_stdout, reason = "the report is for the person who started it")]

use std::path::PathBuf;
use std::process::ExitCode;

use bulkhead_checker::{Settings, run};
use clap::Parser;

/// Attacks a running host, and proves from records of its own that nothing was lost, doubled or made up
#[derive(Parser)]
struct Arguments {
    /// The binary `bulkhead`
    #[arg(long)]
    host: PathBuf,
    /// The plugin of tests/guests/tally
    #[arg(long)]
    tally: PathBuf,
    /// The plugin of tests/guests/parcel
    #[arg(long)]
    parcel: PathBuf,
    /// A new folder, in which everything lies afterwards
    #[arg(long)]
    folder: PathBuf,
    /// Strikes
    #[arg(long, default_value_t = 200)]
    cycles: u64,
    /// From which everything is drawn
    #[arg(long)]
    seed: u64,
    /// A planted bug that the host is to have, if it was built with them
    #[arg(long)]
    fault: Option<String>,
}

fn main() -> ExitCode {
    let Arguments { host, tally, parcel, folder, cycles, seed, fault } = Arguments::parse();
    match run(&Settings { host, tally, parcel, folder, cycles, seed, fault }) {
        Ok(report) => {
            println!("{report}");
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
