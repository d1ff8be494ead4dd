//! Where a data directory lies: on what kind of file system, whose it is, and who works on it.
//!
//! Looks and changes nothing. Invariant: on a file system of another machine no ledger is opened, for its memory shared
//! between processes and its locks would not be what they are here.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use rustix::fs::{StatVfsMountFlags, statfs, statvfs};

use super::open::{self, refuse_strangers};
use super::{OpenError, Room, Settings};

/// What a file system keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// On a disk of this machine, as far as can be told.
    Local,
    /// On another machine: its name.
    Network(&'static str),
    /// By a program, which may keep it anywhere.
    Fuse,
    /// In memory.
    Memory,
    /// In a layer of a container, which goes with it.
    Overlay,
}

impl FileSystem {
    /// The kind of a file system, by the number that the system gives it (`linux/magic.h`).
    #[must_use]
    pub fn of_magic(magic: u64) -> Self {
        match magic & 0xffff_ffff {
            0x6969 => Self::Network("NFS"),
            0x517b | 0xff53_4d42 | 0xfe53_4d42 => Self::Network("SMB"),
            0x0102_1997 => Self::Network("9P"),
            0x00c3_6400 => Self::Network("Ceph"),
            0x0bd0_0bd0 => Self::Network("Lustre"),
            0x4750_4653 => Self::Network("GPFS"),
            0x0116_1970 => Self::Network("GFS2"),
            0x7461_636f => Self::Network("OCFS2"),
            0x5346_414f | 0x6b41_4653 => Self::Network("AFS"),
            0x7375_7245 => Self::Network("Coda"),
            0x564c => Self::Network("NCP"),
            0x786f_4256 | 0x7c7c_6673 => Self::Network("a shared folder of a virtual machine"),
            0x6573_5546 => Self::Fuse,
            0x0102_1994 | 0x8584_58f6 => Self::Memory,
            0x794c_7630 => Self::Overlay,
            _ => Self::Local,
        }
    }

    fn of(dir: &Path) -> Option<Self> {
        let found = statfs(dir).ok()?;
        // A signed number of 32 bits on some machines.
        #[allow(clippy::cast_sign_loss, clippy::unnecessary_cast, reason = "the type differs between machines")]
        let magic = found.f_type as u64;
        Some(Self::of_magic(magic))
    }
}

/// A data directory, as it is found.
#[derive(Clone, Debug)]
pub struct Site {
    /// Itself, or the folder that there is above it where it is missing.
    pub dir: PathBuf,
    /// Whether it is there.
    pub exists: bool,
    /// Its permission bits.
    pub mode: u32,
    /// The number of its owner.
    pub owner: u32,
    /// What keeps it; `None` where that cannot be told.
    pub file_system: Option<FileSystem>,
    /// Whether that is mounted for reading alone.
    pub is_read_only: bool,
    /// What it has left.
    pub room: Option<Room>,
    /// Whether another process works on it.
    pub is_in_use: bool,
    /// When something in it was written last.
    pub written: Option<SystemTime>,
}

impl Site {
    /// Looks at a data directory.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn look(dir: &Path, min_free: Option<u64>) -> anyhow::Result<Self> {
        let whole = std::path::absolute(dir)?;
        let there = whole.ancestors().find(|folder| folder.exists()).context("there is no folder above it")?;
        let found = there.metadata().with_context(|| format!("cannot look at {}", there.display()))?;
        let is_read_only = statvfs(there).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
        Ok(Self {
            dir: there.to_owned(),
            exists: there == whole,
            mode: found.mode() & 0o7777,
            owner: found.uid(),
            file_system: FileSystem::of(there),
            is_read_only,
            room: Room::of(there, min_free),
            is_in_use: open::is_in_use(dir),
            written: if there == whole { newest(dir) } else { None },
        })
    }

    /// Whether its ledger, if it has one, is of a kind that this program opens.
    ///
    /// # Errors
    /// It is not, or cannot be read.
    pub fn refuse_ledger(dir: &Path) -> Result<(), OpenError> {
        refuse_strangers(&Settings::new(dir.to_owned()).file())
    }
}

/// The version of the library under the ledger.
#[must_use]
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

/// Refuses a folder that lies on another machine, or one above it that is there.
pub(super) fn refuse_network(dir: &Path) -> anyhow::Result<()> {
    let there = std::path::absolute(dir)?;
    let found = there.ancestors().find(|folder| folder.exists()).and_then(FileSystem::of);
    refuse(dir, found)
}

fn refuse(dir: &Path, found: Option<FileSystem>) -> anyhow::Result<()> {
    if let Some(FileSystem::Network(name)) = found {
        bail!(
            "the data directory {} lies on a network file system ({name}), where a ledger is not safe: set `host.data_dir` to a folder on a disk of this machine",
            dir.display()
        );
    }
    Ok(())
}

/// What a folder that cannot be written says of it, and what to do.
pub(super) fn unwritable(dir: &Path, error: &std::io::Error) -> String {
    let dir = dir.display();
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            format!(
                "the data directory {dir} is mounted for reading alone: mount it for writing, or set another `host.data_dir`"
            )
        }
        ErrorKind::PermissionDenied => {
            format!(
                "this user may not write the data directory {dir}: give it to the user that runs bulkhead, or set another `host.data_dir`"
            )
        }
        _ => format!("cannot write the data directory {dir}"),
    }
}

/// By the files that every start writes.
fn newest(dir: &Path) -> Option<SystemTime> {
    let files = ["ledger.db", "ledger.db-wal", "lock"].map(|name| fs::metadata(dir.join(name)));
    files.into_iter().filter_map(|found| found.ok()?.modified().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_of_another_machine_is_refused_by_its_name() {
        let check = |magic, expected: Option<&str>| {
            let refused =
                refuse(Path::new("data"), Some(FileSystem::of_magic(magic))).map_err(|error| error.to_string());
            match expected {
                None => assert_eq!(refused, Ok(()), "{magic:x}"),
                Some(name) => {
                    let text = refused.expect_err("it is on another machine");
                    assert!(text.contains(&format!("network file system ({name})")), "{text}");
                    assert!(text.contains("`host.data_dir`"), "{text}");
                }
            }
        };
        check(0x6969, Some("NFS"));
        check(0xfe53_4d42, Some("SMB"));
        // As a machine shows it whose numbers have a sign.
        check(0xffff_ffff_ff53_4d42, Some("SMB"));
        check(0x0102_1997, Some("9P"));
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x2fc1_2fc1, 0x0102_1994, 0x6573_5546, 0x794c_7630] {
            check(local, None);
        }
        assert_eq!(refuse(Path::new("data"), None).map_err(|error| error.to_string()), Ok(()));
    }
}
