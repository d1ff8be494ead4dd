//! Libraries that are put between a host and the C library.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Makes a dynamic loader put libraries before the C library.
pub(crate) const VARIABLE: &str = "LD_PRELOAD";

/// Builds a library in a folder, with the C compiler that builds SQLite too.
///
/// # Errors
/// There is no C compiler.
pub(crate) fn build(folder: &Path, name: &str, source: &str) -> anyhow::Result<PathBuf> {
    let (file, library) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.so")));
    fs::write(&file, source)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(&file);
    ensure!(compiler.status().context("there is no C compiler `cc`")?.success(), "`cc` does not build {name}.c");
    Ok(library)
}
