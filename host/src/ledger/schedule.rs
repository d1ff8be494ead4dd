//! What is known of each schedule, and the transactions that enqueue a tick.
//!
//! A planned time is enqueued once, by the clock or by hand. Invariant: the stored planned time and its tick commit
//! together, so that a crash neither loses nor doubles one.

use rusqlite::{OptionalExtension, params};

use super::schema::{row_id, sql, unsql};
use super::write::Write;
use super::{AppendError, Ledger};
use crate::message::Draft;
use crate::settlement::{ConnectorId, QueueId, SubscriptionId, TickEnd, TickOutcome};

/// More than this in an inbox is not looked at: a schedule has no more than that in it, beside those fired by hand.
const UNSETTLED_MAX: u32 = 1_000;

const UNSETTLED: &str = "
    SELECT body FROM message JOIN subscription ON subscription.id = ?1
    WHERE message.id > ?2 + cursor AND message.id < ?3 AND headers IS NULL AND NOT EXISTS (
        SELECT 1 FROM settled WHERE settled.subscription = ?1 AND message.id BETWEEN ?2 + first AND ?2 + last)
    UNION ALL SELECT body FROM pending JOIN message ON message.id = ?2 + seq
        WHERE pending.subscription = ?1 AND headers IS NULL
    UNION ALL SELECT body FROM parked WHERE parked.subscription = ?1 AND headers IS NULL
    LIMIT ?4";

/// What is known of one schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduleRow {
    /// The planned time that was dealt with last (enqueued, skipped or passed over), in milliseconds since the Unix epoch.
    pub last_planned_ms: Option<u64>,
    /// The planned time of the last tick that succeeded.
    pub previous_success_ms: Option<u64>,
    /// The planned time of the tick that the clock enqueued last.
    pub last_tick_ms: Option<u64>,
    /// How late that one was.
    pub last_lag_ms: Option<u64>,
    /// What the last attempt at a tick came to.
    pub last_outcome: Option<LastOutcome>,
}

/// What an attempt at a tick came to, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastOutcome {
    /// The tick's planned time, in milliseconds since the Unix epoch.
    pub planned_ms: u64,
    /// One of the labels of [`TickOutcome`].
    pub outcome: String,
    /// When the attempt was settled, in milliseconds since the Unix epoch.
    pub ended_ms: u64,
}

/// A planned time of a schedule that is dealt with.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Which of the connector's schedules.
    pub schedule: String,
    /// In milliseconds since the Unix epoch.
    pub planned_ms: u64,
    /// What is enqueued for it; without one the time is only noted as passed.
    pub tick: Option<NewTick>,
}

/// A tick that is enqueued.
#[derive(Clone, Debug)]
pub struct NewTick {
    /// Where to.
    pub inbox: QueueId,
    /// When it was to be made, in milliseconds since the Unix epoch: from then on it is late.
    pub due_ms: u64,
    /// As it is delivered.
    pub draft: Draft,
    /// For so long the planned time is not enqueued again, in milliseconds.
    pub remember_ms: u64,
}

impl Ledger {
    /// What is known of a schedule.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn schedule(&self, connector: ConnectorId, name: &str) -> anyhow::Result<ScheduleRow> {
        let row = self.shared().readers.read(|db| {
            let mut known = db
                .prepare_cached(
                    "SELECT last_planned_ms, previous_success_ms, last_tick_ms, last_lag_ms FROM schedule
                     WHERE connector = ?1 AND name = ?2",
                )?
                .query_row(params![connector.0, name], |row| {
                    Ok(ScheduleRow {
                        last_planned_ms: row.get::<_, Option<i64>>(0)?.map(unsql),
                        previous_success_ms: row.get::<_, Option<i64>>(1)?.map(unsql),
                        last_tick_ms: row.get::<_, Option<i64>>(2)?.map(unsql),
                        last_lag_ms: row.get::<_, Option<i64>>(3)?.map(unsql),
                        last_outcome: None,
                    })
                })
                .optional()?
                .unwrap_or_default();
            known.last_outcome = db
                .prepare_cached(
                    "SELECT planned_ms, outcome, ended_ms FROM tick_outcome WHERE connector = ?1 AND schedule = ?2",
                )?
                .query_row(params![connector.0, name], |row| {
                    let (planned_ms, ended_ms) = (unsql(row.get(0)?), unsql(row.get(2)?));
                    Ok(LastOutcome { planned_ms, outcome: row.get(1)?, ended_ms })
                })
                .optional()?;
            Ok(known)
        })?;
        Ok(row)
    }

    /// The bodies of the ticks that lie in an inbox and are not settled: not read yet, under way, or waiting for its next attempt.
    /// As of the last commit, and no more than a thousand.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn unsettled(&self, inbox: QueueId, subscription: SubscriptionId) -> anyhow::Result<Vec<Vec<u8>>> {
        let (first, end) = (row_id(inbox.0, 0), row_id(inbox.0 + 1, 0));
        let bodies = self.shared().readers.read(|db| {
            db.prepare_cached(UNSETTLED)?
                .query_map(params![subscription.0, first, end, UNSETTLED_MAX], |row| row.get(0))?
                .collect()
        })?;
        Ok(bodies)
    }

    /// Stores a planned time and, in the same transaction, puts its tick into the connector's inbox, unless it was put
    /// there before.
    ///
    /// # Errors
    /// The ledger has stopped or could not be changed; then neither is stored.
    pub async fn enqueue_tick(&self, connector: ConnectorId, planned: Planned) -> anyhow::Result<()> {
        self.change(move |write| write.plan(connector.0, &planned)).await
    }

    /// Puts a tick into the connector's inbox that somebody fires by hand; whether it was not put there before.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn fire_tick(
        &self,
        connector: ConnectorId,
        schedule: &str,
        planned_ms: u64,
        (inbox, draft): (QueueId, Draft),
    ) -> Result<bool, AppendError> {
        let (name, policy) = self.shared().policy(inbox).ok_or(AppendError::NoSuchQueue)?;
        let bytes = draft.size_bytes();
        if bytes > policy.message_bytes {
            return Err(AppendError::TooLarge { queue: name, bytes, bytes_max: policy.message_bytes });
        }
        let _room = self.reserve(inbox, bytes).map_err(|full| self.refusal(inbox, full))?;
        let schedule = schedule.to_owned();
        let fired = self.change(move |write| {
            let is_new = write.remember(connector.0, &schedule, planned_ms)?;
            if is_new {
                write.accept(inbox, &draft)?;
            }
            Ok(is_new)
        });
        fired.await.map_err(|error| AppendError::Failed(format!("{error:#}").into()))
    }
}

impl Write<'_> {
    fn plan(&mut self, connector: u32, planned: &Planned) -> rusqlite::Result<()> {
        let Planned { schedule, planned_ms, tick } = planned;
        self.db
            .prepare_cached(
                "INSERT INTO schedule (connector, name, last_planned_ms) VALUES (?1, ?2, ?3)
                 ON CONFLICT (connector, name) DO UPDATE SET last_planned_ms = excluded.last_planned_ms",
            )?
            .execute(params![connector, schedule, sql(*planned_ms)])?;
        let Some(tick) = tick else { return Ok(()) };
        if self.remember(connector, schedule, *planned_ms)? {
            self.accept(tick.inbox, &tick.draft)?;
            self.db
                .prepare_cached(
                    "UPDATE schedule SET last_tick_ms = ?3, last_lag_ms = ?4 WHERE connector = ?1 AND name = ?2",
                )?
                .execute(params![
                    connector,
                    schedule,
                    sql(*planned_ms),
                    sql(self.now.due_ms.saturating_sub(tick.due_ms))
                ])?;
        }
        self.forget_ticks(connector, schedule, planned_ms.saturating_sub(tick.remember_ms), tick.remember_ms)
    }

    /// Notes that a planned time is enqueued; `false` where it was before.
    fn remember(&mut self, connector: u32, schedule: &str, planned_ms: u64) -> rusqlite::Result<bool> {
        let noted = self
            .db
            .prepare_cached(
                "INSERT OR IGNORE INTO tick (connector, schedule, planned_ms, enqueued_ms) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![connector, schedule, sql(planned_ms), sql(self.now.due_ms)])?;
        Ok(noted == 1)
    }

    /// Forgets ticks of a schedule that were planned before a moment, unless they were enqueued of late.
    fn forget_ticks(&self, connector: u32, schedule: &str, before_ms: u64, remember_ms: u64) -> rusqlite::Result<()> {
        self.db
            .prepare_cached(
                "DELETE FROM tick WHERE connector = ?1 AND schedule = ?2 AND planned_ms < ?3 AND enqueued_ms < ?4",
            )?
            .execute(params![connector, schedule, sql(before_ms), sql(self.now.due_ms.saturating_sub(remember_ms))])?;
        Ok(())
    }

    /// Notes what an attempt at a tick came to.
    pub(super) fn note_tick(&mut self, connector: u32, tick: &TickEnd) -> rusqlite::Result<()> {
        let TickEnd { schedule, planned_ms, outcome } = tick;
        self.db
            .prepare_cached(
                "INSERT INTO tick_outcome (connector, schedule, planned_ms, outcome, ended_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (connector, schedule) DO UPDATE SET
                 planned_ms = excluded.planned_ms, outcome = excluded.outcome, ended_ms = excluded.ended_ms",
            )?
            .execute(params![connector, schedule, sql(*planned_ms), outcome.label(), sql(self.now.due_ms)])?;
        if *outcome == TickOutcome::Done {
            self.db
                .prepare_cached(
                    "UPDATE schedule SET previous_success_ms = max(?3, coalesce(previous_success_ms, 0))
                     WHERE connector = ?1 AND name = ?2",
                )?
                .execute(params![connector, schedule, sql(*planned_ms)])?;
        }
        Ok(())
    }
}
