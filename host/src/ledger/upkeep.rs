//! What time does to the ledger: delayed messages fall due, old ones are removed, orphans and slices are dropped.
//!
//! Runs on the writer's thread between groups, a bounded step at a time, so that a long backlog does not hold up what is
//! handed in. Invariant: nothing is deleted by age before the configuration's policies are known, and never by the clock
//! that a jump has just moved.

use std::ops::Range;
use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use super::book::Queue;
use super::ranges::Ranges;
use super::read::{MESSAGE, message};
use super::schema::{row_id, seq_of, sql, unsql};
use super::write::{Log, Row, Write};
use super::{Ledger, millis};
use crate::message::DELAY_MS_MAX;
use crate::settlement::QueueId;

/// Rows that one step takes from one table.
const STEP: i64 = 512;
/// Messages of one queue whose age is looked at in one round, and that are removed by it.
const AGED_MAX: u64 = 16_384;
/// A message that expired is left to its consumers for so long: they know whether it is running.
const EXPIRED_LEFT: Duration = Duration::from_secs(60);

/// How much a round of upkeep looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// What must not wait.
    Short,
    /// Everything that goes by age as well.
    Full,
}

/// What a round found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Whether a step was not enough.
    pub(super) has_more: bool,
    /// When the next delayed message is due.
    pub(super) delayed_ms: Option<u64>,
}

/// How far a queue's messages have come of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Aged {
    /// Every message up to here has.
    last: u64,
    /// Whether those behind it were not looked at.
    has_more: bool,
}

impl Write<'_> {
    /// One round.
    pub(super) fn upkeep(&mut self, round: Round) -> rusqlite::Result<Found> {
        let mut has_more = self.append_due()?;
        let queues: Vec<u32> =
            (0u32..).zip(&self.book.queues).filter_map(|(id, queue)| queue.as_ref().map(|_| id)).collect();
        for id in &queues {
            has_more |= self.remove_settled_of(*id)?;
        }
        if round == Round::Full {
            for id in &queues {
                has_more |= self.expire(*id)?;
                has_more |= self.remove_by_age(*id)?;
            }
            self.bring_near()?;
            has_more |= self.forget_orphans()?;
            self.drop_slices()?;
            has_more |= self.drop_letters()?;
            has_more |= self.drop_attempts()?;
        }
        let delayed_ms = self
            .db
            .prepare_cached("SELECT min(due_ms) FROM parked WHERE subscription IS NULL")?
            .query_row([], |row| row.get::<_, Option<i64>>(0))?;
        Ok(Found { has_more, delayed_ms: delayed_ms.map(unsql) })
    }

    /// Appends delayed messages that are due to their logs.
    fn append_due(&mut self) -> rusqlite::Result<bool> {
        let mut select = self.db.prepare_cached(&format!(
            "SELECT id, queue, bytes, {MESSAGE} FROM parked WHERE subscription IS NULL AND due_ms <= ?1
             ORDER BY due_ms, id LIMIT ?2"
        ))?;
        let due: Vec<_> = select
            .query_map(params![sql(self.now.due_ms), STEP], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?, unsql(row.get(2)?), message(row, 3)?))
            })?
            .collect::<Result<_, _>>()?;
        let mut log = Log::open(self.db)?;
        let mut delete = self.db.prepare_cached("DELETE FROM parked WHERE id = ?1")?;
        for (id, queue, bytes, message) in &due {
            self.append(&mut log, QueueId(*queue), &Row::again(message, *bytes))?;
            delete.execute([id])?;
            if let Some(counts) = self.book.edit_queue(*queue) {
                counts.parked -= 1;
                counts.parked_bytes -= bytes;
            }
        }
        Ok(sql(due.len() as u64) >= STEP)
    }

    /// A message that was delayed under a wrong clock waits no longer than anyone can have meant.
    fn bring_near(&mut self) -> rusqlite::Result<()> {
        let furthest_ms = sql(self.now.due_ms + DELAY_MS_MAX);
        self.db
            .prepare_cached("UPDATE parked SET due_ms = ?1 WHERE subscription IS NULL AND due_ms > ?1")?
            .execute([furthest_ms])?;
        Ok(())
    }

    /// Removes what was only kept for its age: by `keep`, or by `retention` where nobody subscribes.
    fn remove_by_age(&mut self, id: u32) -> rusqlite::Result<bool> {
        let Some(queue) = self.book.queue(id) else { return Ok(false) };
        let (floor, age) = match (self.floor(queue), queue.policy.keep) {
            (Some(floor), Some(keep)) => (floor, keep),
            (None, keep) => (queue.counts.tail, queue.policy.retention.max(keep.unwrap_or_default())),
            (Some(_), None) => return Ok(false),
        };
        let aged = self.aged(id, queue.counts.removed..floor, age)?;
        Ok(self.remove_through(id, aged.last)? || aged.has_more)
    }

    /// Up to where every subscription has looked at a queue; `None` where there is none.
    fn floor(&self, queue: &Queue) -> Option<u64> {
        let cursors = queue.subscriptions.iter().filter_map(|id| self.book.subscription(*id));
        cursors.map(|subscription| subscription.counts.cursor).min()
    }

    /// How far the messages that follow `range.start` have all come of age. One that was delayed stands behind younger
    /// ones: it waits for them, and takes none of them with it.
    fn aged(&self, id: u32, range: Range<u64>, age: Duration) -> rusqlite::Result<Aged> {
        let last = range.end.min(range.start.saturating_add(AGED_MAX));
        let limit_ms = self.now.settled_ms.saturating_sub(millis(age));
        let young: Option<i64> = self
            .db
            .prepare_cached(
                "SELECT id FROM message WHERE id BETWEEN ?1 AND ?2 AND enqueued_ms > ?3 ORDER BY id LIMIT 1",
            )?
            .query_row(params![row_id(id, range.start + 1), row_id(id, last), sql(limit_ms)], |row| row.get(0))
            .optional()?;
        match young {
            Some(young) => Ok(Aged { last: seq_of(young) - 1, has_more: false }),
            None => Ok(Aged { last, has_more: last < range.end }),
        }
    }

    /// Settles what a queue's `expires` has ended while nobody consumed it.
    fn expire(&mut self, id: u32) -> rusqlite::Result<bool> {
        let Some(queue) = self.book.queue(id) else { return Ok(false) };
        let (Some(expires), Some(floor)) = (queue.policy.expires, self.floor(queue)) else { return Ok(false) };
        let age = expires.saturating_add(EXPIRED_LEFT);
        let aged = self.aged(id, floor..queue.counts.tail, age)?;
        let mut has_more = aged.has_more;
        for subscription in queue.subscriptions.clone() {
            has_more |= self.expire_of(subscription, id, aged.last, age)?;
        }
        Ok(has_more)
    }

    fn expire_of(&mut self, subscription: u32, queue: u32, last: u64, age: Duration) -> rusqlite::Result<bool> {
        let limit_ms = self.now.settled_ms.saturating_sub(millis(age));
        let unfinished = self.drop_pending(subscription, queue, limit_ms)?;
        let mut expired = unfinished;
        if self.book.subscription(subscription).is_some_and(|subscription| subscription.counts.cursor < last)
            && let Some(counts) = self.book.edit_subscription(subscription)
        {
            let ahead = counts.ahead.count();
            counts.ahead.drop_through(last);
            expired += (last - counts.cursor) - (ahead - counts.ahead.count());
            counts.cursor = last;
            counts.ahead.advance(&mut counts.cursor);
        }
        if expired > 0 {
            self.changes.expired.push((subscription, expired));
        }
        Ok(unfinished >= STEP.unsigned_abs())
    }

    /// Settles unfinished messages that were accepted no later than `limit_ms`, a step of them and only up to the first
    /// that is younger; answers how many.
    fn drop_pending(&mut self, subscription: u32, queue: u32, limit_ms: u64) -> rusqlite::Result<u64> {
        let mut select = self.db.prepare_cached(
            "SELECT seq, reason IS NOT NULL, coalesce(enqueued_ms, 0) FROM pending
             LEFT JOIN message ON message.id = ?2 + seq WHERE subscription = ?1 ORDER BY seq LIMIT ?3",
        )?;
        let oldest = select.query_map(params![subscription, row_id(queue, 0), STEP], |row| {
            Ok((unsql(row.get(0)?), row.get::<_, bool>(1)?, unsql(row.get(2)?)))
        })?;
        let is_old = |row: &rusqlite::Result<(u64, bool, u64)>| row.as_ref().map_or(true, |row| row.2 <= limit_ms);
        let gone: Vec<_> = oldest.take_while(is_old).collect::<Result<_, _>>()?;
        let mut delete = self.db.prepare_cached("DELETE FROM pending WHERE subscription = ?1 AND seq = ?2")?;
        for (seq, has_failed, _) in &gone {
            delete.execute(params![subscription, sql(*seq)])?;
            if let Some(counts) = self.book.edit_subscription(subscription) {
                counts.pending -= 1;
                counts.retrying -= u64::from(*has_failed);
            }
            self.remove_straggler(queue, *seq)?;
        }
        Ok(gone.len() as u64)
    }

    /// Forgets orphans that were kept for their queue's retention; whether there were any, whose messages can go now.
    fn forget_orphans(&mut self) -> rusqlite::Result<bool> {
        let now_ms = self.now.settled_ms;
        let is_over = |queue: &Queue, id: &u32| {
            let since = self.book.subscription(*id).and_then(|subscription| subscription.orphaned_ms);
            since.is_some_and(|since_ms| since_ms.saturating_add(millis(queue.policy.retention)) <= now_ms)
        };
        let queues = self.book.queues.iter().flatten();
        let over: Vec<u32> =
            queues.flat_map(|queue| queue.subscriptions.iter().filter(move |id| is_over(queue, id))).copied().collect();
        for &id in &over {
            let messages = self.forget(id)?;
            let Some(subscription) = self.book.subscription(id) else { continue };
            let queue = self.book.queue(subscription.queue).map(|queue| queue.name.to_string());
            let connector = self.book.connector(subscription.connector).map(|connector| connector.name.to_string());
            tracing::warn!(
                queue,
                connector,
                messages,
                "dropped the messages of a connector that left the configuration"
            );
        }
        Ok(!over.is_empty())
    }

    /// Drops everything kept for a subscription but its dead letters; answers how many messages it had not settled.
    pub(super) fn forget(&mut self, id: u32) -> rusqlite::Result<u64> {
        let Some(queue) = self.book.subscription(id).map(|subscription| subscription.queue) else { return Ok(0) };
        let backlog = self.book.backlog(id);
        while self.drop_pending(id, queue, u64::MAX)? > 0 {}
        let (rows, bytes): (i64, i64) = self
            .db
            .prepare_cached("SELECT count(*), coalesce(sum(bytes), 0) FROM parked WHERE subscription = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.db.prepare_cached("DELETE FROM parked WHERE subscription = ?1")?.execute([id])?;
        self.db.prepare_cached("UPDATE subscription SET forgotten = 1 WHERE id = ?1")?.execute([id])?;
        if let Some(counts) = self.book.edit_queue(queue) {
            counts.parked -= unsql(rows);
            counts.parked_bytes -= unsql(bytes);
        }
        if let Some(counts) = self.book.edit_subscription(id) {
            (counts.parked, counts.retrying) = (0, 0);
            counts.ahead = Ranges::default();
        }
        self.changes.is_restructured = true;
        Ok(backlog)
    }

    fn drop_slices(&mut self) -> rusqlite::Result<()> {
        for id in self.dedup.queues() {
            let Some(queue) = self.book.queue(id) else { continue };
            let given_up = self.dedup.expire(self.db, id, &queue.policy, self.now.settled_ms)?;
            if given_up > 0 {
                let queue = queue.name.as_str();
                tracing::warn!(queue, ids = given_up, "forgot ids within their window: `dedup_max` is reached");
            }
        }
        Ok(())
    }

    /// Drops dead letters that were kept for their connector's retention.
    fn drop_letters(&mut self) -> rusqlite::Result<bool> {
        let mut has_more = false;
        let connectors: Vec<(u32, u64)> = (0u32..)
            .zip(&self.book.connectors)
            .filter_map(|(id, connector)| Some((id, connector.as_ref()?.dead_retention_ms)))
            .collect();
        for (connector, retention_ms) in connectors {
            let limit_ms = self.now.settled_ms.saturating_sub(retention_ms);
            let mut select =
                self.db.prepare_cached("SELECT id, died_ms FROM dead WHERE connector = ?1 ORDER BY id LIMIT ?2")?;
            let oldest: Vec<(i64, u64)> = select
                .query_map(params![connector, STEP], |row| Ok((row.get(0)?, unsql(row.get(1)?))))?
                .take_while(|row| row.as_ref().map_or(true, |(_, died_ms)| *died_ms <= limit_ms))
                .collect::<Result<_, _>>()?;
            has_more |= sql(oldest.len() as u64) >= STEP;
            for (id, _) in oldest {
                self.take_letter(id)?;
            }
        }
        Ok(has_more)
    }
}

impl Ledger {
    /// Looks at once after everything that goes by time, which the writer does by itself every second: for who moves the
    /// clock by hand.
    ///
    /// # Errors
    /// The ledger has stopped or could not be changed.
    pub async fn look_after(&self) -> anyhow::Result<()> {
        while self.change(|write| Ok(write.upkeep(Round::Full)?.has_more)).await? {}
        Ok(())
    }

    /// Drops at once what is kept for a connector that left the configuration; answers how many messages it had not
    /// settled, or `None` where there is no such orphan.
    ///
    /// # Errors
    /// The ledger has stopped or could not be changed.
    pub async fn forget(&self, queue: &str, connector: &str) -> anyhow::Result<Option<u64>> {
        let (queue, connector) = (queue.to_owned(), connector.to_owned());
        self.change(move |write| {
            let orphan: Option<u32> = write
                .db
                .prepare_cached(
                    "SELECT subscription.id FROM subscription JOIN queue ON queue.id = queue
                     JOIN connector ON connector.id = connector WHERE queue.name = ?1 AND connector.name = ?2
                     AND orphaned_ms IS NOT NULL AND forgotten = 0",
                )?
                .query_row([&queue, &connector], |row| row.get(0))
                .optional()?;
            orphan.map(|id| write.forget(id)).transpose()
        })
        .await
    }
}
