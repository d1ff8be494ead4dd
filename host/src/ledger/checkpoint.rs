//! When the write-ahead log goes into the file.
//!
//! SQLite's own checkpoints swallow errors, so they are off, and the writer makes its own and reads the result: PASSIVE
//! between commits past 16 MiB, TRUNCATE when idle or past 256 MiB. Invariant: an error of a checkpoint reaches the caller.

use rusqlite::Connection;

use crate::metrics::Metrics;

const PAGE_BYTES: u64 = 8192;
/// Past this the log is copied into the file as far as no reader needs it.
const PASSIVE_BYTES: u64 = 16 << 20;
/// Past this it is emptied, waiting for readers if need be: their reads are short.
const TRUNCATE_BYTES: u64 = 256 << 20;

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
    /// Where the last PASSIVE one ended, so that one that a reader holds up is not tried at every commit.
    tried_at: u64,
}

impl Checkpoints {
    /// After a commit: copies when there is enough to copy.
    pub(super) fn busy(&mut self, db: &Connection, metrics: &Metrics) -> rusqlite::Result<()> {
        self.look(db, "NOOP")?;
        metrics.ledger_wal(self.log_bytes);
        if self.log_bytes >= TRUNCATE_BYTES {
            self.look(db, "TRUNCATE")?;
            self.tried_at = self.log_bytes;
        } else if self.behind_bytes >= PASSIVE_BYTES && self.log_bytes >= self.tried_at + PASSIVE_BYTES {
            self.look(db, "PASSIVE")?;
            self.tried_at = self.log_bytes;
        } else if self.log_bytes < self.tried_at {
            self.tried_at = 0;
        }
        Ok(())
    }

    /// While nothing is to be done: gives free pages back to the disk, and empties the log.
    pub(super) fn idle(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let free: i64 = db.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if free > FREE_PAGES_KEPT {
            db.execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
            self.log_bytes = self.log_bytes.max(PAGE_BYTES);
        }
        if self.log_bytes > 0 {
            self.look(db, "TRUNCATE")?;
            self.tried_at = self.log_bytes;
        }
        Ok(())
    }

    /// At a clean stop.
    pub(super) fn last(&mut self, db: &Connection) -> rusqlite::Result<()> {
        self.look(db, "TRUNCATE")
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
