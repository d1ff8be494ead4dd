//! Remembered ids: which messages are repeats.
//!
//! Ids lie in tables by slice of time; only the youngest slice of a queue is written, the older ones are asked through a
//! Bloom filter in memory, and a slice is dropped as a whole. One unique index over random ids would cost half the
//! throughput and get slower as it grows. Invariant: an id is remembered for exactly the window, bounded by
//! `dedup_max` (a small bound by a slice of ids more).

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::QueuePolicy;
use super::bloom::Bloom;
use super::schema::{sql, unsql};

/// A slice with this many ids is full: its tree stays small enough to be written fast.
const SLICE_ENTRIES_MAX: u64 = 65_536;
/// Nor is it full with fewer, however small `dedup_max` is: a slice is a table.
const SLICE_ENTRIES_MIN: u64 = 1_024;
/// A window is cut into this many slices by time, and a bound by number, so that little is kept longer than needed and
/// little is given up at once.
const SLICES_PER_WINDOW: u64 = 8;
/// No slice is cut by time before this age.
const SLICE_MS_MIN: u64 = 60_000;

/// The first 128 bits of an id's SHA-256.
type Fingerprint = [u8; 16];

/// Whether an id was seen before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is noted now.
    New,
    /// Within the window: the id that the first message got.
    Before(String),
}

/// What is remembered of an accepted message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory<'a> {
    /// By what a repeat is known.
    pub(super) key: &'a str,
    /// The message's id, where the key is another value.
    pub(super) message_id: Option<&'a str>,
    /// What its sender was answered.
    pub(super) answer: Option<&'a [u8]>,
}

/// What was found of an earlier message: its id, and what its sender was answered.
pub(super) type Found = (String, Option<Vec<u8>>);

/// Every queue's slices.
#[derive(Debug, Default)]
pub(super) struct Dedup {
    /// Oldest first; only the last one is written.
    queues: HashMap<u32, Vec<Slice>>,
    /// Slices made or written since the group began.
    created: Vec<(u32, i64)>,
    written: Vec<u32>,
}

#[derive(Debug)]
struct Slice {
    id: i64,
    first_ms: u64,
    last_ms: u64,
    entries: u64,
    /// For slices that are not written any more.
    filter: Option<Bloom>,
    insert: String,
    select: String,
}

impl Slice {
    fn new(id: i64, first_ms: u64) -> Self {
        Self {
            id,
            first_ms,
            last_ms: first_ms,
            entries: 0,
            filter: None,
            // A row whose window has passed is taken over, as if it were new.
            insert: format!(
                "INSERT INTO dedup_{id} (fingerprint, accepted_ms, message_id, answer) VALUES (?1, ?2, ?4, ?5)
                 ON CONFLICT (fingerprint) DO UPDATE SET accepted_ms = excluded.accepted_ms,
                 message_id = excluded.message_id, answer = excluded.answer
                 WHERE accepted_ms + ?3 <= excluded.accepted_ms"
            ),
            select: format!(
                "SELECT message_id, answer FROM dedup_{id} WHERE fingerprint = ?1 AND accepted_ms + ?2 > ?3"
            ),
        }
    }

    fn find(
        &self,
        db: &Connection,
        key: &str,
        fingerprint: &Fingerprint,
        seen: Window,
    ) -> rusqlite::Result<Option<Found>> {
        let found: Option<(Option<String>, Option<Vec<u8>>)> = db
            .prepare_cached(&self.select)?
            .query_row(params![fingerprint, sql(seen.window_ms), sql(seen.now_ms)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(found.map(|(first, answer)| (first.unwrap_or_else(|| key.to_owned()), answer)))
    }

    /// Whether it can hold the key at all; the one that is written always can.
    fn may_hold(&self, fingerprint: &Fingerprint, seen: Window) -> bool {
        !self.is_over(seen) && self.filter.as_ref().is_none_or(|filter| filter.may_hold(fingerprint))
    }

    fn is_done(&self, seen: Window) -> bool {
        let age_max = (seen.window_ms / SLICES_PER_WINDOW).max(SLICE_MS_MIN);
        self.entries >= seen.slice_entries_max() || seen.now_ms.saturating_sub(self.first_ms) >= age_max
    }

    fn is_over(&self, seen: Window) -> bool {
        self.last_ms.saturating_add(seen.window_ms) <= seen.now_ms
    }
}

#[derive(Clone, Copy)]
struct Window {
    window_ms: u64,
    /// `dedup_max`.
    entries_max: u64,
    now_ms: u64,
}

impl Window {
    fn of(policy: &QueuePolicy, now_ms: u64) -> Option<Self> {
        Some(Self { window_ms: super::millis(policy.dedup.or(policy.marks)?), entries_max: policy.dedup_max, now_ms })
    }

    fn slice_entries_max(self) -> u64 {
        (self.entries_max / SLICES_PER_WINDOW).clamp(SLICE_ENTRIES_MIN, SLICE_ENTRIES_MAX)
    }

    /// How many ids are kept at least: a slice less than the bound; or the bound itself, where it is not much more than a
    /// slice and dropping one would leave next to nothing.
    fn entries_kept(self) -> u64 {
        let without_one = self.entries_max.saturating_sub(self.slice_entries_max());
        if without_one < self.entries_max / 2 { self.entries_max } else { without_one }
    }
}

impl Dedup {
    /// Reads the list of slices and their filters.
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut dedup = Self::default();
        let mut statement =
            db.prepare("SELECT queue, id, first_ms, last_ms, entries, filter FROM dedup_slice ORDER BY id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let mut slice = Slice::new(row.get(1)?, unsql(row.get(2)?));
            slice.last_ms = unsql(row.get(3)?);
            slice.entries = unsql(row.get(4)?);
            slice.filter = row.get::<_, Option<Vec<u8>>>(5)?.map(Bloom::from_bytes);
            dedup.queues.entry(row.get(0)?).or_default().push(slice);
        }
        Ok(dedup)
    }

    /// Notes a key, or finds it; without a window every key is new.
    pub(super) fn note(
        &mut self,
        db: &Connection,
        queue: u32,
        policy: &QueuePolicy,
        memory: Memory<'_>,
        now_ms: u64,
    ) -> rusqlite::Result<Seen> {
        let Some(seen) = Window::of(policy, now_ms) else { return Ok(Seen::New) };
        let Memory { key, message_id, answer } = memory;
        let fingerprint = fingerprint(key);
        self.make_room(db, queue, seen)?;
        let Some((current, older)) = self.queues.get_mut(&queue).and_then(|slices| slices.split_last_mut()) else {
            return Ok(Seen::New);
        };
        for slice in older.iter().rev().filter(|slice| slice.may_hold(&fingerprint, seen)) {
            if let Some((first, _)) = slice.find(db, key, &fingerprint, seen)? {
                return Ok(Seen::Before(first));
            }
        }
        let values = params![fingerprint, sql(now_ms), sql(seen.window_ms), message_id, answer];
        let is_new = db.prepare_cached(&current.insert)?.execute(values)? == 1;
        if !is_new {
            let first = current.find(db, key, &fingerprint, seen)?;
            return Ok(Seen::Before(first.map_or_else(|| key.to_owned(), |(first, _)| first)));
        }
        current.entries += 1;
        current.last_ms = current.last_ms.max(now_ms);
        if !self.written.contains(&queue) {
            self.written.push(queue);
        }
        Ok(Seen::New)
    }

    /// What is remembered under a key, if anything.
    pub(super) fn find(
        &self,
        db: &Connection,
        queue: u32,
        policy: &QueuePolicy,
        key: &str,
        now_ms: u64,
    ) -> rusqlite::Result<Option<Found>> {
        let (Some(seen), Some(slices)) = (Window::of(policy, now_ms), self.queues.get(&queue)) else { return Ok(None) };
        let fingerprint = fingerprint(key);
        for slice in slices.iter().rev().filter(|slice| slice.may_hold(&fingerprint, seen)) {
            if let Some(found) = slice.find(db, key, &fingerprint, seen)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Begins a new slice where the current one is full or old.
    fn make_room(&mut self, db: &Connection, queue: u32, seen: Window) -> rusqlite::Result<()> {
        let slices = self.queues.entry(queue).or_default();
        if let Some(current) = slices.last_mut() {
            if !current.is_done(seen) {
                return Ok(());
            }
            close(db, current)?;
        }
        let id: i64 = db
            .prepare_cached(
                "INSERT INTO dedup_slice (queue, first_ms, last_ms, entries) VALUES (?1, ?2, ?2, 0) RETURNING id",
            )?
            .query_row(params![queue, sql(seen.now_ms)], |row| row.get(0))?;
        // `message_id` and `answer` are for what is remembered beside the id: that of the first message where another
        // value made this one a repeat, and what was answered to it.
        db.execute_batch(&format!(
            "CREATE TABLE dedup_{id} (fingerprint BLOB PRIMARY KEY, accepted_ms INTEGER NOT NULL, message_id TEXT,
             answer BLOB) STRICT, WITHOUT ROWID"
        ))?;
        slices.push(Slice::new(id, seen.now_ms));
        self.created.push((queue, id));
        Ok(())
    }

    /// Where the slices stand now.
    pub(super) fn mark(&self) -> usize {
        self.created.len()
    }

    /// Forgets slices that were made after the mark: their tables are rolled back.
    pub(super) fn rewind(&mut self, mark: usize) {
        for (queue, id) in self.created.drain(mark..) {
            if let Some(slices) = self.queues.get_mut(&queue) {
                slices.retain(|slice| slice.id != id);
            }
        }
    }

    /// Writes what the group has changed, within its transaction.
    pub(super) fn flush(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut update = db.prepare_cached("UPDATE dedup_slice SET last_ms = ?2, entries = ?3 WHERE id = ?1")?;
        for slice in self.written.iter().filter_map(|queue| self.queues.get(queue)?.last()) {
            update.execute(params![slice.id, sql(slice.last_ms), sql(slice.entries)])?;
        }
        Ok(())
    }

    /// The group is on disk.
    pub(super) fn committed(&mut self) {
        self.created.clear();
        self.written.clear();
    }

    /// Drops slices whose window has passed, and the oldest ones beyond the bound.
    /// Answers how many ids were given up although their window had not passed.
    pub(super) fn expire(
        &mut self,
        db: &Connection,
        queue: u32,
        policy: &QueuePolicy,
        now_ms: u64,
    ) -> rusqlite::Result<u64> {
        let nothing = Window { window_ms: 0, entries_max: 0, now_ms };
        let seen = Window::of(policy, now_ms).unwrap_or(nothing);
        let Some(slices) = self.queues.get(&queue) else { return Ok(0) };
        let mut total: u64 = slices.iter().map(|slice| slice.entries).sum();
        let mut gone = Vec::new();
        let mut given_up = 0;
        let kept = seen.entries_kept();
        for slice in slices {
            let is_over = slice.is_over(seen);
            if !is_over && (total <= seen.entries_max || total - slice.entries < kept) {
                break;
            }
            total -= slice.entries;
            given_up += if is_over { 0 } else { slice.entries };
            gone.push(slice.id);
        }
        for id in &gone {
            db.execute_batch(&format!("DROP TABLE IF EXISTS dedup_{id}"))?;
            db.prepare_cached("DELETE FROM dedup_slice WHERE id = ?1")?.execute([id])?;
        }
        if let Some(slices) = self.queues.get_mut(&queue) {
            slices.retain(|slice| !gone.contains(&slice.id));
        }
        Ok(given_up)
    }

    /// Every queue that remembers ids.
    pub(super) fn queues(&self) -> Vec<u32> {
        self.queues.iter().filter(|(_, slices)| !slices.is_empty()).map(|(queue, _)| *queue).collect()
    }
}

/// Gives a slice that will not be written any more its filter.
fn close(db: &Connection, slice: &mut Slice) -> rusqlite::Result<()> {
    if slice.filter.is_some() {
        return Ok(());
    }
    let mut filter = Bloom::for_entries(slice.entries);
    let mut statement = db.prepare(&format!("SELECT fingerprint FROM dedup_{}", slice.id))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        filter.insert(&row.get::<_, Fingerprint>(0)?);
    }
    db.prepare_cached("UPDATE dedup_slice SET filter = ?2, last_ms = ?3, entries = ?4 WHERE id = ?1")?
        .execute(params![slice.id, filter.as_bytes(), sql(slice.last_ms), sql(slice.entries)])?;
    slice.filter = Some(filter);
    Ok(())
}

fn fingerprint(id: &str) -> Fingerprint {
    let mut short = Fingerprint::default();
    short.copy_from_slice(&Sha256::digest(id.as_bytes())[..16]);
    short
}
