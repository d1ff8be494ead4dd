//! A ledger that becomes one of a newer version, and a disk that refuses or a process that dies in the middle of it.
//!
//! `tests/ledgers` holds files as programs of all versions before have left them, byte for byte.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bulkhead_tests::{Bulkhead, Call, Failure, Saboteur, guest, sabotaged};

const MESSAGES: usize = 5;
/// The last synchronisation of a start that has anything to do with a ledger's version is before this one.
const SYNCS: u64 = 16;

/// The ledger's file as an old program has left it, with work in it.
fn old(host: &Bulkhead) -> PathBuf {
    host.send("in", &["count total"; MESSAGES]);
    host.ledger().become_first();
    let old = host.path("old.db");
    fs::copy(host.data().join("ledger.db"), &old).unwrap();
    old
}

fn put_back(host: &Bulkhead, old: &Path) {
    for name in ["ledger.db-wal", "ledger.db-shm"] {
        // There is none after a clean stop.
        let _ = fs::remove_file(host.data().join(name));
    }
    fs::copy(old, host.data().join("ledger.db")).unwrap();
}

/// A start in which this synchronisation fails, and another one; whether there was such a one.
fn check(host: &Bulkhead, saboteur: &Saboteur, nth: u64, failure: Failure) -> bool {
    saboteur.arm(&[Call::Sync], nth..=nth, failure).unwrap();
    let failed = host.run(&["run", "--until-idle"]);
    let Some((_, file)) = saboteur.first_failed() else { return false };
    saboteur.lift().unwrap();
    if failure == Failure::Broken && file.to_string_lossy().contains("ledger.db") {
        assert!(matches!(failed.code, Some(1 | 2)), "{file:?}: {}", failed.errors());
    }
    let _ = host.run_until_idle();
    let ledger = host.ledger();
    ledger.check_integrity();
    let total = MESSAGES.to_string().into_bytes();
    assert_eq!(ledger.state("it"), [("total".to_owned(), total)], "{nth} {failure:?} {file:?}");
    assert_eq!((ledger.messages("in"), ledger.dead()), (vec![], vec![]));
    true
}

#[test]
fn a_migration_that_is_interrupted_at_any_synchronisation_is_whole_after_the_next_start() {
    let toml = format!("[connectors.it]\nplugin = '{}'\nconsume = 'in'\n", guest("hostile").display());
    let (host, saboteur) = sabotaged(Bulkhead::new(&toml));
    let old = old(&host);
    let mut done = 0;
    for nth in 1..SYNCS {
        for failure in [Failure::Broken, Failure::Kill] {
            put_back(&host, &old);
            done += u32::from(check(&host, &saboteur, nth, failure));
        }
    }
    assert!(done >= 12, "{done} interruptions");
}

/// A connector that copies what comes to it; what died in it is kept longer than anybody keeps these tests.
fn copies(name: &str, queue: &str) -> String {
    let plugin = guest("tally").display().to_string();
    format!(
        "[connectors.{name}]\nplugin = '{plugin}'\nconsume = '{queue}'\ndead_retention = '3650d'\n
        config = {{ publish = 'copied' }}\nallow.publish = ['copied']\n"
    )
}

/// Has a host take over a file that a program of this version has left, and deliver all that is in it, dead letters too,
/// and then what is new.
fn check_taken_over(version: u32, toml: &str, bodies: &[&str]) {
    let host = Bulkhead::new(&format!("[queues.copied]\nkeep = '1d'\n{toml}"));
    fs::create_dir(host.data()).unwrap();
    let packed = format!("{}/ledgers/version-{version}.db.gz", env!("CARGO_MANIFEST_DIR"));
    let unpacked = Command::new("gzip").args(["-dc", &packed]).output().unwrap();
    assert!(unpacked.status.success(), "{packed}");
    fs::write(host.data().join("ledger.db"), unpacked.stdout).unwrap();
    assert_eq!(host.ledger().version(), version);
    let before = host.ledger().state("it");
    let _ = host.run(&["dead", "retry", "--all"]).ok();
    for name in toml.lines().filter_map(|line| line.strip_prefix("[connectors.")?.strip_suffix(']')) {
        let _ = host.run(&["resume", name]).ok();
    }
    host.send("in", &["new"]);
    let _ = host.run_until_idle();
    let ledger = host.ledger();
    ledger.check_integrity();
    let copied: Vec<String> =
        ledger.messages("copied").into_iter().map(|message| String::from_utf8(message.body).unwrap()).collect();
    let all: BTreeSet<&str> = bodies.iter().copied().chain(["new"]).collect();
    assert_eq!((copied.iter().map(String::as_str).collect(), copied.len()), (all, bodies.len() + 1), "{version}");
    assert!(ledger.version() > version && ledger.dead().is_empty() && ledger.pending() == 0);
    assert!(before.iter().all(|entry| ledger.state("it").contains(entry)), "{before:?}");
}

#[test]
fn a_ledger_of_each_version_before_is_taken_over_with_all_that_lies_in_it() {
    let long = "x".repeat(990);
    check_taken_over(1, &(copies("hostile", "in") + &copies("reads", "out")), &["publish out", &long]);
    check_taken_over(2, &copies("bomb", "in"), &[]);
    let upload = "upload http://127.0.0.1:37643/1000000000 1000000000";
    check_taken_over(3, &copies("stream", "in"), &[upload]);
    let all = ["retry later", "waits first", "waits second", "60000", "reject no"];
    for version in [4, 5] {
        check_taken_over(version, &(copies("it", "in") + &copies("reads", "out")), &all);
    }
}
