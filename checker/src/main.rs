//! `bulkhead-checker`: attacks a binary and reports. `cargo xtask crash` builds all that it needs.
#![expect(clippy::print_stdout, reason = "the report is for the person who started it")]

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;

use bulkhead_checker::{Sabotage, Settings, power, run, sabotage};
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
    /// Instead of strikes: lets every so manieth call of the host fail, and damages its files
    #[arg(long, value_name = "STRIDE", conflicts_with = "power")]
    sabotage: Option<u64>,
    /// Instead of strikes: records a day, and lets the power fail at every moment that matters
    #[arg(long)]
    power: bool,
    /// Of those moments, so many are drawn [default: all]
    #[arg(long, value_name = "N", requires = "power")]
    images: Option<usize>,
}

fn main() -> ExitCode {
    let Arguments { host, tally, parcel, folder, cycles, seed, fault, sabotage, power, images } = Arguments::parse();
    let settings = Settings { host, tally, parcel, folder, cycles, seed, fault };
    let is_clean = match sabotage {
        Some(stride) => sweep(&settings, stride),
        None if power => power::run(&settings, images).map(|report| told(&report, report.is_clean())),
        None => run(&settings).map(|report| told(&report, report.is_clean())),
    };
    match is_clean {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn sweep(settings: &Settings, stride: u64) -> anyhow::Result<bool> {
    Sabotage::ALL.into_iter().try_fold(true, |is_clean, what| {
        let folder = settings.folder.join(what.name());
        let swept = sabotage(&Settings { folder, ..settings.clone() }, what, stride)?;
        println!("{swept}\n");
        Ok(is_clean && swept.is_clean())
    })
}

fn told(report: &impl Display, is_clean: bool) -> bool {
    println!("{report}");
    is_clean
}
