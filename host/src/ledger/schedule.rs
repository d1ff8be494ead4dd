//! What is known of each schedule, and the transaction that enqueues a tick.

use rusqlite::{OptionalExtension, params};

use super::Ledger;
use super::schema::{row_id, sql, unsql};
use crate::message::Draft;
use crate::settlement::{ConnectorId, QueueId, SubscriptionId};

/// More than this in an inbox is not looked at: a schedule has one tick in it, beside those fired by hand.
const UNSETTLED_MAX: u32 = 1_000;

const UNSETTLED: &str = "
    SELECT body FROM message JOIN subscription ON subscription.id = ?1
    WHERE message.id > ?2 + cursor AND message.id < ?3 AND NOT EXISTS (
        SELECT 1 FROM settled WHERE settled.subscription = ?1 AND message.id BETWEEN ?2 + first AND ?2 + last)
    UNION ALL SELECT body FROM pending JOIN message ON message.id = ?2 + seq WHERE pending.subscription = ?1
    UNION ALL SELECT body FROM parked WHERE parked.subscription = ?1
    LIMIT ?4";

/// The last ticks of one schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleRow {
    /// The planned time of the tick enqueued (or skipped) last, in milliseconds since the Unix epoch.
    pub last_planned_ms: u64,
    /// The planned time of the last tick that succeeded.
    pub previous_success_ms: Option<u64>,
}

impl Ledger {
    /// What is known of a schedule; `None` where it never fired.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn schedule_last(&self, connector: ConnectorId, name: &str) -> anyhow::Result<Option<ScheduleRow>> {
        let row = self.shared().readers.read(|db| {
            db.prepare_cached(
                "SELECT last_planned_ms, previous_success_ms FROM schedule WHERE connector = ?1 AND name = ?2",
            )?
            .query_row(params![connector.0, name], |row| {
                Ok(ScheduleRow {
                    last_planned_ms: unsql(row.get(0)?),
                    previous_success_ms: row.get::<_, Option<i64>>(1)?.map(unsql),
                })
            })
            .optional()
        })?;
        Ok(row)
    }

    /// The bodies of what lies in an inbox and is not settled: not read yet, under way, or waiting for its next attempt.
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

    /// Stores a planned time and, in the same transaction, puts its tick into the connector's inbox. Without a tick the
    /// time is only noted as passed.
    ///
    /// # Errors
    /// The ledger has stopped or could not be changed; then neither is stored.
    pub async fn enqueue_tick(
        &self,
        connector: ConnectorId,
        name: &str,
        planned_ms: u64,
        tick: Option<(QueueId, Draft)>,
    ) -> anyhow::Result<()> {
        let name = name.to_owned();
        self.change(move |write| {
            write
                .db
                .prepare_cached(
                    "INSERT INTO schedule (connector, name, last_planned_ms) VALUES (?1, ?2, ?3)
                     ON CONFLICT (connector, name) DO UPDATE SET last_planned_ms = excluded.last_planned_ms",
                )?
                .execute(params![connector.0, name, sql(planned_ms)])?;
            if let Some((inbox, draft)) = &tick {
                write.accept(*inbox, draft)?;
            }
            Ok(())
        })
        .await
    }
}
