//! Whether a record is as it was written.
//!
//! Reads only, also while a host writes. What it cannot notice: an edit of the last line, lines that were cut off at the
//! end, and a record that was made anew as a whole; against these, keep the last hash elsewhere. Invariant: the first fault is told with its place.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::FOLDER;
use super::chain::{BEGINNING, Record, files, hash};

/// A record without a fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many lines there are.
    pub records: u64,
    /// The number of the first: above 1 where old files were removed.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// When the first was written, as RFC 3339.
    pub from: String,
    /// When the last was written.
    pub to: String,
    /// The hash of the last line: to be kept elsewhere.
    pub hash: String,
    /// Bytes of a line that a crash cut short; the next start removes them and says so.
    pub torn_bytes: usize,
}

/// What is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What it means.
    pub message: String,
}

/// Walks the record of a data directory.
///
/// # Errors
/// The outer one: it cannot be read. The inner one: it was changed.
pub fn verify(data_dir: &Path) -> anyhow::Result<Result<Verified, Fault>> {
    let folder = data_dir.join(FOLDER);
    let files = files(&folder).with_context(|| format!("cannot read the audit record {}", folder.display()))?;
    let mut walk = Walk::default();
    for (index, (first, path)) in files.iter().enumerate() {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        if let Err(fault) = walk.file(*first, path, &text, index + 1 == files.len()) {
            return Ok(Err(fault));
        }
    }
    Ok(walk.end(files.first()))
}

#[derive(Default)]
struct Walk {
    verified: Verified,
    /// The oldest record that there must be, as the last rotation says.
    oldest: Option<u64>,
}

impl Walk {
    /// More than must be there is what a crash kept from being removed.
    fn end(self, first: Option<&(u64, PathBuf)>) -> Result<Verified, Fault> {
        let oldest = self.oldest.unwrap_or(1);
        match first {
            Some((first, path)) if *first > oldest => {
                let message = format!("records {oldest} to {} are missing: the oldest file was removed", first - 1);
                Err(Fault { file: path.clone(), line: 1, message })
            }
            Some(_) | None => Ok(self.verified),
        }
    }

    fn file(&mut self, first: u64, path: &Path, text: &[u8], is_last: bool) -> Result<(), Fault> {
        let fault = |line: usize, message: String| Err(Fault { file: path.to_owned(), line, message });
        let expected = self.verified.last + 1;
        if self.verified.records > 0 && first != expected {
            return fault(1, format!("records {expected} to {} are missing: a file was removed or renamed", first - 1));
        }
        for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            match line.strip_suffix(b"\n") {
                Some(line) => self.line(first + index as u64, line).or_else(|message| fault(index + 1, message))?,
                None if is_last => self.verified.torn_bytes = line.len(),
                None => return fault(index + 1, "the line has no end: the file was cut".to_owned()),
            }
        }
        Ok(())
    }

    fn line(&mut self, expected: u64, line: &[u8]) -> Result<(), String> {
        let record: Record = serde_json::from_slice(line)
            .map_err(|error| format!("this is no record ({error}): the line was edited"))?;
        let verified = &mut self.verified;
        if record.sequence != expected {
            let found = record.sequence;
            return Err(format!("record {expected} is expected, {found} found: a line was removed, added or moved"));
        }
        let is_bound = match (verified.records, expected) {
            (0, 1) => record.previous == BEGINNING,
            // What was before it has been rotated away.
            (0, _) => true,
            _ => record.previous == verified.hash,
        };
        if !is_bound {
            return Err(format!("it does not follow from record {}: that one or this one was edited", expected - 1));
        }
        if verified.records == 0 {
            (verified.first, verified.from) = (expected, record.event.at.clone());
        }
        verified.records += 1;
        self.oldest = record.event.oldest.or(self.oldest);
        (verified.last, verified.to, verified.hash) = (expected, record.event.at, hash(line));
        Ok(())
    }
}
