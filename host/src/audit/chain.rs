//! The files: appended to, synced, rotated, each line bound to the one before it.
//!
//! A record is an [`Event`] with its number and the SHA-256 of the line before, across files and starts. Files are named
//! by the number of their first record. Invariant: a line is never changed; what a crash left of one is cut off, and the
//! cut is recorded.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use data_encoding::HEXLOWER;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::event::{Event, Kind};

/// What stands for the line before the first one.
pub(super) const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const ENDING: &str = "jsonl";

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// A file that has grown to this is not added to.
    pub(super) file_bytes_max: u64,
    /// Files that are kept.
    pub(super) files_max: usize,
}

impl Default for Bounds {
    /// 128 MiB, some 300,000 records.
    fn default() -> Self {
        Self { file_bytes_max: 8 << 20, files_max: 16 }
    }
}

/// A line of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "AuditRecord")]
pub struct Record {
    /// From 1, without gaps.
    pub sequence: u64,
    /// What it records.
    #[serde(flatten)]
    pub event: Event,
    /// Hash of the line before, without its end, in hexadecimal.
    pub previous: String,
}

/// The end of the record, to be added to.
#[derive(Debug)]
pub(super) struct Chain {
    folder: PathBuf,
    bounds: Bounds,
    file: File,
    /// Bytes of the file that are whole lines.
    bytes: u64,
    /// More may be in the file, of lines that could not be written.
    is_torn: bool,
    /// Number of the last record, and the hash of its line.
    sequence: u64,
    previous: String,
}

impl Chain {
    /// Opens the record of a folder, making it where it is missing. What a crash left behind is cut off.
    pub(super) fn open(folder: &Path, bounds: Bounds) -> anyhow::Result<Self> {
        let cannot = || format!("cannot open the audit record {}", folder.display());
        DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(cannot)?;
        let files = files(folder).with_context(cannot)?;
        let Some((first, path)) = files.last() else {
            let file = create(folder, 1).with_context(cannot)?;
            let (folder, previous) = (folder.to_owned(), BEGINNING.to_owned());
            return Ok(Self { folder, bounds, file, bytes: 0, is_torn: false, sequence: 0, previous });
        };
        let text = fs::read(path).with_context(cannot)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let file = OpenOptions::new().append(true).open(path).with_context(cannot)?;
        let (lines, last) = lines_of(&text[..whole]);
        let previous = match last {
            Some(line) => hash(line),
            None => last_hash(&files).with_context(cannot)?,
        };
        let (bytes, sequence) = (whole as u64, first + lines - 1);
        let mut chain = Self { folder: folder.to_owned(), bounds, file, bytes, is_torn: false, sequence, previous };
        if whole < text.len() {
            chain.file.set_len(chain.bytes).with_context(cannot)?;
            let cut = format!("{} bytes of a line that a crash cut short were removed", text.len() - whole);
            chain.append(&[Event::new(Kind::Repair, "", &cut)]).with_context(cannot)?;
        }
        Ok(chain)
    }

    /// The number of the last record.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Adds events; they are on disk when it returns. After an error none of them is in the record.
    pub(super) fn append(&mut self, events: &[Event]) -> anyhow::Result<()> {
        if self.is_torn {
            self.cut_back()?;
        }
        if self.bytes >= self.bounds.file_bytes_max {
            self.rotate()?;
        }
        self.write(events)
    }

    fn write(&mut self, events: &[Event]) -> anyhow::Result<()> {
        let (mut text, mut sequence, mut previous) = (Vec::new(), self.sequence, self.previous.clone());
        for event in events {
            sequence += 1;
            let start = text.len();
            serde_json::to_writer(&mut text, &Record { sequence, event: event.clone(), previous })?;
            previous = hash(&text[start..]);
            text.push(b'\n');
        }
        if let Err(error) = self.file.write_all(&text).and_then(|()| self.file.sync_data()) {
            self.is_torn = true;
            // Where it fails it is done before the next line.
            let _ = self.cut_back();
            return Err(error.into());
        }
        self.bytes += text.len() as u64;
        (self.sequence, self.previous) = (sequence, previous);
        Ok(())
    }

    /// Half a line must not be in the way of the next one.
    fn cut_back(&mut self) -> std::io::Result<()> {
        self.file.set_len(self.bytes)?;
        self.is_torn = false;
        Ok(())
    }

    /// Begins a file. What is removed for it is said before, so that whatever else is missing shows.
    fn rotate(&mut self) -> anyhow::Result<()> {
        self.file = create(&self.folder, self.sequence + 1)?;
        self.bytes = 0;
        let files = files(&self.folder)?;
        let (removed, kept) = files.split_at(files.len().saturating_sub(self.bounds.files_max));
        let oldest = kept.first().map(|(first, _)| *first);
        self.write(&[Event { oldest, ..Event::new(Kind::Rotation, "", "") }])?;
        for (_, old) in removed {
            fs::remove_file(old)?;
        }
        Ok(())
    }
}

fn create(folder: &Path, first: u64) -> std::io::Result<File> {
    let path = folder.join(format!("{first:020}.{ENDING}"));
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    File::open(folder)?.sync_all()?;
    Ok(file)
}

/// The files of a record by the number of their first line, in order.
pub(super) fn files(folder: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_ours = path.extension().is_some_and(|ending| ending == ENDING);
        let first = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok()).filter(|first| *first > 0);
        files.extend(first.filter(|_| is_ours).map(|first| (first, path)));
    }
    files.sort();
    Ok(files)
}

/// How many lines there are, and the last one.
fn lines_of(text: &[u8]) -> (u64, Option<&[u8]>) {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line));
    lines.by_ref().fold((0, None), |(count, _), line| (count + 1, Some(line)))
}

/// The hash of the last line before an empty file, which a crash left right after a rotation.
fn last_hash(files: &[(u64, PathBuf)]) -> std::io::Result<String> {
    let Some((_, before)) = files.iter().rev().nth(1) else { return Ok(BEGINNING.to_owned()) };
    Ok(lines_of(&fs::read(before)?).1.map_or_else(|| BEGINNING.to_owned(), hash))
}

/// As it stands in the next record.
pub(super) fn hash(line: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(line))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{FOLDER, Verified, verify};
    use super::*;

    #[test]
    fn old_files_go_and_the_rest_is_still_a_chain_over_every_start() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join(FOLDER);
        let bounds = Bounds { file_bytes_max: 1_000, files_max: 3 };
        for _ in 0..10 {
            let mut chain = Chain::open(&folder, bounds).unwrap();
            (0..5).for_each(|_| chain.append(&[Event::new(Kind::Action, "pause", &"x".repeat(100))]).unwrap());
        }
        assert_eq!(files(&folder).unwrap().len(), 3);
        let verified = verify(data.path()).unwrap().unwrap();
        assert!(verified.last > 50 && verified.first > 1, "{verified:?}");
        // A file from the middle leaves a gap.
        fs::remove_file(&files(&folder).unwrap()[1].1).unwrap();
        let fault = verify(data.path()).unwrap().unwrap_err();
        assert!(fault.message.contains("are missing: a file was removed or renamed"), "{fault:?}");
    }

    #[test]
    fn an_oldest_file_that_no_rotation_removed_is_missed() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join(FOLDER);
        let mut chain = Chain::open(&folder, Bounds { file_bytes_max: 1_000, files_max: 3 }).unwrap();
        for count in 1..40 {
            chain.append(&[Event::new(Kind::Action, "pause", &"x".repeat(100))]).unwrap();
            let oldest = files(&folder).unwrap().remove(0).1;
            fs::rename(&oldest, data.path().join("aside")).unwrap();
            let missed = verify(data.path()).unwrap().map_err(|fault| fault.message);
            if files(&folder).unwrap().is_empty() {
                assert_eq!(missed, Ok(Verified::default()), "a record that is gone as a whole is no record");
            } else {
                assert!(missed.unwrap_err().ends_with("are missing: the oldest file was removed"), "{count}");
            }
            fs::rename(data.path().join("aside"), &oldest).unwrap();
            assert!(verify(data.path()).unwrap().is_ok(), "{count}");
        }
    }

    #[test]
    fn a_file_that_is_empty_or_cut_anywhere_is_gone_on_with() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join(FOLDER);
        let event = || [Event::new(Kind::Start, "", "")];
        Chain::open(&folder, Bounds::default()).unwrap().append(&event()).unwrap();
        let path = files(&folder).unwrap().remove(0).1;
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            Chain::open(&folder, Bounds::default()).unwrap().append(&event()).unwrap();
            let verified = verify(data.path()).unwrap().unwrap();
            assert_eq!(verified.records, if end == 0 { 1 } else { 2 }, "cut at {end}");
        }
    }
}
