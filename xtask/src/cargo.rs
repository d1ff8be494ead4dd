//! Running cargo in the workspace's folder, whatever folder the task was started in.
//!
//! `test` names the whole workspace and `demo` what it needs of it; both agree on the features of every big dependency, so
//! that wasmtime is compiled once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// `cargo ARGUMENTS`, in the workspace's folder.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(root());
    command
}

/// Runs a command to its end; whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> anyhow::Result<bool> {
    let program = command.get_program().to_owned();
    let status = command.status().with_context(|| format!("{} cannot be started", program.display()))?;
    Ok(status.success())
}

/// Runs a command that must succeed.
pub(crate) fn must(command: &mut Command) -> anyhow::Result<()> {
    if !succeeds(command)? {
        bail!("this has failed: {command:?}");
    }
    Ok(())
}

/// A binary of the dev profile, wherever `CARGO_TARGET_DIR` or the user's settings put it.
pub(crate) fn binary(name: &str) -> anyhow::Result<PathBuf> {
    Ok(target_folder()?.join("debug").join(name))
}

/// The target folder.
pub(crate) fn target_folder() -> anyhow::Result<PathBuf> {
    let answer = command(&["metadata", "--no-deps", "--format-version=1"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&answer.stdout).context("cargo metadata")?;
    Ok(metadata["target_directory"].as_str().context("cargo metadata names no target folder")?.into())
}
