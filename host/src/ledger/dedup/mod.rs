//! Remembered ids: which messages are repeats.
//!
//! Ids lie in slices by time ([`slice`]); only the youngest slice of a queue is written, the older ones are asked through
//! a Bloom filter in memory, and a slice is dropped as a whole. One unique index over random ids would write a page for
//! each id and get slower as it grows. Invariant: an id is remembered for exactly the window, bounded by `dedup_max` (a
//! small bound by a slice of ids more).

mod bloom;
mod remembered;
mod slice;

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::QueuePolicy;
use super::schema::sql;
use remembered::Ids;
use slice::Slice;

pub(super) use remembered::Remembered;

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
    /// As of the last commit.
    remembered: Arc<Remembered>,
    /// Noted since then: the slice and the row.
    staged: HashMap<(u32, Fingerprint), (i64, u32)>,
    /// What was changed since then, in order.
    undo: Vec<Change>,
}

/// A change that a rollback takes back.
#[derive(Debug)]
enum Change {
    /// An id was noted, over what was noted before in the same group.
    Noted(u32, Fingerprint, Option<(i64, u32)>),
    /// A slice was begun, and the one before it closed.
    Begun(u32, i64),
    /// Slices were dropped; that is not taken back, for they are of no use any more.
    Dropped(u32),
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

impl Slice {
    /// Whether it is full, or covers its share of the window.
    fn is_done(&self, seen: Window) -> bool {
        let age_max = (seen.window_ms / SLICES_PER_WINDOW).max(SLICE_MS_MIN);
        self.entries >= seen.slice_entries_max() || seen.now_ms.saturating_sub(self.first_ms) >= age_max
    }

    /// Whether it is closed and can hold the id.
    fn may_hold(&self, fingerprint: &Fingerprint, seen: Window) -> bool {
        !self.is_over(seen) && self.filter.as_ref().is_some_and(|filter| filter.may_hold(fingerprint))
    }
}

impl Dedup {
    /// Reads the list of slices and their filters, and the ids of those that are written.
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut dedup = Self::default();
        for (queue, slice) in Slice::all(db)? {
            dedup.queues.entry(queue).or_default().push(slice);
        }
        let mut known = HashMap::new();
        for (queue, slices) in &mut dedup.queues {
            let Some((current, older)) = slices.split_last_mut() else { continue };
            for slice in older.iter_mut().filter(|slice| slice.filter.is_none()) {
                slice.close(db, &slice.read(db)?)?;
            }
            let older = older.iter().filter_map(|slice| slice.filter.clone()).collect();
            known.insert(*queue, Ids { slice: current.id, recent: current.read(db)?, older });
        }
        dedup.remembered.change(|ids| *ids = known);
        Ok(dedup)
    }

    /// What anybody may ask without the writer.
    pub(super) fn remembered(&self) -> Arc<Remembered> {
        self.remembered.clone()
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
        let fingerprint = fingerprint(memory.key);
        self.make_room(db, queue, seen)?;
        if let Some((first, _)) = self.look(db, queue, memory.key, &fingerprint, seen)? {
            return Ok(Seen::Before(first));
        }
        let Some(current) = self.queues.get_mut(&queue).and_then(|slices| slices.last_mut()) else {
            return Ok(Seen::New);
        };
        let row = current.note(db, &fingerprint, memory, now_ms)?;
        let before = self.staged.insert((queue, fingerprint), (current.id, row));
        self.undo.push(Change::Noted(queue, fingerprint, before));
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
        let Some(seen) = Window::of(policy, now_ms) else { return Ok(None) };
        self.look(db, queue, key, &fingerprint(key), seen)
    }

    fn look(
        &self,
        db: &Connection,
        queue: u32,
        key: &str,
        fingerprint: &Fingerprint,
        seen: Window,
    ) -> rusqlite::Result<Option<Found>> {
        let Some(slices) = self.queues.get(&queue) else { return Ok(None) };
        let staged = self.staged.get(&(queue, *fingerprint)).copied();
        if let Some((id, row)) = staged.or_else(|| self.remembered.recent(queue, fingerprint))
            && let Some(slice) = slices.iter().rev().find(|slice| slice.id == id)
            && let Some(found) = slice.look(db, row, key, fingerprint, seen)?
        {
            return Ok(Some(found));
        }
        for slice in slices.iter().rev().filter(|slice| slice.may_hold(fingerprint, seen)) {
            if let Some(found) = slice.find(db, key, fingerprint, seen)? {
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
            let mut ids = self.remembered.of_slice(queue, current.id);
            let of_slice = self.staged.iter().filter(|((of, _), (slice, _))| *of == queue && *slice == current.id);
            ids.extend(of_slice.map(|((_, fingerprint), (_, row))| (*fingerprint, *row)));
            current.close(db, &ids)?;
        }
        let slice = Slice::make(db, queue, seen.now_ms)?;
        self.undo.push(Change::Begun(queue, slice.id));
        slices.push(slice);
        Ok(())
    }

    /// Where the ids stand now.
    pub(super) fn mark(&self) -> usize {
        self.undo.len()
    }

    /// Forgets what was noted and begun after the mark: it is rolled back.
    pub(super) fn rewind(&mut self, mark: usize) {
        for change in self.undo.drain(mark.min(self.undo.len())..).rev() {
            match change {
                Change::Noted(queue, fingerprint, Some(before)) => {
                    self.staged.insert((queue, fingerprint), before);
                }
                Change::Noted(queue, fingerprint, None) => drop(self.staged.remove(&(queue, fingerprint))),
                Change::Begun(queue, id) => {
                    let slices = self.queues.entry(queue).or_default();
                    slices.retain(|slice| slice.id != id);
                    if let Some(current) = slices.last_mut() {
                        current.filter = None;
                    }
                }
                Change::Dropped(_) => {}
            }
        }
    }

    /// Writes what the group has changed, within its transaction.
    pub(super) fn flush(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut update = db.prepare_cached("UPDATE dedup_slice SET last_ms = ?2, entries = ?3 WHERE id = ?1")?;
        for slice in self.touched().into_iter().filter_map(|queue| self.queues.get(&queue)?.last()) {
            update.execute(params![slice.id, sql(slice.last_ms), sql(slice.entries)])?;
        }
        Ok(())
    }

    /// The queues that the group has changed, each once.
    fn touched(&self) -> Vec<u32> {
        let mut touched: Vec<u32> = Vec::new();
        for change in &self.undo {
            let (Change::Noted(queue, ..) | Change::Begun(queue, _) | Change::Dropped(queue)) = change;
            if !touched.contains(queue) {
                touched.push(*queue);
            }
        }
        touched
    }

    /// The group is on disk.
    pub(super) fn committed(&mut self) {
        if self.undo.is_empty() {
            return;
        }
        let (touched, queues, staged) = (self.touched(), &self.queues, &mut self.staged);
        self.remembered.change(|known| {
            for queue in touched {
                let Some((current, older)) = queues.get(&queue).and_then(|slices| slices.split_last()) else {
                    known.remove(&queue);
                    continue;
                };
                let ids = known.entry(queue).or_default();
                if ids.slice != current.id {
                    *ids = Ids { slice: current.id, ..Ids::default() };
                }
                if ids.older.len() != older.len() {
                    ids.older = older.iter().filter_map(|slice| slice.filter.clone()).collect();
                }
            }
            for ((queue, fingerprint), (slice, row)) in staged.drain() {
                if let Some(ids) = known.get_mut(&queue).filter(|ids| ids.slice == slice) {
                    ids.recent.insert(fingerprint, row);
                }
            }
        });
        self.undo.clear();
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
        gone.iter().try_for_each(|id| Slice::remove(db, *id))?;
        if let Some(slices) = self.queues.get_mut(&queue).filter(|_| !gone.is_empty()) {
            slices.retain(|slice| !gone.contains(&slice.id));
            self.undo.push(Change::Dropped(queue));
        }
        Ok(given_up)
    }

    /// Every queue that remembers ids.
    pub(super) fn queues(&self) -> Vec<u32> {
        self.queues.iter().filter(|(_, slices)| !slices.is_empty()).map(|(queue, _)| *queue).collect()
    }
}

fn fingerprint(id: &str) -> Fingerprint {
    let mut short = Fingerprint::default();
    short.copy_from_slice(&Sha256::digest(id.as_bytes())[..16]);
    short
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::super::schema;
    use super::*;

    const QUEUE: u32 = 1;

    fn ledger() -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        #[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
        let mut db = Connection::open(folder.path().join("ledger.db")).unwrap();
        schema::migrate(&mut db).unwrap();
        db.execute("INSERT INTO queue (id, name) VALUES (?1, 'q')", [QUEUE]).unwrap();
        (folder, db)
    }

    /// Remembers for an hour, in the smallest slices.
    fn policy() -> QueuePolicy {
        QueuePolicy {
            dedup: Some(Duration::from_secs(3600)),
            dedup_max: 4 * SLICE_ENTRIES_MIN,
            ..QueuePolicy::default()
        }
    }

    /// Notes so many keys in one transaction, which is not ended; how many of them were new.
    fn note(dedup: &mut Dedup, db: &Connection, keys: std::ops::Range<u64>) -> usize {
        db.execute_batch("BEGIN").unwrap();
        let mut is_new = |number: u64| {
            let key = format!("k{number}");
            let memory = Memory { key: &key, message_id: None, answer: None };
            dedup.note(db, QUEUE, &policy(), memory, 1_000).unwrap() == Seen::New
        };
        keys.filter(|number| is_new(*number)).count()
    }

    fn commit(dedup: &mut Dedup, db: &Connection) {
        dedup.flush(db).unwrap();
        db.execute_batch("COMMIT").unwrap();
        dedup.committed();
    }

    fn roll_back(dedup: &mut Dedup, db: &Connection) {
        db.execute_batch("ROLLBACK").unwrap();
        dedup.rewind(0);
    }

    #[test]
    fn what_is_rolled_back_is_new_again_and_nothing_else_is() {
        let (_folder, db) = ledger();
        let mut dedup = Dedup::load(&db).unwrap();
        let before = SLICE_ENTRIES_MIN - 10;
        assert_eq!(note(&mut dedup, &db, 0..before) as u64, before);
        commit(&mut dedup, &db);
        // It fills the slice, closes it, and begins the next one; twice, for what is undone must be done again.
        for _ in 0..2 {
            assert_eq!(note(&mut dedup, &db, before..before + 20), 20);
            roll_back(&mut dedup, &db);
        }
        assert_eq!(note(&mut dedup, &db, 0..before + 20), 20);
        commit(&mut dedup, &db);
        assert_eq!(note(&mut dedup, &db, 0..before + 20), 0);
        commit(&mut dedup, &db);
        let mut loaded = Dedup::load(&db).unwrap();
        assert_eq!(note(&mut loaded, &db, 0..before + 21), 1);
    }

    #[test]
    fn whoever_asks_beside_the_writer_sees_what_is_committed() {
        let (_folder, db) = ledger();
        let mut dedup = Dedup::load(&db).unwrap();
        let known = dedup.remembered();
        let keys = 0..3 * SLICE_ENTRIES_MIN;
        note(&mut dedup, &db, keys.clone());
        assert!(!known.may_know(QUEUE, "k0"), "not committed");
        commit(&mut dedup, &db);
        assert!(keys.clone().all(|number| known.may_know(QUEUE, &format!("k{number}"))));
        assert!(!known.may_know(QUEUE + 1, "k0"));
    }

    #[test]
    fn ids_of_a_file_of_before_version_5_are_still_known() {
        let (_folder, db) = ledger();
        for id in 1..=2 {
            let filter: Option<&[u8]> = (id == 1).then_some(&[]);
            let insert =
                "INSERT INTO dedup_slice (id, queue, first_ms, last_ms, entries, filter) VALUES (?1, ?2, 1, 1, 1, ?3)";
            db.execute(insert, params![id, QUEUE, filter]).unwrap();
            db.execute_batch(&format!(
                "CREATE TABLE dedup_{id} (fingerprint BLOB PRIMARY KEY, accepted_ms INTEGER NOT NULL, message_id TEXT,
                 answer BLOB) STRICT, WITHOUT ROWID"
            ))
            .unwrap();
            let row = params![fingerprint(&format!("k{id}")), format!("message-{id}")];
            db.execute(&format!("INSERT INTO dedup_{id} VALUES (?1, 1, ?2, NULL)"), row).unwrap();
        }
        let mut dedup = Dedup::load(&db).unwrap();
        for id in 1..=2 {
            let found = dedup.find(&db, QUEUE, &policy(), &format!("k{id}"), 1_000).unwrap();
            assert_eq!(found.map(|(first, _)| first), Some(format!("message-{id}")));
        }
        assert_eq!(note(&mut dedup, &db, 1..4), 1);
        commit(&mut dedup, &db);
        assert_eq!(note(&mut Dedup::load(&db).unwrap(), &db, 1..4), 0, "nor is anything converted twice");
    }
}
