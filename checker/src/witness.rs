//! Counts what the host synchronises: `kill -9` leaves what it has only written, so no kill shows a missing `fsync`.
//!
//! A small library stands between the host and the C library. It shows that something of the ledger's files was
//! synchronised between a send and its acceptance, not that it was the right thing: a write that is skipped while another
//! thread's is not would be missed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::preload;

const SOURCE: &str = include_str!("witness.c");

/// The library, and the file that it counts in.
#[derive(Debug)]
pub(crate) struct Witness {
    library: PathBuf,
    synced: PathBuf,
}

impl Witness {
    /// Builds the library in a folder, with the C compiler that builds SQLite too.
    ///
    /// # Errors
    /// There is no C compiler.
    pub(crate) fn build(folder: &Path) -> anyhow::Result<Self> {
        let library = preload::build(folder, "witness", SOURCE)?;
        Ok(Self { library, synced: folder.join("synced") })
    }

    /// Puts it before the C library of a process.
    pub(crate) fn watch(&self, host: &mut Command) {
        host.env(preload::VARIABLE, &self.library).env("SYNCED", &self.synced);
    }

    /// Writes that were synchronised so far.
    pub(crate) fn synced(&self) -> u64 {
        fs::metadata(&self.synced).map_or(0, |file| file.len())
    }
}
