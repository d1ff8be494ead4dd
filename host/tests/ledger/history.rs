//! The history: what is kept of attempts, and what is not.

use std::time::Instant;

use bulkhead_host::settlement::attempt::Attempt;

use super::*;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn attempt(host: &Host, message_id: &str, ended_ms: u64) -> Attempt {
    Attempt {
        connector: host.directory.connector("a").unwrap(),
        queue: "in".to_owned(),
        message_id: message_id.to_owned(),
        parent: None,
        accepted_ms: ended_ms,
        number: 1,
        started_ms: ended_ms,
        ended_ms,
        outcome: "retry".to_owned(),
        reason: Some("no luck".to_owned()),
        effects: Vec::new(),
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not become so");
    }
}

#[test]
fn attempts_older_than_a_week_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy::default(), &["a"]));
    let now_ms = host.now_ms();
    host.ledger.note_attempt(attempt(&host, "old", now_ms - 8 * 86_400_000));
    host.ledger.note_attempt(attempt(&host, "young", now_ms - 6 * 86_400_000));
    wait_until(|| !host.ledger.attempts_of("young", None).unwrap().is_empty());
    wait_until(|| host.ledger.attempts_of("old", None).unwrap().is_empty());
    let young = host.ledger.attempts_of("young", host.directory.connector("a")).unwrap();
    assert_eq!(young, [attempt(&host, "young", now_ms - 6 * 86_400_000)]);
}

/// Nothing waits for the history. What the writer had taken is on disk when it has closed, and the rest is counted.
#[test]
fn what_comes_faster_than_it_is_written_is_dropped_and_counted() {
    const COUNT: u64 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let host = open(dir.path(), &layout(QueuePolicy::default(), &["a"]));
    let one = attempt(&host, "m", host.now_ms());
    (0..COUNT).for_each(|_| host.ledger.note_attempt(one.clone()));
    host.ledger.close();
    let text = host.metrics.text();
    let dropped = text.lines().find_map(|line| line.strip_prefix("bulkhead_history_dropped_total ")).unwrap();
    let dropped: u64 = dropped.parse().unwrap();
    let db = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    let kept: u64 =
        db.query_row("SELECT count(*) FROM attempt", [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs();
    assert!(dropped > 0 && kept + dropped == COUNT, "{kept} kept, {dropped} dropped");
}
