//! A ledger that becomes one of a newer version, and a disk that refuses or a process that dies in the middle of it.

use std::fs;
use std::path::{Path, PathBuf};

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
