//! `cargo xtask crash`: builds the host and its checker, lets the one attack the other, and keeps what is left of a host
//! that breaks a promise.

use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{cargo, toolchain};

/// Plugins that the host runs in every attack.
const GUESTS: [&str; 2] = ["tally", "parcel"];

/// `cargo xtask crash`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Strikes: kills, kills at the start, stops, and times for which the process stands still
    #[arg(long, default_value_t = 200, conflicts_with_all = ["sabotage", "power"])]
    cycles: u64,
    /// Draws the same work and the same strikes as another run
    #[arg(long)]
    seed: Option<u64>,
    /// Instead of strikes, lets calls of the host fail one after the other and damages its files: with 1 every call, with
    /// more so many fewer
    #[arg(long, value_name = "STRIDE", num_args = 0..=1, default_missing_value = "1", conflicts_with = "power")]
    sabotage: Option<u64>,
    /// Instead of strikes, records a day of the host and lets the power fail at every moment that matters
    #[arg(long)]
    power: bool,
    /// Of those moments, so many are drawn [default: all]
    #[arg(long, value_name = "N", requires = "power")]
    images: Option<usize>,
}

/// Builds and runs it; whether every promise was kept.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    toolchain::require_plugin_target()?;
    println!("building the host, its checker and two plugins");
    let attack = prepare("crash", &GUESTS, options.seed)?;
    let mut checker = attack.checker()?;
    checker.args(["--cycles", &options.cycles.to_string()]);
    checker.args(options.sabotage.iter().map(|stride| format!("--sabotage={stride}")));
    checker.args(options.power.then_some("--power"));
    checker.args(options.images.iter().map(|images| format!("--images={images}")));
    println!("attacking it, with seed {}", attack.seed);
    let is_clean = cargo::succeeds(&mut checker)?;
    if is_clean {
        fs::remove_dir_all(&attack.folder)?;
    }
    Ok(is_clean)
}

/// What an attack needs, built.
pub(crate) struct Attack {
    pub(crate) seed: u64,
    /// Empty; everything lies there afterwards.
    pub(crate) folder: PathBuf,
    plugins: PathBuf,
}

/// Builds the host, its checker and these plugins, and empties the attack's folder.
pub(crate) fn prepare(kind: &str, guests: &[&str], seed: Option<u64>) -> anyhow::Result<Attack> {
    // With one of the tests beside them, dependencies have the features that they have there: nothing is built twice.
    let targets = ["--bin", "bulkhead", "--bin", "bulkhead-checker", "--test", "attack"];
    cargo::must(cargo::command(&["build", "--locked", "--workspace"]).args(targets))?;
    let target = cargo::target_folder()?;
    let plugins = target.join("builtin");
    build_guests(&plugins, guests)?;
    let seed = seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let folder = target.join(kind).join(seed.to_string());
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    Ok(Attack { seed, folder, plugins: plugins.join(toolchain::PLUGIN_TARGET).join("plugin") })
}

impl Attack {
    /// The checker, with all that it always needs.
    pub(crate) fn checker(&self) -> anyhow::Result<Command> {
        let mut checker = Command::new(cargo::binary("bulkhead-checker")?);
        checker.arg("--host").arg(cargo::binary("bulkhead")?).arg("--folder").arg(&self.folder);
        for name in GUESTS {
            checker.arg(format!("--{name}")).arg(self.plugins.join(format!("guest_{name}.wasm")));
        }
        checker.args(["--seed", &self.seed.to_string()]);
        Ok(checker)
    }
}

fn build_guests(target: &Path, guests: &[&str]) -> anyhow::Result<()> {
    let manifest = ["--manifest-path", "tests/guests/Cargo.toml", "--target", toolchain::PLUGIN_TARGET];
    let mut build = cargo::command(&["build", "--locked", "--profile", "plugin"]);
    build.args(manifest).arg("--target-dir").arg(target);
    build.args(guests.iter().flat_map(|name| ["--package".to_owned(), format!("guest-{name}")]));
    cargo::must(&mut build)
}
