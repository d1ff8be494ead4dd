//! The tables of the ledger, and how an older file becomes a newer one.
//!
//! Owns all `CREATE` statements but those of the dedup slices, which come and go (see `dedup`). A migration is added at
//! the end of [`MIGRATIONS`] and never changed after a release. Invariant: a file whose version is newer than the list
//! is not touched. Times are milliseconds since the Unix epoch, sizes are bytes.

use rusqlite::Connection;

/// "BULK": marks a SQLite file as a ledger.
pub(super) const APPLICATION_ID: i32 = 0x4255_4c4b;
/// Where the numbers of a queue's messages begin: rowid = queue << 40 | seq.
pub(super) const SEQ_BITS: u32 = 40;
/// The largest sequence number.
pub(super) const SEQ_MAX: u64 = (1 << SEQ_BITS) - 1;

/// Step `n` makes version `n + 1` of version `n`.
const MIGRATIONS: &[&str] = &[VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6];

const VERSION_1: &str = "
-- One row for each queue that was ever named. Everything a report or a bound needs is a counter here, kept in the
-- commits that change it, so that nothing ever sums over messages.
CREATE TABLE queue (
    id              INTEGER PRIMARY KEY,
    name            TEXT    NOT NULL UNIQUE,
    tail            INTEGER NOT NULL DEFAULT 0, -- seq of the newest message; seqs are dense and begin at 1
    tail_bytes      INTEGER NOT NULL DEFAULT 0, -- running byte total at the tail
    removed         INTEGER NOT NULL DEFAULT 0, -- every message up to this seq is removed, but for the stragglers
    removed_bytes   INTEGER NOT NULL DEFAULT 0, -- running byte total at `removed`
    stragglers      INTEGER NOT NULL DEFAULT 0, -- messages before `removed` that some subscription has not finished
    straggler_bytes INTEGER NOT NULL DEFAULT 0,
    parked          INTEGER NOT NULL DEFAULT 0, -- rows of `parked` for this queue
    parked_bytes    INTEGER NOT NULL DEFAULT 0
) STRICT;

-- The log of all queues, clustered: rowid = queue << 40 | seq. Small columns come first, so that reading them does not
-- follow a large body.
CREATE TABLE message (
    id          INTEGER PRIMARY KEY,
    total       INTEGER NOT NULL, -- running byte total of the queue, this message included
    bytes       INTEGER NOT NULL, -- size of this message as every limit counts it
    enqueued_ms INTEGER NOT NULL,
    expires_ms  INTEGER,          -- settled without a run from then on
    hops        INTEGER NOT NULL,
    message_id  TEXT    NOT NULL,
    key         TEXT,
    parent      TEXT,
    headers     TEXT,             -- JSON: [[name, value], ...]; NULL where there are none
    body        BLOB    NOT NULL
) STRICT;

-- One row for each connector that was ever configured. `was` changes the name, never the lineage, from which derived
-- ids are made.
CREATE TABLE connector (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    lineage       TEXT    NOT NULL UNIQUE,
    state_version INTEGER NOT NULL DEFAULT 0, -- grows with every settlement that writes state; the bucket's version
    state_keys    INTEGER NOT NULL DEFAULT 0,
    state_bytes   INTEGER NOT NULL DEFAULT 0
) STRICT;

-- One connector reading one queue. It has looked at every message up to `cursor`, and at those beyond it that a row of
-- `settled` covers. What it has looked at is settled unless it has a row in `pending`; the rest is unsettled.
CREATE TABLE subscription (
    id          INTEGER PRIMARY KEY,
    queue       INTEGER NOT NULL REFERENCES queue (id),
    connector   INTEGER NOT NULL REFERENCES connector (id),
    cursor      INTEGER NOT NULL,
    pending     INTEGER NOT NULL DEFAULT 0, -- rows of `pending`
    retrying    INTEGER NOT NULL DEFAULT 0, -- those of them, and of `parked`, that failed before
    parked      INTEGER NOT NULL DEFAULT 0, -- rows of `parked` for this subscription
    dead        INTEGER NOT NULL DEFAULT 0, -- rows of `dead`
    dead_bytes  INTEGER NOT NULL DEFAULT 0,
    orphaned_ms INTEGER,                    -- since when its connector does not consume the queue any more
    forgotten   INTEGER NOT NULL DEFAULT 0, -- 1: it holds no message back; the row lives on for its dead letters
    UNIQUE (queue, connector)
) STRICT;
CREATE INDEX subscription_of_connector ON subscription (connector);

-- Ranges of messages after the cursor that were looked at already, because runs do not end in order. Merged as they meet.
CREATE TABLE settled (
    subscription INTEGER NOT NULL REFERENCES subscription (id),
    first        INTEGER NOT NULL,
    last         INTEGER NOT NULL,
    PRIMARY KEY (subscription, first)
) STRICT, WITHOUT ROWID;

-- Messages that were looked at and are not settled: failed ones that wait for their next attempt, and ones that were
-- passed by (behind a failed message of their key, or in a run much slower than its neighbours).
CREATE TABLE pending (
    subscription INTEGER NOT NULL REFERENCES subscription (id),
    seq          INTEGER NOT NULL,
    due_ms       INTEGER NOT NULL,
    attempts     INTEGER NOT NULL, -- charged so far
    key          TEXT,             -- the message's, so that the order of keys is known without reading it
    reason       TEXT,             -- why it waits; NULL where it never failed
    history      TEXT,             -- JSON: [{at_ms, reason}, ...], one for each charged attempt
    PRIMARY KEY (subscription, seq)
) STRICT, WITHOUT ROWID;

-- Messages outside the log, with a copy of their own. Without a subscription: delayed, appended to the log when due.
-- With one: redriven from the dead letters, delivered from here to that subscription alone.
CREATE TABLE parked (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    queue        INTEGER NOT NULL REFERENCES queue (id),
    subscription INTEGER REFERENCES subscription (id),
    due_ms       INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    reason       TEXT,
    history      TEXT,
    bytes        INTEGER NOT NULL,
    enqueued_ms  INTEGER NOT NULL,
    expires_ms   INTEGER,
    hops         INTEGER NOT NULL,
    message_id   TEXT    NOT NULL,
    key          TEXT,
    parent       TEXT,
    headers      TEXT,
    body         BLOB    NOT NULL
) STRICT;
CREATE INDEX parked_delayed ON parked (due_ms) WHERE subscription IS NULL;
CREATE INDEX parked_redriven ON parked (subscription, id) WHERE subscription IS NOT NULL;

-- Dead letters: a copy of the message and why each attempt failed.
CREATE TABLE dead (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    connector    INTEGER NOT NULL REFERENCES connector (id),
    subscription INTEGER NOT NULL REFERENCES subscription (id),
    died_ms      INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    reason       TEXT    NOT NULL,
    history      TEXT    NOT NULL, -- JSON: [{at_ms, reason}, ...]
    bytes        INTEGER NOT NULL,
    enqueued_ms  INTEGER NOT NULL,
    expires_ms   INTEGER,
    hops         INTEGER NOT NULL,
    message_id   TEXT    NOT NULL,
    key          TEXT,
    parent       TEXT,
    headers      TEXT,
    body         BLOB    NOT NULL
) STRICT;
CREATE INDEX dead_of_connector ON dead (connector, id);

-- The state of connectors. A version is the connector's `state_version` at the last write.
CREATE TABLE state (
    id        INTEGER PRIMARY KEY,
    connector INTEGER NOT NULL REFERENCES connector (id),
    key       TEXT    NOT NULL,
    version   INTEGER NOT NULL,
    value     BLOB    NOT NULL,
    UNIQUE (connector, key)
) STRICT;

-- What is known of each schedule: the tick enqueued last, and the one that last succeeded.
CREATE TABLE schedule (
    connector           INTEGER NOT NULL REFERENCES connector (id),
    name                TEXT    NOT NULL,
    last_planned_ms     INTEGER NOT NULL,
    previous_success_ms INTEGER,
    PRIMARY KEY (connector, name)
) STRICT, WITHOUT ROWID;

-- Why a connector must not run although it is configured: an operator's pause, or its brake.
CREATE TABLE hold (
    connector INTEGER NOT NULL REFERENCES connector (id),
    reason    TEXT    NOT NULL,
    since_ms  INTEGER NOT NULL,
    PRIMARY KEY (connector, reason)
) STRICT, WITHOUT ROWID;

-- The slices of remembered ids. Slice `id` is the table `dedup_<id>` (fingerprint BLOB PRIMARY KEY, accepted_ms,
-- message_id, answer): ids of one queue, accepted in one stretch of time. A slice is dropped as a whole when the window
-- of its youngest id has passed.
CREATE TABLE dedup_slice (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    queue    INTEGER NOT NULL REFERENCES queue (id),
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL,
    entries  INTEGER NOT NULL,
    filter   BLOB -- Bloom filter over the fingerprints of a slice that is full
) STRICT;
";

const VERSION_2: &str = "
-- How long its dead letters are kept, as it said when it was last in the configuration: they stay when it leaves. Where
-- nobody knows any more, thirty days, the default.
ALTER TABLE connector ADD COLUMN dead_retention_ms INTEGER NOT NULL DEFAULT 2592000000;
";

const VERSION_3: &str = "
-- Of the tick enqueued last: its planned time (the last planned time may have been skipped), and how late it was.
ALTER TABLE schedule ADD COLUMN last_tick_ms INTEGER;
ALTER TABLE schedule ADD COLUMN last_lag_ms INTEGER;

-- Ticks that were enqueued of late, by the clock or by hand: a planned time is enqueued once.
CREATE TABLE tick (
    connector   INTEGER NOT NULL REFERENCES connector (id),
    schedule    TEXT    NOT NULL,
    planned_ms  INTEGER NOT NULL,
    enqueued_ms INTEGER NOT NULL,
    PRIMARY KEY (connector, schedule, planned_ms)
) STRICT, WITHOUT ROWID;

-- What became of the tick of each schedule that was attempted last.
CREATE TABLE tick_outcome (
    connector  INTEGER NOT NULL REFERENCES connector (id),
    schedule   TEXT    NOT NULL,
    planned_ms INTEGER NOT NULL,
    outcome    TEXT    NOT NULL, -- done, retry, dead or cancelled
    ended_ms   INTEGER NOT NULL,
    PRIMARY KEY (connector, schedule)
) STRICT, WITHOUT ROWID;
";

const VERSION_4: &str = "
-- Attempts that have ended, as far as the configuration wants them kept; of a bounded number and age.
CREATE TABLE attempt (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    connector   INTEGER NOT NULL REFERENCES connector (id),
    queue       TEXT    NOT NULL,
    message_id  TEXT    NOT NULL,
    parent      TEXT,
    accepted_ms INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    started_ms  INTEGER NOT NULL,
    ended_ms    INTEGER NOT NULL,
    outcome     TEXT    NOT NULL, -- done, retry, dead, held, cancelled or failed
    reason      TEXT,
    effects     TEXT    NOT NULL  -- JSON: [{effect, ...}, ...]
) STRICT;
CREATE INDEX attempt_of_message ON attempt (message_id, id);
";

const VERSION_5: &str = "
-- Slice `id` of remembered ids is the table `dedup_<id>` (n INTEGER PRIMARY KEY, fingerprint, accepted_ms, message_id,
-- answer), appended to only. Form 1 is the one before, clustered by fingerprint; it is converted when the file is opened.
ALTER TABLE dedup_slice ADD COLUMN form INTEGER NOT NULL DEFAULT 1;

-- Where the ids of a slice that is full stand, sorted, 128 in a row.
CREATE TABLE dedup_place (
    slice  INTEGER NOT NULL REFERENCES dedup_slice (id),
    first  INTEGER NOT NULL, -- the first 8 bytes of the first fingerprint, as a signed big-endian number
    places BLOB    NOT NULL, -- for each: the first 8 bytes of its fingerprint, and `n` in 4, both big-endian
    PRIMARY KEY (slice, first)
) STRICT, WITHOUT ROWID;
";

const VERSION_6: &str = "
-- What a message must come to when it is read (see `checksum`); NULL in a row that an older program wrote.
ALTER TABLE message ADD COLUMN checksum INTEGER;
ALTER TABLE parked ADD COLUMN checksum INTEGER;
ALTER TABLE dead ADD COLUMN checksum INTEGER;
";

/// The version from which on every message has a checksum.
pub(super) const CHECKSUMS_SINCE: i32 = 6;

/// The newest version this program knows.
pub(super) const VERSION: i32 = 6;
const _: () = assert!(MIGRATIONS.len() == VERSION as usize);

/// Brings an open ledger to [`VERSION`], each step in a transaction of its own.
pub(super) fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    take(db, MIGRATIONS)
}

/// Takes the steps that an open ledger has not taken yet.
fn take(db: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let found: i32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let done = usize::try_from(found).unwrap_or(0);
    for (version, sql) in (found + 1..).zip(steps.iter().skip(done)) {
        let transaction = db.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

/// The row of a message of the log.
pub(super) fn row_id(queue: u32, seq: u64) -> i64 {
    (i64::from(queue) << SEQ_BITS) | sql(seq)
}

/// The sequence number in a row number of the log.
pub(super) fn seq_of(row_id: i64) -> u64 {
    row_id.unsigned_abs() & SEQ_MAX
}

/// A number as SQLite stores it; what does not fit is the largest that does.
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as it was stored; there are no negative ones.
pub(super) fn unsql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with one table and one row in it, as an older program left it.
    fn older() -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        #[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
        let mut db = Connection::open(folder.path().join("ledger.db")).expect("a file can be made");
        take(&mut db, &["CREATE TABLE kept (text TEXT); INSERT INTO kept VALUES ('as it was')"]).expect("it is valid");
        (folder, db)
    }

    fn version(db: &Connection) -> i32 {
        db.pragma_query_value(None, "user_version", |row| row.get(0)).expect("every file has one")
    }

    fn row(db: &Connection, column: &str) -> rusqlite::Result<String> {
        db.query_row(&format!("SELECT {column} FROM kept"), [], |row| row.get(0))
    }

    #[test]
    fn an_older_file_takes_the_steps_that_it_lacks_and_keeps_what_is_in_it() {
        let (_folder, mut db) = older();
        let steps =
            ["not taken again", "ALTER TABLE kept ADD also TEXT", "UPDATE kept SET also = text || ', and more'"];
        take(&mut db, &steps).expect("the steps are valid");
        assert_eq!(version(&db), 3);
        assert_eq!(row(&db, "text || '; ' || also"), Ok("as it was; as it was, and more".to_owned()));
    }

    #[test]
    fn a_connector_of_the_first_version_keeps_its_letters_for_thirty_days() {
        let (_folder, mut db) = of_version(1);
        db.execute("INSERT INTO connector (name, lineage) VALUES ('a', 'a')", []).expect("the table is there");
        migrate(&mut db).expect("the steps are valid");
        let kept = db.query_row("SELECT dead_retention_ms FROM connector", [], |row| row.get::<_, i64>(0));
        assert_eq!((version(&db), kept), (VERSION, Ok(30 * 86_400_000)));
    }

    #[test]
    fn a_schedule_of_an_older_file_goes_on_where_it_was() {
        let (_folder, mut db) = of_version(2);
        let rows = "INSERT INTO connector (id, name, lineage) VALUES (1, 'it', 'it');
                    INSERT INTO schedule (connector, name, last_planned_ms, previous_success_ms) VALUES (1, 'a', 7, 5)";
        db.execute_batch(rows).expect("it has these tables");
        migrate(&mut db).expect("the steps are valid");
        let known = "SELECT last_planned_ms, previous_success_ms, last_tick_ms, last_lag_ms FROM schedule";
        let known = db.query_row(known, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
        assert_eq!((version(&db), known), (VERSION, Ok((7_i64, 5_i64, None::<i64>, None::<i64>))));
    }

    /// A file as an older version left it, without rows.
    fn of_version(version: usize) -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        #[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
        let mut db = Connection::open(folder.path().join("ledger.db")).expect("a file can be made");
        take(&mut db, &MIGRATIONS[..version]).expect("it is valid");
        (folder, db)
    }

    /// The steps before it stand, and the next start begins with it.
    #[test]
    fn a_step_that_fails_half_way_leaves_the_version_before_it() {
        let (_folder, mut db) = older();
        let half = "UPDATE kept SET text = 'half'; ALTER TABLE kept ADD half TEXT; INSERT INTO missing VALUES (1)";
        let steps = ["", "ALTER TABLE kept ADD also TEXT DEFAULT 'x'", half];
        let failed = take(&mut db, &steps).expect_err("there is no such table");
        assert!(failed.to_string().contains("missing"), "{failed}");
        assert_eq!((version(&db), row(&db, "text || also")), (2, Ok("as it wasx".to_owned())));
        row(&db, "half").expect_err("its table is as it was");
        take(&mut db, &["", "", "UPDATE kept SET text = 'whole'"]).expect("the step is valid");
        assert_eq!((version(&db), row(&db, "text")), (3, Ok("whole".to_owned())));
    }
}
