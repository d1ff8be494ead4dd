//! What is left when the host has ended, read with SQLite and with SQL of the checker's own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::Value;

use crate::chance::digest;

/// The contents of a ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// What SQLite says of the file: "ok".
    pub(crate) integrity: String,
    /// Messages in each queue, in order; queues that keep nothing are empty.
    pub(crate) queues: BTreeMap<String, Vec<Kept>>,
    pub(crate) dead: Vec<Letter>,
    /// Messages that wait for another attempt, or for their time.
    pub(crate) waiting: i64,
    /// By connector and key.
    pub(crate) state: BTreeMap<(String, String), Vec<u8>>,
}

/// A message in a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) id: String,
    pub(crate) body: Vec<u8>,
}

/// A dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) connector: String,
    pub(crate) id: String,
    /// The digest of its payload.
    pub(crate) body: String,
    /// Its text, where it is one.
    pub(crate) text: String,
    pub(crate) attempts: u32,
    /// Why each attempt failed.
    pub(crate) reasons: Vec<String>,
}

impl Left {
    /// Reads the ledger of a data directory in which no host runs.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn read(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("ledger.db");
        #[expect(clippy::disallowed_methods, reason = "no host runs here, whose locks could fall")]
        let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .with_context(|| format!("{} cannot be opened", path.display()))?;
        let mut left = Self { integrity: integrity(&db)?, dead: letters(&db)?, ..Self::default() };
        let messages = "SELECT queue.name, message.message_id, message.body FROM message
                        JOIN queue ON queue.id = message.id >> 40 ORDER BY message.id";
        for (queue, id, body) in rows(&db, messages, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))? {
            left.queues.entry(queue).or_default().push(Kept { id, body });
        }
        let waiting = "SELECT (SELECT count(*) FROM pending) + (SELECT count(*) FROM parked)";
        left.waiting = db.query_row(waiting, [], |row| row.get(0))?;
        let state = "SELECT connector.name, state.key, state.value FROM state
                     JOIN connector ON connector.id = state.connector";
        left.state = rows(&db, state, |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?.into_iter().collect();
        Ok(left)
    }

    /// The messages of a queue.
    pub(crate) fn queue(&self, name: &str) -> &[Kept] {
        self.queues.get(name).map_or(&[], Vec::as_slice)
    }
}

/// Writes a ledger anew into a file, which is removed again; bytes of its pages that hold nothing, and of the new file.
///
/// # Errors
/// It cannot be read, or there is no room.
pub(crate) fn rewritten(data: &Path, anew: &Path) -> anyhow::Result<(u64, u64)> {
    #[expect(clippy::disallowed_methods, reason = "no host runs here, whose locks could fall")]
    let db = Connection::open_with_flags(data.join("ledger.db"), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let free = "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size";
    let free: i64 = db.query_row(free, [], |row| row.get(0))?;
    db.execute("VACUUM INTO ?1", [anew.to_string_lossy()])?;
    let bytes = fs::metadata(anew)?.len();
    fs::remove_file(anew)?;
    Ok((u64::try_from(free).unwrap_or(0), bytes))
}

fn integrity(db: &Connection) -> anyhow::Result<String> {
    Ok(rows(db, "PRAGMA integrity_check", |row| row.get::<_, String>(0))?.join("; "))
}

fn letters(db: &Connection) -> anyhow::Result<Vec<Letter>> {
    let sql = "SELECT connector.name, dead.message_id, dead.body, dead.attempts, dead.history FROM dead
               JOIN connector ON connector.id = dead.connector ORDER BY dead.id";
    let read = rows(db, sql, |row| {
        let body: Vec<u8> = row.get(2)?;
        let letter = Letter {
            connector: row.get(0)?,
            id: row.get(1)?,
            body: digest(&body),
            text: String::from_utf8_lossy(&body).into_owned(),
            attempts: row.get(3)?,
            reasons: Vec::new(),
        };
        Ok((letter, row.get::<_, String>(4)?))
    })?;
    read.into_iter()
        .map(|(letter, history)| {
            let history: Vec<Value> = serde_json::from_str(&history)?;
            let reason = |entry: &Value| entry["reason"].as_str().unwrap_or_default().to_owned();
            Ok(Letter { reasons: history.iter().map(reason).collect(), ..letter })
        })
        .collect()
}

fn rows<T>(db: &Connection, sql: &str, row: impl Fn(&Row<'_>) -> rusqlite::Result<T>) -> anyhow::Result<Vec<T>> {
    let mut statement = db.prepare(sql)?;
    let rows = statement.query_map([], |found| row(found))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
