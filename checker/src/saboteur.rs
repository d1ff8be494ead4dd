//! Lets the calls by which a host uses its files fail, its clock lie and its machine boot anew, while it runs.
//!
//! A library stands between the host and the C library and does what a page of shared memory says. It sees what goes
//! through the C library: what the host writes into mapped memory, and what it asks the kernel for by itself, is not seen.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::preload::Preload;

const SOURCE: &str = include_str!("saboteur.c");
/// The shared memory's size, and where in it what stands, as `struct control` has it.
const CONTROL_BYTES: u64 = 4_096;
const FIRST_AT: u64 = 8;
const LAST_AT: u64 = 16;
const ERROR_AT: u64 = 24;
const SEEN_AT: u64 = 32;
const FAILED_AT: u64 = 40;
const CLOCK_AT: u64 = 48;
const BOOT_AT: u64 = 56;
const WHERE_AT: u64 = 64;

/// The library, and the memory that it shares with us.
#[derive(Debug)]
pub struct Saboteur {
    preload: Preload,
    control: PathBuf,
    memory: File,
}

/// Calls that are alike; several are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `fsync` and `fdatasync`.
    Sync = 1,
    /// `write` and `pwrite`.
    Write = 2,
    /// `open`; what is only read fails for want of descriptors alone.
    Open = 4,
    /// `ftruncate`.
    Resize = 8,
    /// `mkdir`, `rename` and `unlink`.
    Name = 16,
}

/// How calls fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The process is killed in place of the call.
    Kill = 0,
    /// EIO.
    Broken = 5,
    /// EMFILE.
    TooManyFiles = 24,
    /// ENOSPC.
    NoRoom = 28,
    /// EROFS.
    ReadOnly = 30,
}

impl Saboteur {
    /// Builds the library in a folder. It looks after files in `under` alone, which need not exist yet.
    ///
    /// # Errors
    /// There is no C compiler, or the folder cannot be written.
    pub fn build(folder: &Path, under: &Path) -> anyhow::Result<Self> {
        let folder = folder.canonicalize()?;
        let control = folder.join("saboteur");
        let memory = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&control)?;
        memory.set_len(CONTROL_BYTES)?;
        let preload = Preload::build(&folder, "saboteur", SOURCE)?;
        let preload = preload.with("SABOTEUR", &control).with("SABOTEUR_UNDER", under);
        Ok(Self { preload, control, memory })
    }

    /// What a host's environment must have in it.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.preload.variables()
    }

    /// What has to be put before the C library.
    pub(crate) fn preload(&self) -> &Preload {
        &self.preload
    }

    /// From now on counts these calls, and lets those fail that have these numbers; the first one is 1.
    ///
    /// # Errors
    /// The memory cannot be written.
    pub fn arm(&self, calls: &[Call], failing: RangeInclusive<u64>, failure: Failure) -> io::Result<()> {
        self.lift()?;
        self.put(SEEN_AT, 0)?;
        self.put(FAILED_AT, 0)?;
        self.put(ERROR_AT, failure as i64)?;
        self.put(LAST_AT, i64::try_from(*failing.end()).unwrap_or(i64::MAX))?;
        self.put(FIRST_AT, i64::try_from(*failing.start()).unwrap_or(i64::MAX))?;
        self.put(0, calls.iter().fold(0, |all, call| all | *call as i64))
    }

    /// Lets nothing fail any more.
    ///
    /// # Errors
    /// The memory cannot be written.
    pub fn lift(&self) -> io::Result<()> {
        self.put(0, 0)
    }

    /// How many calls were seen since it was armed.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.get(SEEN_AT)
    }

    /// And how many of them have failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.get(FAILED_AT)
    }

    /// The call that failed first since it was armed, and the file.
    #[must_use]
    pub fn first_failed(&self) -> Option<(String, PathBuf)> {
        let text = fs::read(&self.control).ok()?.split_off(usize::try_from(WHERE_AT).ok()?);
        let text = String::from_utf8_lossy(text.split(|byte| *byte == 0).next()?).into_owned();
        let (call, path) = text.split_once(' ')?;
        (self.failed() > 0).then(|| (call.to_owned(), path.into()))
    }

    /// Sets the wall clock ahead of the right time, or behind it.
    ///
    /// # Errors
    /// The memory cannot be written.
    pub fn set_clock(&self, ahead_seconds: i64) -> io::Result<()> {
        self.put(CLOCK_AT, ahead_seconds)
    }

    /// For a host that starts after it, the machine has booted anew.
    ///
    /// # Errors
    /// The memory cannot be written.
    pub fn reboot(&self) -> io::Result<()> {
        self.put(BOOT_AT, i64::try_from(self.get(BOOT_AT)).unwrap_or(0) + 1)
    }

    fn put(&self, at: u64, number: i64) -> io::Result<()> {
        self.memory.write_all_at(&number.to_ne_bytes(), at)
    }

    fn get(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.memory.read_exact_at(&mut bytes, at).map_or(0, |()| u64::from_ne_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Appends to a file and synchronises it, three times.
    fn write(saboteur: &Saboteur, path: &Path) -> String {
        let mut shell = Command::new("dd");
        shell.envs(saboteur.variables());
        let output = shell.args(["if=/dev/zero", "bs=1", "count=3", "oflag=append", "conv=notrunc,fsync"]);
        let output = output.arg(format!("of={}", path.display())).output().expect("there is a `dd`");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    #[test]
    fn calls_fail_from_the_one_that_is_named_until_it_is_lifted_and_in_one_folder_alone() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
        fs::create_dir(&inside).expect("a folder can be made");
        let saboteur = Saboteur::build(folder.path(), &inside).expect("there is a C compiler");
        saboteur.arm(&[Call::Write], 2..=u64::MAX, Failure::NoRoom).expect("the memory can be written");
        assert!(!write(&saboteur, &outside).contains("No space left"));
        assert_eq!((saboteur.seen(), saboteur.first_failed()), (0, None));
        assert!(write(&saboteur, &inside.join("a")).contains("No space left"));
        assert_eq!(saboteur.first_failed(), Some(("write".to_owned(), inside.join("a"))));
        saboteur.lift().expect("the memory can be written");
        assert!(!write(&saboteur, &inside.join("a")).contains("No space left"));
        saboteur.arm(&[Call::Sync, Call::Write], 4..=4, Failure::Broken).expect("the memory can be written");
        assert!(write(&saboteur, &inside.join("b")).contains("Input/output error"));
        assert_eq!((saboteur.seen(), saboteur.failed()), (4, 1));
    }
}
