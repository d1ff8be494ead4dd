//! What the disk says last: a write that was not synchronised ends the host, one that has to wait does not.
#![allow(clippy::disallowed_methods, reason = "holds the ledger's file from another process than the host's")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bulkhead_tests::{Bulkhead, Posted, Running, guest};
use rusqlite::Connection;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn hostile() -> String {
    format!("[connectors.hostile]\nplugin = '{}'\nconsume = 'in'\n", guest("hostile").display())
}

/// Bodies of nearly 1 MiB, so many of them.
fn large(count: usize) -> Vec<String> {
    vec![format!("ok {}", "x".repeat((1 << 20) - 100)); count]
}

/// Of the write-ahead log.
fn log_bytes(host: &Bulkhead) -> u64 {
    fs::metadata(host.data().join("ledger.db-wal")).map_or(0, |log| log.len())
}

/// Waits until so many messages are done, and then until the log is empty.
fn check_emptied(host: &Bulkhead, running: &Running, count: usize, before: impl FnOnce()) {
    let done = [("connector", "hostile"), ("outcome", "done")];
    running.wait_until("end", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) == count as f64);
    before();
    running.wait_until("empty log", PATIENCE, |_| log_bytes(host) == 0);
}

#[test]
fn the_log_of_the_ledger_stays_bounded_while_much_passes() {
    let host = Bulkhead::new(&hostile());
    let running = host.start();
    let is_over = AtomicBool::new(false);
    let most = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = log_bytes(&host).max(most);
                running.rest();
            }
            most
        });
        host.send("in", &large(200));
        check_emptied(&host, &running, 200, || ());
        is_over.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert!((4 << 20..128 << 20).contains(&most), "{} MiB of 200", most >> 20);
    let _ = running.terminate().ok();
}

/// Somebody has left a shell open in the middle of a read.
#[test]
fn who_reads_the_ledger_and_stays_holds_up_no_delivery_and_the_log_not_for_ever() {
    let host = Bulkhead::new(&hostile());
    let running = host.start();
    let reader = Connection::open(host.data().join("ledger.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM message").unwrap();
    host.send("in", &large(40));
    check_emptied(&host, &running, 40, || {
        assert!(log_bytes(&host) > 40 << 20);
        reader.execute_batch("COMMIT").unwrap();
    });
    let _ = running.terminate().ok();
}

/// A library that makes synchronising fail on demand, built by the compiler that builds SQLite too.
fn sync_library(folder: &Path) -> String {
    let library = folder.join("sync.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sync.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    assert!(built.is_ok_and(|status| status.success()), "the C compiler does not build {source}");
    library.to_str().unwrap().to_owned()
}

#[test]
fn a_failing_fsync_ends_the_host_and_nothing_unsynchronised_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let trigger = folder.path().join("trigger");
    let host = Bulkhead::new(&hostile())
        .variable("LD_PRELOAD", &sync_library(folder.path()))
        .variable("SYNC_FAILS", trigger.to_str().unwrap());
    let running = host.start();
    assert_eq!(running.api("POST", "connectors/hostile/pause", "").status, 204);
    assert_eq!(host.post("in", r#"{"id": "first", "body": "ok"}"#), Posted::Accepted);
    fs::write(&trigger, "").unwrap();
    let refused = running.api("POST", "queues/in/messages", r#"{"id": "second", "body": "ok"}"#);
    assert!(refused.status >= 500, "{}: {}", refused.status, refused.body);
    let ended = running.wait().ended_with(1);
    assert!(ended.errors().contains("disk I/O error"), "{}", ended.errors());
    // A start on such a disk is refused too.
    let _ = host.run(&["run", "--until-idle"]).ended_with(2);
    fs::remove_file(&trigger).unwrap();
    let ids: Vec<String> = host.ledger().messages("in").into_iter().map(|message| message.id).collect();
    assert!(ids == ["first"] || ids == ["first", "second"], "{ids:?}");
    let _ = host.run(&["resume", "hostile"]).ok();
    let _ = host.run_until_idle();
    assert!(host.ledger().messages("in").is_empty());
}

/// Somebody looks into the file with a tool of their own and holds it for a while.
#[test]
fn a_ledger_that_another_process_holds_is_waited_for() {
    let host = Bulkhead::new(&hostile());
    let running = host.start();
    let other = Connection::open(host.data().join("ledger.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let posted = thread::scope(|threads| {
        let posting = threads.spawn(|| host.post("in", r#"{"id": "patient", "body": "ok"}"#));
        running.wait_for_log("another process holds the ledger's file", PATIENCE);
        other.execute_batch("ROLLBACK").unwrap();
        posting.join().unwrap()
    });
    assert_eq!(posted, Posted::Accepted);
    running.wait_until("delivery", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]) == 1.0
    });
    let _ = running.terminate().ok();
}

/// What lies there changes, while it waits or as a dead letter: the host ends, at every start, and delivers something else
/// never.
fn check_named(body: &str, verbs: [&[&str]; 2]) {
    let host = Bulkhead::new(&hostile());
    let [before, after] = verbs;
    let _ = host.run(before).ok();
    host.send("in", &[body]);
    let _ = host.run(&["run", "--until-idle"]);
    host.ledger().flip_payloads();
    let _ = host.run(after).ok();
    for _ in 0..2 {
        let ended = host.run(&["run", "--until-idle"]).ended_with(1);
        let last = ended.log.last().unwrap();
        assert!(last.contains("is not what was stored") && last.ends_with("restore a backup"), "{last}");
    }
    let ledger = host.ledger();
    assert_eq!((ledger.state("hostile"), ledger.dead()), (vec![], vec![]));
}

#[test]
fn a_message_that_has_changed_on_the_disk_is_not_delivered_and_the_host_says_which_it_is() {
    check_named("count total", [&["pause", "hostile"], &["resume", "hostile"]]);
    check_named("reject it", [&["check"], &["dead", "retry", "--all"]]);
}
