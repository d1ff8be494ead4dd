//! Reading beside the writer: a few connections that only read.
//!
//! A read sees what is committed, and lasts no longer than one page, because a long one keeps the write-ahead log from
//! being used again. Invariant: pages go by key, never by offset.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::checksum::Parts;
use super::open::open_reader;
use super::ranges::Ranges;
use super::schema::{row_id, seq_of, sql, unsql};
use super::write::headers_of_text;
use super::{Known, Ledger, LogPage};
use crate::message::Message;
use crate::settlement::{Origin, QueueId, SubscriptionId};

/// Connections kept open while nobody reads.
const IDLE_MAX: usize = 4;
/// Rows of a full page of unfinished work; one with less is the last.
pub const PAGE_KNOWN: usize = 1_000;

/// Connections that only read.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default() }
    }

    /// Reads with a connection of the pool.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let db = match idle {
            Some(db) => db,
            None => open_reader(&self.path)?,
        };
        let answer = read(&db);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(db);
        }
        answer
    }

    /// Closes every idle connection, so that the writer's is the last.
    pub(super) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The columns of a message in the order of [`message`].
pub(super) const MESSAGE: &str = "enqueued_ms, expires_ms, hops, message_id, key, parent, headers, body, checksum";

/// A page of a queue's log.
const READ_LOG: &str =
    "SELECT id, bytes, enqueued_ms, expires_ms, hops, message_id, key, parent, headers, body, checksum FROM message
     WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3";

/// A message from a row whose columns [`MESSAGE`] begin at `at`.
///
/// # Errors
/// It is not what was stored.
pub(super) fn message(row: &Row<'_>, at: usize) -> rusqlite::Result<Message> {
    let headers = row.get_ref(at + 6)?.as_str_or_null()?;
    let parts = Parts {
        id: row.get_ref(at + 3)?.as_str()?,
        key: row.get_ref(at + 4)?.as_str_or_null()?,
        parent: row.get_ref(at + 5)?.as_str_or_null()?,
        headers,
        body: row.get_ref(at + 7)?.as_blob()?,
    };
    parts.check(row, at + 8)?;
    Ok(Message {
        enqueued_at_ms: unsql(row.get(at)?),
        expires_at_ms: row.get::<_, Option<i64>>(at + 1)?.map(unsql),
        hops: row.get(at + 2)?,
        id: row.get(at + 3)?,
        key: row.get(at + 4)?,
        parent: row.get(at + 5)?,
        headers: headers_of_text(headers),
        body: row.get(at + 7)?,
    })
}

impl Ledger {
    /// Where a subscription stands: its cursor, and what is settled beyond it.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn position(&self, subscription: SubscriptionId) -> anyhow::Result<Position> {
        let position = self.shared().readers.read(|db| {
            let cursor: i64 = db
                .prepare_cached("SELECT cursor FROM subscription WHERE id = ?1")?
                .query_row([subscription.0], |row| row.get(0))?;
            let mut ahead = Ranges::default();
            let mut statement =
                db.prepare_cached("SELECT first, last FROM settled WHERE subscription = ?1 ORDER BY first")?;
            let mut rows = statement.query([subscription.0])?;
            while let Some(row) = rows.next()? {
                ahead.push(unsql(row.get(0)?), unsql(row.get(1)?));
            }
            Ok(Position { cursor: unsql(cursor), ahead })
        })?;
        Ok(position)
    }

    /// The messages of a queue's log after `after`, in order, as far as `count` and `bytes` go; at least one, if any.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn read_log(&self, queue: QueueId, after: u64, count: usize, bytes: u64) -> anyhow::Result<LogPage> {
        let page = self.shared().readers.read(|db| {
            let mut statement = db.prepare_cached(READ_LOG)?;
            let mut rows =
                statement.query(params![row_id(queue.0, after), row_id(queue.0 + 1, 0), sql(count as u64)])?;
            let mut page = LogPage { messages: Vec::with_capacity(count), is_last: false };
            let mut left = bytes;
            while let Some(row) = rows.next()? {
                let size = unsql(row.get(1)?);
                if size > left && !page.messages.is_empty() {
                    return Ok(page);
                }
                left = left.saturating_sub(size);
                page.messages.push((seq_of(row.get(0)?), message(row, 2)?));
            }
            page.is_last = page.messages.len() < count;
            Ok(page)
        })?;
        Ok(page)
    }

    /// Unfinished messages up to the cursor, after `after`, in order.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn read_pending(&self, subscription: SubscriptionId, after: u64) -> anyhow::Result<Vec<Known>> {
        let select = "SELECT seq, due_ms, attempts, key FROM pending
                      WHERE subscription = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
        self.page_known(select, subscription, sql(after), |seq| Origin::Log(unsql(seq)))
    }

    /// Redriven messages of a subscription after row `after`, in order.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn read_parked(&self, subscription: SubscriptionId, after: i64) -> anyhow::Result<Vec<Known>> {
        let select = "SELECT id, due_ms, attempts, key FROM parked
                      WHERE subscription = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
        self.page_known(select, subscription, after, Origin::Parked)
    }

    fn page_known(
        &self,
        select: &str,
        subscription: SubscriptionId,
        after: i64,
        origin: fn(i64) -> Origin,
    ) -> anyhow::Result<Vec<Known>> {
        let known = self.shared().readers.read(|db| {
            db.prepare_cached(select)?
                .query_map(params![subscription.0, after, PAGE_KNOWN as i64], |row| {
                    Ok(Known {
                        origin: origin(row.get(0)?),
                        due_ms: unsql(row.get(1)?),
                        attempts: row.get(2)?,
                        key: row.get(3)?,
                    })
                })?
                .collect()
        })?;
        Ok(known)
    }

    /// The attempts charged to a message; `None` where it is settled already.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn attempts(&self, subscription: SubscriptionId, origin: Origin) -> anyhow::Result<Option<u32>> {
        let (table, id) = match origin {
            Origin::Log(seq) => ("SELECT attempts FROM pending WHERE subscription = ?1 AND seq = ?2", sql(seq)),
            Origin::Parked(row) => ("SELECT attempts FROM parked WHERE subscription = ?1 AND id = ?2", row),
        };
        let stored = self
            .shared()
            .readers
            .read(|db| db.prepare_cached(table)?.query_row(params![subscription.0, id], |row| row.get(0)).optional())?;
        if let (None, Origin::Log(seq)) = (stored, origin) {
            let position = self.position(subscription)?;
            return Ok((seq > position.cursor && !position.is_settled_ahead(seq)).then_some(0));
        }
        Ok(stored)
    }

    /// When the next delayed message of a queue is due, if there is one.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn next_delayed_ms(&self, queue: QueueId) -> anyhow::Result<Option<u64>> {
        let due = self.shared().readers.read(|db| {
            db.prepare_cached("SELECT min(due_ms) FROM parked WHERE queue = ?1 AND subscription IS NULL")?
                .query_row([queue.0], |row| row.get::<_, Option<i64>>(0))
        })?;
        Ok(due.map(unsql))
    }

    /// One message where it lies; `None` where it is gone.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn read_message(&self, queue: QueueId, origin: Origin) -> anyhow::Result<Option<Message>> {
        let (table, id) = match origin {
            Origin::Log(seq) => ("message", row_id(queue.0, seq)),
            Origin::Parked(id) => ("parked", id),
        };
        let found = self.shared().readers.read(|db| {
            db.prepare_cached(&format!("SELECT {MESSAGE} FROM {table} WHERE id = ?1"))?
                .query_row([id], |row| message(row, 0))
                .optional()
        })?;
        Ok(found)
    }
}

/// Where a subscription stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Everything up to here was looked at.
    pub cursor: u64,
    ahead: Ranges,
}

impl Position {
    /// Whether a message beyond the cursor is settled.
    #[must_use]
    pub fn is_settled_ahead(&self, seq: u64) -> bool {
        self.ahead.contains(seq)
    }

    /// Forgets what lies behind `seq`, which was read past.
    pub fn drop_through(&mut self, seq: u64) {
        if !self.ahead.is_empty() {
            self.ahead.drop_through(seq);
        }
    }
}
