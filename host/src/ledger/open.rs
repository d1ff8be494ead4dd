//! Opening the folder and the file: lock, version check, settings, first fsync.
//!
//! Nobody but SQLite opens the ledger's file once it is open, because POSIX locks fall when any descriptor of a file is
//! closed; the lock between processes is a `flock` on a file of its own. Invariant: a file that is not ours, or that a
//! newer program wrote, is read and not touched.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::is_for_want_of_room;
use super::{OpenError, schema, site};
use crate::planted::{self, Bug};

const FILE: &str = "ledger.db";
const LOCK: &str = "lock";
/// A backup that is being made for somebody who asked the host; what a crash left of one goes at the next start.
pub const STAGED: &str = "backup.part";
/// Where SQLite keeps these two in the file's header, big-endian.
const HEADER_BYTES: usize = 100;
const USER_VERSION_AT: usize = 60;
const APPLICATION_ID_AT: usize = 68;
/// What the file of a transaction that is not committed begins with, and where the number of pages stands in it, big-endian,
/// that the ledger's file had before.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
const JOURNAL_PAGES_AT: usize = 16;
/// How long a shell that someone left open may hold the file.
pub(super) const BUSY: Duration = Duration::from_secs(5);
/// More statements than the ledger has.
const STATEMENTS_MAX: usize = 512;
/// A write-ahead log that has grown is cut to this when it begins anew.
const WAL_KEPT_BYTES: i64 = 64 << 20;

/// Where the ledger lies, and how it may use the machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data directory; made where it is missing.
    pub dir: PathBuf,
    /// Free disk below which nothing new is accepted; `None` is 512 MiB or 5 %, whichever is smaller.
    pub min_free: Option<u64>,
    /// Pages that the writer keeps in memory, in bytes.
    pub cache_bytes: u64,
}

impl Settings {
    /// The defaults for a folder.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, min_free: None, cache_bytes: 32 << 20 }
    }

    /// The file under the queues.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.dir.join(FILE)
    }
}

/// What opening gives: the lock, held as long as the file lives, and the writer's connection.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) lock: File,
    pub(super) db: Connection,
}

/// Whether another process works on the folder just now.
pub(super) fn is_in_use(dir: &Path) -> bool {
    let file = OpenOptions::new().read(true).open(dir.join(LOCK));
    file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK))
}

/// Locks the folder and opens the file for writing, making both where they are missing.
pub(super) fn open(settings: &Settings) -> Result<Opened, OpenError> {
    open_folder(settings).map_err(|error| match error {
        OpenError::Other(error) if is_for_want_of_room(&error) => {
            error.context(format!("the disk of {} has no room, free some", settings.dir.display())).into()
        }
        error => error,
    })
}

fn unwritable(dir: &Path, error: std::io::Error) -> anyhow::Error {
    let what = site::unwritable(dir, &error);
    anyhow::Error::new(error).context(what)
}

/// Makes the folder where it is missing, and locks it.
pub(super) fn lock_folder(dir: &Path) -> Result<File, OpenError> {
    site::refuse_network(dir)?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| unwritable(dir, error))?;
    lock(dir)
}

fn open_folder(settings: &Settings) -> Result<Opened, OpenError> {
    let is_new_folder = !settings.dir.exists();
    let lock = lock_folder(&settings.dir)?;
    let path = settings.file();
    refuse_half_restored(&settings.dir, &path)?;
    let _ = std::fs::remove_file(settings.dir.join(STAGED));
    refuse_strangers(&path)?;
    let unopened = || format!("cannot open the ledger {}", path.display());
    let db = connect(&path).with_context(unopened)?;
    // One that is refused is closed at once, and SQLite would put into the file what a killed process left in the log.
    keep_log(&db, true).with_context(unopened)?;
    refuse_tables(&db, &path)?;
    keep_log(&db, false).with_context(unopened)?;
    let db = prepare(db, settings).with_context(unopened)?;
    sync_folder(&settings.dir)?;
    if is_new_folder && let Some(parent) = settings.dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_folder(parent)?;
    }
    Ok(Opened { lock, db })
}

/// What a restore writes to before the ledger is whole.
pub(super) fn restoring(dir: &Path) -> PathBuf {
    dir.join("ledger.db.restoring")
}

/// A new ledger in its place would look like one in which nothing had ever been.
fn refuse_half_restored(dir: &Path, path: &Path) -> anyhow::Result<()> {
    let is_half = restoring(dir).exists() && !path.exists();
    anyhow::ensure!(!is_half, "a restore into {0} was cut off: empty {0} and restore again", dir.display());
    Ok(())
}

/// Opens one more connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    #[expect(clippy::disallowed_methods, reason = "the ledger opens its own file, here and nowhere else")]
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    db.pragma_update(None, "cache_size", -4096)?;
    Ok(db)
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(
            |error| {
                let error = unwritable(dir, error);
                error.context(format!("cannot open {}", path.display()))
            },
        )?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Who holds it is a courtesy: without it the message is still right.
            let _ = file.read_to_string(&mut text);
            return Err(OpenError::Locked { dir: dir.to_owned(), holder: text.trim().parse().ok() });
        }
        Err(error) => {
            let what = format!("cannot lock {}: its file system may not offer locks", path.display());
            return Err(anyhow::Error::new(error).context(what).into());
        }
    }
    let note = || -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    let mut note = note;
    note().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}

/// Whether the transaction that was to make a file was cut off: SQLite undoes all that is in it. Where the power failed
/// meanwhile, later bytes of it may be there without the first ones, by which a file is known.
pub(super) fn is_unmade(path: &Path) -> anyhow::Result<bool> {
    let mut journal = path.as_os_str().to_owned();
    journal.push("-journal");
    let mut header = Vec::new();
    match File::open(&journal) {
        Ok(file) => file.take(JOURNAL_PAGES_AT as u64 + 4).read_to_end(&mut header),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => Err(error),
    }
    .with_context(|| format!("cannot read {}", Path::new(&journal).display()))?;
    Ok(header.starts_with(&JOURNAL_MAGIC) && header.get(JOURNAL_PAGES_AT..) == Some(&[0; 4]))
}

/// Looks at a file before anything is changed in it.
pub(super) fn refuse_strangers(path: &Path) -> Result<(), OpenError> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    match File::open(path) {
        Ok(file) => {
            file.take(HEADER_BYTES as u64)
                .read_to_end(&mut header)
                .with_context(|| format!("cannot read {}", path.display()))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(anyhow::Error::new(error).context(format!("cannot read {}", path.display())).into());
        }
    }
    if header.is_empty() || is_unmade(path)? {
        return Ok(());
    }
    let foreign = || OpenError::Foreign { path: path.to_owned() };
    let number = |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
    let (Some(application), Some(version)) = (number(APPLICATION_ID_AT), number(USER_VERSION_AT)) else {
        return Err(foreign());
    };
    // A file whose making was cut short has neither number yet; `refuse_tables` looks into it.
    let is_unborn = application == 0 && version == 0;
    if !header.starts_with(b"SQLite format 3\0") || (application != schema::APPLICATION_ID && !is_unborn) {
        return Err(foreign());
    }
    if version > schema::VERSION {
        return Err(OpenError::Newer { found: version, known: schema::VERSION });
    }
    Ok(())
}

fn connect(path: &Path) -> anyhow::Result<Connection> {
    // Made here and not by SQLite, which would let everyone read it.
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    #[expect(clippy::disallowed_methods, reason = "the ledger opens its own file, here and nowhere else")]
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    Ok(db)
}

/// Whether the last connection leaves the write-ahead log as it is when it closes.
fn keep_log(db: &Connection, is_kept: bool) -> rusqlite::Result<bool> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, is_kept)
}

/// What the header could not say: the version of a file whose last commits are still in its write-ahead log, and whether
/// a file without an application id is empty.
pub(super) fn refuse_tables(db: &Connection, path: &Path) -> Result<(), OpenError> {
    let look = || -> rusqlite::Result<(i32, i32, i64)> {
        let application = db.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let version = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok((application, version, db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?))
    };
    let (application, version, tables) = look().with_context(|| format!("cannot read {}", path.display()))?;
    if application != schema::APPLICATION_ID && tables > 0 {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    if version > schema::VERSION {
        return Err(OpenError::Newer { found: version, known: schema::VERSION });
    }
    Ok(())
}

fn prepare(mut db: Connection, settings: &Settings) -> anyhow::Result<Connection> {
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    db.pragma_update(None, "synchronous", if planted::has(Bug::SkipFsync) { "OFF" } else { "FULL" })?;
    // These three decide about a file that is still empty.
    db.pragma_update(None, "page_size", 8192)?;
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "fullfsync", true)?;
    db.pragma_update(None, "checkpoint_fullfsync", true)?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
    db.pragma_update(None, "foreign_keys", false)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cache_size", -i64::try_from(settings.cache_bytes / 1024).unwrap_or(i64::MAX))?;
    schema::migrate(&mut db)?;
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    refuse_damage(&db)?;
    Ok(db)
}

/// A log that is longer than its queue says was not written by this program's rules.
fn refuse_damage(db: &Connection) -> anyhow::Result<()> {
    let damaged: Option<String> = db.query_row(
        "SELECT min(name) FROM queue WHERE removed > tail OR
         (SELECT max(id) FROM message WHERE id BETWEEN queue.id << 40 AND (queue.id + 1 << 40) - 1)
         > (queue.id << 40) + tail",
        [],
        |row| row.get(0),
    )?;
    match damaged {
        Some(queue) => anyhow::bail!("the log of queue `{queue}` and its counters disagree: restore a backup"),
        None => Ok(()),
    }
}

fn sync_folder(dir: &Path) -> Result<(), OpenError> {
    File::open(dir)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot make {} durable", dir.display()))?;
    Ok(())
}
