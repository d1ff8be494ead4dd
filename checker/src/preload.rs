//! A small library of ours that is put between a host and the C library, and what it is told: what it does is said where it
//! is built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Makes a dynamic loader put libraries before the C library.
const VARIABLE: &str = "LD_PRELOAD";

/// The library, and the variables that it reads.
#[derive(Clone, Debug)]
pub(crate) struct Preload {
    library: PathBuf,
    variables: Vec<(&'static str, PathBuf)>,
}

impl Preload {
    /// Builds it in a folder, with the C compiler that builds SQLite too.
    ///
    /// # Errors
    /// There is no C compiler.
    pub(crate) fn build(folder: &Path, name: &str, source: &str) -> anyhow::Result<Self> {
        let (path, library) = (folder.join(name).with_extension("c"), folder.join(name).with_extension("so"));
        fs::write(&path, source)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(&path);
        let is_built = compiler.status().context("there is no C compiler `cc`")?.success();
        ensure!(is_built, "`cc` does not build {}", path.display());
        // A loader in another folder has to find it too.
        Ok(Self { library: fs::canonicalize(library)?, variables: Vec::new() })
    }

    /// The same with one variable more.
    pub(crate) fn with(mut self, name: &'static str, value: &Path) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// What the environment of a process must have in it.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let told = self.variables.iter().map(|(name, value)| (*name, value.as_path()));
        [(VARIABLE, self.library.as_path())].into_iter().chain(told)
    }
}
