//! What an operator does to a host that runs, and to one that does not: over the command line and the admin API.

use std::time::{Duration, Instant};

use bulkhead_tests::{Answer, Bulkhead, Fixture, guest};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn hostile(name: &str, extra: &str) -> String {
    let plugin = guest("hostile");
    format!(
        "[connectors.{name}]\nplugin = '{}'\nconsume = 'in'\nretry = {{ attempts = 1 }}\n{extra}\n",
        plugin.display()
    )
}

/// A connector that delivers what is in `in` to a server.
fn delivering(fixture: &Fixture) -> Bulkhead {
    let url = fixture.url();
    Bulkhead::new(&format!(
        "[connectors.deliver]\nplugin = 'builtin:http-request'\nconsume = 'in'\nconfig = {{ url = '{url}/' }}\nretry = {{ attempts = 1 }}\nallow.http = [{{ url = '{url}/', methods = ['POST'], private = true }}]\n"
    ))
}

/// A host without a process that holds one dead letter of `hostile`; the letter's id.
fn with_letter(bulkhead: &Bulkhead) -> String {
    bulkhead.send("in", &["reject never"]);
    let _ = bulkhead.run_until_idle();
    bulkhead.dead()[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_dead_letter_of_a_running_host_is_listed_shown_retried_and_dropped() {
    let fixture = Fixture::answering([Answer::status(422), Answer::status(422), Answer::status(200)]);
    let bulkhead = delivering(&fixture);
    let running = bulkhead.start();
    let sent = bulkhead.send("in", &["one", "two"]);
    running.wait_until("dead letters", PATIENCE, |metrics| metrics.value("bulkhead_dead_letters", &[]) >= 2.0);
    let letters = bulkhead.dead();
    let ids: Vec<&str> = letters.iter().map(|letter| letter["id"].as_str().unwrap()).collect();
    assert_eq!(letters[0]["message_id"], json!(sent[0]));
    let shown = bulkhead.run(&["dead", "show", ids[0], "--json"]).ok().json();
    assert_eq!((shown["body"].as_str(), shown["history"].as_array().map(Vec::len)), (Some("one"), Some(1)));
    assert_eq!(running.api("GET", &format!("dead/{}", ids[0]), "").json(), shown);
    assert_eq!(bulkhead.run(&["dead", "retry", ids[0], "--json"]).ok().json(), json!({ "count": 1 }));
    fixture.wait_for(3, PATIENCE);
    assert_eq!(bulkhead.run(&["dead", "drop", "--connector", "deliver", "--yes"]).ok().output, "1 dropped\n");
    assert_eq!(running.api("GET", "dead", "").json(), json!([]));
    let _ = running.terminate().ok();
    let ledger = bulkhead.ledger();
    assert_eq!((ledger.dead().len(), ledger.messages("in").len()), (0, 0));
}

#[test]
fn a_dead_letter_is_listed_shown_retried_and_dropped_without_a_host() {
    let bulkhead = Bulkhead::new(&hostile("hostile", ""));
    let id = with_letter(&bulkhead);
    let shown = bulkhead.run(&["dead", "show", &id]).ok().output;
    assert!(shown.contains("reject never") && shown.contains("connector  hostile"), "{shown}");
    assert_eq!(bulkhead.run(&["dead", "retry", "--all"]).ok().output, "1 delivered again\n");
    assert_eq!(bulkhead.dead(), Vec::<Value>::new());
    let _ = bulkhead.run_until_idle();
    let again = bulkhead.dead()[0]["id"].as_str().unwrap().to_owned();
    assert_ne!(again, id, "it died once more");
    assert_eq!(bulkhead.run(&["dead", "drop", &again, "--yes"]).ok().output, "1 dropped\n");
    assert_eq!(bulkhead.dead(), Vec::<Value>::new());
}

/// All that a filter says must be true of a letter, and a page begins behind a letter or at the first.
#[test]
fn a_filter_of_dead_letters_means_all_that_it_says() {
    let bulkhead = Bulkhead::new(&[hostile("hostile", ""), hostile("other", "")].concat());
    let _ = with_letter(&bulkhead);
    let letters = bulkhead.dead();
    let mine = letters.iter().find(|letter| letter["connector"] == "hostile").unwrap()["id"].as_str().unwrap();
    let running = bulkhead.start();
    let filter = json!({ "filter": { "connector": "other", "ids": [mine] } }).to_string();
    for path in ["dead/drop", "dead/retry"] {
        assert_eq!(running.api("POST", path, &filter).status, 404, "{path}");
    }
    assert_eq!(running.api("GET", "dead?after=first", "").status, 400);
    let filter = json!({ "filter": { "connector": "hostile", "ids": [mine] } }).to_string();
    assert_eq!(running.api("POST", "dead/drop", &filter).json(), json!({ "count": 1 }));
    assert_eq!(running.api("POST", "dead/drop", "{}").json(), json!({ "count": letters.len() - 1 }));
    let _ = running.terminate().ok();
    assert_eq!(bulkhead.ledger().dead(), []);
}

#[test]
fn what_a_message_says_does_not_steer_the_terminal() {
    let bulkhead = Bulkhead::new(&hostile("hostile", ""));
    let _ = bulkhead.run(&["send", "in", "--body", "reject \u{1b}[2Jgone\r\u{9b}1m"]).ok();
    let _ = bulkhead.run_until_idle();
    let id = bulkhead.dead()[0]["id"].as_str().unwrap().to_owned();
    for arguments in [&["dead", "list"][..], &["dead", "show", &id]] {
        let output = bulkhead.run(arguments).ok().output;
        assert!(output.contains("\\u{1b}[2Jgone\\r\\u{9b}1m"), "{output}");
        assert!(!output.contains(|character: char| character.is_control() && character != '\n'), "{output:?}");
    }
    let shown = bulkhead.run(&["dead", "show", &id, "--json"]).ok().json();
    assert_eq!(shown["body"], "reject \u{1b}[2Jgone\r\u{9b}1m");
}

#[test]
fn a_connector_that_is_not_enabled_can_be_paused_and_resumed() {
    let bulkhead = Bulkhead::new(&hostile("hostile", "enabled = false"));
    let running = bulkhead.start();
    let _ = bulkhead.run(&["pause", "hostile"]).ok();
    let _ = running.terminate().ok();
    assert_eq!(bulkhead.ledger().holds("hostile"), ["paused"]);
    let running = bulkhead.start();
    let _ = bulkhead.run(&["resume", "hostile"]).ok();
    let _ = running.terminate().ok();
    assert_eq!(bulkhead.ledger().holds("hostile"), Vec::<String>::new());
}

#[test]
fn a_letter_that_is_not_there_is_an_error_that_changes_nothing() {
    let bulkhead = Bulkhead::new(&hostile("hostile", ""));
    let id = with_letter(&bulkhead);
    let check = |way: &str| {
        for arguments in [&["show", "99"][..], &["retry", "99"], &["drop", &id, "99"], &["list", "--connector", "x"]] {
            let failed = bulkhead.run(&[&["dead"], arguments].concat()).ended_with(2);
            assert!(failed.errors().contains("there is no "), "{way}: {}", failed.errors());
        }
    };
    check("without a host");
    let running = bulkhead.start();
    check("through the host");
    let _ = running.terminate().ok();
    assert_eq!(bulkhead.dead()[0]["id"], json!(id));
}

#[test]
fn a_letter_of_a_connector_that_has_left_is_retried_in_another_one_only() {
    let bulkhead = Bulkhead::new(&hostile("old", ""));
    let id = with_letter(&bulkhead);
    bulkhead.configure(&hostile("new", ""));
    assert_eq!(bulkhead.run(&["dead", "list", "--connector", "old", "--json"]).ok().json()[0]["id"], json!(id));
    let refused = bulkhead.run(&["dead", "retry", &id]).ended_with(2);
    assert!(refused.errors().contains("`--to`") && refused.errors().contains("`old`"), "{}", refused.errors());
    let running = bulkhead.start();
    let refused = running.api("POST", &format!("dead/{id}/retry"), "");
    assert_eq!((refused.status, refused.detail().contains("`--to`")), (409, true));
    let _ = bulkhead.run(&["dead", "retry", &id, "--to", "new"]).ok();
    running.wait_for_log("became a dead letter", PATIENCE);
    let _ = running.terminate().ok();
    assert_eq!(bulkhead.dead()[0]["connector"], "new");
}

#[test]
fn a_paused_connector_stays_paused_over_a_restart_until_it_is_resumed() {
    let bulkhead = Bulkhead::new(&hostile("hostile", ""));
    let running = bulkhead.start();
    let _ = bulkhead.run(&["pause", "hostile"]).ok();
    let is_held = [("connector", "hostile"), ("reason", "paused")];
    assert_eq!(running.metrics().value("bulkhead_held", &is_held), 1.0);
    bulkhead.send("in", &["ok"]);
    let _ = running.terminate().ok();
    let idle = bulkhead.run_until_idle();
    assert!(idle.errors().contains("`bulkhead resume hostile`"), "{}", idle.errors());
    assert_eq!(bulkhead.ledger().messages("in").len(), 1);
    let running = bulkhead.start();
    let resumed = bulkhead.run(&["--json", "resume", "hostile"]).ok().json();
    assert_eq!(resumed, json!({ "resumed": "hostile" }));
    let done = [("connector", "hostile"), ("outcome", "done")];
    running.wait_until("delivery", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) == 1.0);
    assert_eq!(running.metrics().value("bulkhead_held", &is_held), 0.0);
    let _ = running.terminate().ok();
    assert_eq!(bulkhead.ledger().messages("in").len(), 0);
}

#[test]
fn a_pause_is_on_disk_when_it_is_answered() {
    let bulkhead = Bulkhead::new(&hostile("hostile", ""));
    for _ in 0..5 {
        let running = bulkhead.start();
        let paused = running.api("POST", "connectors/hostile/pause", "");
        running.kill9();
        assert_eq!(paused.status, 204, "{}", paused.body);
        assert_eq!(bulkhead.ledger().holds("hostile"), ["paused"]);
        let _ = bulkhead.run(&["resume", "hostile"]).ok();
        assert_eq!(bulkhead.ledger().holds("hostile"), Vec::<String>::new());
    }
    let _ = bulkhead.run(&["pause", "hostile"]).ok();
    assert_eq!(bulkhead.ledger().holds("hostile"), ["paused"], "without a host");
}

#[test]
fn the_brake_is_on_disk_when_it_is_logged() {
    let bulkhead = Bulkhead::new(&hostile("hostile", "brake = 3"));
    let running = bulkhead.start();
    bulkhead.send("in", &["reject", "reject", "reject", "ok"]);
    running.wait_for_log("the brake is on", PATIENCE);
    running.kill9();
    assert_eq!(bulkhead.ledger().holds("hostile"), ["brake"]);
    let _ = bulkhead.run(&["resume", "hostile"]).ok();
    let _ = bulkhead.run_until_idle();
    assert_eq!(bulkhead.ledger().messages("in").len(), 0);
}

#[test]
fn names_that_are_not_known_are_refused_with_the_one_that_was_meant() {
    let bulkhead = Bulkhead::new(&hostile("hostile", ""));
    let check = |arguments: &[&str], meant: &str| {
        let refused = bulkhead.run(arguments).ended_with(2);
        assert!(refused.errors().contains(&format!("did you mean `{meant}`?")), "{}", refused.errors());
    };
    check(&["send", "inn", "--body", "x"], "in");
    check(&["pause", "hostil"], "hostile");
    let _ = bulkhead.run(&["secrets", "rm", "nobody"]).ended_with(2);
    let running = bulkhead.start();
    check(&["resume", "hostil"], "hostile");
    let _ = bulkhead.run(&["secrets", "rm", "nobody"]).ended_with(2);
    let refused = running.api("POST", "queues/inn/messages", r#"{"body":"x"}"#);
    assert_eq!((refused.status, refused.detail().contains("did you mean `in`?")), (404, true), "{}", refused.body);
    let _ = running.terminate().ok();
}

#[test]
fn nothing_is_sent_to_an_inbox() {
    let toml = hostile("hostile", "schedule = { every = '1h' }");
    let bulkhead = Bulkhead::new(&toml);
    let running = bulkhead.start();
    assert_eq!(running.api("POST", "queues/@hostile/messages", r#"{"body":"x"}"#).status, 404);
    let malformed = running.api("POST", "queues/in/messages", r#"{"body":"x","id":"a\nb"}"#);
    assert_eq!((malformed.status, malformed.detail().contains("its id is malformed")), (400, true));
    let _ = running.terminate().ok();
}

#[test]
fn what_is_kept_for_a_connector_that_has_left_is_forgotten_on_demand() {
    let both = hostile("stays", "") + &hostile("goes", "");
    let bulkhead = Bulkhead::new(&both);
    let _ = bulkhead.run(&["pause", "goes"]).ok();
    bulkhead.send("in", &["ok", "ok"]);
    let _ = bulkhead.run_until_idle();
    let refused = bulkhead.run(&["queues", "forget", "in", "goes"]).ended_with(2);
    assert!(refused.errors().contains("take it out first"), "{}", refused.errors());
    bulkhead.configure(&hostile("stays", ""));
    let running = bulkhead.start();
    let orphaned = [("queue", "in"), ("connector", "goes")];
    assert_eq!(running.metrics().value("bulkhead_orphaned_messages", &orphaned), 2.0);
    let refused = running.api("DELETE", "queues/in/subscriptions/stays", "");
    assert_eq!((refused.status, refused.detail().contains("`stays` reads `in`")), (409, true), "{}", refused.body);
    assert_eq!(running.api("DELETE", "queues/in/subscriptions/nobody", "").status, 404);
    let forgotten = bulkhead.run(&["queues", "forget", "in", "goes", "--json"]).ok().json();
    assert_eq!(forgotten, json!({ "messages": 2 }));
    let metrics = running.metrics();
    assert_eq!(metrics.value("bulkhead_orphaned_messages", &orphaned), 0.0);
    assert!(
        !metrics.has("bulkhead_queue_backlog", &orphaned)
            && metrics.has("bulkhead_queue_backlog", &[("connector", "stays")])
    );
    let _ = bulkhead.run(&["queues", "forget", "in", "goes"]).ended_with(2);
    // What nobody waits for any more is removed with the next round of upkeep.
    let deadline = Instant::now() + PATIENCE;
    let queue = || running.api("GET", "queues", "").json()[0].clone();
    while queue()["messages"] != 0 {
        assert!(Instant::now() < deadline, "{}", queue());
    }
    assert_eq!(queue()["subscriptions"].as_array().map(Vec::len), Some(1));
    let _ = running.terminate().ok();
}

/// With the names, the number and the way to get rid of them; not once there is nothing to warn of.
#[test]
fn an_orphan_is_warned_of_at_every_start() {
    let bulkhead = Bulkhead::new(&(hostile("stays", "") + &hostile("goes", "enabled = false")));
    bulkhead.send("in", &["ok", "ok"]);
    let is_warning = |line: &Value| {
        line["level"] == "WARN"
            && line["message"].as_str().is_some_and(|text| text.contains("has left the configuration"))
    };
    let warnings = || {
        let log = bulkhead.run_until_idle().log;
        let lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| is_warning(line)).collect::<Vec<_>>()
    };
    assert_eq!(warnings(), Vec::<Value>::new());
    bulkhead.configure(&hostile("stays", ""));
    for _ in 0..2 {
        let warnings = warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let warning = &warnings[0];
        assert_eq!(
            (&warning["queue"], &warning["connector"], &warning["messages"]),
            (&json!("in"), &json!("goes"), &json!(2))
        );
        assert!(warning["message"].as_str().unwrap().contains("`bulkhead queues forget in goes`"), "{warning}");
    }
    let _ = bulkhead.run(&["queues", "forget", "in", "goes"]).ok();
    assert_eq!(warnings(), Vec::<Value>::new());
}

#[test]
fn what_nobody_comes_back_for_is_dropped_after_its_retention() {
    let retention = "[queues.in]\nretention = '1s'\n";
    let bulkhead = Bulkhead::new(&format!("{retention}{}{}", hostile("stays", ""), hostile("goes", "enabled = false")));
    bulkhead.send("in", &["ok", "ok"]);
    bulkhead.configure(&format!("{retention}{}", hostile("stays", "")));
    let running = bulkhead.start();
    let line = running.wait_for_log("dropped the messages of a connector that left the configuration", PATIENCE);
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["queue"], &line["connector"], &line["messages"]), (&json!("in"), &json!("goes"), &json!(2)));
    running.wait_until("delivery to who stayed", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("connector", "stays"), ("outcome", "done")]) == 2.0
    });
    // The line comes before the commit.
    running.wait_until("end of the subscription", PATIENCE, |_| {
        running.api("GET", "queues", "").json()[0]["subscriptions"].as_array().map(Vec::len) == Some(1)
    });
    let _ = running.terminate().ok();
}

/// The files of the ledger; SQLite's index of its log is made anew at every start, and is nothing to keep.
fn ledger_files(bulkhead: &Bulkhead) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(bulkhead.data()).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, path)| path.is_file() && !name.ends_with("-shm"))
        .map(|(name, path)| (name, std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn check_warns(bulkhead: &Bulkhead, lines: &[&str]) {
    let before = bulkhead.data().exists().then(|| ledger_files(bulkhead));
    let output = bulkhead.run(&["check"]).ok().output;
    let found: Vec<&str> = output.lines().filter(|line| line.contains("does not read it any more")).collect();
    assert_eq!(found.len(), lines.len(), "{output}");
    assert!(found.iter().zip(lines).all(|(found, line)| found.contains(line)), "{output}");
    assert_eq!(before, bulkhead.data().exists().then(|| ledger_files(bulkhead)), "`check` changes nothing");
}

#[test]
fn check_tells_what_waits_for_a_connector_that_leaves() {
    let (both, stays) = (hostile("stays", "") + &hostile("goes", ""), hostile("stays", ""));
    let bulkhead = Bulkhead::new(&both);
    check_warns(&bulkhead, &[]);
    assert!(!bulkhead.data().exists());
    let _ = bulkhead.run(&["pause", "goes"]).ok();
    bulkhead.send("in", &["ok", "ok"]);
    let _ = bulkhead.run_until_idle();
    check_warns(&bulkhead, &[]);
    bulkhead.configure(&stays);
    let warning = "queues.in: warning: 2 messages in `in` for connector `goes`";
    check_warns(&bulkhead, &[warning]);
    bulkhead.configure(&(stays.clone() + &hostile("new", "was = 'goes'")));
    check_warns(&bulkhead, &[]);
    // The same beside a host that runs, and after one that was killed.
    bulkhead.configure(&both);
    let running = bulkhead.start();
    bulkhead.configure(&stays);
    check_warns(&bulkhead, &[warning]);
    running.kill9();
    check_warns(&bulkhead, &[warning]);
    let _ = bulkhead.run(&["queues", "forget", "in", "goes"]).ok();
    check_warns(&bulkhead, &[]);
}

#[test]
fn check_says_that_a_ledger_cannot_be_read() {
    let bulkhead = Bulkhead::new(&hostile("stays", ""));
    std::fs::create_dir(bulkhead.data()).unwrap();
    std::fs::write(bulkhead.path("data/ledger.db"), [b'x'; 200]).unwrap();
    let checked = bulkhead.run(&["check"]).ok();
    assert!(checked.output.contains("host.data_dir: warning: "), "{}", checked.output);
}

#[test]
fn what_is_kept_is_forgotten_without_a_host_too() {
    let bulkhead = Bulkhead::new(&hostile("goes", ""));
    bulkhead.send("in", &["ok"]);
    bulkhead.configure(&hostile("goes", "").replace("'in'", "'other'"));
    let forgotten = bulkhead.run(&["queues", "forget", "in", "goes"]).ok();
    assert_eq!(forgotten.output, "`in` keeps nothing for goes any more: 1 messages dropped\n");
}

/// Every refusal ends with 2 and its reason, with and without a host.
#[test]
fn what_cannot_be_sent_is_refused_with_the_reason() {
    let bulkhead = Bulkhead::new(&hostile("hostile", ""));
    let large = vec![b'x'; 2 << 20];
    std::fs::write(bulkhead.path("large"), &large).unwrap();
    let large_argument = format!("@{}", bulkhead.path("large").display());
    let check = || {
        for (arguments, input, reason) in [
            (&["--body", "@missing"][..], &b""[..], "cannot read the body: there is no file `missing`"),
            (&["--body", "@."], b"", "Is a directory"),
            (&["--body", &large_argument], b"", "too large for queue `in`, which takes 1048576"),
            (&["--body", "x", "--key", ""], b"", "its key is malformed"),
            (&["--body", "x", "--id", "a\nb"], b"", "its id is malformed"),
            (&["--lines", "--header", "a b: c"], b"", "the name of its header 0 is malformed"),
            (&["--lines"], &large, "line 1 is larger than the queue takes (1048576 bytes)"),
        ] {
            let refused = bulkhead.run_with(&[&["send", "in"], arguments].concat(), input).ended_with(2);
            assert!(refused.errors().contains(reason), "{arguments:?}: {}", refused.errors());
        }
    };
    check();
    let running = bulkhead.start();
    check();
    let _ = running.terminate().ok();
    assert_eq!(bulkhead.ledger().messages("in").len(), 0);
}

#[test]
fn lines_before_one_that_is_too_long_are_accepted_and_counted() {
    let bulkhead = Bulkhead::new(&hostile("hostile", ""));
    let input = [b"ok\n".repeat(5_000), vec![b'x'; 2 << 20]].concat();
    let failed = bulkhead.run_with(&["send", "in", "--lines"], &input).ended_with(1);
    let reason = "5000 messages were accepted, not all: line 5001 is larger than the queue takes";
    assert!(failed.errors().contains(reason), "{}", failed.errors());
    assert_eq!(bulkhead.ledger().messages("in").len(), 5_000);
}

#[test]
fn a_line_from_a_slow_pipe_is_not_kept_waiting_for_the_next() {
    let bulkhead = Bulkhead::new(&hostile("hostile", ""));
    let running = bulkhead.start();
    let done = [("connector", "hostile"), ("outcome", "done")];
    let sent = bulkhead.run_slowly(&["send", "in", "--lines"], b"ok\n", || {
        running.wait_until("delivery", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) == 1.0);
    });
    assert_eq!(sent.ok().output, "1 message accepted\n");
}

/// Half a line behind a whole one keeps nothing back, and is a line of its own when the rest has come.
#[test]
fn a_line_is_not_kept_waiting_for_the_rest_of_the_next() {
    let bulkhead = Bulkhead::new(&hostile("hostile", ""));
    let running = bulkhead.start();
    let done = [("connector", "hostile"), ("outcome", "done")];
    let sent = bulkhead.run_slowly(&["send", "in", "--lines"], b"ok\nok", || {
        running.wait_until("delivery", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) == 1.0);
    });
    assert_eq!(sent.ok().output, "2 messages accepted\n");
    running.wait_until("the other", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) == 2.0);
}

#[test]
fn any_bytes_are_a_message_and_no_lines_are_none() {
    let bulkhead = Bulkhead::new(&hostile("hostile", ""));
    assert_eq!(bulkhead.run(&["send", "in", "--lines"]).ok().output, "0 messages accepted\n");
    let _ = bulkhead.run_with(&["send", "in", "--lines"], b"a\0b\n\n\r\n\xff").ok();
    let _ = bulkhead.run_with(&["send", "in", "--body", "@-"], b"").ok();
    let bodies: Vec<Vec<u8>> = bulkhead.ledger().messages("in").into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, [b"a\0b".to_vec(), b"\xff".to_vec(), Vec::new()]);
}

#[test]
fn a_host_with_another_configuration_says_so() {
    let bulkhead = Bulkhead::new(&hostile("hostile", ""));
    let running = bulkhead.start();
    bulkhead.configure(&hostile("hostile", "").replace("'in'", "'other'"));
    let refused = bulkhead.run(&["send", "other", "--body", "x"]).ended_with(2);
    assert!(refused.errors().contains("the running host does not take it for `other`"), "{}", refused.errors());
    std::fs::write(bulkhead.path("data/admin.token"), "x".repeat(43)).unwrap();
    let refused = bulkhead.run(&["queues"]).ended_with(2);
    assert!(refused.errors().contains("does not take the token"), "{}", refused.errors());
    let _ = running.terminate().ok();
}

#[test]
fn every_error_of_the_api_is_a_problem_document() {
    let bulkhead = Bulkhead::new(&hostile("hostile", ""));
    let running = bulkhead.start();
    for (method, path, body, status) in [
        ("POST", "dead/retry", "{", 400),
        ("POST", "dead/retry", r#"{"filtre": {}}"#, 422),
        ("POST", "queues/in/messages", "[]", 400),
        ("PUT", "queues", "", 405),
        ("GET", "nothing", "", 404),
        ("GET", "dead?after", "", 200),
        ("GET", "dead/x", "", 404),
    ] {
        let reply = running.api(method, path, body);
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.body);
        assert!(status == 200 || !reply.detail().is_empty(), "{method} {path}");
    }
    let _ = running.terminate().ok();
}
