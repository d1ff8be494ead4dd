//! How queues and subscriptions stand, from their counters: never from sums over messages.

use rusqlite::{Connection, OptionalExtension, Row, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Ledger;
use super::schema::{row_id, unsql};
use crate::id::Name;

/// One queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Queue")]
pub struct QueueReport {
    /// Its name; an inbox's begins with `@`.
    pub queue: String,
    /// What keeps it.
    pub broker: String,
    /// Messages on disk.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Who reads it.
    pub subscriptions: Vec<SubscriptionReport>,
}

/// One connector reading a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Subscription")]
pub struct SubscriptionReport {
    /// The connector's name.
    pub connector: String,
    /// Messages not settled yet, delayed ones included.
    pub backlog: u64,
    /// Those of them that a run holds; 0 where no host runs.
    pub in_flight: u64,
    /// Those of them that failed before.
    pub retrying: u64,
    /// Dead letters kept.
    pub dead: u64,
    /// Age of the oldest unsettled message; absent where there is none.
    pub oldest_seconds: Option<u64>,
}

impl Ledger {
    /// Every queue with its subscriptions, in the order of their names, as of the last commit; without the inboxes that
    /// nobody reads and nothing lies in, such as that of a webhook which stores in another queue.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn queues(&self) -> anyhow::Result<Vec<QueueReport>> {
        self.reports(None, None)
    }

    /// The queues that a connector reads or has read, each with all its subscriptions.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn queues_read_by(&self, connector: &str) -> anyhow::Result<Vec<QueueReport>> {
        self.reports(None, Some(connector))
    }

    /// One queue with its subscriptions, also one that no configuration names any more.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn queue_report(&self, name: &str) -> anyhow::Result<Option<QueueReport>> {
        Ok(self.reports(Some(name), None)?.pop())
    }

    fn reports(&self, name: Option<&str>, reader: Option<&str>) -> anyhow::Result<Vec<QueueReport>> {
        let now_ms = self.clock().now_ms();
        let reports = self.shared().readers.read(|db| {
            let mut statement = db.prepare_cached(STANDING)?;
            let mut rows = statement.query([name, reader])?;
            let (mut reports, mut last) = (Vec::<QueueReport>::new(), None);
            while let Some(row) = rows.next()? {
                let queue: u32 = row.get(0)?;
                if last.replace(queue) != Some(queue) {
                    reports.push(QueueReport {
                        queue: row.get(1)?,
                        broker: "local".to_owned(),
                        messages: unsql(row.get(2)?),
                        bytes: unsql(row.get(3)?),
                        subscriptions: Vec::new(),
                    });
                }
                if let (Some(report), Some(subscription)) = (reports.last_mut(), subscription(db, queue, row, now_ms)?)
                {
                    report.subscriptions.push(subscription);
                }
            }
            Ok(reports)
        })?;
        Ok(reports.into_iter().filter(|report| !report.is_idle_inbox()).collect())
    }

    /// Dead letters kept for each connector that has read anything, also for one that has left the configuration.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn dead_counts(&self) -> anyhow::Result<Vec<(Name, u64)>> {
        let counts = self.shared().readers.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT connector.name, sum(dead) FROM subscription JOIN connector ON connector.id = connector
                 GROUP BY connector.id HAVING sum(dead) > 0 OR min(forgotten) = 0",
            )?;
            let counts =
                statement.query_map([], |row| Ok((Name::stored(row.get_ref(0)?.as_str()?), unsql(row.get(1)?))))?;
            counts.collect()
        })?;
        Ok(counts)
    }
}

impl QueueReport {
    fn is_idle_inbox(&self) -> bool {
        self.queue.starts_with('@') && self.subscriptions.is_empty() && self.messages == 0
    }
}

/// Every queue with each of its subscriptions, or once without any: one statement, for there may be thousands.
const STANDING: &str = "SELECT queue.id, queue.name, tail - removed + stragglers + queue.parked,
    max(tail_bytes - removed_bytes, 0) + straggler_bytes + parked_bytes, tail,
    CASE queue.parked WHEN 0 THEN 0
        ELSE queue.parked - (SELECT coalesce(sum(parked), 0) FROM subscription WHERE queue = queue.id) END,
    connector.name, cursor, pending, retrying, read.parked, dead,
    coalesce((SELECT sum(last - first + 1) FROM settled WHERE subscription = read.id), 0), read.id
    FROM queue LEFT JOIN (subscription AS read JOIN connector ON connector.id = read.connector)
        ON read.queue = queue.id AND forgotten = 0
    WHERE (?1 IS NULL OR queue.name = ?1) AND (?2 IS NULL OR queue.id IN (SELECT queue FROM subscription
        JOIN connector ON connector.id = connector WHERE connector.name = ?2))
    ORDER BY queue.name, connector.name";

/// The subscription in a row of [`STANDING`], if there is one.
fn subscription(
    db: &Connection,
    queue: u32,
    row: &Row<'_>,
    now_ms: u64,
) -> rusqlite::Result<Option<SubscriptionReport>> {
    let Some(connector) = row.get(6)? else { return Ok(None) };
    let (tail, delayed, cursor, ahead) =
        (unsql(row.get(4)?), unsql(row.get(5)?), unsql(row.get(7)?), unsql(row.get(12)?));
    let unfinished = unsql(row.get(8)?) + unsql(row.get(10)?);
    let backlog = tail.saturating_sub(cursor).saturating_sub(ahead) + unfinished + delayed;
    let oldest_ms = if backlog > 0 { oldest_ms(db, queue, row.get(13)?, cursor)? } else { None };
    Ok(Some(SubscriptionReport {
        connector,
        backlog,
        in_flight: 0,
        retrying: unsql(row.get(9)?),
        dead: unsql(row.get(11)?),
        oldest_seconds: oldest_ms.map(|oldest_ms| now_ms.saturating_sub(oldest_ms) / 1000),
    }))
}

/// When the oldest unsettled message was accepted: the first unfinished one, or the first behind the cursor.
fn oldest_ms(db: &Connection, queue: u32, subscription: u32, cursor: u64) -> rusqlite::Result<Option<u64>> {
    let unfinished: Option<i64> = db
        .prepare_cached("SELECT min(seq) FROM pending WHERE subscription = ?1")?
        .query_row([subscription], |row| row.get(0))?;
    let mut first =
        db.prepare_cached("SELECT enqueued_ms FROM message WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT 1")?;
    let seq = unfinished.map_or(cursor + 1, |first| unsql(first).min(cursor + 1));
    let logged: Option<i64> =
        first.query_row(params![row_id(queue, seq), row_id(queue + 1, 0)], |row| row.get(0)).optional()?;
    let parked: Option<i64> = db
        .prepare_cached("SELECT enqueued_ms FROM parked WHERE subscription = ?1 ORDER BY id LIMIT 1")?
        .query_row([subscription], |row| row.get(0))
        .optional()?;
    Ok(logged.into_iter().chain(parked).min().map(unsql))
}
