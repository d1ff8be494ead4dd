//! The configuration is read again while the host runs: what has changed is replaced, everything else does not notice, and
//! what cannot be used changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Metrics, Posted, Running, Signal, guest, post};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connector that publishes a text for each message of the queue with its own name.
fn says(name: &str, text: &str) -> String {
    format!(
        "[connectors.{name}]\nplugin = 'builtin:jq'\nconsume = '{name}'\nconfig = {{ program = '\"{text}\"', publish = 'out' }}\n
        allow.publish = ['out']\n"
    )
}

/// A connector that counts its calls in one sandbox.
fn counting() -> String {
    let keys = "consume = 'count'\nreuse = 'always'\nallow.publish = ['out']";
    format!("[connectors.count]\nplugin = '{}'\n{keys}\n", guest("steps").display())
}

/// What the reload has changed.
#[track_caller]
fn reload(running: &Running) -> Value {
    let reply = running.api("POST", "reload", "{}");
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

/// Sends a message to a connector's queue of the same name and waits until it is done.
#[track_caller]
fn deliver(running: &Running, connector: &str, body: &str) {
    let labels = [("connector", connector), ("outcome", "done")];
    let before = running.metrics().value("bulkhead_deliveries_total", &labels);
    let sent = running.api("POST", &format!("queues/{connector}/messages"), &json!({ "body": body }).to_string());
    assert_eq!(sent.status, 200, "{}", sent.body);
    let is_done = |metrics: &Metrics| metrics.value("bulkhead_deliveries_total", &labels) > before;
    running.wait_until("delivery", PATIENCE, is_done);
}

/// The bodies in `out`, after a clean stop.
fn out(host: &Bulkhead, running: Running) -> Vec<String> {
    let _ = running.terminate().ok();
    host.ledger().messages("out").into_iter().map(|message| String::from_utf8(message.body).unwrap()).collect()
}

/// The reloads of the record: how each ended, and what it says.
fn recorded(host: &Bulkhead) -> Vec<(String, Value)> {
    let reloads = host.audit().into_iter().filter(|event| event["kind"] == "reload");
    reloads.map(|event| (event["reason"].as_str().unwrap().to_owned(), event["changes"].clone())).collect()
}

#[test]
fn what_has_changed_is_replaced_and_its_neighbour_keeps_its_sandbox() {
    let host = Bulkhead::new(&(counting() + &says("other", "one")));
    let running = host.start();
    deliver(&running, "count", "a");
    deliver(&running, "other", "1");
    host.configure(&(counting() + &says("other", "two")));
    let change = reload(&running);
    let keys = json!(["connectors.other.config.program"]);
    assert_eq!(change["changed"], json!([{ "connector": "other", "keys": keys }]));
    assert_eq!((&change["added"], &change["removed"]), (&json!([]), &json!([])));
    deliver(&running, "count", "b");
    deliver(&running, "other", "2");
    assert_eq!(out(&host, running), ["a 1 1", "\"one\"", "b 2 1", "\"two\""]);
    let line = "~ connector other: connectors.other.config.program";
    assert_eq!(recorded(&host), [("done".to_owned(), json!([line]))]);
}

#[test]
fn a_signal_a_verb_and_a_file_that_is_watched_ask_for_it() {
    let host = Bulkhead::new(&says("a", "one"));
    let running = host.start_as(&["run", "--watch"]);
    host.configure(&(says("a", "one") + &says("b", "one")));
    running.wait_for_log(r#""asked_by":"a changed file","added":1"#, PATIENCE);
    let _ = running.terminate().ok();
    let running = host.start();
    host.configure(&says("a", "two"));
    running.signal(Signal::HUP);
    running.wait_for_log(r#""asked_by":"SIGHUP","added":0,"removed":1,"changed":1"#, PATIENCE);
    host.configure(&says("b", "two"));
    let told = host.run(&["reload"]).ok().output;
    let lines = ["+ connector b; gains: may publish to `out`", "- connector a; loses: may publish to `out`"];
    assert_eq!(told.lines().take(2).collect::<Vec<_>>(), lines);
    assert_eq!(host.run(&["reload"]).ok().output, "nothing changed\n");
    assert_eq!(running.metrics().value("bulkhead_reloads_total", &[("outcome", "done")]), 3.0);
    let _ = running.terminate().ok();
}

/// Asks in every way for what cannot be used; the host goes on with what it has.
#[test]
fn a_configuration_that_cannot_be_used_is_refused_with_all_that_is_wrong_with_it() {
    let host = Bulkhead::new(&says("a", "one"));
    let running = host.start();
    let wrong = "[secrets]\nkey = { env = 'NOT_THERE' }\n[connectors.c]\nplugin = 'none.wasm'\nconsume = 'c'\n";
    host.configure(&(says("a", "two") + wrong));
    let toml = fs::read_to_string(host.path("bulkhead.toml")).unwrap();
    fs::write(host.path("bulkhead.toml"), toml.replace("metrics_open = true", "metrics_open = true\nruns = 3"))
        .unwrap();
    for verb in ["reload", "check"] {
        let reply = running.api("POST", verb, "{}");
        let problems = reply.json()["problems"].as_array().unwrap().clone();
        let told: Vec<(&str, u64)> = problems
            .iter()
            .map(|problem| (problem["key"].as_str().unwrap(), problem["line"].as_u64().unwrap()))
            .collect();
        assert_eq!((reply.status, reply.header("content-type")), (422, Some("application/problem+json".to_owned())));
        assert_eq!(
            told.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
            ["host.runs", "secrets.key", "connectors.c.plugin"]
        );
        assert!(told.iter().all(|(_, line)| *line > 0), "{told:?}");
    }
    let refused = host.run(&["reload"]).ended_with(2).errors();
    for what in [
        "bulkhead.toml:",
        "host.runs: cannot change while the host runs",
        "`NOT_THERE` is not set",
        "none.wasm",
        "goes on with the one that it has",
    ] {
        assert!(refused.contains(what), "{what} in {refused}");
    }
    fs::write(host.path("bulkhead.toml"), "[").unwrap();
    running.signal(Signal::HUP);
    running.wait_for_log(r#""asked_by":"SIGHUP","problems":1"#, PATIENCE);
    deliver(&running, "a", "1");
    assert_eq!(running.metrics().value("bulkhead_reloads_total", &[("outcome", "refused")]), 3.0);
    host.configure("");
    assert_eq!(out(&host, running), ["\"one\""]);
    let ends: Vec<String> = recorded(&host).into_iter().map(|(end, _)| end).collect();
    assert_eq!(ends, ["refused"; 3]);
}

/// A connector that hands what is in `in` to a server, at a path of its own.
fn handing(server: &Fixture, path: &str, grace: &str) -> String {
    let url = server.url();
    format!(
        "grace = '{grace}'\n[connectors.hand]\nplugin = 'builtin:http-request'\nconsume = 'in'\nlimits = {{ wall = '1h' }}\n
        config = {{ url = '{url}/{path}/{{{{ attempt }}}}' }}\n
        allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]\n"
    )
}

#[test]
fn a_run_under_way_ends_on_what_it_began_with() {
    let ((arrived, arrivals), (go, gone)) = (sync_channel(1), sync_channel::<()>(1));
    let (arrived, gone) = (Mutex::new(arrived), Mutex::new(gone));
    let server = Fixture::start(move |request| {
        if request.uri.starts_with("/old") {
            let _ = arrived.lock().unwrap().send(());
            let _ = gone.lock().unwrap().recv_timeout(PATIENCE);
        }
        Answer::status(200)
    });
    let host = Bulkhead::new(&(handing(&server, "old", "1h") + &counting() + &says("quick", "old")));
    let running = host.start();
    host.send("in", &["first", "behind it"]);
    arrivals.recv_timeout(PATIENCE).expect("the first request comes");
    host.configure(&(handing(&server, "new", "1h") + &counting() + &says("quick", "new") + &says("added", "added")));
    thread::scope(|scope| {
        let reloading = scope.spawn(|| reload(&running));
        running.wait_for_log("ends what it has begun", PATIENCE);
        // Nobody else waits for it: neither a neighbour, nor who is replaced and has ended, nor who comes.
        deliver(&running, "count", "a");
        deliver(&running, "quick", "1");
        deliver(&running, "added", "1");
        assert!(!reloading.is_finished());
        go.send(()).unwrap();
        assert_eq!(reloading.join().unwrap()["changed"][0]["connector"], "hand");
    });
    server.wait_for(2, PATIENCE);
    assert_eq!(out(&host, running), ["a 1 1", "\"new\"", "\"added\""]);
    let uris: Vec<String> = server.requests().into_iter().map(|request| request.uri).collect();
    assert_eq!((uris, host.ledger().messages("in").len()), (vec!["/old/1".to_owned(), "/new/1".to_owned()], 0));
}

#[test]
fn a_run_that_does_not_end_within_the_grace_time_is_cut_off_and_runs_again_on_what_comes() {
    let server =
        Fixture::start(|request| if request.uri.starts_with("/old") { Answer::Hang } else { Answer::status(200) });
    let host = Bulkhead::new(&handing(&server, "old", "50ms"));
    let running = host.start();
    host.send("in", &["again"]);
    server.wait_for(1, PATIENCE);
    host.configure(&handing(&server, "new", "50ms"));
    reload(&running);
    server.wait_for(2, PATIENCE);
    let log = running.terminate().ok().errors();
    assert!(log.contains("what had not settled within `host.grace` is delivered again"), "{log}");
    let uris: Vec<String> = server.requests().into_iter().map(|request| request.uri).collect();
    assert_eq!((uris, host.ledger().messages("in").len()), (vec!["/old/1".to_owned(), "/new/1".to_owned()], 0));
}

#[test]
fn new_bytes_at_the_same_path_are_an_upgrade_and_the_old_ones_a_way_back() {
    let toml = "[connectors.in]\nplugin = 'x.wasm'\nconsume = 'in'\nallow.publish = ['out']\n";
    let host = Bulkhead::new(toml);
    let put = |name: &str| fs::copy(guest(name), host.path("x.wasm")).map(drop).unwrap();
    put("steps");
    let running = host.start();
    deliver(&running, "in", "a");
    put("hostile");
    let change = reload(&running);
    let [before, after] = [0, 1].map(|at| change["changed"][0]["sha256"][at].as_str().unwrap().to_owned());
    assert_ne!(before, after);
    deliver(&running, "in", "publish out");
    put("steps");
    let back = reload(&running);
    assert_eq!(back["changed"][0]["sha256"], json!([after, before]));
    deliver(&running, "in", "b");
    assert_eq!(out(&host, running), ["a 1 1", "hello", "b 1 1"]);
}

/// All of it in one host: what comes, goes, has another name or rests.
#[test]
fn webhooks_schedules_and_names_come_and_go() {
    let tick = |every: &str| {
        format!(
            "[connectors.tick]\nplugin = '{}'\nschedule = {{ every = '{every}', input = 'count ticks' }}\n",
            guest("hostile").display()
        )
    };
    let hook = "[connectors.hook]\nwebhook = { path = '/in', verify = 'none', publish = 'a' }\n";
    let host = Bulkhead::new(&says("a", "one"));
    let running = host.start();
    // The first webhook opens the listener, the last one leaves it as it is.
    host.configure(&(says("a", "one") + hook + &tick("365d")));
    assert_eq!(reload(&running)["added"].as_array().unwrap().len(), 2);
    assert_eq!(post(host.webhooks(), "/in", &[], "1").status, 202);
    let done = |connector: &str, times: f64| {
        let labels = [("connector", connector), ("outcome", "done")];
        running
            .wait_until("deliveries", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &labels) == times);
    };
    done("a", 1.0);
    done("tick", 1.0);
    host.configure(&(says("a", "one") + hook + &tick("1s").replace("enabled", "") + "enabled = false\n"));
    reload(&running);
    assert_eq!(host.schedules(&[])[0]["next"], json!([]));
    host.configure(&(says("b", "two") + "was = 'a'\n" + &hook.replace("'/in'", "'/other'") + &tick("365d")));
    let change = reload(&running);
    let of_b = change["changed"].as_array().unwrap().iter().find(|it| it["connector"] == "b").unwrap().clone();
    assert_eq!((&of_b["was"], &change["added"], &change["removed"]), (&json!("a"), &json!([]), &json!([])));
    // What `a` has not settled is its heir's.
    assert_eq!(
        [post(host.webhooks(), "/in", &[], "1").status, post(host.webhooks(), "/other", &[], "1").status],
        [404, 202]
    );
    deliver(&running, "b", "1");
    let queues = host.queues();
    let readers: Vec<&Value> = queues
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|queue| queue["subscriptions"].as_array().unwrap())
        .map(|it| &it["connector"])
        .collect();
    assert!(readers.contains(&&json!("b")), "{queues}");
    let _ = out(&host, running);
    assert_eq!(host.ledger().state("tick"), [("ticks".to_owned(), b"1".to_vec())], "its schedule goes on where it was");
}

#[test]
fn a_hundred_reloads_under_load_lose_and_double_nothing() {
    check_load("30s", 50);
}

/// What was cut off had committed all that it did, or nothing.
#[test]
fn runs_that_are_cut_off_by_reloads_under_load_lose_and_double_nothing() {
    let log = check_load("1ms", 20);
    assert!(log.contains("what had not settled within `host.grace` is delivered again"), "nothing was cut off");
}

/// Messages come all the time; each of them is delivered once, whatever is read meanwhile: so many good configurations,
/// and a bad one after each. The answer is the log.
fn check_load(grace: &str, rounds: usize) -> String {
    let tagging =
        |tag: &str| format!("grace = '{grace}'\n{}", says("a", tag).replace("'\"", "'tostring + \"-") + &counting());
    let host = Bulkhead::new(&tagging("begin"));
    let running = host.start();
    let is_over = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !is_over.load(Ordering::Relaxed) {
                let line = |number| format!("{{\"id\":\"m{number}\",\"body\":\"{number}\"}}\n");
                assert_eq!(host.post("a", &(sent..sent + 20).map(line).collect::<String>()), Posted::Accepted);
                sent += 20;
            }
            sent
        });
        for round in 0..rounds {
            host.configure(&tagging(&round.to_string()));
            reload(&running);
            host.configure(&(tagging("bad") + "consume = 7\n"));
            assert_eq!(running.api("POST", "reload", "{}").status, 422);
        }
        is_over.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    host.configure(&tagging("end"));
    let of_a = [("queue", "a")];
    running.wait_until("end", PATIENCE, |metrics: &Metrics| metrics.value("bulkhead_queue_backlog", &of_a) == 0.0);
    let (mut seen, mut tags) = (BTreeMap::<i32, u32>::new(), BTreeSet::new());
    let log = running.log().join("\n");
    for body in out(&host, running) {
        let (number, tag) = body.trim_matches('"').split_once('-').unwrap();
        *seen.entry(number.parse().unwrap()).or_default() += 1;
        tags.insert(tag.to_owned());
    }
    assert_eq!(seen, (0..sent).map(|number| (number, 1)).collect());
    assert!(tags.len() > 5, "{tags:?}");
    log
}

#[test]
fn what_a_reload_would_change_is_said_and_nothing_is_done() {
    let host = Bulkhead::new(&(says("a", "one") + &says("gone", "one")));
    let running = host.start();
    let against = format!("http://{}", running.admin());
    let new = says("a", "one").replace("allow.publish = ['out']", "allow.publish = ['out', 'more']");
    host.configure(&(new + "[queues.a]\ndedup = '1h'\n[routes.r]\nfrom = 'out'\nto = ['copies']\n"));
    let change = host.run(&["check", "--json", "--against", &against]).ok().json();
    let expected = json!({
        "added": [],
        "removed": [{ "connector": "gone", "lost": ["may publish to `out`"] }],
        "changed": [{
            "connector": "a",
            "keys": ["connectors.a.allow.publish", "queues.a.dedup", "routes.r"],
            "gained": ["may publish to `more`"],
        }],
        "queues": { "added": ["copies", "more"], "removed": ["gone"], "changed": ["queues.a"] },
        "routes": { "added": ["r"], "removed": [], "changed": [] },
        "keys": [],
        "warnings": [],
    });
    assert_eq!(change, expected);
    let told = host.run(&["check", "--against", &against]).ok().output;
    assert!(
        told.contains(
            "~ connector a: connectors.a.allow.publish, queues.a.dedup, routes.r; gains: may publish to `more`"
        ),
        "{told}"
    );
    assert_eq!(recorded(&host), []);
    deliver(&running, "gone", "1");
    let _ = running.terminate().ok();
    let _ = host.run(&["check", "--against", &against]).ended_with(1);
}
