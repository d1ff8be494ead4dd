//! The ledger's file, read with SQLite and without the host: what a test believes is what lies on the disk.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row};

/// An open ledger of a host that has ended.
#[derive(Debug)]
pub struct Ledger(Connection);

/// A message that lies in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the queue.
    pub seq: i64,
    /// Its id.
    pub id: String,
    /// What it is ordered by.
    pub key: Option<String>,
    /// Its body.
    pub body: Vec<u8>,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// In which connector it died.
    pub connector: String,
    /// The message's id.
    pub id: String,
    /// Attempts that were charged.
    pub attempts: u32,
    /// Why it died.
    pub reason: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Ledger {
    /// Opens the ledger of a data directory. The write-ahead log that a killed host leaves is read too.
    pub(crate) fn open(data: &Path) -> Self {
        let path = data.join("ledger.db");
        #[expect(clippy::disallowed_methods, reason = "no host runs here, whose locks could fall")]
        let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .unwrap_or_else(|error| panic!("{} cannot be opened: {error}", path.display()));
        Self(db)
    }

    /// The messages that lie in a queue, in order; settled ones are gone unless the queue keeps them.
    #[must_use]
    pub fn messages(&self, queue: &str) -> Vec<Stored> {
        let sql = "SELECT message.id & 0xFFFFFFFFFF, message_id, key, body FROM message JOIN queue ON queue.id = message.id >> 40
                   WHERE queue.name = ?1 ORDER BY message.id";
        self.rows(sql, [queue], |row| {
            Ok(Stored { seq: row.get(0)?, id: row.get(1)?, key: row.get(2)?, body: row.get(3)? })
        })
    }

    /// The headers of the messages that lie in a queue, in order.
    #[must_use]
    pub fn headers(&self, queue: &str) -> Vec<Vec<(String, String)>> {
        let sql = "SELECT coalesce(headers, '[]') FROM message JOIN queue ON queue.id = message.id >> 40
                   WHERE queue.name = ?1 ORDER BY message.id";
        let texts: Vec<String> = self.rows(sql, [queue], |row| row.get(0));
        texts.iter().map(|text| serde_json::from_str(text).expect("headers are pairs of texts")).collect()
    }

    /// Lets everything that lies in the queues have expired long ago.
    pub fn expire_all(&self) {
        self.0.execute("UPDATE message SET expires_ms = 1", []).expect("the file can be written");
    }

    /// All dead letters, the oldest first.
    #[must_use]
    pub fn dead(&self) -> Vec<DeadLetter> {
        let sql = "SELECT connector.name, message_id, attempts, reason, body FROM dead
                   JOIN connector ON connector.id = dead.connector ORDER BY dead.id";
        self.rows(sql, [], |row| {
            let (connector, id, attempts) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(DeadLetter { connector, id, attempts, reason: row.get(3)?, body: row.get(4)? })
        })
    }

    /// All that is written down about what became of messages: reasons, and the effects of attempts.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        let sql = "SELECT coalesce(reason, '') || ' ' || effects FROM attempt
                   UNION ALL SELECT reason || ' ' || history FROM dead UNION ALL SELECT coalesce(reason, '') FROM pending";
        self.rows(sql, [], |row| row.get(0))
    }

    /// A connector's state, by key.
    #[must_use]
    pub fn state(&self, connector: &str) -> Vec<(String, Vec<u8>)> {
        let sql = "SELECT key, value FROM state JOIN connector ON connector.id = state.connector
                   WHERE connector.name = ?1 ORDER BY key";
        self.rows(sql, [connector], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Why a connector is held, also after a restart.
    #[must_use]
    pub fn holds(&self, connector: &str) -> Vec<String> {
        let sql = "SELECT reason FROM hold JOIN connector ON connector.id = hold.connector
                   WHERE connector.name = ?1 ORDER BY reason";
        self.rows(sql, [connector], |row| row.get(0))
    }

    /// The number of a connector's subscription to a queue.
    #[must_use]
    pub fn subscription(&self, queue: &str, connector: &str) -> u32 {
        let sql = "SELECT subscription.id FROM subscription JOIN queue ON queue.id = subscription.queue
                   JOIN connector ON connector.id = subscription.connector WHERE queue.name = ?1 AND connector.name = ?2";
        self.rows(sql, [queue, connector], |row| row.get(0))[0]
    }

    /// When a schedule's last tick was planned, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn planned(&self, connector: &str, schedule: &str) -> i64 {
        let sql = "SELECT last_planned_ms FROM schedule JOIN connector ON connector.id = schedule.connector
                   WHERE connector.name = ?1 AND schedule.name = ?2";
        self.rows(sql, [connector, schedule], |row| row.get(0))[0]
    }

    /// Puts another time there, as a host under a wrong clock would.
    pub fn plan(&self, connector: &str, schedule: &str, planned_ms: i64) {
        let sql = "UPDATE schedule SET last_planned_ms = ?3
                   WHERE connector = (SELECT id FROM connector WHERE name = ?1) AND name = ?2";
        let changed = self.0.execute(sql, rusqlite::params![connector, schedule, planned_ms]);
        assert_eq!(changed, Ok(1), "the schedule has fired before");
    }

    /// How late each tick was written after its planned time, in milliseconds; the first one of each schedule left out,
    /// which is made at the start.
    #[must_use]
    pub fn tick_lags(&self) -> Vec<f64> {
        let sql = "SELECT CAST(enqueued_ms - planned_ms AS REAL) FROM tick WHERE planned_ms > (
                   SELECT min(planned_ms) FROM tick AS first WHERE first.connector = tick.connector
                   AND first.schedule = tick.schedule)";
        self.rows(sql, [], |row| row.get(0))
    }

    /// Messages that wait for another attempt, over all subscriptions.
    #[must_use]
    pub fn pending(&self) -> i64 {
        self.rows("SELECT count(*) FROM pending", [], |row| row.get(0))[0]
    }

    /// When the messages that wait for another attempt are due, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn dues(&self) -> Vec<i64> {
        self.rows("SELECT due_ms FROM pending UNION ALL SELECT due_ms FROM parked", [], |row| row.get(0))
    }

    /// Lets the dead letters of a connector be older than they are.
    pub fn age_letters(&self, connector: &str, by: Duration) {
        let sql = "UPDATE dead SET died_ms = died_ms - ?2 WHERE connector = (SELECT id FROM connector WHERE name = ?1)";
        let by_ms = i64::try_from(by.as_millis()).expect("within the life of the test");
        assert_ne!(self.0.execute(sql, rusqlite::params![connector, by_ms]), Ok(0), "something has died in it");
    }

    /// Puts so many messages into a queue that nobody has read, with the ids `filled-1` and so on.
    pub fn fill(&self, queue: &str, count: u32) {
        let id = "(SELECT id FROM queue WHERE name = ?1)";
        let numbers = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?2)";
        let insert = format!(
            "INSERT INTO message (id, total, bytes, enqueued_ms, hops, message_id, body) {numbers}
             SELECT ({id} << 40) + n, 0, 0, unixepoch() * 1000, 0, 'filled-' || n, x'' FROM numbers"
        );
        assert_eq!(self.0.execute(&insert, rusqlite::params![queue, count]), Ok(count as usize));
        let moved = self.0.execute("UPDATE queue SET tail = ?2 WHERE name = ?1", rusqlite::params![queue, count]);
        assert_eq!(moved, Ok(1));
    }

    /// Puts so many attempts into the history that ended now, at messages with the ids `filled-1` and so on.
    pub fn fill_history(&self, count: u32) {
        let numbers = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1)";
        let insert = format!(
            "INSERT INTO attempt (connector, queue, message_id, accepted_ms, number, started_ms, ended_ms, outcome, effects)
             {numbers} SELECT (SELECT min(id) FROM connector), 'in', 'filled-' || n, 0, 1, unixepoch() * 1000,
             unixepoch() * 1000, 'done', '[]' FROM numbers"
        );
        assert_eq!(self.0.execute(&insert, [count]), Ok(count as usize));
    }

    /// Lets the oldest attempts of the history be older than they are.
    pub fn age_history(&self, oldest: u32, by: Duration) {
        let by_ms = i64::try_from(by.as_millis()).expect("within the life of the test");
        let sql =
            "UPDATE attempt SET ended_ms = ended_ms - ?2 WHERE id IN (SELECT id FROM attempt ORDER BY id LIMIT ?1)";
        assert_eq!(self.0.execute(sql, rusqlite::params![oldest, by_ms]), Ok(oldest as usize));
    }

    /// How many attempts are in the history, and at which message the oldest one was.
    #[must_use]
    pub fn history(&self) -> (i64, Option<String>) {
        let oldest = "(SELECT message_id FROM attempt ORDER BY id LIMIT 1)";
        self.rows(&format!("SELECT count(*), {oldest} FROM attempt"), [], |row| Ok((row.get(0)?, row.get(1)?)))
            .remove(0)
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.rows("PRAGMA user_version", [], |row| row.get(0))[0]
    }

    /// Changes one bit of the payload of every message and every dead letter, as a disk does.
    pub fn flip_payloads(&self) {
        for table in ["message", "parked", "dead"] {
            let sql = format!("SELECT id, body FROM {table} WHERE body <> x''");
            for (id, mut body) in self.rows(&sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))) {
                body[0] ^= 1;
                let update = format!("UPDATE {table} SET body = ?2 WHERE id = ?1");
                assert_eq!(self.0.execute(&update, rusqlite::params![id, body]), Ok(1));
            }
        }
    }

    /// Makes it one of the first version.
    pub fn become_first(&self) {
        let sql = "DROP TABLE dedup_place; ALTER TABLE dedup_slice DROP COLUMN form;
                   DROP TABLE attempt; DROP TABLE tick; DROP TABLE tick_outcome;
                   ALTER TABLE schedule DROP COLUMN last_tick_ms; ALTER TABLE schedule DROP COLUMN last_lag_ms;
                   ALTER TABLE connector DROP COLUMN dead_retention_ms;
                   ALTER TABLE message DROP COLUMN checksum; ALTER TABLE parked DROP COLUMN checksum;
                   ALTER TABLE dead DROP COLUMN checksum; PRAGMA user_version = 1";
        self.0.execute_batch(sql).expect("it is of the newest version");
    }

    /// Makes it one that a newer program has written.
    pub fn become_newer(&self, version: i32) {
        self.0.pragma_update(None, "user_version", version).expect("the file can be written");
    }

    /// Closes it as a process does that is killed: what is in the write-ahead log stays there alone.
    pub fn close_killed(self) {
        let set = self.0.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        assert_eq!(set, Ok(true), "SQLite knows this setting");
    }

    /// Panics unless SQLite finds the file sound.
    pub fn check_integrity(&self) {
        let found: Vec<String> = self.rows("PRAGMA integrity_check", [], |row| row.get(0));
        assert_eq!(found, ["ok"]);
    }

    fn rows<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        row: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Vec<T> {
        let mut statement = self.0.prepare(sql).expect("the schema has what is asked for");
        let rows = statement.query_map(parameters, row).expect("it can be read");
        rows.collect::<rusqlite::Result<_>>().expect("every row can be read")
    }
}
