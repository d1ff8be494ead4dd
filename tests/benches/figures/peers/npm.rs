//! What comes from npm: into the target folder, where no other run has put it before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use super::server::{self, output};

/// The folder that the package was installed into. What is not there is fetched, and no script of a package runs.
pub(crate) fn package(name: &str, version: &str) -> anyhow::Result<PathBuf> {
    let tool = name.rsplit('/').next().unwrap_or(name);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools").join(tool);
    if !is_here(&folder.join("node_modules").join(name), version) {
        let npm = Path::new("npm");
        let _ = server::version(npm, "--version").context("npm is not here: apt-get install npm")?;
        let package = format!("{name}@{version}");
        eprintln!("{package} is fetched from npm");
        fs::create_dir_all(&folder)?;
        let mut npm = Command::new(npm);
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", &package, "--prefix"]);
        let _ = output(npm.arg(&folder)).with_context(|| format!("{package} does not come from npm"))?;
    }
    Ok(folder.canonicalize()?)
}

fn is_here(package: &Path, version: &str) -> bool {
    let about = fs::read(package.join("package.json")).ok().and_then(|text| serde_json::from_slice(&text).ok());
    about.is_some_and(|about: Value| about["version"] == version)
}
