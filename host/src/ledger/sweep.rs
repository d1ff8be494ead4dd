//! Removal of messages that every subscription has settled.
//!
//! Runs in the same commits as the settlements, as range deletes. A message that one subscription has not finished is
//! left behind as a straggler while the range around it goes, and removed alone when it is settled. Invariant: `removed`
//! never passes a message that some subscription has not looked at.

use rusqlite::{OptionalExtension, params};

use super::schema::{row_id, sql, unsql};
use super::write::Write;
use crate::planted::{self, Bug};

/// Rows removed from one queue in one commit: a long range must not hold up what waits behind it.
const REMOVED_MAX: u64 = 16_384;

impl Write<'_> {
    /// Removes what this group has settled.
    pub(super) fn remove_settled(&mut self) -> rusqlite::Result<()> {
        let mut queues: Vec<u32> = self
            .book
            .touched_subscriptions()
            .iter()
            .filter_map(|id| self.book.subscription(*id).map(|subscription| subscription.queue))
            .collect();
        queues.sort_unstable();
        queues.dedup();
        queues.into_iter().try_for_each(|queue| self.remove_settled_of(queue).map(drop))
    }

    /// Removes from one queue what its subscriptions have all looked at; answers whether more is left to remove.
    pub(super) fn remove_settled_of(&mut self, id: u32) -> rusqlite::Result<bool> {
        let Some(queue) = self.book.queue(id) else { return Ok(false) };
        if queue.policy.keep.is_some() {
            return Ok(false);
        }
        let cursors = queue.subscriptions.iter().filter_map(|id| self.book.subscription(*id));
        let Some(floor) = cursors.map(|subscription| subscription.counts.cursor).min() else { return Ok(false) };
        self.remove_through(id, floor)
    }

    /// Removes a queue's messages up to `floor`, stragglers excepted, at most [`REMOVED_MAX`] of them.
    pub(super) fn remove_through(&mut self, id: u32, floor: u64) -> rusqlite::Result<bool> {
        let Some(queue) = self.book.queue(id) else { return Ok(false) };
        let from = queue.counts.removed + 1;
        if floor < from {
            return Ok(false);
        }
        let last = floor.min(from + REMOVED_MAX - 1);
        let has_pending = queue
            .subscriptions
            .iter()
            .filter_map(|id| self.book.subscription(*id))
            .any(|subscription| subscription.counts.pending > 0 && !planted::has(Bug::DropOnRotation));
        let total: Option<i64> = self
            .db
            .prepare_cached("SELECT total FROM message WHERE id = ?1")?
            .query_row([row_id(id, last)], |row| row.get(0))
            .optional()?;
        let removed = if has_pending { self.delete_but_pending(id, from, last)? } else { self.delete(id, from, last)? };
        let left = (last - from + 1).saturating_sub(removed as u64);
        let (stragglers, bytes) = if left > 0 { self.left_between(id, from, last)? } else { (0, 0) };
        if let Some(counts) = self.book.edit_queue(id) {
            counts.removed = last;
            counts.removed_bytes = total.map_or(counts.removed_bytes, unsql);
            counts.stragglers += stragglers;
            counts.straggler_bytes += bytes;
        }
        Ok(last < floor)
    }

    fn delete(&self, queue: u32, from: u64, last: u64) -> rusqlite::Result<usize> {
        self.db
            .prepare_cached("DELETE FROM message WHERE id BETWEEN ?1 AND ?2")?
            .execute([row_id(queue, from), row_id(queue, last)])
    }

    fn delete_but_pending(&self, queue: u32, from: u64, last: u64) -> rusqlite::Result<usize> {
        self.db
            .prepare_cached(
                "DELETE FROM message WHERE id BETWEEN ?1 AND ?2 AND NOT EXISTS (
                 SELECT 1 FROM subscription JOIN pending ON pending.subscription = subscription.id
                 WHERE subscription.queue = ?3 AND pending.seq = message.id & 0xffffffffff)",
            )?
            .execute(params![row_id(queue, from), row_id(queue, last), queue])
    }

    fn left_between(&self, queue: u32, from: u64, last: u64) -> rusqlite::Result<(u64, u64)> {
        self.db
            .prepare_cached("SELECT count(*), coalesce(sum(bytes), 0) FROM message WHERE id BETWEEN ?1 AND ?2")?
            .query_row([row_id(queue, from), row_id(queue, last)], |row| Ok((unsql(row.get(0)?), unsql(row.get(1)?))))
    }

    /// Removes a message that was left behind, if nobody needs it any more.
    pub(super) fn remove_straggler(&mut self, queue: u32, seq: u64) -> rusqlite::Result<()> {
        if self.book.queue(queue).is_none_or(|queue| seq > queue.counts.removed) {
            return Ok(());
        }
        let bytes: Option<i64> = self
            .db
            .prepare_cached(
                "DELETE FROM message WHERE id = ?1 AND NOT EXISTS (
                 SELECT 1 FROM subscription JOIN pending ON pending.subscription = subscription.id
                 WHERE subscription.queue = ?2 AND pending.seq = ?3) RETURNING bytes",
            )?
            .query_row(params![row_id(queue, seq), queue, sql(seq)], |row| row.get(0))
            .optional()?;
        if let (Some(bytes), Some(counts)) = (bytes, self.book.edit_queue(queue)) {
            counts.stragglers -= 1;
            counts.straggler_bytes -= unsql(bytes);
        }
        Ok(())
    }
}
