//! Counts what the host synchronises: `kill -9` leaves what it has only written, so no kill shows a missing `fsync`.
//!
//! It shows that something of the ledger's files was synchronised between a send and its acceptance, not that it was the
//! right thing: a write that is skipped while another thread's is not would be missed. `power` looks at that.

use std::fs;
use std::path::{Path, PathBuf};

use crate::preload::Preload;

const SOURCE: &str = include_str!("witness.c");

/// The library, and the file that it counts in.
#[derive(Debug)]
pub(crate) struct Witness {
    preload: Preload,
    synced: PathBuf,
}

impl Witness {
    /// Builds the library in a folder.
    ///
    /// # Errors
    /// There is no C compiler.
    pub(crate) fn build(folder: &Path) -> anyhow::Result<Self> {
        let synced = folder.join("synced");
        Ok(Self { preload: Preload::build(folder, "witness", SOURCE)?.with("SYNCED", &synced), synced })
    }

    /// What has to be put before the C library.
    pub(crate) fn preload(&self) -> &Preload {
        &self.preload
    }

    /// Writes that were synchronised so far.
    pub(crate) fn synced(&self) -> u64 {
        fs::metadata(&self.synced).map_or(0, |file| file.len())
    }
}
