//! What a settlement changes: outcomes, publishes, state, the tick.
//!
//! Checks come before writes, so that a settlement that conflicts writes nothing. Invariant: an outcome for a message
//! that is settled already (expired, or forgotten meanwhile) changes nothing; what its call staged is committed all the
//! same, for the call did happen.

use rusqlite::{OptionalExtension, params};

use super::book::{Connector, SubscriptionCounts};
use super::notice::Died;
use super::schema::{row_id, sql, unsql};
use super::write::Write;
use crate::planted::{self, Bug};
use crate::settlement::{Origin, Outcome, Settlement, StateChanges};

/// The copy of a message into the dead letters, from the table that holds it.
macro_rules! bury_from {
    ($table:literal) => {
        concat!(
            "INSERT INTO dead (connector, subscription, died_ms, attempts, reason, history, bytes, enqueued_ms,
             expires_ms, hops, message_id, key, parent, headers, body, checksum)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, bytes, enqueued_ms, expires_ms, hops, message_id, key, parent, headers,
             body, checksum FROM ",
            $table,
            " WHERE id = ?7 RETURNING id, bytes, message_id, hops"
        )
    };
}

/// A subscription whose settled ranges are more than this has runs that are much slower than others.
const AHEAD_RANGES_MAX: usize = 64;
/// Nor may it be settled further than this beyond its cursor: the log before cannot be removed.
const AHEAD_MESSAGES_MAX: u64 = 20_000;
/// Reasons are for people; longer ones are cut.
const REASON_BYTES_MAX: usize = 4096;

/// What is stored of the failures of a message in the log.
const PENDING_LOGGED: &str =
    "SELECT attempts, history, reason IS NOT NULL FROM pending WHERE subscription = ?1 AND seq = ?2";
/// The same of one outside the log.
const PENDING_PARKED: &str =
    "SELECT attempts, history, reason IS NOT NULL FROM parked WHERE subscription = ?1 AND id = ?2";
/// Makes a dead letter of a message in the log.
const BURY_LOGGED: &str = bury_from!("message");
/// Makes one of a message outside it.
const BURY_PARKED: &str = bury_from!("parked");

/// Bytes of a key of state with its value.
const STATE_SIZE: &str =
    "SELECT length(CAST(key AS BLOB)) + length(value) FROM state WHERE connector = ?1 AND key = ?2";

/// Whether a settlement was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it.
    Applied,
    /// Nothing of it: state changed since the run saw it, or there is no room for more any longer.
    Conflict,
}

impl Write<'_> {
    /// Carries out a settlement, or finds that its state is stale.
    pub(super) fn settle(&mut self, settlement: &Settlement) -> rusqlite::Result<Verdict> {
        let connector = settlement.connector.0;
        let is_checked = !planted::has(Bug::StateUnchecked);
        if (is_checked && self.conflicts(connector, &settlement.state)?)
            || self.overfills(connector, &settlement.state)?
        {
            return Ok(Verdict::Conflict);
        }
        self.outcomes(settlement)?;
        if let Some(mark) = &settlement.mark {
            // One of its repeats would have waited for it: none is known.
            self.mark(mark)?;
        }
        self.publish_all(&settlement.publishes)?;
        self.write_state(connector, &settlement.state)?;
        if let Some(tick) = &settlement.tick {
            self.note_tick(connector, tick)?;
        }
        Ok(Verdict::Applied)
    }

    fn outcomes(&mut self, settlement: &Settlement) -> rusqlite::Result<()> {
        let id = settlement.subscription.0;
        let Some(subscription) = self.book.subscription(id) else { return Ok(()) };
        let place = Place { subscription: id, queue: subscription.queue, connector: subscription.connector };
        let mut counts = subscription.counts.clone();
        let mut finished = Vec::new();
        for (origin, outcome) in &settlement.outcomes {
            match origin {
                Origin::Log(seq) => self.settle_logged(place, &mut counts, *seq, outcome, &mut finished)?,
                Origin::Parked(row) => self.settle_parked(place, &mut counts, *row, outcome)?,
            }
        }
        counts.ahead.advance(&mut counts.cursor);
        self.pass_by(place, &mut counts)?;
        if let Some(edited) = self.book.edit_subscription(id) {
            *edited = counts;
        }
        for seq in finished {
            self.remove_straggler(place.queue, seq)?;
        }
        Ok(())
    }

    fn settle_logged(
        &mut self,
        place: Place,
        counts: &mut SubscriptionCounts,
        seq: u64,
        outcome: &Outcome,
        finished: &mut Vec<u64>,
    ) -> rusqlite::Result<()> {
        let is_known = seq <= counts.cursor || counts.ahead.contains(seq);
        let pending = if is_known { self.pending(place, Origin::Log(seq))? } else { Some(Pending::default()) };
        // Looked at and not pending: settled by someone else meanwhile.
        let Some(pending) = pending else { return Ok(()) };
        match outcome {
            Outcome::Done | Outcome::Superseded => {}
            Outcome::Expired => self.changes.expired.push((place.subscription, 1)),
            Outcome::Dead { reason } => self.bury(place, counts, Origin::Log(seq), &pending, reason)?,
            Outcome::Retry { due_ms, charged, reason } => {
                let retry = Retry { due_ms: *due_ms, is_charged: *charged, reason };
                return self.put_off(place, counts, seq, is_known.then_some(pending), &retry);
            }
        }
        if is_known {
            self.db
                .prepare_cached("DELETE FROM pending WHERE subscription = ?1 AND seq = ?2")?
                .execute(params![place.subscription, sql(seq)])?;
            counts.pending -= 1;
            counts.retrying -= u64::from(pending.has_failed);
            finished.push(seq);
        } else {
            counts.ahead.insert(seq);
        }
        Ok(())
    }

    /// What is stored of a message's failures; `None` where it is settled.
    fn pending(&self, place: Place, origin: Origin) -> rusqlite::Result<Option<Pending>> {
        let (select, row) = match origin {
            Origin::Log(seq) => (PENDING_LOGGED, sql(seq)),
            Origin::Parked(row) => (PENDING_PARKED, row),
        };
        self.db
            .prepare_cached(select)?
            .query_row(params![place.subscription, row], |row| {
                Ok(Pending { attempts: row.get(0)?, history: row.get(1)?, has_failed: row.get(2)? })
            })
            .optional()
    }

    /// Gives a failed message of the log a row in `pending`, or brings its row up to date.
    fn put_off(
        &mut self,
        place: Place,
        counts: &mut SubscriptionCounts,
        seq: u64,
        known: Option<Pending>,
        retry: &Retry<'_>,
    ) -> rusqlite::Result<()> {
        let is_new = known.is_none();
        let before = known.unwrap_or_default();
        let (attempts, history) = self.charge(&before, retry)?;
        let reason = shortened(retry.reason);
        if is_new {
            self.db
                .prepare_cached(
                    "INSERT INTO pending (subscription, seq, due_ms, attempts, key, reason, history)
                     SELECT ?1, ?2, ?3, ?4, key, ?5, ?6 FROM message WHERE id = ?7",
                )?
                .execute(params![
                    place.subscription,
                    sql(seq),
                    sql(retry.due_ms),
                    attempts,
                    reason,
                    history,
                    row_id(place.queue, seq)
                ])?;
            counts.ahead.insert(seq);
            counts.pending += 1;
        } else {
            self.db
                .prepare_cached(
                    "UPDATE pending SET due_ms = ?3, attempts = ?4, reason = ?5, history = ?6
                     WHERE subscription = ?1 AND seq = ?2",
                )?
                .execute(params![place.subscription, sql(seq), sql(retry.due_ms), attempts, reason, history])?;
        }
        counts.retrying += u64::from(!before.has_failed);
        Ok(())
    }

    /// The attempts and the history after a failure.
    fn charge(&self, before: &Pending, retry: &Retry<'_>) -> rusqlite::Result<(u32, Option<String>)> {
        if !retry.is_charged {
            return Ok((before.attempts, before.history.clone()));
        }
        let history = self.history_with(before.history.as_deref(), retry.reason)?;
        Ok((before.attempts + 1, Some(history)))
    }

    fn history_with(&self, history: Option<&str>, reason: &str) -> rusqlite::Result<String> {
        self.db
            .prepare_cached("SELECT json_insert(coalesce(?1, '[]'), '$[#]', json_object('at_ms', ?2, 'reason', ?3))")?
            .query_row(params![history, sql(self.now.due_ms), shortened(reason)], |row| row.get(0))
    }

    /// Copies a message from where it lies into the dead letters.
    fn bury(
        &mut self,
        place: Place,
        counts: &mut SubscriptionCounts,
        origin: Origin,
        pending: &Pending,
        reason: &str,
    ) -> rusqlite::Result<()> {
        let history = self.history_with(pending.history.as_deref(), reason)?;
        let (insert, row) = match origin {
            Origin::Log(seq) => (BURY_LOGGED, row_id(place.queue, seq)),
            Origin::Parked(row) => (BURY_PARKED, row),
        };
        let (now_ms, attempts) = (sql(self.now.due_ms), pending.attempts + 1);
        let reason = shortened(reason);
        let letter = params![place.connector, place.subscription, now_ms, attempts, reason, history, row];
        let buried = self.db.prepare_cached(insert)?.query_row(letter, |row| {
            let died = Died { id: row.get(0)?, message_id: row.get(2)?, hops: row.get(3)?, attempts, reason };
            Ok((unsql(row.get(1)?), died))
        });
        let Some((bytes, died)) = buried.optional()? else { return Ok(()) };
        counts.dead += 1;
        counts.dead_bytes += bytes;
        self.give_notice(place.connector, place.queue, &died)
    }

    fn settle_parked(
        &mut self,
        place: Place,
        counts: &mut SubscriptionCounts,
        row: i64,
        outcome: &Outcome,
    ) -> rusqlite::Result<()> {
        let Some(pending) = self.pending(place, Origin::Parked(row))? else { return Ok(()) };
        match outcome {
            Outcome::Done | Outcome::Superseded => {}
            Outcome::Expired => self.changes.expired.push((place.subscription, 1)),
            Outcome::Dead { reason } => self.bury(place, counts, Origin::Parked(row), &pending, reason)?,
            Outcome::Retry { due_ms, charged, reason } => {
                let retry = Retry { due_ms: *due_ms, is_charged: *charged, reason };
                let (attempts, history) = self.charge(&pending, &retry)?;
                self.db
                    .prepare_cached(
                        "UPDATE parked SET due_ms = ?2, attempts = ?3, reason = ?4, history = ?5 WHERE id = ?1",
                    )?
                    .execute(params![row, sql(*due_ms), attempts, shortened(reason), history])?;
                counts.retrying += u64::from(!pending.has_failed);
                return Ok(());
            }
        }
        let bytes: i64 = self
            .db
            .prepare_cached("DELETE FROM parked WHERE id = ?1 RETURNING bytes")?
            .query_row([row], |row| row.get(0))?;
        counts.parked -= 1;
        counts.retrying -= u64::from(pending.has_failed);
        if let Some(queue) = self.book.edit_queue(place.queue) {
            queue.parked -= 1;
            queue.parked_bytes -= unsql(bytes);
        }
        Ok(())
    }

    /// Moves the cursor past messages that are leased or blocked while much behind them is settled, giving each a row
    /// in `pending`: a slow run or a blocked key must not keep the whole log.
    fn pass_by(&mut self, place: Place, counts: &mut SubscriptionCounts) -> rusqlite::Result<()> {
        while let Some(first) = counts.ahead.first()
            && (counts.ahead.len() > AHEAD_RANGES_MAX || counts.ahead.count() > AHEAD_MESSAGES_MAX)
        {
            let passed = self
                .db
                .prepare_cached(
                    "INSERT INTO pending (subscription, seq, due_ms, attempts, key)
                     SELECT ?1, id & 0xffffffffff, 0, 0, key FROM message WHERE id BETWEEN ?2 AND ?3",
                )?
                .execute(params![
                    place.subscription,
                    row_id(place.queue, counts.cursor + 1),
                    row_id(place.queue, first - 1)
                ])?;
            counts.pending += passed as u64;
            counts.cursor = first - 1;
            counts.ahead.advance(&mut counts.cursor);
        }
        Ok(())
    }

    fn conflicts(&self, connector: u32, state: &StateChanges) -> rusqlite::Result<bool> {
        if let Some(listed) = state.listed
            && self.book.connector(connector).is_some_and(|connector| connector.counts.state_version != listed)
        {
            return Ok(true);
        }
        if state.seen.is_empty() {
            return Ok(false);
        }
        let mut select = self.db.prepare_cached("SELECT version FROM state WHERE connector = ?1 AND key = ?2")?;
        for (key, seen) in &state.seen {
            let version: Option<i64> = select.query_row(params![connector, key], |row| row.get(0)).optional()?;
            if version.map_or(0, unsql) != *seen {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the writes take a connector's state past its bounds: each run has looked at them, but two at once know
    /// nothing of each other. Whoever comes second runs again, and is told that the state is full.
    fn overfills(&self, connector: u32, state: &StateChanges) -> rusqlite::Result<bool> {
        let Some(Connector { counts, state_max, .. }) = self.book.connector(connector) else { return Ok(false) };
        let (mut keys, mut bytes) = (counts.state_keys, counts.state_bytes);
        let puts = state.writes.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        for (key, value) in puts {
            (keys, bytes) = (keys + 1, bytes + (key.len() + value.len()) as u64);
        }
        if keys <= state_max.keys && bytes <= state_max.bytes {
            // Even if every key is new.
            return Ok(false);
        }
        let mut size = self.db.prepare_cached(STATE_SIZE)?;
        for (key, _) in &state.writes {
            let old: Option<i64> = size.query_row(params![connector, key], |row| row.get(0)).optional()?;
            keys -= u64::from(old.is_some());
            bytes -= old.map_or(0, unsql);
        }
        Ok(keys > state_max.keys.max(counts.state_keys) || bytes > state_max.bytes.max(counts.state_bytes))
    }

    fn write_state(&mut self, connector: u32, state: &StateChanges) -> rusqlite::Result<()> {
        if state.writes.is_empty() {
            return Ok(());
        }
        let Some(counts) = self.book.edit_connector(connector) else { return Ok(()) };
        counts.state_version += 1;
        let mut size = self.db.prepare_cached(STATE_SIZE)?;
        let mut put = self.db.prepare_cached(
            "INSERT INTO state (connector, key, version, value) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (connector, key) DO UPDATE SET version = excluded.version, value = excluded.value",
        )?;
        let mut delete = self.db.prepare_cached("DELETE FROM state WHERE connector = ?1 AND key = ?2")?;
        for (key, value) in &state.writes {
            let old: Option<i64> = size.query_row(params![connector, key], |row| row.get(0)).optional()?;
            if let Some(bytes) = old {
                counts.state_keys -= 1;
                counts.state_bytes -= unsql(bytes);
            }
            match value {
                Some(value) => {
                    put.execute(params![connector, key, sql(counts.state_version), value])?;
                    counts.state_keys += 1;
                    counts.state_bytes += (key.len() + value.len()) as u64;
                }
                None => {
                    delete.execute(params![connector, key])?;
                }
            }
        }
        Ok(())
    }
}

/// Whose message it is.
#[derive(Clone, Copy)]
struct Place {
    subscription: u32,
    queue: u32,
    connector: u32,
}

/// What is stored of a message's failures.
#[derive(Default)]
struct Pending {
    attempts: u32,
    history: Option<String>,
    has_failed: bool,
}

/// A failure that is to be tried again.
struct Retry<'o> {
    due_ms: u64,
    is_charged: bool,
    reason: &'o str,
}

fn shortened(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}
