//! One slice: the ids of a queue that were accepted in one stretch of time, in a table of its own.
//!
//! Rows are only appended, so that a commit writes few pages. Where each id stands is known from memory while the slice
//! is written; when it is full, its places are stored once, sorted, in pieces that are found by their first fingerprint.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::bloom::Bloom;
use super::{Fingerprint, Found, Memory, Window};
use crate::ledger::schema::{sql, unsql};

/// Places in one piece: a row that fits a page well.
const PIECE_PLACES: usize = 128;
/// Bytes of one place: the beginning of the fingerprint, and the row.
const PLACE_BYTES: usize = 12;

#[derive(Debug)]
pub(super) struct Slice {
    pub(super) id: i64,
    pub(super) first_ms: u64,
    pub(super) last_ms: u64,
    pub(super) entries: u64,
    /// For slices that are not written any more.
    pub(super) filter: Option<Arc<Bloom>>,
    insert: String,
    select: String,
}

impl Slice {
    pub(super) fn new(id: i64, first_ms: u64) -> Self {
        Self {
            id,
            first_ms,
            last_ms: first_ms,
            entries: 0,
            filter: None,
            insert: format!(
                "INSERT INTO dedup_{id} (n, fingerprint, accepted_ms, message_id, answer) VALUES (?1, ?2, ?3, ?4, ?5)"
            ),
            select: format!(
                "SELECT message_id, answer FROM dedup_{id} WHERE n = ?1 AND fingerprint = ?2 AND accepted_ms + ?3 > ?4"
            ),
        }
    }

    /// Makes a new one for a queue.
    pub(super) fn make(db: &Connection, queue: u32, now_ms: u64) -> rusqlite::Result<Self> {
        let id: i64 = db
            .prepare_cached(
                "INSERT INTO dedup_slice (queue, first_ms, last_ms, entries, form) VALUES (?1, ?2, ?2, 0, 2) RETURNING id",
            )?
            .query_row(params![queue, sql(now_ms)], |row| row.get(0))?;
        make_table(db, id)?;
        Ok(Self::new(id, now_ms))
    }

    /// Every slice there is, with its queue, the oldest first; all in today's form.
    pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<(u32, Self)>> {
        let mut statement =
            db.prepare("SELECT queue, id, first_ms, last_ms, entries, filter, form FROM dedup_slice ORDER BY id")?;
        let read = |row: &Row<'_>| {
            let mut slice = Self::new(row.get(1)?, unsql(row.get(2)?));
            slice.last_ms = unsql(row.get(3)?);
            slice.entries = unsql(row.get(4)?);
            slice.filter = row.get::<_, Option<Vec<u8>>>(5)?.map(|bytes| Arc::new(Bloom::from_bytes(bytes)));
            let is_of_before = row.get::<_, i64>(6)? == 1;
            Ok((row.get(0)?, slice, is_of_before))
        };
        let found = statement.query_map([], read)?.collect::<rusqlite::Result<Vec<_>>>()?;
        let in_form = |(queue, mut slice, is_of_before): (u32, Self, bool)| {
            if is_of_before {
                slice.convert(db)?;
            }
            Ok((queue, slice))
        };
        found.into_iter().map(in_form).collect()
    }

    /// Brings one of before version 5, whose table is clustered by fingerprint, into today's form.
    fn convert(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let id = self.id;
        let change = db.unchecked_transaction()?;
        change.execute_batch(&format!("ALTER TABLE dedup_{id} RENAME TO dedup_before"))?;
        make_table(&change, id)?;
        change.execute_batch(&format!(
            "INSERT INTO dedup_{id} (fingerprint, accepted_ms, message_id, answer)
             SELECT fingerprint, accepted_ms, message_id, answer FROM dedup_before ORDER BY accepted_ms;
             DROP TABLE dedup_before;
             UPDATE dedup_slice SET form = 2, filter = NULL,
             entries = (SELECT count(*) FROM dedup_{id}) WHERE id = {id}"
        ))?;
        self.entries =
            change.query_row(&format!("SELECT count(*) FROM dedup_{id}"), [], |row| row.get(0)).map(unsql)?;
        self.filter = None;
        change.commit()
    }

    /// Every id in its table with the youngest of its rows.
    pub(super) fn read(&self, db: &Connection) -> rusqlite::Result<HashMap<Fingerprint, u32>> {
        let mut statement = db.prepare(&format!("SELECT fingerprint, n FROM dedup_{} ORDER BY n", self.id))?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    }

    /// Appends a row; answers which.
    pub(super) fn note(
        &mut self,
        db: &Connection,
        fingerprint: &Fingerprint,
        memory: Memory<'_>,
        now_ms: u64,
    ) -> rusqlite::Result<u32> {
        self.entries += 1;
        self.last_ms = self.last_ms.max(now_ms);
        let row = u32::try_from(self.entries).unwrap_or(u32::MAX);
        let Memory { message_id, answer, .. } = memory;
        db.prepare_cached(&self.insert)?.execute(params![row, fingerprint, sql(now_ms), message_id, answer])?;
        Ok(row)
    }

    /// What a row remembers, where it is of this id and within the window.
    pub(super) fn look(
        &self,
        db: &Connection,
        row: u32,
        key: &str,
        fingerprint: &Fingerprint,
        seen: Window,
    ) -> rusqlite::Result<Option<Found>> {
        let found: Option<(Option<String>, Option<Vec<u8>>)> = db
            .prepare_cached(&self.select)?
            .query_row(params![row, fingerprint, sql(seen.window_ms), sql(seen.now_ms)], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(found.map(|(first, answer)| (first.unwrap_or_else(|| key.to_owned()), answer)))
    }

    /// What is remembered under a key; only for a slice that is closed.
    pub(super) fn find(
        &self,
        db: &Connection,
        key: &str,
        fingerprint: &Fingerprint,
        seen: Window,
    ) -> rusqlite::Result<Option<Found>> {
        let beginning = beginning(fingerprint);
        let piece: Option<Vec<u8>> = db
            .prepare_cached(
                "SELECT places FROM dedup_place WHERE slice = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1",
            )?
            .query_row(params![self.id, beginning], |row| row.get(0))
            .optional()?;
        for (_, row) in places(&piece.unwrap_or_default()).filter(|(known, _)| *known == beginning) {
            if let Some(found) = self.look(db, row, key, fingerprint, seen)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Stores the places of its ids and their filter: it is not written any more.
    pub(super) fn close(&mut self, db: &Connection, ids: &HashMap<Fingerprint, u32>) -> rusqlite::Result<()> {
        let mut filter = Bloom::for_entries(ids.len() as u64);
        let mut sorted: Vec<(i64, u32)> = Vec::with_capacity(ids.len());
        for (fingerprint, row) in ids {
            filter.insert(fingerprint);
            sorted.push((beginning(fingerprint), *row));
        }
        sorted.sort_unstable();
        let mut insert =
            db.prepare_cached("INSERT OR REPLACE INTO dedup_place (slice, first, places) VALUES (?1, ?2, ?3)")?;
        for piece in sorted.chunks(PIECE_PLACES) {
            let places: Vec<u8> =
                piece.iter().flat_map(|(first, row)| [&first.to_be_bytes()[..], &row.to_be_bytes()].concat()).collect();
            insert.execute(params![self.id, piece[0].0, places])?;
        }
        db.prepare_cached("UPDATE dedup_slice SET filter = ?2, last_ms = ?3, entries = ?4 WHERE id = ?1")?
            .execute(params![self.id, filter.as_bytes(), sql(self.last_ms), sql(self.entries)])?;
        self.filter = Some(Arc::new(filter));
        Ok(())
    }

    /// Removes it from the file.
    pub(super) fn remove(db: &Connection, id: i64) -> rusqlite::Result<()> {
        db.execute_batch(&format!("DROP TABLE IF EXISTS dedup_{id}"))?;
        db.prepare_cached("DELETE FROM dedup_place WHERE slice = ?1")?.execute([id])?;
        db.prepare_cached("DELETE FROM dedup_slice WHERE id = ?1")?.execute([id])?;
        Ok(())
    }

    pub(super) fn is_over(&self, seen: Window) -> bool {
        self.last_ms.saturating_add(seen.window_ms) <= seen.now_ms
    }
}

/// `message_id` and `answer` are for what is remembered beside the id: that of the first message where another value made
/// this one a repeat, and what was answered to it.
fn make_table(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.execute_batch(&format!(
        "CREATE TABLE dedup_{id} (n INTEGER PRIMARY KEY, fingerprint BLOB NOT NULL, accepted_ms INTEGER NOT NULL,
         message_id TEXT, answer BLOB) STRICT"
    ))
}

/// What places are sorted by. Two ids of a slice that share it are as good as never met, and told apart by their rows.
fn beginning(fingerprint: &Fingerprint) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&fingerprint[..8]);
    i64::from_be_bytes(first)
}

fn places(piece: &[u8]) -> impl Iterator<Item = (i64, u32)> + '_ {
    piece.chunks_exact(PLACE_BYTES).filter_map(|place| {
        let (first, row) = place.split_first_chunk::<8>()?;
        Some((i64::from_be_bytes(*first), u32::from_be_bytes(row.try_into().ok()?)))
    })
}
