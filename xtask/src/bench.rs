//! `cargo xtask bench`: the benchmarks of the tests' crate, in release mode.

use crate::{cargo, toolchain};

/// `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print one JSON array and nothing else on standard output
    #[arg(long)]
    json: bool,
}

/// Builds and runs the benchmarks; whether they succeeded.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    toolchain::require_plugin_target()?;
    let mut bench =
        cargo::command(&["run", "--locked", "--release", "--package", "bulkhead-tests", "--bin", "bench", "--"]);
    if options.json {
        bench.arg("--json");
    }
    cargo::succeeds(&mut bench)
}
