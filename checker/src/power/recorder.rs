//! The library that writes the journal, and the lock that keeps it whole when the host is killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rustix::fs::{FlockOperation, flock};

use super::disk::{Disk, Fate};
use super::image::{self, Image};
use super::journal::{self, Record};
use crate::preload::Preload;

const SOURCE: &str = include_str!("recorder.c");

/// The library. Without a journal it only hides the system's boot id.
#[derive(Clone, Debug)]
pub(super) struct Recorder(Preload);

/// A journal that is being written.
#[derive(Debug)]
pub(super) struct Recording {
    /// What has to be put before the C library.
    pub(super) preload: Preload,
    data: PathBuf,
    path: PathBuf,
    start: Disk,
}

impl Recorder {
    /// Builds it in a folder.
    ///
    /// # Errors
    /// There is no C compiler.
    pub(super) fn build(folder: &Path) -> anyhow::Result<Self> {
        Preload::build(folder, "recorder", SOURCE).map(Self)
    }

    /// For a host of a machine that has started again: `boot` is what it is told of that.
    pub(super) fn boot(&self, folder: &Path, boot: &str) -> anyhow::Result<Preload> {
        let path = fs::canonicalize(folder)?.join("boot_id");
        fs::write(&path, boot)?;
        Ok(self.0.clone().with("BOOT_ID", &path))
    }

    /// Such a host whose data directory, in this folder, is recorded from now on.
    pub(super) fn record(&self, folder: &Path, boot: &str) -> anyhow::Result<Recording> {
        let folder = fs::canonicalize(folder)?;
        let (data, path) = (folder.join("data"), folder.join("journal"));
        File::create_new(&path)?;
        let preload = self.boot(&folder, boot)?.with("RECORDED", &data).with("JOURNAL", &path);
        Ok(Recording { preload, start: Disk::new(image::read(&data)?), data, path })
    }
}

impl Recording {
    /// Does something while nothing is under way that is not written down.
    pub(super) fn between<T>(&self, work: impl FnOnce() -> T) -> anyhow::Result<T> {
        let journal = File::open(&self.path)?;
        flock(&journal, FlockOperation::LockExclusive)?;
        Ok(work())
    }

    /// The disk as it was in the beginning, and everything since. The host has ended.
    ///
    /// # Errors
    /// The journal does not tell what has become of the folder: something went around it.
    pub(super) fn end(self) -> anyhow::Result<(Disk, Vec<Record>)> {
        let records = journal::read(&fs::read(&self.path)?)?;
        let mut disk = self.start.clone();
        records.iter().for_each(|record| disk.apply(record));
        let difference = disk.image(Fate::All).difference(&Image::read(&self.data)?);
        ensure!(difference.is_none(), "the journal does not tell what has become of {difference:?}");
        fs::remove_file(&self.path).context("the journal cannot be removed")?;
        Ok((self.start, records))
    }
}
