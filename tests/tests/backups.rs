//! The file of a backup: what is in it, who can read it, and that a host goes on from it as if nothing had been after it.
#![allow(clippy::disallowed_methods, reason = "changes the file of a backup, which no host has open")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Posted, guest};
use rusqlite::Connection;
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: usize = 5;

/// Posts every message to the fixture, and keeps what it has posted.
fn delivering(fixture: &Fixture) -> Bulkhead {
    let url = fixture.url();
    Bulkhead::new(&format!(
        "[queues.in]\nordering = 'key'\nkeep = '1h'\n[connectors.deliver]\nplugin = 'builtin:http-request'\n\
         consume = {{ queue = 'in', concurrency = 3, batch = 4 }}\nconfig = {{ url = '{url}/take' }}\n\
         allow.http = [{{ url = '{url}/take', methods = ['POST'], private = true }}]\n"
    ))
}

/// Makes a backup, and says what it holds.
fn back_up(host: &Bulkhead) -> (PathBuf, Value) {
    let file = host.path("file.backup");
    let contents = host.run(&["backup", file.to_str().unwrap(), "--json"]).ok().json();
    (file, contents)
}

fn restore(host: &Bulkhead, file: &Path) -> Value {
    host.run(&["restore", file.to_str().unwrap(), "--json"]).ok().json()
}

/// The messages number `from` to `from + 10`, each with one of a few keys, as they are posted, and their bodies.
fn messages(from: usize) -> (String, Vec<String>) {
    let numbers = from..from + 10;
    let line = |number| json!({ "key": format!("k{}", number % KEYS), "body": format!("k{} {number}", number % KEYS) });
    (
        numbers.clone().map(|number| format!("{}\n", line(number))).collect(),
        numbers.map(|number| format!("k{} {number}", number % KEYS)).collect(),
    )
}

fn taken(fixture: &Fixture) -> Vec<String> {
    fixture.requests().iter().map(|request| String::from_utf8(request.body.to_vec()).unwrap()).collect()
}

/// As the checker judges a crash: what was accepted before it began is in it; nothing else is, or otherwise; what was not
/// settled is delivered, in the order of its keys.
#[test]
fn a_backup_under_load_holds_what_was_accepted_and_is_gone_on_from() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let host = delivering(&fixture);
    let running = host.start();
    let (accepted, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let (file, before) = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let (lines, bodies) = messages(accepted.lock().unwrap().len());
                assert_eq!(host.post("in", &lines), Posted::Accepted);
                accepted.lock().unwrap().extend(bodies);
            }
        });
        fixture.wait_for(50, PATIENCE);
        let before = accepted.lock().unwrap().len();
        let (file, _) = back_up(&host);
        // It goes on.
        fixture.wait_for(fixture.requests().len() + 50, PATIENCE);
        is_over.store(true, Ordering::Relaxed);
        (file, before)
    });
    assert!(!host.data().join("backup.part").exists());
    running.kill9();
    let (accepted, first) = (accepted.into_inner().unwrap(), taken(&fixture));

    let fixture = Fixture::answering([Answer::status(200)]);
    let restored = delivering(&fixture);
    let contents = restore(&restored, &file);
    let kept: Vec<String> =
        restored.ledger().messages("in").into_iter().map(|stored| String::from_utf8(stored.body).unwrap()).collect();
    assert_eq!(contents["messages"], kept.len());
    assert!((before..=accepted.len()).contains(&kept.len()), "{before} {} {}", kept.len(), accepted.len());
    assert_eq!(kept, accepted[..kept.len()]);
    restored.ledger().check_integrity();
    // It is laid out as a ledger that was made here: free pages go back to the disk.
    let db = Connection::open(restored.data().join("ledger.db")).unwrap();
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(["page_size", "auto_vacuum"].map(pragma), [8192, 2]);
    drop(db);
    let _ = restored.run_until_idle();
    let second = taken(&fixture);
    let is_missing = |body: &&String| !first.contains(body) && !second.contains(body);
    assert_eq!(kept.iter().find(is_missing), None);
    let mut last = BTreeMap::new();
    for body in &second {
        let (key, number) = body.split_once(' ').unwrap();
        let number: usize = number.parse().unwrap();
        assert!(last.insert(key, number).is_none_or(|before| before < number), "{body} comes late");
    }
}

/// A tick that was made before the backup is not made again, nor is a message taken again that was.
#[test]
fn what_was_confirmed_before_a_backup_is_not_confirmed_again() {
    let toml = format!(
        "[queues.in]\ndedup = '24h'\n[connectors.clock]\nplugin = '{}'\nallow.publish = ['ticks']\n\
         schedule = {{ every = '365d', input = 'publish ticks' }}\n\
         [connectors.show]\nplugin = 'builtin:log'\nconsume = 'in'\n",
        guest("hostile").display()
    );
    let host = Bulkhead::new(&toml);
    let once = ["send", "in", "--id", "once", "--body", "x"];
    let _ = host.run(&once).ok();
    let _ = host.run_until_idle();
    assert_eq!(host.ledger().messages("ticks").len(), 1);
    let (file, _) = back_up(&host);
    let restored = Bulkhead::new(&toml);
    let _ = restore(&restored, &file);
    assert_eq!(restored.ledger().planned("clock", "default"), host.ledger().planned("clock", "default"));
    let _ = restored.run(&once).ok();
    let _ = restored.run_until_idle();
    assert_eq!((restored.ledger().messages("ticks").len(), restored.ledger().messages("in").len()), (1, 0));
}

fn sealed() -> Bulkhead {
    let toml = "[secrets]\nsealed = { sealed = true }\ngiven = { env = 'GIVEN' }\n\
                [connectors.show]\nplugin = 'builtin:log'\nconsume = 'in'\n";
    Bulkhead::new(toml).variable("GIVEN", "canary-given")
}

#[test]
fn a_backup_is_its_owners_alone_and_holds_no_secret_in_the_clear() {
    let host = sealed();
    let _ = host.run_with(&["secrets", "set", "sealed"], b"canary-sealed").ok();
    let running = host.start();
    let (file, contents) = back_up(&host);
    let _ = running.terminate().ok();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let record: Vec<&str> = contents["files"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(record, ["audit/00000000000000000001.jsonl", "sealed.json"]);
    let bytes = std::fs::read(&file).unwrap();
    let token = std::fs::read(host.data().join("admin.token")).unwrap();
    let key = std::fs::read(host.data().join("sealed.key")).unwrap();
    for secret in [&b"canary-given"[..], b"canary-sealed", &token, key.trim_ascii()] {
        assert!(!bytes.windows(secret.len()).any(|part| part == secret));
    }
    // Without its key the restored store opens nothing; with it, everything, and the record goes on.
    let restored = sealed();
    let _ = restore(&restored, &file);
    let refused = restored.run(&["run", "--until-idle"]).ended_with(2);
    assert!(refused.errors().contains("cannot read the key of sealed secrets"), "{}", refused.errors());
    assert!(refused.errors().contains("copy your `sealed.key` back"), "{}", refused.errors());
    std::fs::copy(host.data().join("sealed.key"), restored.data().join("sealed.key")).unwrap();
    let _ = restored.run_until_idle();
    assert_eq!(restored.run(&["audit", "verify", "--json"]).ok().json()["ok"], true);
    let actions: Vec<Value> = restored
        .audit()
        .into_iter()
        .filter(|event| event["kind"] == "action")
        .map(|event| event["subject"].clone())
        .collect();
    assert_eq!(actions, ["secrets set", "restore"]);
    assert_eq!(host.audit().iter().filter(|event| event["subject"] == "backup").count(), 1);
}

/// A host with a message that nobody has read, and its backup.
fn backed_up() -> (Bulkhead, PathBuf) {
    let host = Bulkhead::new("[connectors.show]\nplugin = 'builtin:log'\nconsume = 'in'\n");
    host.send("in", &["a message that is looked for"]);
    let (file, _) = back_up(&host);
    (host, file)
}

/// Nothing is made of this file, and no folder.
fn check_refused(file: &Path, says: &str) {
    let other = Bulkhead::new("");
    let refused = other.run(&["restore", file.to_str().unwrap()]).ended_with(2);
    assert!(refused.errors().contains(says), "{}", refused.errors());
    assert!(!other.data().exists());
}

#[test]
fn nothing_is_written_over() {
    let (host, file) = backed_up();
    let again = host.run(&["backup", file.to_str().unwrap()]).ended_with(2);
    assert!(again.errors().contains("exists: name another file"), "{}", again.errors());
    let refused = host.run(&["restore", file.to_str().unwrap()]).ended_with(2);
    assert!(refused.errors().contains("is not empty"), "{}", refused.errors());
    assert_eq!(host.ledger().messages("in").len(), 1);
    let empty = Bulkhead::new("").run(&["backup", "x"]).ended_with(2);
    assert!(empty.errors().contains("nothing to back up"), "{}", empty.errors());
}

#[test]
fn a_file_that_is_no_sound_backup_is_not_taken_over() {
    let (host, file) = backed_up();
    check_refused(&host.data().join("ledger.db"), "is a ledger, not a backup of one");
    check_refused(&host.path("bulkhead.toml"), "is not a backup of bulkhead");
    check_refused(&host.path("missing"), "cannot read");
    let sound = std::fs::read(&file).unwrap();
    let at = sound.windows(9).position(|part| part == b"a message").unwrap();
    let mut damaged = sound.clone();
    damaged[at] ^= 1;
    std::fs::write(&file, &damaged).unwrap();
    check_refused(&file, "is not what was stored");
    std::fs::write(&file, &sound[..sound.len() / 2]).unwrap();
    check_refused(&file, "is not a backup of bulkhead, or is damaged");
    let changed = |sql: &str| {
        std::fs::write(&file, &sound).unwrap();
        Connection::open(&file).unwrap().execute_batch(sql).unwrap();
    };
    changed("PRAGMA user_version = 99");
    check_refused(&file, "use a newer bulkhead");
    changed("CREATE TRIGGER t AFTER INSERT ON message BEGIN DELETE FROM message; END");
    check_refused(&file, "it has triggers, views or tables of another program");
}

/// Whoever could write the backup writes nowhere else.
#[test]
fn a_file_of_a_backup_goes_nowhere_but_into_the_data_directory() {
    let (_host, file) = backed_up();
    let insert = "INSERT INTO backup_file VALUES ('../../outside', x'00')";
    Connection::open(&file).unwrap().execute_batch(insert).unwrap();
    let other = Bulkhead::new("");
    let refused = other.run(&["restore", file.to_str().unwrap()]).ended_with(1);
    assert!(refused.errors().contains("which is none of ours"), "{}", refused.errors());
    assert!(!other.path("outside").exists() && !other.data().join("ledger.db").exists());
}

/// As the process that was killed in the middle of it leaves the folder.
#[test]
fn a_restore_that_was_cut_off_is_not_taken_for_an_empty_ledger() {
    let (_host, file) = backed_up();
    let other = Bulkhead::new("[connectors.show]\nplugin = 'builtin:log'\nconsume = 'in'\n");
    std::fs::create_dir(other.data()).unwrap();
    std::fs::write(other.data().join("ledger.db.restoring"), b"half").unwrap();
    for verb in [&["send", "in", "--body", "x"][..], &["queues"]] {
        let refused = other.run(verb).ended_with(2);
        assert!(refused.errors().contains("was cut off: empty"), "{}", refused.errors());
    }
    let refused = other.run(&["restore", file.to_str().unwrap()]).ended_with(2);
    assert!(refused.errors().contains("is not empty"), "{}", refused.errors());
    std::fs::remove_dir_all(other.data()).unwrap();
    let _ = restore(&other, &file);
    assert_eq!(other.ledger().messages("in").len(), 1);
}

#[test]
fn a_disk_without_the_room_is_left_as_it_is() {
    let toml = "[connectors.show]\nplugin = 'builtin:log'\nconsume = 'in'\n";
    let host = Bulkhead::new(toml);
    let _ = host.run_until_idle();
    let poor = Bulkhead::on(host.data(), "min_free = '1TiB'", toml);
    let refused = poor.run(&["backup", host.path("file.backup").to_str().unwrap()]).ended_with(1);
    assert!(refused.errors().contains("free some, or choose another disk"), "{}", refused.errors());
    // So says a host that runs.
    let running = poor.start();
    let refused = poor.run(&["backup", host.path("file.backup").to_str().unwrap()]).ended_with(1);
    assert!(refused.errors().contains("free some, or choose another disk"), "{}", refused.errors());
    assert_eq!(running.api("POST", "backup", "").status, 507);
    let _ = running.terminate().ok();
    assert!(!host.path("file.backup").exists() && !host.path("file.backup.unfinished").exists());
    assert!(!host.data().join("backup.part").exists());
}
