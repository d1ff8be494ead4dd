//! One transaction's view of the ledger: the open connection, the counters and the time.
//!
//! Owns how a message enters the log. What a settlement does with it is in `settle`, removal in `sweep`.
//! Invariant: counters change together with the rows they count.

use rusqlite::{CachedStatement, Connection, params};

use super::Appended;
use super::book::Book;
use super::checksum::Parts;
use super::configure::Policies;
use super::dedup::{Dedup, Memory, Seen};
use super::schema::{row_id, sql};
use crate::clock::Now;
use crate::message::{DELAY_MS_MAX, Draft, Header, Message};
use crate::settlement::{Publish, QueueId};

/// A transaction under way.
pub(super) struct Write<'a> {
    pub(super) db: &'a Connection,
    pub(super) book: &'a mut Book,
    pub(super) dedup: &'a mut Dedup,
    pub(super) changes: &'a mut Changes,
    pub(super) now: Now,
}

/// What readers and metrics learn once the transaction is on disk.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Queues with something new to read outside their log.
    pub(super) redriven: Vec<u32>,
    /// Repeats dropped, by queue.
    pub(super) duplicates: Vec<u32>,
    /// Copies that routes did not make, by queue.
    pub(super) unrouted: Vec<(u32, u64)>,
    /// Messages expired, by subscription.
    pub(super) expired: Vec<(u32, u64)>,
    /// When the first message that was delayed here falls due.
    pub(super) delayed_ms: Option<u64>,
    /// A layout was applied: its policies.
    pub(super) laid_out: Option<Policies>,
    /// Subscriptions were made or forgotten: the book must be read again.
    pub(super) is_restructured: bool,
}

impl Write<'_> {
    /// Accepts a message: into the log, or aside when it is delayed.
    pub(super) fn accept(&mut self, queue: QueueId, draft: &Draft) -> rusqlite::Result<Appended> {
        let mut log = Log::open(self.db)?;
        self.accept_into(&mut log, queue, draft)
    }

    /// Accepts messages with one prepared statement.
    pub(super) fn accept_all<'d>(
        &mut self,
        drafts: impl Iterator<Item = (QueueId, &'d Draft)>,
    ) -> rusqlite::Result<Vec<Appended>> {
        let mut log = Log::open(self.db)?;
        drafts.map(|(queue, draft)| self.accept_into(&mut log, queue, draft)).collect()
    }

    /// Accepts what a settlement publishes: nobody waits for its ids.
    pub(super) fn publish_all(&mut self, publishes: &[Publish]) -> rusqlite::Result<()> {
        let mut log = Log::open(self.db)?;
        publishes.iter().try_for_each(|publish| self.store_and_copy(&mut log, publish.queue, &publish.draft).map(drop))
    }

    fn accept_into(&mut self, log: &mut Log<'_>, queue: QueueId, draft: &Draft) -> rusqlite::Result<Appended> {
        let first = self.store_and_copy(log, queue, draft)?;
        Ok(Appended { duplicate: first.is_some(), id: first.unwrap_or_else(|| draft.id.clone()) })
    }

    fn store_and_copy(&mut self, log: &mut Log<'_>, queue: QueueId, draft: &Draft) -> rusqlite::Result<Option<String>> {
        let first = self.store(log, queue, draft)?;
        if first.is_none() && self.book.queue(queue.0).is_some_and(|queue| !queue.routes.is_empty()) {
            self.copy_along_routes(log, queue, draft)?;
        }
        Ok(first)
    }

    /// Stores a message; where the queue had it already, nothing is stored, and the id of the first one is answered.
    pub(super) fn store(
        &mut self,
        log: &mut Log<'_>,
        queue: QueueId,
        draft: &Draft,
    ) -> rusqlite::Result<Option<String>> {
        let Some(entry) = self.book.queue(queue.0) else { return Err(rusqlite::Error::QueryReturnedNoRows) };
        let policy = &entry.policy;
        if policy.dedup.is_some() {
            let memory = Memory { key: &draft.id, message_id: None, answer: None };
            let seen = self.dedup.note(self.db, queue.0, policy, memory, self.now.settled_ms)?;
            if let Seen::Before(first) = seen {
                self.changes.duplicates.push(queue.0);
                return Ok(Some(first));
            }
        }
        let expires_ms = self.expires_ms(queue, draft);
        match draft.delay_ms {
            Some(delay_ms) if delay_ms > 0 => self.park(queue, draft, delay_ms, expires_ms)?,
            _ => self.append(log, queue, &Row::of(draft, self.now.due_ms, expires_ms))?,
        }
        Ok(None)
    }

    fn expires_ms(&self, queue: QueueId, draft: &Draft) -> Option<u64> {
        let of_queue = self.book.queue(queue.0).and_then(|queue| queue.policy.expires).map(super::millis);
        let shortest = match (draft.expires_ms, of_queue) {
            (Some(own), Some(queue)) => Some(own.min(queue)),
            (own, queue) => own.or(queue),
        };
        shortest.map(|expires_ms| self.now.due_ms.saturating_add(expires_ms))
    }

    /// Appends one row to its queue's log.
    pub(super) fn append(&mut self, log: &mut Log<'_>, queue: QueueId, row: &Row<'_>) -> rusqlite::Result<()> {
        let Some(counts) = self.book.edit_queue(queue.0) else { return Ok(()) };
        counts.tail += 1;
        counts.tail_bytes += row.bytes;
        row.insert(&mut log.insert, row_id(queue.0, counts.tail), counts.tail_bytes)
    }

    fn park(&mut self, queue: QueueId, draft: &Draft, delay_ms: u64, expires_ms: Option<u64>) -> rusqlite::Result<()> {
        let row = Row::of(draft, self.now.due_ms, expires_ms);
        let due_ms = self.now.due_ms + delay_ms.min(DELAY_MS_MAX);
        let mut insert = self.db.prepare_cached(
            "INSERT INTO parked (queue, due_ms, attempts, bytes, enqueued_ms, expires_ms, hops, message_id, key,
             parent, headers, body, checksum) VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        row.insert(&mut insert, i64::from(queue.0), due_ms)?;
        self.changes.delayed_ms = Some(self.changes.delayed_ms.map_or(due_ms, |first_ms| first_ms.min(due_ms)));
        if let Some(counts) = self.book.edit_queue(queue.0) {
            counts.parked += 1;
            counts.parked_bytes += row.bytes;
        }
        Ok(())
    }
}

/// The prepared insert into the log.
pub(super) struct Log<'db> {
    insert: CachedStatement<'db>,
}

impl<'db> Log<'db> {
    /// Prepares it, or takes it from the cache.
    pub(super) fn open(db: &'db Connection) -> rusqlite::Result<Self> {
        let insert = db.prepare_cached(
            "INSERT INTO message (id, total, bytes, enqueued_ms, expires_ms, hops, message_id, key, parent, headers, body,
             checksum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?;
        Ok(Self { insert })
    }
}

/// A message on its way into a table.
pub(super) struct Row<'m> {
    pub(super) bytes: u64,
    pub(super) enqueued_ms: u64,
    pub(super) expires_ms: Option<u64>,
    pub(super) hops: u32,
    pub(super) message_id: &'m str,
    pub(super) key: Option<&'m str>,
    pub(super) parent: Option<&'m str>,
    pub(super) headers: Option<String>,
    pub(super) body: &'m [u8],
}

impl<'m> Row<'m> {
    fn of(draft: &'m Draft, enqueued_ms: u64, expires_ms: Option<u64>) -> Self {
        Self {
            bytes: draft.size_bytes(),
            enqueued_ms,
            expires_ms,
            hops: draft.hops,
            message_id: &draft.id,
            key: draft.key.as_deref(),
            parent: draft.parent.as_deref(),
            headers: headers_to_text(&draft.headers),
            body: &draft.body,
        }
    }

    /// Carries out an insert whose first two columns are the table's own, and the rest the message's.
    fn insert(&self, insert: &mut CachedStatement<'_>, first: i64, second: u64) -> rusqlite::Result<()> {
        insert.execute(params![
            first,
            sql(second),
            sql(self.bytes),
            sql(self.enqueued_ms),
            self.expires_ms.map(sql),
            self.hops,
            self.message_id,
            self.key,
            self.parent,
            self.headers,
            self.body,
            self.checksum(),
        ])?;
        Ok(())
    }

    fn checksum(&self) -> u32 {
        let Self { message_id: id, key, parent, body, .. } = *self;
        Parts { id, key, parent, headers: self.headers.as_deref(), body }.checksum()
    }

    /// A message that was stored before, as it was accepted.
    pub(super) fn again(message: &'m Message, bytes: u64) -> Self {
        Self {
            bytes,
            enqueued_ms: message.enqueued_at_ms,
            expires_ms: message.expires_at_ms,
            hops: message.hops,
            message_id: &message.id,
            key: message.key.as_deref(),
            parent: message.parent.as_deref(),
            headers: headers_to_text(&message.headers),
            body: &message.body,
        }
    }
}

/// Headers as they are stored; `None` where there are none.
fn headers_to_text(headers: &[Header]) -> Option<String> {
    if headers.is_empty() {
        return None;
    }
    // Pairs of strings always make JSON.
    serde_json::to_string(headers).ok()
}

/// Headers as they were stored.
pub(super) fn headers_of_text(text: Option<&str>) -> Vec<Header> {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
