//! Looking at the messages of a queue, a page at a time: first its log, then what lies beside it.
//!
//! Only reads: no lease, no position and no counter changes. Invariant: a page is bounded by messages and by the bytes
//! that are read for it, so that a read stays short whatever lies in the queue.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Ledger;
use super::read::{MESSAGE, message};
use super::schema::{row_id, seq_of, sql, unsql};
use crate::message::Message;
use crate::settlement::Origin;

/// Bytes that are read for a page, beyond its first message.
const PAGE_BYTES_MAX: u64 = 8 << 20;
/// Rows beside the log that are looked through in one read: they are of all queues.
const LOOKED_AT_MAX: i64 = 20_000;

/// A message where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Where.
    pub origin: Origin,
    /// What it waits for there.
    pub lying: Lying,
    /// The whole of it; none where it is not what was stored (its checksum is wrong).
    pub message: Option<Message>,
}

/// What a message waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lying {
    /// Its turn in the log; or it is settled, and kept.
    Logged,
    /// The time from which on it has a place in the log, in milliseconds since the Unix epoch.
    Delayed(u64),
    /// To be delivered to this connector again, no sooner than this.
    Redriven {
        /// The connector's name.
        connector: String,
        /// In milliseconds since the Unix epoch.
        due_ms: u64,
    },
}

const LOGGED: &str = "SELECT id, bytes FROM message WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3";
const PARKED: &str = "SELECT parked.id, bytes, parked.due_ms, connector.name FROM parked
     LEFT JOIN subscription ON subscription.id = parked.subscription
     LEFT JOIN connector ON connector.id = subscription.connector
     WHERE parked.queue = ?1 AND parked.id > ?2 AND parked.id <= ?3 ORDER BY parked.id LIMIT ?4";
const PARKED_END: &str = "SELECT max(id) FROM (SELECT id FROM parked WHERE id > ?1 ORDER BY id LIMIT ?2)";

impl Ledger {
    /// The messages of a queue after a place in it, `count` at most: in the log in their order, then those beside it. There
    /// are no more where the page is empty.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn browse(&self, queue: &str, after: Origin, count: usize) -> anyhow::Result<Vec<Stored>> {
        let logged = match after {
            Origin::Log(seq) => self.browse_log(queue, seq, count)?,
            Origin::Parked(id) => return self.browse_beside(queue, id, count),
        };
        // A page holds messages of one of the two.
        if logged.is_empty() { self.browse_beside(queue, 0, count) } else { Ok(logged) }
    }

    fn browse_log(&self, queue: &str, after: u64, count: usize) -> anyhow::Result<Vec<Stored>> {
        let page = self.shared().readers.read(|db| {
            let (mut page, mut bytes_left) = (Vec::new(), PAGE_BYTES_MAX);
            let Some(queue) = number(db, queue)? else { return Ok(page) };
            let mut statement = db.prepare_cached(LOGGED)?;
            let mut rows = statement.query(params![row_id(queue, after), row_id(queue + 1, 0), sql(count as u64)])?;
            while let Some(row) = rows.next()? {
                if !takes(&mut bytes_left, row, page.is_empty())? {
                    break;
                }
                let id: i64 = row.get(0)?;
                page.extend(stored(db, "message", id, Origin::Log(seq_of(id)), Lying::Logged)?);
            }
            Ok(page)
        })?;
        Ok(page)
    }

    /// Those beside the log, after a row. Nothing finds them by their queue, so rows are looked through a few at a time.
    fn browse_beside(&self, queue: &str, after: i64, count: usize) -> anyhow::Result<Vec<Stored>> {
        let (mut page, mut bytes_left, mut after) = (Vec::new(), PAGE_BYTES_MAX, after);
        while page.len() < count && bytes_left > 0 {
            let last = self.shared().readers.read(|db| {
                let Some(queue) = number(db, queue)? else { return Ok(None) };
                let last: Option<i64> =
                    db.prepare_cached(PARKED_END)?.query_row(params![after, LOOKED_AT_MAX], |row| row.get(0))?;
                let Some(last) = last else { return Ok(None) };
                let mut statement = db.prepare_cached(PARKED)?;
                let mut rows = statement.query(params![queue, after, last, sql((count - page.len()) as u64)])?;
                while let Some(row) = rows.next()? {
                    if !takes(&mut bytes_left, row, page.is_empty())? {
                        bytes_left = 0;
                        break;
                    }
                    let id: i64 = row.get(0)?;
                    page.extend(stored(db, "parked", id, Origin::Parked(id), beside(row)?)?);
                }
                Ok(Some(last))
            })?;
            let Some(last) = last else { break };
            after = last;
        }
        Ok(page)
    }

    /// One message of a queue by its place.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn look_at(&self, queue: &str, origin: Origin) -> anyhow::Result<Option<Stored>> {
        let before = match origin {
            Origin::Log(seq) => Origin::Log(seq.saturating_sub(1)),
            Origin::Parked(id) => Origin::Parked(id.saturating_sub(1)),
        };
        let found = self.browse(queue, before, 1)?;
        Ok(found.into_iter().find(|stored| stored.origin == origin))
    }
}

fn number(db: &Connection, queue: &str) -> rusqlite::Result<Option<u32>> {
    db.prepare_cached("SELECT id FROM queue WHERE name = ?1")?.query_row([queue], |row| row.get(0)).optional()
}

fn takes(bytes_left: &mut u64, row: &Row<'_>, is_first: bool) -> rusqlite::Result<bool> {
    let bytes = unsql(row.get(1)?);
    let takes = is_first || bytes <= *bytes_left;
    *bytes_left = bytes_left.saturating_sub(bytes);
    Ok(takes)
}

fn beside(row: &Row<'_>) -> rusqlite::Result<Lying> {
    let (due_ms, connector) = (unsql(row.get(2)?), row.get::<_, Option<String>>(3)?);
    Ok(connector.map_or(Lying::Delayed(due_ms), |connector| Lying::Redriven { connector, due_ms }))
}

/// One that is broken is shown as that: it must not hide those behind it.
fn stored(db: &Connection, table: &str, id: i64, origin: Origin, lying: Lying) -> rusqlite::Result<Option<Stored>> {
    let mut statement = db.prepare_cached(&format!("SELECT {MESSAGE} FROM {table} WHERE id = ?1"))?;
    let read = statement.query_row([id], |row| Ok(message(row, 0)));
    Ok(read.optional()?.map(|message| Stored { origin, lying, message: message.ok() }))
}
