//! What a host did to the files of its data directory, in order: the records that `recorder.c` writes.
//!
//! A record is written when its change was made, under one lock. Invariant: what the host does after a record's time does
//! not reach the disk before the record, so whoever was answered before it was answered before what it changes.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};

const HEADER_BYTES: usize = 32;

/// A change, or a synchronisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Just before it was made; of [`Change::Synced`], just after. In microseconds of the monotonic clock.
    pub(super) at_us: u64,
    pub(super) change: Change,
}

/// Paths are below the data directory. A `file` is the number of its inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Made {
        file: u64,
        path: PathBuf,
    },
    Wrote {
        file: u64,
        offset: usize,
        bytes: Arc<[u8]>,
    },
    Cut {
        file: u64,
        length: usize,
    },
    Unlinked {
        path: PathBuf,
    },
    Renamed {
        from: PathBuf,
        to: PathBuf,
    },
    SyncBegun {
        file: u64,
        nth: u64,
    },
    /// What was written before it begun is on disk.
    Synced {
        file: u64,
        nth: u64,
    },
    MadeFolder {
        file: u64,
        path: PathBuf,
    },
    RemovedFolder {
        path: PathBuf,
    },
}

/// Reads a journal.
///
/// # Errors
/// It is no journal, or it is cut short.
pub(super) fn read(mut bytes: &[u8]) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (record, rest) = next(bytes).with_context(|| format!("record {} of the journal", records.len()))?;
        records.push(record);
        bytes = rest;
    }
    Ok(records)
}

fn next(bytes: &[u8]) -> anyhow::Result<(Record, &[u8])> {
    let number = |at: usize| -> anyhow::Result<u64> {
        let eight = bytes.get(at..at + 8).context("it is cut short")?;
        Ok(u64::from_ne_bytes(eight.try_into()?))
    };
    let short = |at: usize| -> anyhow::Result<usize> {
        let four = bytes.get(at..at + 4).context("it is cut short")?;
        Ok(usize::try_from(u32::from_ne_bytes(four.try_into()?))?)
    };
    let (at_us, file, offset, kind) = (number(0)?, number(8)?, number(16)?, short(24)?);
    let end = HEADER_BYTES + short(28)?;
    let tail = bytes.get(HEADER_BYTES..end).context("it is cut short")?;
    let path = |bytes: &[u8]| PathBuf::from(String::from_utf8_lossy(bytes).into_owned());
    let change = match kind {
        1 => Change::Made { file, path: path(tail) },
        2 => Change::Wrote { file, offset: usize::try_from(offset)?, bytes: tail.into() },
        3 => Change::Cut { file, length: usize::try_from(offset)? },
        4 => Change::Unlinked { path: path(tail) },
        5 => {
            let mut names = tail.split(|byte| *byte == 0).map(path);
            let (from, to) = names.next().zip(names.next()).context("it has one name alone")?;
            Change::Renamed { from, to }
        }
        6 => Change::SyncBegun { file, nth: offset },
        7 => Change::Synced { file, nth: offset },
        8 => Change::MadeFolder { file, path: path(tail) },
        9 => Change::RemovedFolder { path: path(tail) },
        other => bail!("it is of an unknown kind: {other}"),
    };
    ensure!(at_us > 0, "it has no time");
    Ok((Record { at_us, change }, &bytes[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, offset: u64, tail: &[u8]) -> Vec<u8> {
        let numbers = [7_u64, 3, offset].into_iter().flat_map(u64::to_ne_bytes);
        let shorts = [kind, u32::try_from(tail.len()).expect("it is short")].into_iter().flat_map(u32::to_ne_bytes);
        numbers.chain(shorts).chain(tail.iter().copied()).collect()
    }

    #[test]
    fn records_are_read_one_after_the_other() {
        let journal = [record(1, 0, b"a"), record(2, 5, b"bytes"), record(5, 0, b"a\0b"), record(7, 9, b"")].concat();
        let changes = [
            Change::Made { file: 3, path: "a".into() },
            Change::Wrote { file: 3, offset: 5, bytes: (*b"bytes").into() },
            Change::Renamed { from: "a".into(), to: "b".into() },
            Change::Synced { file: 3, nth: 9 },
        ];
        let records = changes.map(|change| Record { at_us: 7, change });
        assert_eq!(read(&journal).expect("it is whole"), records);
    }

    #[test]
    fn a_journal_that_is_cut_short_or_strange_is_none() {
        let whole = record(2, 5, b"bytes");
        assert!(read(&whole[..whole.len() - 1]).is_err());
        assert!(read(&whole[..HEADER_BYTES - 1]).is_err());
        assert!(read(&record(77, 0, b"")).is_err());
    }
}
