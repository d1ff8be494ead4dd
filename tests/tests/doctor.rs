//! What `bulkhead doctor` says of machines and data directories that are as they should be, and of those that are not; and
//! that a start refuses what it calls a problem.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use bulkhead_tests::{Bulkhead, Finished, SmallDisk};
use serde_json::Value;

const SHOW: &str = "[connectors.show]\nplugin = 'builtin:log'\nconsume = 'in'\n";

/// What is found about something, as `(level, message, help)`.
fn found(examined: &Finished, about: &str) -> (String, String, String) {
    let findings = examined.json()["findings"].clone();
    let finding = findings.as_array().unwrap().iter().find(|finding| finding["about"] == about);
    let finding = finding.unwrap_or_else(|| panic!("nothing about {about} in {findings:#}"));
    let text = |field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    (text("level"), text("message"), text("help"))
}

fn examine(host: &Bulkhead, code: i32) -> Finished {
    host.warm();
    host.run(&["doctor", "--json"]).ended_with(code)
}

fn check(host: &Bulkhead, about: &str, level: &str, says: &str) {
    let code = i32::from(level == "problem");
    let (found_level, message, help) = found(&examine(host, code), about);
    assert_eq!(found_level, level, "{message}");
    assert!(format!("{message} {help}").contains(says), "{message}: {help}");
}

#[test]
fn a_host_that_would_work_has_no_problem_and_nothing_is_made_for_it() {
    let host = Bulkhead::new(SHOW);
    let examined = host.run(&["doctor", "--json"]).ok();
    assert_eq!(examined.json()["ok"], true);
    assert_eq!(found(&examined, "data directory").0, "ok");
    let levels: Vec<Value> =
        examined.json()["findings"].as_array().unwrap().iter().map(|finding| finding["level"].clone()).collect();
    assert!(levels.iter().all(|level| level == "ok" || level == "warning"), "{levels:?}");
    assert!(!host.data().exists());
    let _ = host.run_until_idle();
    // The fixture lends what others have compiled, and makes the folder for it.
    fs::set_permissions(host.data(), Permissions::from_mode(0o700)).unwrap();
    let text = host.run(&["doctor"]).ok().output;
    for part in [
        "ok       data directory: ",
        "nobody works on it",
        "ok       admin token: ",
        "compiled already",
        "note     known advisories were not looked at",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
    let running = host.start();
    check(&host, "data directory", "ok", "a host or a verb works on it");
    let _ = running.terminate().ok();
}

#[test]
fn what_others_may_read_is_found() {
    let host = Bulkhead::new(SHOW);
    let _ = host.run_until_idle();
    fs::set_permissions(host.data(), Permissions::from_mode(0o755)).unwrap();
    check(&host, "data directory", "warning", "chmod 700");
    fs::set_permissions(host.data().join("admin.token"), Permissions::from_mode(0o644)).unwrap();
    check(&host, "admin token", "problem", "start again");
}

#[test]
fn what_a_start_would_refuse_is_found() {
    let host = Bulkhead::new(&format!("{SHOW}[secrets]\ntoken = {{ env = 'MISSING' }}\n"));
    check(&host, "secrets", "problem", "secrets.token: the environment variable `MISSING` is not set");
    let host = Bulkhead::new("[connectors.show]\nplugin = 'missing.wasm'\nconsume = 'in'\n");
    check(&host, "plugins", "problem", "connectors.show.plugin: there is no file");
    let host = Bulkhead::new("[connectors.show]\nplugin = 'builtin:log'\n");
    check(&host, "configuration", "problem", "`bulkhead check` shows them");
    let host = Bulkhead::new(SHOW);
    host.send("in", &["a message"]);
    host.ledger().become_newer(99);
    check(&host, "ledger", "problem", "use a newer bulkhead");
}

#[test]
fn limits_of_the_system_are_found() {
    check(&Bulkhead::new(SHOW).under("-n 256"), "open files", "warning", "LimitNOFILE");
    check(&Bulkhead::new(SHOW).under("-f 1048576"), "file size", "warning", "LimitFSIZE");
    check(&Bulkhead::on(Bulkhead::new("").data(), "min_free = '1TiB'", SHOW), "disk", "problem", "host.min_free");
}

#[test]
fn a_clock_that_was_turned_back_is_found() {
    let host = Bulkhead::new(SHOW);
    host.send("in", &["a message"]);
    let ledger = fs::File::options().append(true).open(host.data().join("ledger.db")).unwrap();
    ledger.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)).unwrap();
    let findings = examine(&host, 1).json()["findings"].clone();
    assert!(findings.to_string().contains("the clock was turned back"), "{findings:#}");
}

#[test]
fn a_data_directory_that_cannot_be_written_is_found_and_refused() {
    let Some(disk) = SmallDisk::mount(16) else { return };
    let disk = disk.into();
    let host = Bulkhead::on_disk(&disk, "min_free = '1MiB'", SHOW);
    host.send("in", &["a message"]);
    disk.make_read_only();
    check(&host, "file system", "problem", "mount it for writing");
    for verb in [&["run"][..], &["send", "in", "--body", "x"], &["queues"]] {
        let refused = host.run(verb).ended_with(2);
        assert!(refused.errors().contains("is mounted for reading alone"), "{}", refused.errors());
    }
}
