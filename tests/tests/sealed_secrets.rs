//! Values that `bulkhead secrets` keeps in the data directory: set, used, listed, removed, and sealed with another key,
//! with a host that runs and without.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, SmallDisk};

/// For what happens within a moment, also on a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn deliver_to(fixture: &Fixture) -> Bulkhead {
    let url = fixture.url();
    Bulkhead::new(&format!(
        r#"
        [secrets]
        token = {{ sealed = true }}

        [connectors.deliver]
        plugin  = "builtin:http-request"
        consume = "in"
        config  = {{ url = "{url}/take" }}
        allow.http = [{{ url = "{url}/take", methods = ["POST"], auth = {{ bearer = "token" }}, private = true }}]
        "#
    ))
}

fn set(bulkhead: &Bulkhead, value: &str) {
    let _ = bulkhead.run_with(&["secrets", "set", "token"], value.as_bytes()).ok();
}

fn list(bulkhead: &Bulkhead) -> serde_json::Value {
    bulkhead.run(&["secrets", "list", "--json"]).ok().json()
}

fn used(fixture: &Fixture) -> Vec<String> {
    fixture.requests().iter().map(|request| request.header("authorization").unwrap().to_owned()).collect()
}

fn key_file(path: &Path, digit: &str) {
    std::fs::write(path, digit.repeat(64)).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_sealed_value_is_used_listed_by_its_name_and_removed() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let bulkhead = deliver_to(&fixture);
    let missing = bulkhead.run(&["run", "--until-idle"]).ended_with(2);
    assert!(missing.errors().contains("bulkhead secrets set token"), "{}", missing.errors());
    assert!(!bulkhead.path("data").exists());
    set(&bulkhead, "canary-1\n");
    bulkhead.send("in", &["{}"]);
    let _ = bulkhead.run_until_idle();
    assert_eq!((used(&fixture), list(&bulkhead)), (vec!["Bearer canary-1".to_owned()], serde_json::json!(["token"])));
    for name in ["sealed.json", "sealed.key", "sealed.lock"] {
        assert_eq!(bulkhead.path("data").join(name).metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let _ = bulkhead.run(&["secrets", "rm", "token"]).ok();
    assert_eq!(list(&bulkhead), serde_json::json!([]));
    let _ = bulkhead.run(&["secrets", "rm", "token"]).ended_with(2);
}

#[test]
fn a_host_that_runs_uses_a_new_value_and_a_new_key_at_once() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let bulkhead = deliver_to(&fixture);
    set(&bulkhead, "canary-1");
    let running = bulkhead.start();
    set(&bulkhead, "canary-2");
    bulkhead.send("in", &["{}"]);
    fixture.wait_for(1, SOON);
    let _ = bulkhead.run(&["secrets", "rotate-key"]).ok();
    bulkhead.send("in", &["{}"]);
    fixture.wait_for(2, SOON);
    assert_eq!(
        (used(&fixture), list(&bulkhead)),
        (vec!["Bearer canary-2".to_owned(); 2], serde_json::json!(["token"]))
    );
    let _ = running.terminate().ok();
}

#[test]
fn a_message_waits_for_a_value_that_was_removed() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let bulkhead = deliver_to(&fixture);
    set(&bulkhead, "canary-1");
    let running = bulkhead.start();
    let _ = bulkhead.run(&["secrets", "rm", "token"]).ok();
    bulkhead.send("in", &["{}"]);
    running.wait_for_log("the credential cannot be attached", SOON);
    let _ = running.terminate().ok();
    assert_eq!((fixture.requests().len(), bulkhead.dead().len()), (0, 0));
    set(&bulkhead, "canary-2");
    let _ = bulkhead.run_until_idle();
    assert_eq!(used(&fixture), ["Bearer canary-2"]);
}

#[test]
fn another_key_is_refused_and_changes_nothing() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let bulkhead = deliver_to(&fixture);
    let (right, wrong) = (bulkhead.path("right.key"), bulkhead.path("wrong.key"));
    key_file(&right, "a");
    key_file(&wrong, "b");
    let bulkhead = bulkhead.variable("BULKHEAD_KEY_FILE", right.to_str().unwrap());
    set(&bulkhead, "canary-1");
    let sealed = std::fs::read(bulkhead.path("data/sealed.json")).unwrap();
    let bulkhead = bulkhead.variable("BULKHEAD_KEY_FILE", wrong.to_str().unwrap());
    let refused = bulkhead.run_with(&["secrets", "set", "token"], b"canary-2").ended_with(2);
    assert!(refused.errors().contains("another key"), "{}", refused.errors());
    let checked = bulkhead.run(&["check"]).ended_with(2);
    assert!(checked.output.contains("secrets.token") && checked.output.contains("another key"), "{}", checked.output);
    assert_eq!(std::fs::read(bulkhead.path("data/sealed.json")).unwrap(), sealed);
    let bulkhead = bulkhead.variable("BULKHEAD_KEY_FILE", right.to_str().unwrap());
    let _ = bulkhead.run(&["secrets", "rotate-key", "--to", wrong.to_str().unwrap()]).ok();
    let bulkhead = bulkhead.variable("BULKHEAD_KEY_FILE", wrong.to_str().unwrap());
    let _ = bulkhead.run(&["check"]).ok();
    assert!(!bulkhead.path("data/sealed.key").exists());
}

#[test]
fn a_flipped_bit_is_refused_by_every_verb_and_nothing_is_overwritten() {
    let bulkhead = deliver_to(&Fixture::answering([Answer::status(200)]));
    set(&bulkhead, "canary-1");
    let file = bulkhead.path("data/sealed.json");
    let mut sealed = std::fs::read(&file).unwrap();
    let last = sealed.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
    sealed[last] ^= 1;
    std::fs::write(&file, &sealed).unwrap();
    // The names are no secrets: `list` opens nothing.
    for verb in [&["secrets", "set", "token"][..], &["secrets", "rm", "token"], &["secrets", "rotate-key"]] {
        let _ = bulkhead.run_with(verb, b"canary-2").ended_with(2);
    }
    let _ = bulkhead.run(&["check"]).ended_with(2);
    assert_eq!(std::fs::read(&file).unwrap(), sealed);
}

#[test]
fn the_key_comes_from_a_systemd_credential_where_there_is_one() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let bulkhead = deliver_to(&fixture);
    let folder = bulkhead.path("credentials");
    std::fs::create_dir(&folder).unwrap();
    key_file(&folder.join("bulkhead.key"), "c");
    let bulkhead = bulkhead.variable("CREDENTIALS_DIRECTORY", folder.to_str().unwrap());
    set(&bulkhead, "canary-1");
    bulkhead.send("in", &["{}"]);
    let _ = bulkhead.run_until_idle();
    assert_eq!(used(&fixture), ["Bearer canary-1"]);
    assert!(!bulkhead.path("data/sealed.key").exists());
}

#[test]
fn the_api_takes_values_and_gives_names() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let bulkhead = deliver_to(&fixture);
    set(&bulkhead, "canary-1");
    let running = bulkhead.start();
    let ask = |method, path, json| running.api(method, path, json);
    assert_eq!(ask("PUT", "secrets/other", r#"{"value": "canary-2"}"#).status, 204);
    assert_eq!(ask("GET", "secrets", "").body, r#"["other","token"]"#);
    for (path, json, status) in [
        ("secrets/other", r#"{"value": "canary-3", "more": 1}"#, 400),
        ("secrets/other", r#"{"value_base64": "canary-3"}"#, 400),
        ("secrets/other", r#"{"value": ""}"#, 400),
        ("secrets/a:b", r#"{"value": "canary-3"}"#, 400),
        ("secrets/other", "", 400),
    ] {
        let reply = ask("PUT", path, json);
        assert_eq!(reply.status, status, "{path} {json:?}");
        assert!(!reply.body.contains("canary"), "{}", reply.body);
    }
    assert_eq!(ask("GET", "secrets/other", "").status, 405);
    assert_eq!(ask("DELETE", "secrets/other", "").status, 204);
    assert_eq!(ask("DELETE", "secrets/other", "").status, 404);
    assert_eq!(ask("GET", "secrets", "").body, r#"["token"]"#);
    let _ = running.terminate().ok();
}

/// Whatever lies where the draft of the store is written: the key that was made for it must not stay alone, and the next
/// attempt works.
#[test]
fn a_first_value_that_cannot_be_written_leaves_no_key_without_a_store() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let bulkhead = deliver_to(&fixture);
    let (data, in_the_way) = (bulkhead.path("data"), bulkhead.path("data/sealed.json.new/file"));
    std::fs::create_dir_all(&in_the_way).unwrap();
    let refused = bulkhead.run_with(&["secrets", "set", "token"], b"canary-1").ended_with(2);
    assert!(refused.errors().contains("cannot write"), "{}", refused.errors());
    let left: BTreeSet<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["sealed.json.new", "sealed.lock"].map(Into::into).into());
    std::fs::remove_dir_all(data.join("sealed.json.new")).unwrap();
    set(&bulkhead, "canary-1");
    bulkhead.send("in", &["{}"]);
    let _ = bulkhead.run_until_idle();
    assert_eq!(used(&fixture), ["Bearer canary-1"]);
}

/// The disk is full before the first value comes.
#[test]
fn a_full_disk_leaves_nothing_half_sealed() {
    let Some(disk) = SmallDisk::mount(1) else { return };
    let disk = Arc::new(disk);
    let toml = "[secrets]\ntoken = { sealed = true }\n";
    let bulkhead = Bulkhead::on_disk(&disk, "min_free = '0B'", toml);
    disk.fill();
    let _ = bulkhead.run_with(&["secrets", "set", "token"], b"canary-1").ended_with(2);
    disk.make_room();
    for name in ["sealed.json", "sealed.key", "sealed.json.new", "sealed.key.new"] {
        assert!(!bulkhead.data().join(name).exists(), "{name}");
    }
    set(&bulkhead, "canary-1");
    assert_eq!(list(&bulkhead), serde_json::json!(["token"]));
}

#[test]
fn what_is_no_value_is_refused() {
    let bulkhead = deliver_to(&Fixture::answering([Answer::status(200)]));
    for value in [b"".to_vec(), b"\n".to_vec(), vec![b'x'; 64 * 1024 + 1]] {
        let _ = bulkhead.run_with(&["secrets", "set", "token"], &value).ended_with(2);
    }
    assert!(!bulkhead.path("data").exists());
}
