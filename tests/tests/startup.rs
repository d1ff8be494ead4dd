//! Starting and stopping: what a start needs, what it leaves behind, and how it ends.

use std::net::TcpListener;
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Finished, Fixture, Signal, guest};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn connector(name: &str, plugin: &str, extra: &str) -> String {
    format!("[connectors.{name}]\nplugin = '{plugin}'\nconsume = 'in'\n{extra}\n")
}

fn hostile(extra: &str) -> String {
    connector("hostile", &guest("hostile").display().to_string(), extra)
}

/// How many plugins a start had, and how many it compiled.
fn loaded(run: &Finished) -> (Option<u64>, Option<u64>) {
    let lines = run.log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines.into_iter().find(|line| line["message"] == "plugins are loaded").unwrap();
    (line["plugins"].as_u64(), line["compiled"].as_u64())
}

fn files(bulkhead: &Bulkhead, folder: &str) -> usize {
    std::fs::read_dir(bulkhead.path(folder)).map_or(0, Iterator::count)
}

#[test]
fn the_first_start_keeps_what_it_compiles_once_for_each_plugin() {
    let echo = guest("echo").display().to_string();
    let config = "config = { publish = 'out' }";
    let toml = connector("a", &echo, config) + &connector("b", &echo, config) + &connector("c", "builtin:log", "");
    let bulkhead = Bulkhead::new(&toml).cold();
    assert_eq!(loaded(&bulkhead.run_until_idle()), (Some(2), Some(2)));
    assert_eq!(files(&bulkhead, "data/compiled"), 2);
    assert_eq!(loaded(&bulkhead.run_until_idle()), (Some(2), Some(0)));
    assert_eq!(files(&bulkhead, "data/compiled"), 2);
}

#[test]
fn a_refused_plugin_writes_nothing() {
    let bulkhead = Bulkhead::new(&(hostile("") + &connector("b", "broken.wasm", "")));
    std::fs::write(bulkhead.path("broken.wasm"), b"\0asm").unwrap();
    let refused = bulkhead.run(&["run", "--until-idle"]).ended_with(2);
    assert!(refused.errors().contains("connectors.b.plugin"), "{}", refused.errors());
    assert!(!bulkhead.path("data").exists());
    std::fs::create_dir(bulkhead.path("data")).unwrap();
    let _ = bulkhead.run(&["run", "--until-idle"]).ended_with(2);
    let _ = bulkhead.run(&["check"]).ended_with(2);
    assert_eq!(files(&bulkhead, "data"), 0);
}

#[test]
fn a_plugin_is_started_under_the_limits_of_each_connector() {
    let small = "limits = { memory = '64KiB' }";
    let bulkhead = Bulkhead::new(&(hostile("") + &connector("small", &guest("hostile").display().to_string(), small)));
    let refused = bulkhead.run(&["run", "--until-idle"]).ended_with(2);
    assert!(refused.errors().contains("connectors.small.plugin"), "{}", refused.errors());
    assert!(!bulkhead.path("data").exists());
}

#[test]
fn a_second_process_on_the_data_directory_is_refused() {
    let bulkhead = Bulkhead::new(&hostile(""));
    let running = bulkhead.start();
    let refused = bulkhead.run(&["run"]).ended_with(2);
    assert!(refused.errors().contains("is in use by another process"), "{}", refused.errors());
    assert!(refused.errors().contains("`host.data_dir`"), "{}", refused.errors());
    bulkhead.send("in", &["ok"]);
    let _ = running.terminate().ok();
}

#[test]
fn a_host_waits_for_a_verb_that_works_on_the_data_directory() {
    let bulkhead = Bulkhead::new(&hostile(""));
    bulkhead.send("in", &["ok"]);
    // What a verb holds as long as it works.
    let lock = std::fs::File::open(bulkhead.data().join("lock")).unwrap();
    lock.lock().unwrap();
    let host = bulkhead.launch();
    let _ = host.wait_for_log("waits for another process", PATIENCE);
    lock.unlock().unwrap();
    let _ = host.wait_for_log("\"running\"", PATIENCE);
    let _ = host.terminate().ok();
}

/// The ledger's file, and its write-ahead log if there is one.
fn ledger_files(bulkhead: &Bulkhead) -> [Option<Vec<u8>>; 2] {
    ["ledger.db", "ledger.db-wal"].map(|file| std::fs::read(bulkhead.data().join(file)).ok())
}

/// Each verb says why it refuses the ledger, and leaves every byte of it as it was.
fn check_newer(bulkhead: &Bulkhead) {
    let before = ledger_files(bulkhead);
    for verb in [&["run", "--until-idle"][..], &["send", "in", "--body", "ok"], &["queues"], &["dead", "list"]] {
        let refused = bulkhead.run(verb).ended_with(2).errors();
        let known = refused.split_once("the ledger has version 99, this program knows up to ");
        assert!(known.is_some_and(|(_, known)| known[1..].starts_with(": use a newer bulkhead")), "{refused}");
        assert!(ledger_files(bulkhead) == before, "`{}` has changed the ledger", verb.join(" "));
    }
    let _ = bulkhead.run(&["check"]).ok();
    assert!(ledger_files(bulkhead) == before, "`check` has changed the ledger");
}

#[test]
fn the_ledger_of_a_newer_program_is_refused_and_left_as_it_is() {
    let bulkhead = Bulkhead::new(&hostile(""));
    bulkhead.send("in", &["ok"]);
    bulkhead.ledger().become_newer(99);
    check_newer(&bulkhead);
}

/// What says so is in the log alone, with a message that was accepted before.
#[test]
fn the_ledger_of_a_newer_program_that_was_killed_is_refused_and_left_as_it_is() {
    let bulkhead = Bulkhead::new(&hostile(""));
    let _ = bulkhead.run(&["pause", "hostile"]).ok();
    let running = bulkhead.start();
    bulkhead.send("in", &["ok"]);
    running.kill9();
    let ledger = bulkhead.ledger();
    ledger.become_newer(99);
    ledger.close_killed();
    let [file, log] = ledger_files(&bulkhead);
    assert_ne!(file.unwrap()[60..64], [0, 0, 0, 99], "the file itself is of this version");
    assert!(log.is_some_and(|log| !log.is_empty()));
    check_newer(&bulkhead);
}

#[test]
fn an_admin_address_that_is_taken_is_refused_before_anything_runs() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let bulkhead = Bulkhead::new(&format!("[host]\nadmin = '{address}'\n{}", hostile("")));
    bulkhead.send("in", &["ok"]);
    let refused = bulkhead.run(&["run"]).ended_with(2);
    assert!(refused.errors().contains("see `host.admin`"), "{}", refused.errors());
    assert_eq!(bulkhead.ledger().messages("in").len(), 1);
}

#[test]
fn sigterm_lets_work_settle_and_ends_with_0() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let url = fixture.url();
    let bulkhead =
        Bulkhead::new(&hostile(&format!("allow.http = [{{ url = '{url}/', methods = ['GET'], private = true }}]")));
    let running = bulkhead.start();
    bulkhead.send("in", &[format!("get {url}/")]);
    fixture.wait_for(1, PATIENCE);
    let ended = running.terminate().ok();
    assert!(ended.errors().contains("stopping"), "{}", ended.errors());
    assert_eq!(bulkhead.ledger().messages("in").len(), 0);
}

#[test]
fn a_second_signal_cuts_off_what_is_left_and_ends_with_1() {
    let fixture = Fixture::answering([Answer::Hang]);
    let url = fixture.url();
    let grant = format!("allow.http = [{{ url = '{url}/', methods = ['GET'], private = true }}]");
    let bulkhead = Bulkhead::new(&hostile(&format!("limits = {{ wall = '1h' }}\n{grant}")));
    let running = bulkhead.start();
    bulkhead.send("in", &[format!("get {url}/")]);
    fixture.wait_for(1, PATIENCE);
    assert_eq!(running.readyz(), 200);
    running.signal(Signal::TERM);
    running.wait_for_log("stopping", PATIENCE);
    // It can still be looked at, and takes nothing new.
    assert_eq!(running.readyz(), 503);
    let refused = running.api("POST", "queues/in/messages", r#"{"body":"x"}"#);
    assert_eq!((refused.status, refused.detail().contains("is stopping")), (503, true), "{}", refused.body);
    assert_eq!(running.api("GET", "queues", "").status, 200);
    let ended = running.terminate().ended_with(1);
    assert!(ended.errors().contains("delivered again after the next start"), "{}", ended.errors());
    assert_eq!(bulkhead.ledger().messages("in").len(), 1);
}

/// Whoever reads the log (a pipe, a collector) may die first.
#[test]
fn a_log_that_nobody_reads_any_more_costs_nothing() {
    let host = Bulkhead::new(&hostile("retry = { attempts = 1 }"));
    let running = host.start_unread();
    host.send("in", &["reject it", "trap now", "print 100", "publish nowhere", "ok"]);
    running.wait_until("end of all", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &[]) == 5.0);
    assert_eq!(running.metrics().value("bulkhead_panics_total", &[]), 0.0);
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().dead().len(), 3);
}

#[test]
fn durability_is_not_configurable() {
    for toml in ["[host]\nsynchronous = 'off'\n", "[queues.in]\nsynchronous = 'normal'\n"] {
        let refused = Bulkhead::new(&(toml.to_owned() + &hostile(""))).run(&["run"]).ended_with(2);
        assert!(refused.errors().contains("synchronous: unknown key"), "{}", refused.errors());
    }
}

/// Whatever was to be done, a configuration with a problem does nothing.
fn check_unusable(toml: &str, says: &[&str]) {
    let bulkhead = Bulkhead::new(&hostile(toml));
    for arguments in [&["run"][..], &["run", "--until-idle"], &["send", "in", "--body", "x"]] {
        let refused = bulkhead.run(arguments).ended_with(2);
        for part in says {
            assert!(refused.errors().contains(part), "`{part}` in: {}", refused.errors());
        }
        assert!(!bulkhead.data().exists(), "nothing is written");
    }
}

#[test]
fn an_unknown_key_starts_and_sends_nothing() {
    check_unusable(
        "retrys = { attempts = 2 }",
        &["bulkhead.toml:9:1: connectors.hostile.retrys: unknown key", "did you mean `retry`"],
    );
}

#[test]
fn a_wrong_type_starts_and_sends_nothing() {
    check_unusable("brake = 'never'", &["bulkhead.toml:9:9: connectors.hostile.brake"]);
}

#[test]
fn an_unreadable_toml_starts_and_sends_nothing() {
    check_unusable("brake = ", &["bulkhead.toml:9:9"]);
}

/// What is read by people has no braces around it, and no colours where it goes into a pipe.
#[test]
fn a_pretty_log_has_lines_for_people() {
    let bulkhead = Bulkhead::new(&hostile("retry = { attempts = 1 }"));
    let ids = bulkhead.send("in", &["reject it"]);
    let log = bulkhead.run(&["run", "--until-idle", "--log-format", "pretty"]).ok().log;
    let line = log.iter().find(|line| line.contains("delivery became a dead letter")).unwrap();
    for part in [" WARN ", "connector=hostile", &format!("message_id=\"{}\"", ids[0]), "reason=\"it\""] {
        assert!(line.contains(part), "`{part}` in: {line}");
    }
    assert!(log.iter().all(|line| !line.starts_with('{') && !line.contains('\u{1b}')), "{log:?}");
}

/// As the author guide says of the SDK's feature: lines like any others, with the fields behind the text.
#[test]
fn what_a_plugin_says_by_tracing_is_in_the_log() {
    let steps = guest("steps").display().to_string();
    let bulkhead = Bulkhead::new(&connector("steps", &steps, "allow.publish = ['out']"));
    bulkhead.send("in", &["it trace 1"]);
    let log = bulkhead.run_until_idle().log;
    let lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let said: Vec<Value> = lines
        .filter(|line| line["target"] == "bulkhead::plugin")
        .map(|line| json!([line["level"], line["connector"], line["context"], line["message"]]))
        .collect();
    let expected = [
        json!(["INFO", "steps", "guest_steps", "within n=1"]),
        json!(["WARN", "steps", "guest_steps", "without n=1 text=\"t\""]),
    ];
    assert_eq!(said, expected);
}

#[test]
fn state_in_several_runs_at_once_is_a_warning() {
    let toml = hostile("").replace("consume = 'in'", "consume = { queue = 'in', concurrency = 2 }");
    let bulkhead = Bulkhead::new(&toml);
    let checked = bulkhead.run(&["check", "--json"]).ok().json();
    assert_eq!((checked["ok"].as_bool(), checked["problems"].as_array().map(Vec::len)), (Some(true), Some(1)));
    let warning = &checked["problems"][0];
    assert_eq!(warning["severity"], "warning");
    assert_eq!(warning["key"], "connectors.hostile.consume.concurrency");
    let run = bulkhead.run_until_idle();
    assert!(run.errors().contains("warning: the plugin may keep state"), "{}", run.errors());
    let problem = toml + &connector("b", "missing.wasm", "");
    bulkhead.configure(&problem);
    let checked = bulkhead.run(&["check"]).ended_with(2);
    assert!(checked.output.ends_with("1 problem, 1 warning\n"), "{}", checked.output);
}
