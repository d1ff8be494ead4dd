//! The audit record: what was refused, which secrets were used, what people changed, and whether anybody edited it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_tests::{Answer, Bulkhead, Fixture, Metrics, Running, SmallDisk, guest};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn hostile(keys: &str) -> Bulkhead {
    let plugin = guest("hostile");
    Bulkhead::new(&format!(
        "[connectors.hostile]\nplugin = '{}'\nconsume = 'in'\nbrake = 0\nretry = {{ attempts = 1 }}\n{keys}\n",
        plugin.display()
    ))
}

fn files(host: &Bulkhead) -> Vec<PathBuf> {
    let entries = fs::read_dir(host.data().join("audit")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The records of a kind about one subject.
fn about(host: &Bulkhead, kind: &str, subject: &str) -> Vec<Value> {
    let is_it = |record: &Value| record["kind"] == kind && record["subject"].as_str().unwrap_or_default() == subject;
    host.audit().into_iter().filter(is_it).collect()
}

/// How often it happened, as the records say; a folded one counts for many.
fn times(records: &[Value]) -> u64 {
    records.iter().map(|record| record["count"].as_u64().unwrap()).sum()
}

fn verify(host: &Bulkhead) -> (i32, String) {
    let finished = host.run(&["audit", "verify"]);
    (finished.code.unwrap(), finished.output)
}

/// The message is refused an effect: the operator's log, the metric and the record say so, naming the key to change.
fn check(message: &str, keys: &str, effect: &str, reason: &str, key: &str) {
    let host = hostile(keys);
    let running = host.start();
    host.send("in", &[message]);
    let labels = [("connector", "hostile"), ("effect", effect), ("reason", reason)];
    running.wait_until("refusal", PATIENCE, |metrics| metrics.value("bulkhead_denied_total", &labels) >= 1.0);
    running.wait_until("end", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &[]) == 1.0);
    let counted = running.metrics().value("bulkhead_denied_total", &labels);
    let ended = running.terminate().ok();
    let found = about(&host, "refusal", effect);
    assert_eq!(times(&found) as f64, counted, "{message}: {found:?}");
    assert!(found.iter().all(|record| record["reason"] == reason && record["connector"] == "hostile"), "{found:?}");
    assert!(found.iter().all(|record| record["key"].as_str().unwrap_or_default() == key), "{found:?}");
    let is_line = |line: &String| line.contains(&format!(r#""effect":"{effect}","reason":"{reason}","key":"{key}""#));
    assert!(ended.log.iter().any(is_line), "{message}: {}", ended.errors());
}

#[test]
fn every_refused_effect_is_in_the_log_the_metrics_and_the_record() {
    let server = Fixture::answering([Answer::status(200)]);
    let url = server.url();
    let grant = format!("allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]");
    let method = "connectors.hostile.allow.http[0].methods";
    check("publish out", "", "publish", "not_granted", "connectors.hostile.allow.publish");
    check("get https://example.com/x", "", "http", "not_granted", "connectors.hostile.allow.http");
    check(&format!("get {url}/x"), &grant, "http", "method", method);
    check(
        "get http://127.0.0.1:9/x",
        "allow.http = [{ url = 'http://*', any = true, methods = ['GET'] }]",
        "http",
        "address",
        "connectors.hostile.allow.http[0].private",
    );
    check("socket", "", "socket", "not_offered", "");
    check("lookup", "", "lookup", "not_offered", "");
    check("file", "", "filesystem", "not_offered", "");
    check("secret token", "", "secret", "not_granted", "connectors.hostile.allow.secrets");
    check("bucket other", "", "state", "not_granted", "");
    assert!(server.requests().is_empty());
}

/// It waits for room instead of dying, so that there is no end to wait for.
#[test]
fn a_full_queue_is_in_the_record_with_the_key_of_its_bound() {
    let host = hostile("allow.publish = ['out']\n[queues.out]\nmax_bytes = '2KiB'");
    let running = host.start();
    host.send("in", &["flood out"]);
    running.wait_for_log(r#""reason":"full","key":"queues.out.max_bytes""#, PATIENCE);
    let _ = running.terminate();
    let found = about(&host, "refusal", "publish");
    assert_eq!((&found[0]["reason"], &found[0]["key"]), (&"full".into(), &"queues.out.max_bytes".into()));
}

#[test]
fn a_limit_that_bites_is_in_the_record() {
    let host = hostile("limits = { cpu = '50ms' }");
    host.send("in", &["spin", "spin"]);
    let ended = host.run_until_idle();
    let found = about(&host, "limit", "cpu");
    assert_eq!((times(&found), &found[0]["key"]), (2, &Value::from("connectors.hostile.limits.cpu")));
    assert!(ended.errors().contains(r#""key":"connectors.hostile.limits.cpu""#), "{}", ended.errors());
}

/// A plugin that asks again and again fills neither the log nor the record.
#[test]
fn refusals_in_a_loop_are_few_lines_with_their_count() {
    let host = hostile("limits = { requests = 2000, cpu = '60s', wall = '120s' }");
    host.send("in", &["refused-requests 1500", "refused-requests 500"]);
    let ended = host.run_until_idle();
    let found = about(&host, "refusal", "http");
    assert_eq!(times(&found), 2_000);
    let lines = ended.log.iter().filter(|line| line.contains("may not GET")).count();
    assert!(found.len() < 20 && lines == found.len(), "{} records, {lines} lines", found.len());
}

/// All these messages meet the same: it is told at once, and then with a count, in the log and in the record alike.
fn check_folded(host: &Bulkhead, messages: &[String], kind: &str, subject: &str, says: &str) {
    let running = host.start();
    let _ = fs::remove_file(host.path("token"));
    host.send("in", messages);
    let (metric, labels) = match kind {
        "limit" => ("bulkhead_limit_hits_total", [("limit", subject)]),
        _ => ("bulkhead_denied_total", [("effect", subject)]),
    };
    running.wait_until("all of them", PATIENCE, |metrics| metrics.value(metric, &labels) >= messages.len() as f64);
    let ended = running.terminate().ok();
    let found = about(host, kind, subject);
    assert!(times(&found) >= messages.len() as u64 && found.len() < 6, "{found:?}");
    let lines = ended.log.iter().filter(|line| line.contains(says)).count();
    assert_eq!(lines, found.len(), "{found:?}\n{}", ended.errors());
}

#[test]
fn a_credential_that_cannot_be_used_is_few_lines_with_their_count() {
    let server = Fixture::answering([Answer::status(200)]);
    let url = server.url();
    let keys = format!(
        "allow.http = [{{ url = '{url}/*', methods = ['GET'], private = true, auth = {{ bearer = 'token' }} }}]\n[secrets]\ntoken = {{ file = 'token' }}"
    );
    let host = hostile(&keys);
    fs::write(host.path("token"), "value").unwrap();
    fs::set_permissions(host.path("token"), fs::Permissions::from_mode(0o600)).unwrap();
    check_folded(&host, &vec![format!("get {url}/x"); 20], "unusable", "secret", "the credential cannot be attached");
    let found = about(&host, "unusable", "secret").remove(0);
    let (reason, key) = ("missing", "connectors.hostile.allow.http[0].auth");
    assert_eq!((&found["reason"], &found["key"]), (&reason.into(), &key.into()));
    assert!(found["text"].as_str().unwrap().contains("the secret `token` has no value"), "{found}");
    assert!(server.requests().is_empty());
}

#[test]
fn a_token_that_is_refused_is_few_lines_with_their_count() {
    let server = Fixture::answering([Answer::status(401)]);
    let url = server.url();
    let keys = format!(
        "allow.http = [{{ url = '{url}/*', methods = ['GET'], private = true, auth = {{ oauth2 = {{ token_url = '{url}/token', client_id = 'me', client_secret = 'token' }} }} }}]\n[secrets]\ntoken = {{ env = 'TOKEN' }}"
    );
    let host = hostile(&keys).variable("TOKEN", "value");
    check_folded(&host, &vec![format!("get {url}/x"); 20], "unusable", "secret", "no access token for `me`");
    let found = about(&host, "unusable", "secret").remove(0);
    assert_eq!(found["reason"], "token");
    assert!(found["text"].as_str().unwrap().contains("it answered 401"), "{found}");
    assert!(server.requests().iter().all(|request| request.uri == "/token"));
}

#[test]
fn log_that_is_dropped_is_few_lines_with_their_count() {
    let host = hostile("limits = { log = '1KiB' }");
    check_folded(&host, &vec!["print 100".to_owned(); 20], "limit", "log", "log dropped: over `limits.log`");
    assert_eq!(about(&host, "limit", "log")[0]["key"], "connectors.hostile.limits.log");
}

#[test]
fn the_use_of_a_secret_is_recorded_by_its_name() {
    let server = Fixture::answering([Answer::status(200)]);
    let url = server.url();
    let keys = format!(
        "allow.http = [{{ url = '{url}/*', methods = ['GET'], private = true, auth = {{ bearer = 'token' }} }}]\n[secrets]\ntoken = {{ env = 'TOKEN' }}"
    );
    let host = hostile(&keys).variable("TOKEN", "tok-en-val-ue");
    host.send("in", &vec![format!("get {url}/x"); 5]);
    let _ = host.run_until_idle();
    let found = about(&host, "secret", "token");
    assert_eq!((times(&found), &found[0]["key"]), (5, &Value::from("connectors.hostile.allow.http[0].auth")));
    assert!(found.len() <= 2 && !host.audit().iter().any(|record| record.to_string().contains("tok-en-val-ue")));
}

#[test]
fn what_people_change_is_recorded_with_and_without_a_host() {
    let host = hostile("");
    host.send("in", &["reject a", "reject b", "reject c"]);
    let _ = host.run_until_idle();
    let _ = host.run(&["pause", "hostile"]).ok();
    let _ = host.run_with(&["secrets", "set", "sealed"], b"value").ok();
    let running = host.start();
    let _ = host.run(&["resume", "hostile"]).ok();
    let _ = host.run(&["dead", "drop", "1", "--yes"]).ok();
    let _ = host.run(&["secrets", "rm", "sealed"]).ok();
    let _ = running.terminate().ok();
    let _ = host.run(&["dead", "retry", "2"]).ok();
    let actions = host.audit().into_iter().filter(|record| record["kind"] == "action");
    let actions: Vec<String> = actions.map(|record| record["subject"].as_str().unwrap().to_owned()).collect();
    assert_eq!(actions, ["pause", "secrets set", "resume", "dead drop", "secrets rm", "dead retry"]);
}

/// Of the bytes that lie there, one file after the other, as `cat` and `sha256sum` have it.
fn sha256(paths: &[&Path]) -> String {
    let bytes: Vec<u8> = paths.iter().flat_map(|path| fs::read(path).unwrap()).collect();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a record of `lock` says of a connector.
fn locked(host: &Bulkhead) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    about(host, "action", "lock").iter().map(|record| (text(&record["reason"]), text(&record["sha256"]))).collect()
}

#[test]
fn who_is_trusted_from_now_on_is_recorded_also_beside_a_host_that_runs() {
    let host = hostile("");
    let _ = host.run(&["lock"]).ok();
    assert!(!host.data().exists(), "there is no record to add to");
    fs::remove_file(host.path("bulkhead.lock")).unwrap();
    let _ = host.run_until_idle();
    let _ = host.run(&["lock"]).ok();
    let (hostile, courier) = (sha256(&[&guest("hostile")]), sha256(&[&guest("courier")]));
    assert_eq!(locked(&host), [("added".to_owned(), hostile)]);
    let running = host.start();
    let toml = fs::read_to_string(host.path("bulkhead.toml")).unwrap();
    let other = toml.replace(guest("hostile").to_str().unwrap(), guest("courier").to_str().unwrap());
    fs::write(host.path("bulkhead.toml"), other).unwrap();
    let _ = host.run(&["lock", "--accept", "hostile"]).ok();
    let _ = host.run(&["lock"]).ok();
    let _ = host.run(&["secrets", "rotate-key"]).ok();
    let _ = running.terminate().ok();
    let rest = [("accepted".to_owned(), courier), (String::new(), String::new())];
    assert_eq!(locked(&host)[1..], rest);
    assert_eq!((about(&host, "action", "secrets rotate-key").len(), verify(&host).0), (1, 0));
    assert!(
        files(&host).iter().all(|file| file.extension().is_some_and(|ending| ending == "jsonl")),
        "no note is left"
    );
}

/// Somebody else's file in the folder, or a note that another user left: said, and no other note waits for it.
#[test]
fn a_note_that_cannot_be_read_is_not_in_the_way_of_others() {
    let host = hostile("");
    let running = host.start();
    fs::create_dir(host.data().join("audit/0.note")).unwrap();
    let _ = host.run(&["secrets", "rotate-key"]).ok();
    running.wait_for_log("0.note cannot be read", PATIENCE);
    let _ = running.terminate().ok();
    fs::remove_dir(host.data().join("audit/0.note")).unwrap();
    assert_eq!(about(&host, "action", "secrets rotate-key").len(), 1);
}

#[test]
fn a_start_records_what_each_connector_may_do_uncut() {
    let queues: Vec<String> = (0..100).map(|index| format!("a-queue-with-quite-a-long-name-{index}")).collect();
    let host =
        hostile(&format!("allow.publish = {queues:?}\n[connectors.show]\nplugin = 'builtin:log'\nconsume = 'out'"));
    let _ = host.run_until_idle();
    let kinds: Vec<Value> = host.audit().into_iter().map(|record| record["kind"].clone()).collect();
    assert_eq!(kinds, ["start", "grants", "grants", "stop"]);
    let (grants, show) = (&host.audit()[1], &host.audit()[2]);
    let permissions: Vec<String> = queues.iter().map(|queue| format!("may publish to `{queue}`")).collect();
    assert_eq!((&grants["connector"], &grants["permissions"]), (&"hostile".into(), &permissions.into()));
    let plugin = guest("hostile");
    assert_eq!(
        (&grants["sources"][0], &grants["sha256"]),
        (&plugin.to_str().unwrap().into(), &sha256(&[&plugin]).into())
    );
    assert_eq!((&show["sources"][0], &show["text"]), (&"builtin:log".into(), &"may do nothing".into()));
    assert_eq!(show["sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn a_start_records_which_configuration_was_read() {
    let host = hostile("");
    let (toml, overlay) = (host.path("bulkhead.toml"), host.path("overlay.toml"));
    fs::write(&overlay, "[queues.in]\nretention = '2d'\n").unwrap();
    let _ = host.run(&["--config", overlay.to_str().unwrap(), "run", "--until-idle"]).ok();
    let start = host.audit().remove(0);
    let sources = [&toml, &overlay].map(|path| path.to_str().unwrap().to_owned());
    assert_eq!((&start["sources"], &start["sha256"]), (&sources.to_vec().into(), &sha256(&[&toml, &overlay]).into()));
}

#[test]
fn the_last_record_is_the_stop_and_says_how_it_was() {
    let host = hostile("");
    let running = host.start();
    // Every window is still open when the host ends.
    host.send("in", &["publish out", "publish out", "lookup", "lookup"]);
    running.wait_until("end", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &[]) == 4.0);
    let _ = running.terminate().ok();
    let kinds: Vec<Value> = host.audit().into_iter().map(|record| record["kind"].clone()).collect();
    let (last, others) = kinds.split_last().unwrap();
    assert!(last == "stop" && !others.contains(last), "{kinds:?}");
    assert_eq!(times(&about(&host, "refusal", "publish")), 2);
    assert_eq!(about(&host, "stop", "")[0]["reason"], "settled");
}

#[test]
fn a_start_that_fails_is_closed_with_the_reason() {
    let connector = |name: &str| {
        let plugin = guest("hostile");
        format!("[connectors.{name}]\nplugin = '{}'\nconsume = 'in'\n", plugin.display())
    };
    let host = Bulkhead::new(&(connector("old") + &connector("new")));
    host.send("in", &["reject a"]);
    let _ = host.run_until_idle();
    host.configure(&(connector("new") + "was = 'old'\n"));
    let _ = host.run(&["run"]).ended_with(2);
    let stop = host.audit().pop().unwrap();
    let because =
        "connector `new` was `old`, but both have messages or state of their own: remove `connectors.new.was`";
    assert_eq!((&stop["kind"], &stop["reason"], &stop["text"]), (&"stop".into(), &"failed".into(), &because.into()));
    assert_eq!(verify(&host).0, 0);
}

#[test]
fn the_record_is_closed_to_other_users() {
    let host = hostile("");
    let _ = host.run_until_idle();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&host.data().join("audit")), mode(&files(&host)[0])), (0o700, 0o600));
}

/// Every line is bound to the one before it: whoever changes one has to change all that follow.
#[test]
fn an_edit_of_the_record_shows() {
    let host = hostile("");
    assert_eq!(verify(&host).0, 0, "nothing is recorded yet");
    let _ = (host.run_until_idle(), host.run_until_idle());
    let (code, text) = verify(&host);
    assert!(code == 0 && text.contains("6 records, 1 to 6"), "{text}");
    let file = files(&host).remove(0);
    let whole = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let join = |lines: &[&str]| lines.join("\n") + "\n";
    let tampered = |text: String, at: &str| {
        fs::write(&file, text).unwrap();
        let (code, said) = verify(&host);
        assert!(code == 1 && said.contains(at), "{said}");
    };
    tampered(whole.replacen("may do nothing", "may do little", 1), ":3: it does not follow");
    tampered(join(&[&lines[..2], &lines[3..]].concat()), ":3: record 3 is expected, 4 found");
    tampered(join(&[lines[0], lines[1], lines[1], lines[2]]), ":3: record 3 is expected, 2 found");
    tampered(join(&[lines[0], lines[2], lines[1]]), ":2: record 2 is expected, 3 found");
    tampered(join(&[lines[0], "{}", lines[2]]), ":2: this is no record");
    fs::write(&file, &whole).unwrap();
    assert_eq!(verify(&host).0, 0);
    let json = host.run(&["--json", "audit", "verify"]).ok().json();
    assert_eq!((&json["ok"], &json["record"]["records"]), (&true.into(), &6.into()));
}

/// What a crash has left of a line is no edit, and the next start says that it has cut it off.
#[test]
fn a_line_that_a_crash_cut_short_is_mended_and_the_record_goes_on() {
    let host = hostile("");
    let running = host.start();
    host.send("in", &["publish out"]);
    running.wait_until("end", PATIENCE, |metrics: &Metrics| metrics.value("bulkhead_deliveries_total", &[]) == 1.0);
    running.kill9();
    let file = files(&host).remove(0);
    let torn = fs::read_to_string(&file).unwrap() + r#"{"sequence":9,"at":"#;
    fs::write(&file, torn).unwrap();
    let (code, text) = verify(&host);
    assert!(code == 0 && text.contains("cut short"), "{text}");
    let _ = host.run_until_idle();
    assert_eq!(verify(&host).0, 0);
    assert_eq!(times(&about(&host, "repair", "")), 1);
    assert_eq!(host.audit().last().unwrap()["kind"], "stop");
}

/// A number of changes that nobody folds, each a record of its own.
fn change(running: &Running, times: usize) {
    for _ in 0..times {
        assert_eq!(running.api("POST", "connectors/hostile/resume", "").status, 204);
    }
}

/// Lines that are on disk as a whole.
fn lines(host: &Bulkhead) -> usize {
    files(host).iter().map(|file| fs::read_to_string(file).unwrap().matches('\n').count()).sum()
}

/// The API answers before the record is on disk, so that the kill meets it while it is written.
#[test]
fn a_record_goes_on_after_a_kill_in_the_middle_of_writing() {
    let host = hostile("");
    let _ = host.run_until_idle();
    for round in 0..6 {
        let (before, until) = (lines(&host), Instant::now() + PATIENCE);
        let running = host.start();
        change(&running, 1);
        // The start, the grants and the first change.
        while lines(&host) < before + 3 {
            assert!(Instant::now() < until, "{}", running.log().join("\n"));
        }
        change(&running, 5 * round);
        running.kill9();
        let (code, said) = verify(&host);
        assert_eq!(code, 0, "{said}");
    }
    let _ = host.run_until_idle();
    let (code, said) = verify(&host);
    assert!(code == 0 && !said.contains("cut short"), "{said}");
    let count = |kind: &str| about(&host, kind, "").len();
    assert_eq!((count("start"), count("grants"), count("stop")), (8, 8, 2));
    assert!(about(&host, "action", "resume").len() >= 6);
}

#[test]
fn a_record_that_cannot_be_written_stops_no_delivery_and_counts_what_it_lost() {
    let Some(disk) = SmallDisk::mount(1) else { return };
    let host = hostile("");
    let _ = host.run_until_idle();
    let (folder, elsewhere) = (host.data().join("audit"), disk.outside(&disk.path("audit")));
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &folder).unwrap();
    let running = host.start();
    disk.fill();
    // What was begun of a page of the disk can still be written.
    let (mut changes, is_lost) = (0, |line: &String| line.contains("the audit record cannot be written"));
    while !running.log().iter().any(is_lost) {
        change(&running, 1);
        changes += 1;
        assert!(changes < 10_000, "{}", running.log().join("\n"));
    }
    host.send("in", &["publish out"]);
    running.wait_until("end", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &[]) == 1.0);
    disk.make_room();
    running.wait_for_log("the audit record is written again", PATIENCE);
    change(&running, 1);
    let ended = running.terminate().ok();
    assert_eq!(ended.log.iter().filter(|line| is_lost(line)).count(), 1, "{}", ended.errors());
    assert!(times(&about(&host, "lost", "")) > 0);
    // A start, its grants, the refusal and the stop.
    assert_eq!(times(&host.audit()), changes + 1 + 4, "recorded or counted as lost");
    assert_eq!(verify(&host).0, 0);
}
