//! `bulkhead-checker`: attacks a binary and reports. `cargo xtask crash` and `soak` build all that it needs.
#![expect(clippy::print_stdout, reason = "the report is for the person who started it")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bulkhead_checker::{Sabotage, Settings, Soak, run, sabotage, soak};
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
    #[arg(long)]
    sabotage: Option<u64>,
    /// Instead of cycles: offers too much work for so many seconds, with plugins that mean harm beside the others
    #[arg(long, conflicts_with = "sabotage")]
    soak: Option<u64>,
    /// Seconds between two strikes of a soak
    #[arg(long, default_value_t = 30)]
    strike_every: u64,
    /// Prints what came of a soak as JSON
    #[arg(long, requires = "soak")]
    json: bool,
}

fn main() -> ExitCode {
    let Arguments {
        host,
        tally,
        parcel,
        folder,
        cycles,
        seed,
        fault,
        sabotage: stride,
        soak: seconds,
        strike_every,
        json,
    } = Arguments::parse();
    let settings = Settings { host, tally, parcel, folder, cycles, seed, fault };
    let is_clean = match (seconds, stride) {
        (Some(seconds), _) => {
            let (length, strike_every) = (Duration::from_secs(seconds), Duration::from_secs(strike_every));
            soak(&Soak { settings, length, strike_every }).map(|soaked| {
                println!("{}", if json { soaked.json().to_string() } else { soaked.to_string() });
                soaked.is_clean()
            })
        }
        (None, Some(stride)) => sweep(&settings, stride),
        (None, None) => run(&settings).map(|report| {
            println!("{report}");
            report.is_clean()
        }),
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

/// Every sabotage after the other; whether all was well.
fn sweep(settings: &Settings, stride: u64) -> anyhow::Result<bool> {
    Sabotage::ALL.into_iter().try_fold(true, |is_clean, what| {
        let folder = settings.folder.join(what.name());
        let swept = sabotage(&Settings { folder, ..settings.clone() }, what, stride)?;
        println!("{swept}\n");
        Ok(is_clean && swept.is_clean())
    })
}
