//! A copy of a ledger in one file, made beside the writer; whether such a file is sound; and the way back.
//!
//! A backup is an SQLite file of a kind of its own: the tables of the ledger as of one commit, without free pages (and so
//! without what was deleted), and the files that go with it as rows. Invariant: the ledger that is copied is only read, and
//! a file that has not passed [`Backup::open`] in every part is not taken over.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, params};
use serde::{Deserialize, Serialize};

use super::disk::Room;
use super::open::open_reader;
use super::preview::open_unchanging;
use super::read::{MESSAGE, message};
use super::schema::unsql;
use super::{Ledger, OpenError, schema};
use crate::planted::{self, Bug};

/// "BULB": marks a SQLite file as a backup of a ledger, so that neither is taken for the other.
const APPLICATION_ID: i32 = 0x4255_4c42;
/// Beside what is counted: pages of the tables that only a backup has, and the file system's own.
const SPARE_BYTES: u64 = 1 << 20;
/// Where messages lie, each with the columns of one.
const TABLES: [&str; 3] = ["message", "parked", "dead"];

const ABOUT: &str = "
CREATE TABLE backup_about (made_at TEXT NOT NULL, program TEXT NOT NULL) STRICT;
CREATE TABLE backup_file (name TEXT PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
";

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// When the copy began, as RFC 3339: it holds every commit before that.
    pub made_at: String,
    /// The version of the program that made it.
    pub program: String,
    /// The version of the ledger.
    pub version: i32,
    /// Queues that were ever named.
    pub queues: u64,
    /// Messages, also delayed ones and those that are delivered again.
    pub messages: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Files of the data directory that go with it.
    pub files: Vec<String>,
    /// Its size.
    pub bytes: u64,
}

/// The disk has not the room that is needed.
#[derive(Debug, thiserror::Error)]
#[error("{} has {} MiB free and needs {} MiB: free some, or choose another disk", dir.display(), free_bytes >> 20, needed_bytes.div_ceil(1 << 20))]
pub struct NoRoom {
    dir: PathBuf,
    free_bytes: u64,
    needed_bytes: u64,
}

impl NoRoom {
    /// Finds out whether `bytes` more fit on the disk of `dir`; on that of `data_dir` a host needs its watermark beside.
    ///
    /// # Errors
    /// They do not fit.
    pub fn check(dir: &Path, bytes: u64, data_dir: &Path, min_free: Option<u64>) -> Result<(), Self> {
        let Some(room) = Room::of(dir, min_free) else { return Ok(()) };
        let device = |path: &Path| path.metadata().map(|found| found.dev()).ok();
        let kept_bytes = if device(dir) == device(data_dir) { room.watermark_bytes } else { 0 };
        let needed_bytes = bytes.saturating_add(SPARE_BYTES).saturating_add(kept_bytes);
        if room.free_bytes >= needed_bytes {
            return Ok(());
        }
        Err(Self { dir: dir.to_owned(), free_bytes: room.free_bytes, needed_bytes })
    }
}

impl Ledger {
    /// What a copy takes on a disk, in bytes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn copy_bytes(&self) -> anyhow::Result<u64> {
        let bytes = self.shared().readers.read(|db| {
            let number = |name: &str| db.pragma_query_value(None, name, |row| row.get(0)).map(unsql);
            Ok(number("page_count")?.saturating_sub(number("freelist_count")?).saturating_mul(number("page_size")?))
        });
        bytes.context("cannot read the ledger")
    }

    /// Copies what is committed into a new file of mode 0600, with the files that `attach` adds. It reads a single moment
    /// while the writer goes on, whose log grows meanwhile. The file is on the disk when this returns.
    ///
    /// # Errors
    /// The ledger cannot be read, or the file exists or cannot be written: what was begun stays.
    pub fn copy_into(
        &self,
        path: &Path,
        attach: impl FnOnce(&mut dyn FnMut(&str, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let unwritten = || format!("cannot write {}", path.display());
        let made_at = jiff::Timestamp::now().to_string();
        // Made here and not by SQLite, which would let everyone read it.
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(unwritten)?;
        let target = std::path::absolute(path)?;
        let target = target.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        let from = open_reader(&self.shared().settings.file()).context("cannot read the ledger")?;
        // The sorter of an index would leave keys in a temporary folder, if there is one.
        from.pragma_update(None, "temp_store", "MEMORY")?;
        from.execute("VACUUM INTO ?1", [target]).with_context(unwritten)?;
        drop(from);
        let copy = open_to_write(path).with_context(unwritten)?;
        if planted::has(Bug::PartialBackup) {
            copy.execute("DELETE FROM message WHERE id IN (SELECT max(id) FROM message GROUP BY id >> 40)", [])?;
        }
        copy.execute_batch(ABOUT)?;
        copy.execute("INSERT INTO backup_about VALUES (?1, ?2)", [&made_at, env!("CARGO_PKG_VERSION")])?;
        attach(&mut |name, bytes| {
            let insert = "INSERT OR REPLACE INTO backup_file VALUES (?1, ?2)";
            copy.execute(insert, params![name, bytes]).map(drop).with_context(unwritten)
        })?;
        copy.pragma_update(None, "application_id", APPLICATION_ID).with_context(unwritten)?;
        close(copy).and_then(|()| Ok(File::open(path)?.sync_all()?)).with_context(unwritten)
    }
}

/// A backup that was found sound.
#[derive(Debug)]
pub struct Backup {
    db: Connection,
    path: PathBuf,
    contents: Contents,
}

impl Backup {
    /// Opens a file and looks at all of it: that it is a backup, that SQLite finds no fault in it, and that every message
    /// is what was accepted. The file is not changed.
    ///
    /// # Errors
    /// It cannot be read, is no backup, is damaged, or a newer program made it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let unreadable = || format!("cannot read {}", path.display());
        let bytes = path.metadata().with_context(unreadable)?.len();
        let db = open_unchanging(path).with_context(unreadable)?;
        // Whoever could write the file does not get to run anything by it.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        let strange = || format!("{} is not a backup of bulkhead, or is damaged", path.display());
        let application: i32 = pragma(&db, "application_id").with_context(strange)?;
        ensure!(application != schema::APPLICATION_ID, "{} is a ledger, not a backup of one", path.display());
        ensure!(application == APPLICATION_ID, "{}", strange());
        let found: i32 = pragma(&db, "user_version")?;
        if found > schema::VERSION {
            return Err(OpenError::Newer { found, known: schema::VERSION }.into());
        }
        let contents = check(&db, found, bytes).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Self { db, path: path.to_owned(), contents })
    }

    /// What it holds.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Hands out the files that go with it, by their names, which are whatever the backup says.
    ///
    /// # Errors
    /// It cannot be read any more, or `take` fails.
    pub fn files(&self, mut take: impl FnMut(&str, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut statement = self.db.prepare("SELECT name, bytes FROM backup_file ORDER BY name")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            take(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_blob()?)?;
        }
        Ok(())
    }

    /// Puts the ledger into the data directory, which the caller has locked and which has none; last of all, under its
    /// name. The backup stays as it is.
    ///
    /// # Errors
    /// The ledger cannot be written; what was begun lies there as `ledger.db.restoring`.
    pub fn unpack(&self, data_dir: &Path) -> anyhow::Result<()> {
        let (file, draft) = (super::Settings::new(data_dir.to_owned()).file(), super::open::restoring(data_dir));
        let unwritten = || format!("cannot write {}", draft.display());
        let mut from = File::open(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        let mut to =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).with_context(unwritten)?;
        std::io::copy(&mut from, &mut to).with_context(unwritten)?;
        drop(to);
        let db = open_to_write(&draft).with_context(unwritten)?;
        db.execute_batch("DROP TABLE backup_file; DROP TABLE backup_about").with_context(unwritten)?;
        db.pragma_update(None, "application_id", schema::APPLICATION_ID).with_context(unwritten)?;
        close(db).and_then(|()| Ok(File::open(&draft)?.sync_all()?)).with_context(unwritten)?;
        std::fs::rename(&draft, &file).and_then(|()| File::open(data_dir)?.sync_all()).with_context(unwritten)
    }
}

/// Everything that can be found out without the ledger that it was made of.
fn check(db: &Connection, version: i32, bytes: u64) -> anyhow::Result<Contents> {
    let strangers =
        "SELECT count(*) FROM sqlite_schema WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%'";
    ensure!(count(db, strangers)? == 0, "it has triggers, views or tables of another program");
    let fault: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    ensure!(fault == "ok", "{fault}");
    if version >= schema::CHECKSUMS_SINCE {
        TABLES.iter().try_for_each(|table| compare(db, table))?;
    }
    let (made_at, program) =
        db.query_row("SELECT made_at, program FROM backup_about", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut names = db.prepare("SELECT name FROM backup_file ORDER BY name")?;
    let files = names.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(Contents {
        made_at,
        program,
        version,
        queues: count(db, "SELECT count(*) FROM queue")?,
        messages: count(db, "SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM parked)")?,
        dead_letters: count(db, "SELECT count(*) FROM dead")?,
        files,
        bytes,
    })
}

/// Reads every message of a table, which compares its checksum.
fn compare(db: &Connection, table: &str) -> anyhow::Result<()> {
    let mut statement = db.prepare(&format!("SELECT {MESSAGE} FROM {table}"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Err(error) = message(row, 0) {
            bail!("a message in `{table}` is not what was accepted: {error}");
        }
    }
    Ok(())
}

fn count(db: &Connection, sql: &str) -> rusqlite::Result<u64> {
    db.query_row(sql, [], |row| row.get(0)).map(unsql)
}

fn pragma(db: &Connection, name: &str) -> rusqlite::Result<i32> {
    db.pragma_query_value(None, name, |row| row.get(0))
}

/// What is written here is worth nothing until it is whole: its journal needs no disk.
fn open_to_write(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    #[expect(clippy::disallowed_methods, reason = "a file of the ledger's own that nobody else has open")]
    let db = Connection::open_with_flags(path, flags)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    db.pragma_update(None, "journal_mode", "MEMORY")?;
    Ok(db)
}

fn close(db: Connection) -> anyhow::Result<()> {
    db.close().map_err(|(_, error)| error.into())
}
