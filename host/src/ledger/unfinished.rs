//! Deliveries that were looked at and are not settled, and dead letters, as lists of deliveries need them.
//!
//! Read subscription by subscription, in pages; what waits in a log and was not looked at has no row, and is not here.
//! Invariant: a read is of one subscription, whose rows are bounded by `pending_max`.

use std::collections::HashSet;

use rusqlite::{Row, params};

use super::Ledger;
use super::schema::{SEQ_BITS, sql, unsql};
use crate::settlement::{Origin, SubscriptionId};

/// One connector reading one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// Its number.
    pub id: SubscriptionId,
    /// The connector's name.
    pub connector: String,
    /// The queue's name.
    pub queue: String,
}

/// A delivery that is not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Where its message lies.
    pub origin: Origin,
    /// The message's id.
    pub message_id: String,
    /// When the message was accepted, in milliseconds since the Unix epoch.
    pub accepted_ms: u64,
    /// Attempts charged so far.
    pub attempts: u32,
    /// It is not attempted before this.
    pub due_ms: u64,
    /// Why it was put off; none where it was only passed by.
    pub reason: Option<String>,
}

/// Of a subscription, what lies in the log.
const PENDING: &str = "SELECT pending.seq, message_id, enqueued_ms, attempts, due_ms, reason
     FROM pending JOIN subscription ON subscription.id = pending.subscription
     CROSS JOIN message ON message.id = (subscription.queue << ?4) + pending.seq
     WHERE pending.subscription = ?1 AND pending.seq > ?2 ORDER BY pending.seq LIMIT ?3";
/// What is delivered again.
const PARKED: &str = "SELECT id, message_id, enqueued_ms, attempts, due_ms, reason FROM parked
     WHERE subscription = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
const PENDING_OF: &str = "SELECT message_id FROM pending JOIN subscription ON subscription.id = pending.subscription
     CROSS JOIN message ON message.id = (subscription.queue << ?3) + pending.seq
     WHERE pending.subscription = ?1 AND message_id IN (SELECT value FROM json_each(?2))";
const PARKED_OF: &str = "SELECT message_id FROM parked
     WHERE subscription = ?1 AND message_id IN (SELECT value FROM json_each(?2))";
const DEAD_OF: &str = "SELECT message_id FROM dead
     WHERE connector = (SELECT connector FROM subscription WHERE id = ?1) AND subscription = ?1
     AND message_id IN (SELECT value FROM json_each(?2))";

impl Ledger {
    /// Every subscription, also of a connector that has left the configuration, in the order of their numbers.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn subscribed(&self) -> anyhow::Result<Vec<Subscribed>> {
        let select = "SELECT subscription.id, connector.name, queue.name FROM subscription
                      JOIN connector ON connector.id = connector JOIN queue ON queue.id = queue ORDER BY subscription.id";
        let subscribed = self.shared().readers.read(|db| {
            let row = |row: &Row<'_>| {
                Ok(Subscribed { id: SubscriptionId(row.get(0)?), connector: row.get(1)?, queue: row.get(2)? })
            };
            db.prepare_cached(select)?.query_map([], row)?.collect()
        })?;
        Ok(subscribed)
    }

    /// A page of a subscription's deliveries that are not settled, after one of them: those in the log, then those that
    /// are delivered again. There are no more where the page is empty.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn unfinished(&self, of: SubscriptionId, after: Origin, count: usize) -> anyhow::Result<Vec<Unfinished>> {
        let (logged, parked) = match after {
            Origin::Log(seq) => (Some(seq), 0),
            Origin::Parked(id) => (None, id),
        };
        let page = self.shared().readers.read(|db| {
            let mut page: Vec<Unfinished> = Vec::new();
            if let Some(seq) = logged {
                let parameters = params![of.0, sql(seq), sql(count as u64), SEQ_BITS];
                let read = |row: &Row<'_>| unfinished(row, Origin::Log(unsql(row.get(0)?)));
                page = db.prepare_cached(PENDING)?.query_map(parameters, read)?.collect::<Result<_, _>>()?;
            }
            let parameters = params![of.0, parked, sql(count.saturating_sub(page.len()) as u64)];
            let mut statement = db.prepare_cached(PARKED)?;
            for row in statement.query_map(parameters, |row| unfinished(row, Origin::Parked(row.get(0)?)))? {
                page.push(row?);
            }
            Ok(page)
        })?;
        Ok(page)
    }

    /// Which of these messages a subscription has not settled.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn unfinished_of(&self, of: SubscriptionId, ids: &[&str]) -> anyhow::Result<HashSet<String>> {
        let ids = serde_json::to_string(ids)?;
        let found = self.shared().readers.read(|db| {
            let mut found: HashSet<String> = db
                .prepare_cached(PENDING_OF)?
                .query_map(params![of.0, ids, SEQ_BITS], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            for id in db.prepare_cached(PARKED_OF)?.query_map(params![of.0, ids], |row| row.get(0))? {
                found.insert(id?);
            }
            Ok(found)
        })?;
        Ok(found)
    }

    /// Which of these messages are dead letters of a subscription.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn dead_of(&self, of: SubscriptionId, ids: &[&str]) -> anyhow::Result<HashSet<String>> {
        let ids = serde_json::to_string(ids)?;
        let found = self
            .shared()
            .readers
            .read(|db| db.prepare_cached(DEAD_OF)?.query_map(params![of.0, ids], |row| row.get(0))?.collect())?;
        Ok(found)
    }
}

fn unfinished(row: &Row<'_>, origin: Origin) -> rusqlite::Result<Unfinished> {
    Ok(Unfinished {
        origin,
        message_id: row.get(1)?,
        accepted_ms: unsql(row.get(2)?),
        attempts: row.get(3)?,
        due_ms: unsql(row.get(4)?),
        reason: row.get(5)?,
    })
}
