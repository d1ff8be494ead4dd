//! `bulkhead-checker`: attacks a binary and reports. `cargo xtask crash` and `soak` build all that it needs.
#![expect(clippy::print_stdout, reason = "the report is for the person who started it")]

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bulkhead_checker::{Sabotage, Settings, Soak, power, run, sabotage, soak};
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
    /// Instead of cycles: offers too much work for so many seconds, with plugins that mean harm beside the others
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["sabotage", "power"])]
    soak: Option<u64>,
    /// Seconds between two strikes of a soak
    #[arg(long, default_value_t = 30)]
    strike_every: u64,
    /// Prints what came of a soak as JSON
    #[arg(long, requires = "soak")]
    json: bool,
}

impl Arguments {
    /// Attacks in the way that was asked for, and tells what came of it; whether every promise was kept.
    fn attack(&self) -> anyhow::Result<bool> {
        let settings = self.settings();
        if let Some(seconds) = self.soak {
            let (length, strike_every) = (Duration::from_secs(seconds), Duration::from_secs(self.strike_every));
            let soaked = soak(&Soak { settings, length, strike_every })?;
            println!("{}", if self.json { soaked.json().to_string() } else { soaked.to_string() });
            return Ok(soaked.is_clean());
        }
        if let Some(stride) = self.sabotage {
            return sweep(&settings, stride);
        }
        if self.power {
            let report = power::run(&settings, self.images)?;
            return Ok(told(&report, report.is_clean()));
        }
        let report = run(&settings)?;
        Ok(told(&report, report.is_clean()))
    }

    fn settings(&self) -> Settings {
        Settings {
            host: self.host.clone(),
            tally: self.tally.clone(),
            parcel: self.parcel.clone(),
            folder: self.folder.clone(),
            cycles: self.cycles,
            seed: self.seed,
            fault: self.fault.clone(),
        }
    }
}

fn main() -> ExitCode {
    let is_clean = Arguments::parse().attack();
    match is_clean {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Every sabotage after the other; whether all was well.
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
