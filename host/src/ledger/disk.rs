//! How much room the disk has, and what that stops.
//!
//! The writer finds it out; everybody else only looks. Invariant: what a full disk stopped goes on only after a commit
//! has found room.

use std::path::Path;

use crate::settlement::QueueId;

/// Free disk below which nothing new is accepted, or a twentieth of the disk where that is less.
const FREE_BYTES_MIN: u64 = 512 << 20;

/// The room that there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disk {
    /// Enough.
    #[default]
    Roomy,
    /// Below `host.min_free`: nothing new is accepted, what is decided already may use the rest.
    Low,
    /// A commit found none: nothing runs until one does.
    Full,
}

impl Disk {
    /// Whether a connector that publishes to these queues must wait.
    #[must_use]
    pub fn stops(self, publishes_to: &[QueueId]) -> bool {
        match self {
            Self::Roomy => false,
            Self::Low => !publishes_to.is_empty(),
            Self::Full => true,
        }
    }
}

/// What the file system of `dir` says: its free bytes, and whether they are below the watermark. `None` where it cannot
/// be asked.
pub(super) fn look(dir: &Path, min_free: Option<u64>) -> Option<(u64, Disk)> {
    let Room { free_bytes, watermark_bytes } = Room::of(dir, min_free)?;
    Some((free_bytes, if free_bytes < watermark_bytes { Disk::Low } else { Disk::Roomy }))
}

/// What a file system has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Free for everybody.
    pub free_bytes: u64,
    /// Below this a host accepts nothing new.
    pub watermark_bytes: u64,
}

impl Room {
    /// Asks the file system of `dir`; `None` where it cannot be asked.
    #[must_use]
    pub fn of(dir: &Path, min_free: Option<u64>) -> Option<Self> {
        let disk = rustix::fs::statvfs(dir).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let watermark_bytes = min_free.unwrap_or(FREE_BYTES_MIN.min(bytes(disk.f_blocks) / 20));
        Some(Self { free_bytes: bytes(disk.f_bavail), watermark_bytes })
    }
}
