//! Where messages lie, by their ids or by what they were made from, and how far each delivery of them is.
//!
//! There is no index over ids (it would cost half the throughput), so rows are looked through in pages, as far as a
//! [`Search`] goes. What every subscription has settled is removed from its queue, and found nowhere. Invariant: a search
//! that was not carried to its end says so.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::Ledger;
use super::dead::FailedAttempt;
use super::schema::{SEQ_BITS, seq_of, sql, unsql};

/// Rows looked through in one read: it must be short.
const PAGE: u64 = 20_000;
/// Rows looked through by one search.
const ROWS_MAX: u64 = 2_000_000;
/// Messages that one search finds.
const FOUND_MAX: usize = 1_000;

/// By what messages are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Their ids.
    Id,
    /// The id of the message that they were made from.
    Parent,
}

/// How far a search has gone.
#[derive(Debug)]
pub struct Search {
    rows_left: u64,
    found_left: usize,
    /// Whether there may be more than was found.
    pub is_cut: bool,
}

impl Default for Search {
    fn default() -> Self {
        Self { rows_left: ROWS_MAX, found_left: FOUND_MAX, is_cut: false }
    }
}

/// A message where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its id.
    pub message_id: String,
    /// The id of the message that it was made from.
    pub parent: Option<String>,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub accepted_ms: u64,
    /// The queue that it came into.
    pub queue: String,
    /// Where it lies.
    pub place: Place,
    /// How far its deliveries are.
    pub deliveries: Vec<Standing>,
}

/// Where a message lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In its queue.
    Queue,
    /// Outside of it until it is due, in milliseconds since the Unix epoch.
    Delayed(u64),
    /// Delivered again to one connector, after it was a dead letter.
    Redriven,
    /// Nowhere any more: an attempt at it is in the history.
    Gone,
    /// Among the dead letters, under this number.
    Dead(i64),
}

/// How far the delivery of a message to one connector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The connector's name.
    pub connector: String,
    /// How far.
    pub progress: Progress,
    /// Attempts charged so far.
    pub attempts: u32,
    /// One entry for each of them.
    pub history: Vec<FailedAttempt>,
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its turn has not come, or it is under way.
    Waiting,
    /// It failed, and is tried again no sooner than this, in milliseconds since the Unix epoch.
    Retrying(u64),
    /// Nothing more will be done.
    Settled,
    /// It was given up at this time.
    Dead(u64),
}

const LOG: &str = "SELECT id, message_id, parent, enqueued_ms FROM message";
const PARKED: &str =
    "SELECT parked.due_ms, message_id, parent, enqueued_ms, queue.name, connector.name, attempts, history,
     reason IS NOT NULL
     FROM parked JOIN queue ON queue.id = parked.queue LEFT JOIN subscription ON subscription.id = parked.subscription
     LEFT JOIN connector ON connector.id = subscription.connector";
const DEAD: &str =
    "SELECT dead.id, message_id, parent, enqueued_ms, queue.name, connector.name, attempts, history, died_ms
     FROM dead JOIN subscription ON subscription.id = dead.subscription JOIN queue ON queue.id = subscription.queue
     JOIN connector ON connector.id = dead.connector";
const ATTEMPT: &str = "SELECT id, message_id, parent, accepted_ms, queue FROM attempt";
const STANDINGS: &str = "SELECT connector.name, subscription.cursor >= ?2 OR EXISTS (SELECT 1 FROM settled
         WHERE settled.subscription = subscription.id AND first <= ?2 AND last >= ?2),
     pending.due_ms, coalesce(pending.attempts, 0), pending.history, pending.reason IS NOT NULL
     FROM subscription JOIN connector ON connector.id = subscription.connector
     LEFT JOIN pending ON pending.subscription = subscription.id AND pending.seq = ?2
     WHERE subscription.queue = ?1 AND forgotten = 0 ORDER BY connector.name";

impl Ledger {
    /// The messages with one of these ids, or made from one of them.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn sightings(&self, by: By, ids: &[String], search: &mut Search) -> anyhow::Result<Vec<Sighting>> {
        let ids = serde_json::to_string(ids)?;
        let mut found = Vec::new();
        for (table, select, read) in [
            ("attempt", ATTEMPT, gone as Read),
            ("dead", DEAD, dead),
            ("parked", PARKED, parked),
            ("message", LOG, logged),
        ] {
            let column = match by {
                By::Id => "message_id",
                By::Parent => "parent",
            };
            let select = format!(
                "{select} WHERE {table}.id > ?1 AND {table}.id <= ?2 AND {column} IN (SELECT value FROM json_each(?3))
                 ORDER BY {table}.id LIMIT ?4"
            );
            self.look_through(table, &select, &ids, read, search, &mut found)?;
        }
        Ok(found)
    }

    fn look_through(
        &self,
        table: &str,
        select: &str,
        ids: &str,
        read: Read,
        search: &mut Search,
        found: &mut Vec<Sighting>,
    ) -> anyhow::Result<()> {
        let page_end =
            format!("SELECT max(id), count(*) FROM (SELECT id FROM {table} WHERE id > ?1 ORDER BY id LIMIT ?2)");
        let mut after = 0_i64;
        loop {
            let end = self.shared().readers.read(|db| {
                db.prepare_cached(&page_end)?
                    .query_row(params![after, sql(PAGE)], |row| Ok((row.get::<_, Option<i64>>(0)?, unsql(row.get(1)?))))
            })?;
            let (Some(last), rows) = end else { return Ok(()) };
            if rows > search.rows_left || search.found_left == 0 {
                search.is_cut = true;
                return Ok(());
            }
            search.rows_left -= rows;
            let page = self.shared().readers.read(|db| {
                let mut statement = db.prepare_cached(select)?;
                let mut rows = statement.query(params![after, last, ids, sql(search.found_left as u64)])?;
                let mut page = Vec::new();
                while let Some(row) = rows.next()? {
                    page.push(read(db, row)?);
                }
                Ok(page)
            })?;
            search.found_left -= page.len();
            search.is_cut |= search.found_left == 0;
            found.extend(page);
            after = last;
        }
    }
}

type Read = fn(&Connection, &Row<'_>) -> rusqlite::Result<Sighting>;

fn sighting(row: &Row<'_>, queue: String, place: Place, deliveries: Vec<Standing>) -> rusqlite::Result<Sighting> {
    let (message_id, parent, accepted_ms) = (row.get(1)?, row.get(2)?, unsql(row.get(3)?));
    Ok(Sighting { message_id, parent, accepted_ms, queue, place, deliveries })
}

fn logged(db: &Connection, row: &Row<'_>) -> rusqlite::Result<Sighting> {
    let id: i64 = row.get(0)?;
    let (queue, seq) = (id >> SEQ_BITS, sql(seq_of(id)));
    let standing = |row: &Row<'_>| {
        let (is_passed, due_ms, has_failed): (bool, Option<i64>, bool) = (row.get(1)?, row.get(2)?, row.get(5)?);
        let progress = match due_ms {
            Some(due_ms) if has_failed => Progress::Retrying(unsql(due_ms)),
            Some(_) => Progress::Waiting,
            None if is_passed => Progress::Settled,
            None => Progress::Waiting,
        };
        Ok(Standing { connector: row.get(0)?, progress, attempts: row.get(3)?, history: history(row, 4)? })
    };
    let deliveries: rusqlite::Result<Vec<_>> =
        db.prepare_cached(STANDINGS)?.query_map([queue, seq], standing)?.collect();
    let name = db.prepare_cached("SELECT name FROM queue WHERE id = ?1")?.query_row([queue], |row| row.get(0));
    sighting(row, name.optional()?.unwrap_or_default(), Place::Queue, deliveries?)
}

fn gone(_: &Connection, row: &Row<'_>) -> rusqlite::Result<Sighting> {
    sighting(row, row.get(4)?, Place::Gone, Vec::new())
}

fn parked(_: &Connection, row: &Row<'_>) -> rusqlite::Result<Sighting> {
    let (due_ms, connector): (i64, Option<String>) = (row.get(0)?, row.get(5)?);
    let has_failed: bool = row.get(8)?;
    let Some(connector) = connector else {
        return sighting(row, row.get(4)?, Place::Delayed(unsql(due_ms)), Vec::new());
    };
    let progress = if has_failed { Progress::Retrying(unsql(due_ms)) } else { Progress::Waiting };
    let standing = Standing { connector, progress, attempts: row.get(6)?, history: history(row, 7)? };
    sighting(row, row.get(4)?, Place::Redriven, vec![standing])
}

fn dead(_: &Connection, row: &Row<'_>) -> rusqlite::Result<Sighting> {
    let progress = Progress::Dead(unsql(row.get(8)?));
    let standing = Standing { connector: row.get(5)?, progress, attempts: row.get(6)?, history: history(row, 7)? };
    sighting(row, row.get(4)?, Place::Dead(row.get(0)?), vec![standing])
}

fn history(row: &Row<'_>, at: usize) -> rusqlite::Result<Vec<FailedAttempt>> {
    let text: Option<String> = row.get(at)?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}
