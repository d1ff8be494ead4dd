//! Dead letters: listing, showing, dropping, and delivering again.
//!
//! How a message dies is part of its settlement. Invariant: a redrive moves the letter's copy and removes the letter in
//! one transaction, so a message is never in both places, or in none.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::Ledger;
use super::checksum::Parts;
use super::read::{MESSAGE, message};
use super::schema::{sql, unsql};
use super::write::Write;
use crate::message::Message;
use crate::settlement::{ConnectorId, QueueId, SubscriptionId};

/// Letters changed by one job of the writer: a redrive of a million must not hold up the settlements behind it.
const CHUNK: usize = 256;
/// Jobs that wait for the writer at once, so that one commit serves several.
const CHUNKS_AHEAD: usize = 8;

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

/// How letters are delivered again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redrive {
    /// In this subscription, not in the one where they died.
    pub to: Option<SubscriptionId>,
    /// From one to the next; the first comes at once.
    pub spacing: Duration,
    /// The payload, instead of their own.
    pub body: Option<Vec<u8>>,
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

    /// The largest message that the queue of a subscription takes.
    ///
    /// # Errors
    /// The file could not be read, or there is no such subscription.
    pub fn message_bytes(&self, subscription: SubscriptionId) -> anyhow::Result<u64> {
        let queue: u32 = self.shared().readers.read(|db| {
            db.prepare_cached("SELECT queue FROM subscription WHERE id = ?1")?
                .query_row([subscription.0], |row| row.get(0))
        })?;
        Ok(self.policy(QueueId(queue)).message_bytes)
    }

    /// Removes letters for ever; answers how many there were.
    ///
    /// # Errors
    /// The ledger has stopped or could not be changed; letters of earlier chunks are gone.
    pub async fn dead_drop(&self, ids: &[i64]) -> anyhow::Result<usize> {
        self.change_letters(ids, |write, _, id| Ok(write.take_letter(id)?.is_some())).await
    }

    /// Delivers letters again; answers how many there were.
    ///
    /// # Errors
    /// The ledger has stopped or could not be changed; letters of earlier chunks are on their way.
    pub async fn dead_retry(&self, ids: &[i64], how: Redrive) -> anyhow::Result<usize> {
        let start_ms = self.clock().now_ms();
        let step_us = u64::try_from(how.spacing.as_micros()).unwrap_or(u64::MAX);
        self.change_letters(ids, move |write, place, id| {
            let due_ms = match step_us.saturating_mul(place) / 1_000 {
                0 => 0,
                wait_ms => start_ms.saturating_add(wait_ms),
            };
            write.redrive(id, &how, due_ms)
        })
        .await
    }

    /// Carries out a change for each letter, with its place among all; answers for how many it was true.
    async fn change_letters<Change>(&self, ids: &[i64], change: Change) -> anyhow::Result<usize>
    where
        Change: Fn(&mut Write<'_>, u64, i64) -> rusqlite::Result<bool> + Send + Sync + 'static,
    {
        let change = Arc::new(change);
        let chunks = ids.chunks(CHUNK).enumerate().map(|(number, chunk)| {
            let (first, chunk, change) = ((number * CHUNK) as u64, chunk.to_vec(), change.clone());
            self.change(move |write| {
                let mut count = 0;
                for (place, id) in (first..).zip(&chunk) {
                    count += usize::from(change(write, place, *id)?);
                }
                Ok(count)
            })
        });
        // Futures that have not begun: each holds the numbers of its letters only.
        let chunks: Vec<_> = chunks.collect();
        let counts = futures_util::stream::iter(chunks).buffered(CHUNKS_AHEAD);
        counts.try_fold(0, |all, count| std::future::ready(Ok(all + count))).await
    }
}

impl Write<'_> {
    /// Moves a letter's copy to a subscription, attempts and hops at 0; whether there was one.
    fn redrive(&mut self, id: i64, how: &Redrive, due_ms: u64) -> rusqlite::Result<bool> {
        let died_in: Option<u32> = self
            .db
            .prepare_cached("SELECT subscription FROM dead WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
            .optional()?;
        let Some(target) = died_in.map(|died_in| how.to.map_or(died_in, |to| to.0)) else { return Ok(false) };
        let Some(queue) = self.book.subscription(target).map(|subscription| subscription.queue) else {
            return Ok(false);
        };
        // A subscription that was forgotten delivers nothing: the letter stays.
        if self.book.queue(queue).is_none_or(|queue| !queue.subscriptions.contains(&target)) {
            return Ok(false);
        }
        let bytes = self.park_letter(id, queue, target, due_ms, how.body.as_deref())?;
        self.take_letter(id)?;
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

    /// Copies a letter beside the log, with another payload where one is given; answers the copy's size.
    fn park_letter(&self, id: i64, queue: u32, target: u32, due_ms: u64, body: Option<&[u8]>) -> rusqlite::Result<u64> {
        let checksum = body.map(|body| self.checksum_with(id, body)).transpose()?;
        let bytes: i64 = self
            .db
            .prepare_cached(
                "INSERT INTO parked (queue, subscription, due_ms, attempts, bytes, enqueued_ms, hops, message_id, key,
                 parent, headers, body, checksum)
                 SELECT ?2, ?3, ?4, 0, bytes - iif(?5 IS NULL, 0, length(body) - length(?5)), enqueued_ms, 0,
                 message_id, key, parent, headers, coalesce(?5, body), iif(?5 IS NULL, checksum, ?6)
                 FROM dead WHERE id = ?1 RETURNING bytes",
            )?
            .query_row(params![id, queue, target, sql(due_ms), body, checksum], |row| row.get(0))?;
        Ok(unsql(bytes))
    }

    /// The checksum that a letter's message has with another payload.
    fn checksum_with(&self, id: i64, body: &[u8]) -> rusqlite::Result<u32> {
        let mut select = self.db.prepare_cached("SELECT message_id, key, parent, headers FROM dead WHERE id = ?1")?;
        select.query_row([id], |row| {
            let text = |at: usize| row.get_ref(at)?.as_str_or_null().map_err(rusqlite::Error::from);
            let (key, parent, headers) = (text(1)?, text(2)?, text(3)?);
            Ok(Parts { id: row.get_ref(0)?.as_str()?, key, parent, headers, body }.checksum())
        })
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
