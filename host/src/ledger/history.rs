//! The history: attempts that have ended, with their effects.
//!
//! What is to be kept waits in memory until the writer has nothing more pressing, and is written in a transaction of its
//! own: never in that of a settlement. Bounded by count and age; what comes faster than it is written is dropped and
//! counted. Invariant: nothing depends on it, so nothing waits for it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{OptionalExtension, Row, params};

use super::schema::{sql, unsql};
use super::write::Write;
use super::{Ledger, millis};
use crate::settlement::ConnectorId;
use crate::settlement::attempt::Attempt;

/// Attempts that wait to be written: what comes between two rounds of the writer.
const WAITING_MAX: usize = 4_096;
/// Attempts that are kept on disk.
const KEPT_MAX: i64 = 100_000;
/// For so long.
const KEPT_FOR: Duration = Duration::from_secs(7 * 86_400);
/// Rows removed by one step.
const STEP: i64 = 4_096;
/// Attempts of one message that are answered: the newest ones.
const OF_MESSAGE_MAX: usize = 1_000;

/// Attempts that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<VecDeque<Attempt>>);

impl Waiting {
    /// All of them, the oldest first.
    pub(super) fn take(&self) -> Vec<Attempt> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }

    fn add(&self, attempt: Attempt) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = waiting.len() < WAITING_MAX;
        if has_room {
            waiting.push_back(attempt);
        }
        has_room
    }
}

/// Which deliveries are looked for in the history.
#[derive(Clone, Debug, Default)]
pub struct Sought<'s> {
    /// To this connector.
    pub connector: Option<ConnectorId>,
    /// From this queue.
    pub queue: Option<&'s str>,
    /// Whose last attempt ended at this time or later, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

const COLUMNS: &str =
    "connector, queue, message_id, parent, accepted_ms, number, started_ms, ended_ms, outcome, reason, effects";

impl Ledger {
    /// Keeps an attempt that is settled. It is on disk a moment later, or never.
    pub fn note_attempt(&self, attempt: Attempt) {
        if !self.shared().history.add(attempt) {
            self.shared().metrics.history_dropped();
        }
    }

    /// What is kept of the attempts at a message, in one connector or in all; the oldest first.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn attempts_of(&self, message_id: &str, connector: Option<ConnectorId>) -> anyhow::Result<Vec<Attempt>> {
        let mut attempts: Vec<Attempt> = self.shared().readers.read(|db| {
            db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM attempt WHERE message_id = ?1 AND (?2 IS NULL OR connector = ?2)
                 ORDER BY id DESC LIMIT ?3"
            ))?
            .query_map(params![message_id, connector.map(|it| it.0), sql(OF_MESSAGE_MAX as u64)], attempt)?
            .collect()
        })?;
        attempts.reverse();
        Ok(attempts)
    }

    /// The last attempt at each delivery, those before row `before` alone, the newest first; each with its row.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn last_attempts(&self, of: &Sought<'_>, before: i64, count: usize) -> anyhow::Result<Vec<(i64, Attempt)>> {
        let select = format!(
            "SELECT {COLUMNS}, id FROM attempt WHERE id < ?1 AND (?2 IS NULL OR connector = ?2)
             AND (?3 IS NULL OR queue = ?3) AND ended_ms >= ?4 AND NOT EXISTS (
             SELECT 1 FROM attempt AS later WHERE later.message_id = attempt.message_id AND later.id > attempt.id
             AND later.connector = attempt.connector AND later.queue = attempt.queue) ORDER BY id DESC LIMIT ?5"
        );
        let connector = of.connector.map(|connector| connector.0);
        let attempts = self.shared().readers.read(|db| {
            let parameters = params![before, connector, of.queue, sql(of.since_ms), sql(count as u64)];
            let row = |row: &Row<'_>| Ok((row.get(11)?, attempt(row)?));
            db.prepare_cached(&select)?.query_map(parameters, row)?.collect()
        })?;
        Ok(attempts)
    }

    /// The name of a connector, also of one that left the configuration.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn connector_name(&self, connector: ConnectorId) -> anyhow::Result<Option<String>> {
        let name = self.shared().readers.read(|db| {
            db.prepare_cached("SELECT name FROM connector WHERE id = ?1")?
                .query_row([connector.0], |row| row.get(0))
                .optional()
        })?;
        Ok(name)
    }
}

impl Write<'_> {
    /// Writes attempts down.
    pub(super) fn keep_attempts(&mut self, attempts: &[Attempt]) -> rusqlite::Result<()> {
        let mut insert = self.db.prepare_cached(&format!(
            "INSERT INTO attempt ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        ))?;
        for attempt in attempts {
            insert.execute(params![
                attempt.connector.0,
                attempt.queue,
                attempt.message_id,
                attempt.parent,
                sql(attempt.accepted_ms),
                attempt.number,
                sql(attempt.started_ms),
                sql(attempt.ended_ms),
                attempt.outcome,
                attempt.reason,
                // Texts and numbers always make JSON.
                serde_json::to_string(&attempt.effects).unwrap_or_default(),
            ])?;
        }
        Ok(())
    }

    /// Removes what is too much or too old; whether there may be more.
    pub(super) fn drop_attempts(&mut self) -> rusqlite::Result<bool> {
        let oldest_ms = self.now.settled_ms.saturating_sub(millis(KEPT_FOR));
        let removed = self
            .db
            .prepare_cached(
                "DELETE FROM attempt WHERE id IN (SELECT id FROM attempt ORDER BY id LIMIT ?3)
                 AND (ended_ms < ?1 OR id <= (SELECT max(id) FROM attempt) - ?2)",
            )?
            .execute(params![sql(oldest_ms), KEPT_MAX, STEP])?;
        Ok(removed as u64 == STEP.unsigned_abs())
    }
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let effects: String = row.get(10)?;
    Ok(Attempt {
        connector: ConnectorId(row.get(0)?),
        queue: row.get(1)?,
        message_id: row.get(2)?,
        parent: row.get(3)?,
        accepted_ms: unsql(row.get(4)?),
        number: row.get(5)?,
        started_ms: unsql(row.get(6)?),
        ended_ms: unsql(row.get(7)?),
        outcome: row.get(8)?,
        reason: row.get(9)?,
        effects: serde_json::from_str(&effects).unwrap_or_default(),
    })
}
