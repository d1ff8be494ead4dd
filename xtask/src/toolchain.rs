//! What a fresh machine lacks: the target that plugins are built for, rustfmt and clippy.
//!
//! Installs through rustup and says so. Without rustup it names what is missing and leaves the rest to the user.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::cargo;

/// The target of plugins.
pub(crate) const PLUGIN_TARGET: &str = "wasm32-wasip2";

/// The plugins' target is there afterwards.
pub(crate) fn require_plugin_target() -> anyhow::Result<()> {
    let answer = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", PLUGIN_TARGET])
        .current_dir(cargo::root())
        .output()
        .context("rustc cannot be started: install Rust from https://rustup.rs")?;
    if Path::new(String::from_utf8_lossy(&answer.stdout).trim()).is_dir() {
        return Ok(());
    }
    add("target", PLUGIN_TARGET)
}

/// A component of the toolchain, such as `clippy`, is there afterwards; `program` is the cargo command that it brings.
pub(crate) fn require_component(component: &str, program: &str) -> anyhow::Result<()> {
    let mut probe = cargo::command(&[program, "--version"]);
    if cargo::succeeds(probe.stdout(Stdio::null()).stderr(Stdio::null()))? {
        return Ok(());
    }
    add("component", component)
}

fn add(kind: &str, name: &str) -> anyhow::Result<()> {
    eprintln!("this machine lacks the {kind} {name}: rustup {kind} add {name}");
    let added =
        Command::new("rustup").args([kind, "add", name]).current_dir(cargo::root()).stdout(std::io::stderr()).status();
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => bail!("rustup could not add the {kind} {name}"),
        Err(error) => {
            bail!("the {kind} {name} is missing and rustup cannot be started ({error}): install it and try again")
        }
    }
}
