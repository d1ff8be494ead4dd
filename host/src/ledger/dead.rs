//! Dead letters: listing, showing, dropping, and delivering again.
//!
//! How a message dies is part of its settlement. Invariant: a redrive moves the letter's copy and removes the letter in
//! one transaction, so a message is never in both places, or in none.

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::Ledger;
use super::read::{MESSAGE, message};
use super::schema::{sql, unsql};
use super::write::Write;
use crate::message::Message;
use crate::settlement::{ConnectorId, SubscriptionId};

/// Letters changed by one transaction: a redrive of a million must not hold up the settlements behind it.
const CHUNK: usize = 256;

/// A dead letter without its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadSummary {
    /// Names the letter.
    pub id: i64,
    /// In which connector the message died.
    pub connector: String,
    /// From which queue.
    pub queue: String,
    /// The message's id.
    pub message_id: String,
    /// Attempts made.
    pub attempts: u32,
    /// Why the last one failed.
    pub reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub died_ms: u64,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// What the list shows.
    pub summary: DeadSummary,
    /// The message as it was delivered last.
    pub message: Message,
    /// One entry for each charged attempt, the last included.
    pub history: Vec<FailedAttempt>,
}

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempt {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Why.
    pub reason: String,
}

const SUMMARY: &str = "dead.id, connector.name, queue.name, dead.message_id, dead.attempts, dead.reason, dead.died_ms";
const FROM: &str = "FROM dead JOIN connector ON connector.id = dead.connector
     JOIN subscription ON subscription.id = dead.subscription JOIN queue ON queue.id = subscription.queue";

impl Ledger {
    /// A page of letters after letter `after`, oldest first; of one connector or of all.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn dead_list(
        &self,
        connector: Option<ConnectorId>,
        after: i64,
        count: usize,
    ) -> anyhow::Result<Vec<DeadSummary>> {
        // Two statements, so that the letters of one connector are found by its index.
        let filter = if connector.is_some() { "dead.connector = ?2" } else { "?2 IS NULL" };
        let page = self.shared().readers.read(|db| {
            db.prepare_cached(&format!(
                "SELECT {SUMMARY} {FROM} WHERE dead.id > ?1 AND {filter} ORDER BY dead.id LIMIT ?3"
            ))?
            .query_map(params![after, connector.map(|connector| connector.0), sql(count as u64)], summary)?
            .collect()
        })?;
        Ok(page)
    }

    /// The number of a connector that has letters or could have some, also of one that left the configuration.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn dead_connector(&self, name: &str) -> anyhow::Result<Option<ConnectorId>> {
        let id: Option<u32> = self.shared().readers.read(|db| {
            db.prepare_cached("SELECT id FROM connector WHERE name = ?1")?
                .query_row([name], |row| row.get(0))
                .optional()
        })?;
        Ok(id.map(ConnectorId))
    }

    /// One letter with its message; `None` where there is none.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn dead_show(&self, id: i64) -> anyhow::Result<Option<DeadLetter>> {
        let letter = self.shared().readers.read(|db| {
            let columns: Vec<String> = MESSAGE.split(',').map(|column| format!("dead.{}", column.trim())).collect();
            db.prepare_cached(&format!(
                "SELECT {SUMMARY}, dead.history, {} {FROM} WHERE dead.id = ?1",
                columns.join(", ")
            ))?
            .query_row([id], |row| {
                let history: String = row.get(7)?;
                let history = serde_json::from_str(&history).unwrap_or_default();
                Ok(DeadLetter { summary: summary(row)?, message: message(row, 8)?, history })
            })
            .optional()
        })?;
        Ok(letter)
    }

    /// Bytes of a connector's letters.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn dead_bytes(&self, connector: ConnectorId) -> anyhow::Result<u64> {
        let bytes: i64 = self.shared().readers.read(|db| {
            db.prepare_cached("SELECT coalesce(sum(dead_bytes), 0) FROM subscription WHERE connector = ?1")?
                .query_row([connector.0], |row| row.get(0))
        })?;
        Ok(unsql(bytes))
    }

    /// Removes letters for ever; answers how many there were.
    ///
    /// # Errors
    /// The ledger has stopped or could not be changed; letters of earlier chunks are gone.
    pub async fn dead_drop(&self, ids: &[i64]) -> anyhow::Result<usize> {
        let mut dropped = 0;
        for chunk in ids.chunks(CHUNK) {
            let chunk = chunk.to_vec();
            dropped += self
                .change(move |write| {
                    let mut count = 0;
                    for id in &chunk {
                        count += usize::from(write.take_letter(*id)?.is_some());
                    }
                    Ok(count)
                })
                .await?;
        }
        Ok(dropped)
    }

    /// Delivers letters again, in the subscription where they died or in `to`; answers how many there were.
    ///
    /// # Errors
    /// The ledger has stopped or could not be changed; letters of earlier chunks are on their way.
    pub async fn dead_retry(&self, ids: &[i64], to: Option<SubscriptionId>) -> anyhow::Result<usize> {
        let mut moved = 0;
        for chunk in ids.chunks(CHUNK) {
            let chunk = chunk.to_vec();
            moved += self
                .change(move |write| {
                    let mut count = 0;
                    for id in &chunk {
                        count += usize::from(write.redrive(*id, to.map(|to| to.0))?);
                    }
                    Ok(count)
                })
                .await?;
        }
        Ok(moved)
    }
}

impl Write<'_> {
    /// Moves a letter's copy to a subscription, attempts and hops at 0; whether there was one.
    fn redrive(&mut self, id: i64, to: Option<u32>) -> rusqlite::Result<bool> {
        let died_in: Option<u32> = self
            .db
            .prepare_cached("SELECT subscription FROM dead WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        let Some(target) = died_in.map(|died_in| to.unwrap_or(died_in)) else { return Ok(false) };
        let Some(queue) = self.book.subscription(target).map(|subscription| subscription.queue) else {
            return Ok(false);
        };
        // A subscription that was forgotten delivers nothing: the letter stays.
        if self.book.queue(queue).is_none_or(|queue| !queue.subscriptions.contains(&target)) {
            return Ok(false);
        }
        self.db
            .prepare_cached(
                "INSERT INTO parked (queue, subscription, due_ms, attempts, bytes, enqueued_ms, hops, message_id, key,
                 parent, headers, body)
                 SELECT ?2, ?3, 0, 0, bytes, enqueued_ms, 0, message_id, key, parent, headers, body
                 FROM dead WHERE id = ?1",
            )?
            .execute(params![id, queue, target])?;
        let bytes = self.take_letter(id)?.unwrap_or_default();
        if let Some(counts) = self.book.edit_subscription(target) {
            counts.parked += 1;
        }
        if let Some(counts) = self.book.edit_queue(queue) {
            counts.parked += 1;
            counts.parked_bytes += bytes;
        }
        self.changes.redriven.push(queue);
        Ok(true)
    }

    /// Removes a letter from table and counters; answers its size.
    pub(super) fn take_letter(&mut self, id: i64) -> rusqlite::Result<Option<u64>> {
        let taken: Option<(u32, i64)> = self
            .db
            .prepare_cached("DELETE FROM dead WHERE id = ?1 RETURNING subscription, bytes")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((subscription, bytes)) = taken else { return Ok(None) };
        let bytes = unsql(bytes);
        if let Some(counts) = self.book.edit_subscription(subscription) {
            counts.dead -= 1;
            counts.dead_bytes -= bytes;
        }
        Ok(Some(bytes))
    }
}

fn summary(row: &Row<'_>) -> rusqlite::Result<DeadSummary> {
    Ok(DeadSummary {
        id: row.get(0)?,
        connector: row.get(1)?,
        queue: row.get(2)?,
        message_id: row.get(3)?,
        attempts: row.get(4)?,
        reason: row.get(5)?,
        died_ms: unsql(row.get(6)?),
    })
}
