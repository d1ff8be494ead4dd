//! `cargo xtask soak`: builds the host and its checker, and has the one offer the other too much for minutes.

use std::fs;
use std::time::Duration;

use crate::{cargo, crash, toolchain};

/// Plugins that the host runs meanwhile.
const GUESTS: [&str; 5] = ["tally", "parcel", "hostile", "hook", "discard"];
const MINUTE_SECONDS: f64 = 60.0;

/// `cargo xtask soak`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// For how long work is offered
    #[arg(long, default_value_t = 15.0)]
    minutes: f64,
    /// Draws the same work and the same strikes as another run
    #[arg(long)]
    seed: Option<u64>,
    /// Print what came of it as JSON on standard output, and nothing else there
    #[arg(long)]
    json: bool,
}

/// Builds and runs it; whether every promise was kept, within every bound.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    toolchain::require_plugin_target()?;
    let say = |text: &str| if options.json { eprintln!("{text}") } else { println!("{text}") };
    say("building the host, its checker and five plugins");
    let seconds = Duration::try_from_secs_f64(options.minutes * MINUTE_SECONDS)?.as_secs();
    let attack = crash::prepare("soak", &GUESTS, options.seed)?;
    let mut checker = attack.checker()?;
    checker.args(["--soak", &seconds.to_string()]).args(options.json.then_some("--json"));
    say(&format!("offering it too much for {seconds} s, with seed {}", attack.seed));
    let is_clean = cargo::succeeds(&mut checker)?;
    if is_clean {
        fs::remove_dir_all(&attack.folder)?;
    }
    Ok(is_clean)
}
