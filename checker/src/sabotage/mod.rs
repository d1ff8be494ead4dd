//! What a system can do to a host beside killing it: calls that fail one after the other, and files that are damaged.
//!
//! Each sweep goes through the calls, or the files, one life of a host for each, and leaves out as many between two as
//! its stride says. `refusal` lets calls fail, `damage` changes files at rest. Invariant: what is expected of a host is
//! checked after each life, and at the end of a sweep everything is judged as after any other attack.

mod damage;
mod refusal;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::saboteur::{Call, Failure};
use crate::{Report, Settings};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// One call after the other that synchronises a file fails with EIO.
    Sync,
    /// From one call after the other on, the disk has no room.
    NoRoom,
    /// The process may open no more files.
    TooManyFiles,
    /// The disk is read-only.
    ReadOnly,
    /// A bit is flipped, or the end is cut off, in one file after the other.
    Damage,
}

impl Sabotage {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Sync, Self::NoRoom, Self::TooManyFiles, Self::ReadOnly, Self::Damage];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::NoRoom => "no-room",
            Self::TooManyFiles => "too-many-files",
            Self::ReadOnly => "read-only",
            Self::Damage => "damage",
        }
    }
}

/// What a sweep came to.
#[derive(Debug)]
pub struct Swept {
    /// What was done.
    pub what: Sabotage,
    /// For each file, or call and file: what happened, and how often.
    pub counts: BTreeMap<(String, String), u64>,
    /// What a host should not have done.
    pub wrongs: Vec<String>,
    /// The judgement at the end.
    pub report: Report,
}

impl Swept {
    /// Whether everything was as it should be.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.wrongs.is_empty() && self.report.is_clean()
    }

    /// How often anything was done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.counts.values().sum()
    }
}

impl fmt::Display for Swept {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "sabotage         {}, {} times", self.what.name(), self.done())?;
        for ((place, outcome), count) in &self.counts {
            writeln!(to, "  {count:>4}  {place}: {outcome}")?;
        }
        for wrong in &self.wrongs {
            writeln!(to, "  WRONG  {wrong}")?;
        }
        write!(to, "{}", self.report)
    }
}

/// Does it to a host, in lives that are so many calls (or damages) apart.
///
/// # Errors
/// The checker itself cannot work, as in [`run`](crate::run).
pub fn sabotage(settings: &Settings, what: Sabotage, stride: u64) -> anyhow::Result<Swept> {
    // A file that is cut needs no room.
    let of_files = [Call::Open, Call::Name, Call::Write, Call::Resize];
    let calls = match what {
        Sabotage::Sync => return refusal::syncs(settings, stride),
        Sabotage::Damage => return damage::damage(settings, stride),
        Sabotage::TooManyFiles => &of_files[..1],
        Sabotage::NoRoom => &of_files[..3],
        Sabotage::ReadOnly => &of_files[..],
    };
    let failure = match what {
        Sabotage::NoRoom => Failure::NoRoom,
        Sabotage::TooManyFiles => Failure::TooManyFiles,
        Sabotage::ReadOnly => Failure::ReadOnly,
        Sabotage::Sync | Sabotage::Damage => Failure::Broken,
    };
    refusal::refusals(settings, what, &refusal::Refusal { calls, failure }, stride)
}

/// The host's log, from a place in it on.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    from: usize,
}

impl Log {
    /// From its end on.
    fn at_end(path: PathBuf) -> Self {
        let from = fs::metadata(&path).map_or(0, |file| usize::try_from(file.len()).unwrap_or(0));
        Self { path, from }
    }

    fn text(&self) -> anyhow::Result<String> {
        let bytes = fs::read(&self.path).context("the host has no log")?;
        Ok(String::from_utf8_lossy(bytes.get(self.from..).unwrap_or_default()).into_owned())
    }
}

/// Its last line, which is what the host ended with.
fn last_line(log: &str) -> &str {
    log.trim_end().lines().last().unwrap_or("nothing")
}

/// What people call a file of a data directory: what they have to look for in a message.
fn name_of(data: &Path, file: &Path) -> String {
    let below = file.strip_prefix(data).unwrap_or(file);
    let Some(first) = below.components().next() else { return "data".to_owned() };
    let first = first.as_os_str().to_string_lossy();
    match first.split('.').next().unwrap_or_default() {
        "ledger" => "ledger.db".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_called_what_people_call_it() {
        let name = |path: &str| name_of(Path::new("/d/data"), Path::new(path));
        assert_eq!(name("/d/data/ledger.db-wal"), "ledger.db");
        assert_eq!(name("/d/data/audit/000001.jsonl"), "audit");
        assert_eq!(name("/d/data/admin.token.new"), "admin");
        assert_eq!(name("/d/data"), "data");
    }
}
