//! How queues and subscriptions stand, from their counters: never from sums over messages.

use rusqlite::{Connection, OptionalExtension, params};
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
            let mut statement = db.prepare_cached(
                "SELECT id, name, tail - removed + stragglers + parked,
                 max(tail_bytes - removed_bytes, 0) + straggler_bytes + parked_bytes, tail,
                 parked - (SELECT coalesce(sum(parked), 0) FROM subscription WHERE queue = queue.id)
                 FROM queue WHERE (?1 IS NULL OR name = ?1) AND (?2 IS NULL OR id IN (SELECT queue FROM subscription
                 JOIN connector ON connector.id = connector WHERE connector.name = ?2)) ORDER BY name",
            )?;
            let mut rows = statement.query([name, reader])?;
            let mut reports = Vec::new();
            while let Some(row) = rows.next()? {
                let (tail, delayed) = (unsql(row.get(4)?), unsql(row.get(5)?));
                reports.push(QueueReport {
                    queue: row.get(1)?,
                    broker: "local".to_owned(),
                    messages: unsql(row.get(2)?),
                    bytes: unsql(row.get(3)?),
                    subscriptions: subscriptions(db, row.get(0)?, Waiting { tail, delayed }, now_ms)?,
                });
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

/// What waits in a queue for all of its subscriptions.
#[derive(Clone, Copy)]
struct Waiting {
    /// The newest message of the log.
    tail: u64,
    /// Messages that are not in the log yet.
    delayed: u64,
}

fn subscriptions(
    db: &Connection,
    queue: u32,
    waiting: Waiting,
    now_ms: u64,
) -> rusqlite::Result<Vec<SubscriptionReport>> {
    let mut statement = db.prepare_cached(
        "SELECT connector.name, cursor, pending, retrying, parked, dead,
         coalesce((SELECT sum(last - first + 1) FROM settled WHERE subscription = subscription.id), 0), subscription.id
         FROM subscription JOIN connector ON connector.id = connector
         WHERE queue = ?1 AND forgotten = 0 ORDER BY connector.name",
    )?;
    let mut rows = statement.query([queue])?;
    let mut reports = Vec::new();
    while let Some(row) = rows.next()? {
        let (cursor, ahead) = (unsql(row.get(1)?), unsql(row.get(6)?));
        let unfinished = unsql(row.get(2)?) + unsql(row.get(4)?);
        let backlog = waiting.tail.saturating_sub(cursor).saturating_sub(ahead) + unfinished + waiting.delayed;
        let oldest_ms = if backlog > 0 { oldest_ms(db, queue, row.get(7)?, cursor)? } else { None };
        reports.push(SubscriptionReport {
            connector: row.get(0)?,
            backlog,
            in_flight: 0,
            retrying: unsql(row.get(3)?),
            dead: unsql(row.get(5)?),
            oldest_seconds: oldest_ms.map(|oldest_ms| now_ms.saturating_sub(oldest_ms) / 1000),
        });
    }
    Ok(reports)
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
