//! When the write-ahead log goes into the file.
//!
//! SQLite's own checkpoints swallow errors, so they are off, and the writer makes its own and reads the result: PASSIVE
//! between commits past 4 MiB and at most twenty times a second, or past 16 MiB; TRUNCATE when idle or past 256 MiB. Invariant: an error of a checkpoint reaches the
//! caller, and a reader who stays in the way holds up neither the writer nor, once gone, the log.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::open::BUSY;
use crate::metrics::Metrics;

const PAGE_BYTES: u64 = 8192;
/// Past this the log is copied into the file as far as no reader needs it. Commits wait meanwhile, some two milliseconds:
/// with four times as much, everybody would notice.
const PASSIVE_BYTES: u64 = 4 << 20;
/// But not more often than this, for each copies the pages that every commit writes once more.
const PASSIVE_EVERY: Duration = Duration::from_millis(50);
/// Unless the log has grown by so much.
const PASSIVE_BYTES_MAX: u64 = 16 << 20;
/// Past this it is emptied, waiting for readers if need be.
const TRUNCATE_BYTES: u64 = 256 << 20;
/// Readers of our own are gone by then; others may stay for hours, and commits do not wait for those.
const READERS_WAIT: Duration = Duration::from_millis(250);

/// Free pages that are kept for the next messages: giving them back and taking them again costs writes.
const FREE_PAGES_KEPT: i64 = 4_096;
/// Pages given back at a time.
const VACUUM_PAGES: i64 = 1_024;

/// How the write-ahead log stands.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    /// Frames in the log that are not in the file yet, and whether there is a log at all.
    behind_bytes: u64,
    log_bytes: u64,
    /// Where the last one ended, so that one that a reader holds up is not tried at every commit.
    tried_at: u64,
    tried: Option<Instant>,
    /// Where the last one ended that was to empty the log, and could not.
    emptied_at: u64,
}

impl Checkpoints {
    /// After a commit: copies when there is enough to copy.
    pub(super) fn busy(&mut self, db: &Connection, metrics: &Metrics) -> rusqlite::Result<()> {
        self.look(db, "NOOP")?;
        metrics.ledger_wal(self.log_bytes);
        if self.log_bytes < self.tried_at {
            (self.tried_at, self.emptied_at) = (0, 0);
        }
        if self.log_bytes >= TRUNCATE_BYTES.max(self.emptied_at + PASSIVE_BYTES_MAX) {
            self.truncate(db, READERS_WAIT)?;
            self.emptied_at = self.log_bytes;
        } else if self.is_time() && self.behind_bytes >= PASSIVE_BYTES {
            self.look(db, "PASSIVE")?;
        } else {
            return Ok(());
        }
        self.tried_at = self.log_bytes;
        self.tried = Some(Instant::now());
        Ok(())
    }

    /// Whether the log has grown enough since the last time.
    fn is_time(&self) -> bool {
        let grown_bytes = self.log_bytes - self.tried_at;
        let has_rested = self.tried.is_none_or(|tried| tried.elapsed() >= PASSIVE_EVERY);
        grown_bytes >= PASSIVE_BYTES_MAX || (grown_bytes >= PASSIVE_BYTES && has_rested)
    }

    /// While nothing is to be done: gives free pages back to the disk, and empties the log.
    pub(super) fn idle(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let free: i64 = db.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if free > FREE_PAGES_KEPT {
            give_back(db)?;
            self.log_bytes = self.log_bytes.max(PAGE_BYTES);
        }
        if self.log_bytes > 0 {
            self.truncate(db, Duration::ZERO)?;
            self.tried_at = self.log_bytes;
        }
        Ok(())
    }

    /// At a clean stop.
    pub(super) fn last(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.truncate(db, READERS_WAIT)
    }

    /// Empties the log, if readers are gone within `patience`; else as much of it is copied as they let.
    fn truncate(&mut self, db: &Connection, patience: Duration) -> rusqlite::Result<()> {
        db.busy_timeout(patience)?;
        let looked = self.look(db, "TRUNCATE");
        db.busy_timeout(BUSY)?;
        looked
    }

    /// Runs a checkpoint and notes what it says. A reader in the way is not an error.
    fn look(&mut self, db: &Connection, mode: &str) -> rusqlite::Result<()> {
        let sql = match mode {
            "NOOP" => "PRAGMA wal_checkpoint(NOOP)",
            "PASSIVE" => "PRAGMA wal_checkpoint(PASSIVE)",
            _ => "PRAGMA wal_checkpoint(TRUNCATE)",
        };
        let (log, done): (i64, i64) = db.prepare_cached(sql)?.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?;
        let bytes = |frames: i64| u64::try_from(frames).unwrap_or(0) * PAGE_BYTES;
        self.log_bytes = bytes(log);
        self.behind_bytes = bytes(log - done);
        Ok(())
    }
}

/// Gives [`VACUUM_PAGES`] back. Each row of the answer is a page: one that is not asked for is not given back.
fn give_back(db: &Connection) -> rusqlite::Result<()> {
    let mut vacuum = db.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    let mut pages = vacuum.query([])?;
    while pages.next()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;

    /// A writer and a reader of one file.
    fn connections(folder: &std::path::Path) -> (Connection, Connection) {
        let open = || {
            let db = Connection::open(folder.join("db")).unwrap();
            db.busy_timeout(BUSY).unwrap();
            db
        };
        let writer = open();
        writer.pragma_update(None, "page_size", 8192).unwrap();
        writer.pragma_update(None, "auto_vacuum", "INCREMENTAL").unwrap();
        writer.pragma_update(None, "journal_mode", "WAL").unwrap();
        writer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        writer.execute_batch("CREATE TABLE filler (bytes BLOB)").unwrap();
        (writer, open())
    }

    fn write(db: &Connection, bytes: u64) {
        db.execute_batch(&format!("INSERT INTO filler VALUES (zeroblob({bytes}))")).unwrap();
    }

    fn log_bytes(folder: &std::path::Path) -> u64 {
        folder.join("db-wal").metadata().unwrap().len()
    }

    /// Somebody looks into the file and stays: nobody waits for them, and the log is emptied when they have gone.
    #[test]
    fn a_reader_that_stays_holds_up_neither_the_writer_nor_the_log_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, reader) = connections(folder.path());
        let (mut checkpoints, metrics) = (Checkpoints::default(), Metrics::default());
        reader.execute_batch("BEGIN; SELECT count(*) FROM filler").unwrap();
        let mut waited = Duration::ZERO;
        write(&writer, TRUNCATE_BYTES);
        for _ in 0..3 {
            write(&writer, PAGE_BYTES);
            // With the reader in the way there is nothing to copy: whatever this takes is waiting.
            let started = Instant::now();
            checkpoints.busy(&writer, &metrics).unwrap();
            checkpoints.idle(&writer).unwrap();
            waited += started.elapsed();
        }
        assert!(waited < BUSY, "it has waited for {waited:?}");
        assert!(log_bytes(folder.path()) >= TRUNCATE_BYTES);
        reader.execute_batch("COMMIT").unwrap();
        checkpoints.idle(&writer).unwrap();
        assert_eq!(log_bytes(folder.path()), 0);
    }

    /// What a long queue has left behind goes back to the disk, a batch of pages each time that nothing is to be done.
    #[test]
    fn free_pages_are_given_back_but_for_those_that_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, _) = connections(folder.path());
        let mut checkpoints = Checkpoints::default();
        let free = || writer.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0)).unwrap();
        let file_bytes = || folder.path().join("db").metadata().unwrap().len();
        write(&writer, PAGE_BYTES * u64::try_from(FREE_PAGES_KEPT + 2 * VACUUM_PAGES).unwrap());
        writer.execute_batch("DELETE FROM filler").unwrap();
        let before = free();
        checkpoints.idle(&writer).unwrap();
        assert_eq!(free(), before - VACUUM_PAGES);
        let long_bytes = file_bytes();
        (0..2).for_each(|_| checkpoints.idle(&writer).unwrap());
        assert!(free() <= FREE_PAGES_KEPT, "{} pages hold nothing", free());
        assert!(file_bytes() < long_bytes, "the file has kept its length");
        // What is kept stays.
        let kept = free();
        checkpoints.idle(&writer).unwrap();
        assert_eq!(free(), kept);
    }
}
