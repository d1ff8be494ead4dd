//! What the admin API shows of a running host: what it is made of, how it stands, what lies in its queues, what its plugins
//! say, and what happens.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bulkhead_tests::{Bulkhead, Event, Running, guest};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn get(running: &Running, path: &str) -> Value {
    let reply = running.api("GET", path, "");
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    reply.json()
}

/// It is refused with this status, and says so.
#[track_caller]
fn refused(running: &Running, path: &str, status: u16, says: &[&str]) {
    let reply = running.api("GET", path, "");
    assert_eq!(reply.status, status, "{path}: {}", reply.body);
    assert!(says.iter().all(|text| reply.detail().contains(text)), "{path}: {}", reply.detail());
}

/// One connector that does what messages say, and one of each other kind.
fn of_each_kind() -> Bulkhead {
    Bulkhead::new(&format!(
        "[queues.in]\nordering = 'key'\nretention = '3d'\ndedup = '1h'\n
        [routes.copy]\nfrom = 'in'\nto = ['kept']\nwhen = {{ header = 'x-copy', equals = 'yes' }}\n
        [connectors.it]\nplugin = '{}'\nconsume = 'in'\nbrake = 0\nretry = {{ attempts = 2, first = '1ms' }}\nallow.publish = ['later']
        schedule = {{ name = 'yearly', every = '365d', start = 2100-01-01T00:00:00Z }}
        allow.http = [{{ url = 'https://api.example.com/v1/*', methods = ['GET'] }}]\non_dead = {{ publish = 'graves' }}\n
        [connectors.off]\nplugin = 'builtin:log'\nconsume = 'kept'\nenabled = false\n
        [connectors.intake]\nwebhook = {{ path = '/orders', verify = 'none', publish = 'orders' }}\n",
        guest("hostile").display()
    ))
}

fn by_name<'l>(list: &'l Value, name: &str) -> &'l Value {
    list.as_array().unwrap().iter().find(|it| it["name"] == name).unwrap()
}

#[test]
fn a_host_shows_what_it_is_made_of_and_how_it_stands() {
    let host = of_each_kind();
    let running = host.start();
    host.send("in", &["ok", "ok", "ok", "reject never"]);
    running.wait_until("outcomes", PATIENCE, |metrics| {
        let outcome = |outcome| metrics.value("bulkhead_deliveries_total", &[("outcome", outcome)]);
        (outcome("done"), outcome("dead")) == (3.0, 1.0)
    });
    host.send("kept", &["one", "two"]);
    let _ = host.run(&["pause", "it"]).ok();
    check_status(&running);
    check_connectors(&host, &running);
    check_series(&running);
    // What is drawn is what the command line draws.
    assert_eq!(get(&running, "graph"), host.run(&["graph", "--json"]).ok().json());
    let queue = get(&running, "queues/in");
    let list = get(&running, "queues");
    let mut same = queue.clone();
    same.as_object_mut().unwrap().remove("policy");
    assert!(list.as_array().unwrap().contains(&same), "{list}");
    let policy = &queue["policy"];
    assert_eq!((&policy["ordering"], &policy["retention_seconds"]), (&json!("key"), &json!(3 * 86_400)));
    assert_eq!((&policy["dedup_seconds"], &policy["expires_seconds"]), (&json!(3_600), &Value::Null));
    refused(&running, "queues/inn", 404, &["did you mean `in`?"]);
    refused(&running, "connectors/its", 404, &["did you mean `it`?"]);
    let _ = running.terminate().ok();
}

fn check_status(running: &Running) {
    let status = get(running, "status");
    let figures = ["ready", "connectors", "held", "dead", "backlog"].map(|name| status[name].clone());
    assert_eq!(figures, [json!(true), json!(3), json!(1), json!(1), json!(2)], "{status}");
    let hash = status["config_sha256"].as_str().unwrap();
    assert!(running.metrics().has("bulkhead_config_info", &[("sha256", hash)]), "{status}");
    let times = ["started_at", "now"].map(|name| status[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
    assert!(times[0] <= times[1] && status["disk_free_bytes"].as_u64() > Some(0), "{status}");
}

fn check_connectors(host: &Bulkhead, running: &Running) {
    let list = get(running, "connectors");
    let names: Vec<&Value> = list.as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["intake", "it", "off"]);
    let it = by_name(&list, "it");
    assert_eq!(it["totals"], json!({ "done": 3, "retry": 0, "dead": 1 }));
    assert_eq!((&it["held"], &it["dead"], &it["error_ratio"]), (&json!(["paused"]), &json!(1), &json!(0.25)));
    assert_eq!((&it["last_failure"]["reason"], &it["running"]), (&json!("never"), &json!(0)));
    assert!(it["p99_ms"].as_f64() >= it["p50_ms"].as_f64() && it["rate_per_second"].as_f64() > Some(0.0), "{it}");
    assert_eq!((&it["publishes"], &it["hosts"]), (&json!(["later"]), &json!(["https://api.example.com/v1/*"])));
    let triggers = json!([
        { "kind": "queue", "queue": "in" },
        { "kind": "schedule", "schedule": "yearly", "times": "yearly: every 365d", "next": it["triggers"][1]["next"] },
    ]);
    assert_eq!((&it["triggers"], it["triggers"][1]["next"].as_array().unwrap().len()), (&triggers, 1));
    let off = by_name(&list, "off");
    let idle = (&json!(false), &json!(2), &Value::Null, &Value::Null);
    assert_eq!((&off["enabled"], &off["backlog"], &off["last_failure"], &off["error_ratio"]), idle);
    let intake = by_name(&list, "intake");
    let webhook = json!({ "kind": "webhook", "path": "/orders", "methods": ["POST"], "publish": "orders" });
    assert_eq!((&intake["triggers"], &intake["plugin"]), (&json!([webhook]), &Value::Null));
    let full = get(running, "connectors/it");
    assert_eq!(full["plugin_sha256"].as_str().map(str::len), Some(64));
    let may = host.run(&["check", "--explain", "it", "--json"]).ok().json();
    assert_eq!((&full["rights"], &full["retry"]["attempts"]), (&may["may"], &json!(2)));
    assert_eq!((&full["limits"]["memory"], &full["limits"]["wall_ms"]), (&json!(64 << 20), &json!(30_000)));
}

fn check_series(running: &Running) {
    let sum =
        |series: &Value, name: &str| series[name].as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>();
    for (query, backlog) in [("", 2), ("?connector=it", 0), ("?queue=in", 0)] {
        let series = get(running, &format!("series{query}"));
        assert_eq!((sum(&series, "done"), sum(&series, "dead"), sum(&series, "retry")), (3, 1, 0), "{series}");
        let last = |name: &str| series[name].as_array().unwrap().last().cloned().unwrap();
        assert_eq!(last("backlog"), json!(backlog), "{query} {series}");
        let columns = ["done", "retry", "dead", "p50_ms", "p99_ms", "backlog", "oldest_seconds"];
        let lengths: BTreeSet<usize> = columns.iter().map(|name| series[*name].as_array().unwrap().len()).collect();
        assert_eq!(lengths.len(), 1, "{series}");
        assert!(series["p99_ms"].as_array().unwrap().iter().any(Value::is_number), "{series}");
        assert_eq!(series["subscriptions"]["it"].is_object(), query == "?queue=in", "{series}");
    }
    let off = get(running, "series?connector=off");
    assert_eq!((sum(&off, "done"), &off["oldest_seconds"].as_array().unwrap().last().unwrap().is_u64()), (0, &true));
    refused(running, "series?connector=it&queue=in", 400, &["not both"]);
    refused(running, "series?queue=none", 404, &["`none`"]);
}

/// Also what waits outside the log: a delayed message, and a dead letter that is delivered again.
#[test]
fn the_messages_of_a_queue_are_looked_at_and_stay_as_they_are() {
    let host = of_each_kind();
    let running = host.start();
    let lines = [
        json!({ "id": "a", "key": "k", "headers": [["x-kind", "first"]], "body": "one" }).to_string(),
        json!({ "id": "b", "body_base64": "//8=" }).to_string(),
        json!({ "id": "c", "body": "ä".repeat(10_000) }).to_string(),
    ];
    let sent = host.post("kept", &lines.join("\n"));
    assert_eq!(sent, bulkhead_tests::Posted::Accepted);
    let before = get(&running, "queues");
    let first = get(&running, "queues/kept/messages?limit=2");
    assert_eq!((&first["messages"][0]["id"], &first["messages"][1]["id"]), (&json!("a"), &json!("b")));
    let a = &first["messages"][0];
    assert_eq!((&a["key"], &a["headers"], &a["body"]), (&json!("k"), &json!([["x-kind", "first"]]), &json!("one")));
    assert_eq!((&a["is_cut"], &a["due_at"], &a["body_bytes"]), (&json!(false), &Value::Null, &json!(3)));
    assert_eq!(first["messages"][1]["body_base64"], "//8=");
    let second = get(&running, &format!("queues/kept/messages?limit=2&after={}", first["next"].as_str().unwrap()));
    let c = &second["messages"][0];
    assert_eq!((second["messages"].as_array().unwrap().len(), &c["id"], &c["is_cut"]), (1, &json!("c"), &json!(true)));
    assert_eq!((c["body"].as_str().unwrap().len(), &c["body_bytes"]), (16 << 10, &json!(20_000)));
    let whole = get(&running, &format!("queues/kept/messages?whole={}", c["position"].as_str().unwrap()));
    assert_eq!(whole["messages"][0]["body"].as_str().unwrap().len(), 20_000);
    let last = get(&running, &format!("queues/kept/messages?after={}", second["next"].as_str().unwrap()));
    assert_eq!(last, json!({ "messages": [], "next": null }));
    assert_eq!(get(&running, "queues"), before, "a look changes nothing");
    beside_the_log(&host, &running);
    refused(&running, "queues/none/messages", 404, &["`none`"]);
    for (query, says) in [("after=x", "`after`"), ("whole=log.x", "`whole`"), ("whole=log.1&limit=2", "`whole`")] {
        refused(&running, &format!("queues/kept/messages?{query}"), 400, &[says]);
    }
    refused(&running, "queues/kept/messages?whole=log.99", 404, &["lies at `log.99` any more"]);
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().messages("kept").len(), 3);
}

fn beside_the_log(host: &Bulkhead, running: &Running) {
    host.send("in", &["publish-later later 3600000", "reject never"]);
    running.wait_until("a death", PATIENCE, |metrics| metrics.value("bulkhead_dead_letters", &[]) >= 1.0);
    let later = get(running, "queues/later/messages");
    let delayed = &later["messages"][0];
    assert!(delayed["due_at"].is_string() && delayed["redriven_to"].is_null(), "{later}");
    assert_eq!((&delayed["body"], &later["messages"][1]), (&json!("3600000"), &Value::Null));
    let _ = host.run(&["pause", "it"]).ok();
    let _ = host.run(&["dead", "retry", "--all"]).ok();
    let again = get(running, "queues/in/messages");
    let redriven = again["messages"].as_array().unwrap().iter().find(|it| it["redriven_to"] == "it").unwrap();
    assert_eq!(
        (&redriven["body"], redriven["position"].as_str().map(|it| it.starts_with("beside."))),
        (&json!("reject never"), Some(true))
    );
}

#[test]
fn what_a_plugin_says_is_tagged_kept_and_bounded_over_all_its_runs() {
    let host = Bulkhead::new(&format!(
        "[connectors.fails]\nplugin = '{}'\nconsume = 'in'\nretry = {{ attempts = 2, first = '1ms' }}\n
        [connectors.talks]\nplugin = 'builtin:log'\nconsume = 'many'\nlimits = {{ log_rate = '5/h' }}\n",
        guest("hostile").display()
    ));
    let running = host.start();
    let _ = host.run(&["send", "in", "--id", "m1", "--body", "trap now"]).ok();
    host.send("many", &(0..20).map(|nth| format!("line {nth}")).collect::<Vec<_>>());
    running.wait_until("both ends", PATIENCE, |metrics| {
        let ended = |connector, outcome| {
            metrics.value("bulkhead_deliveries_total", &[("connector", connector), ("outcome", outcome)])
        };
        (ended("fails", "dead"), ended("talks", "done")) == (1.0, 20.0)
    });
    let page = get(&running, "connectors/fails/logs");
    let told = |line: &Value| (line["attempt"].clone(), line["delivery"].clone(), line["text"].clone());
    let lines: Vec<_> = page["lines"].as_array().unwrap().iter().map(told).collect();
    let line = |attempt: u32| (json!(attempt), json!("fails:in:m1"), json!("last words: now"));
    assert_eq!(lines, [line(1), line(2)], "{page}");
    let second = get(&running, &format!("connectors/fails/logs?after={}&limit=1", page["lines"][0]["seq"]));
    assert_eq!(second["lines"], json!([page["lines"][1]]));
    let after = get(&running, &format!("connectors/fails/logs?after={}", page["next"]));
    assert_eq!(after, json!({ "lines": [], "next": page["next"] }));
    let said = get(&running, "connectors/talks/logs?limit=1000")["lines"].as_array().unwrap().clone();
    assert_eq!(said.iter().filter(|line| line["level"] == "info").count(), 5, "a burst of the rate: {said:?}");
    refused(&running, "connectors/nobody/logs", 404, &["`nobody`"]);
    let log = running.terminate().ok().log;
    let lines: Vec<Value> = log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let plugin = |line: &&Value| line["target"] == "bulkhead::plugin";
    let own: Vec<&Value> = lines.iter().filter(plugin).filter(|line| line["connector"] == "talks").collect();
    assert_eq!(own.len(), 5);
    let attempts: Vec<&Value> = lines.iter().filter(plugin).filter(|line| line["delivery"] == "m1").collect();
    assert_eq!(attempts.iter().map(|line| &line["attempt"]).collect::<Vec<_>>(), [1, 2]);
    let dropped = lines.iter().filter(|line| line["key"] == "connectors.talks.limits.log_rate");
    assert_eq!(dropped.filter_map(|line| line["lines"].as_u64()).sum::<u64>(), 15, "{lines:?}");
}

#[test]
fn whoever_follows_hears_what_happens_and_the_stream_ends_with_the_host() {
    let host = of_each_kind();
    let running = host.start();
    let mut all = running.events("").unwrap();
    let mut held = running.events("kinds=held,log&connector=it").unwrap();
    let _ = host.run(&["send", "in", "--id", "m1", "--body", "ok"]).ok();
    let is_of = |kind: &'static str| move |event: &Event| event.kind == kind;
    let done = all.wait_for("a delivery", is_of("delivery"));
    let expected = ["it:in:m1", "in", "m1", "done"];
    assert_eq!(["delivery", "queue", "message_id", "outcome"].map(|name| done[name].as_str().unwrap()), expected);
    assert_eq!((&done["attempt"], &done["reason"]), (&json!(1), &Value::Null));
    let _ = host.run(&["send", "in", "--id", "m2", "--body", "trap"]).ok();
    let retry = all.wait_for("a failure", is_of("delivery"));
    assert_eq!((&retry["outcome"], &retry["attempt"]), (&json!("retry"), &json!(1)), "{retry}");
    assert_eq!(all.wait_for("the end", is_of("delivery"))["outcome"], "dead");
    let _ = host.run(&["pause", "it"]).ok();
    assert_eq!(all.wait_for("a pause", is_of("held"))["is_held"], true);
    let record = all.wait_for("its record", |event| event.kind == "audit" && event.data["kind"] == "action");
    assert_eq!((&record["subject"], &record["connector"]), (&json!("pause"), &json!("it")));
    let _ = host.run(&["reload"]).ok();
    let reload = all.wait_for("a reload", is_of("reload"));
    assert_eq!((&reload["outcome"], &reload["asked_by"]), (&json!("done"), &json!("the API")));
    // The other reader has had what it wants, and nothing else.
    let wanted: Vec<Event> = (0..3).filter_map(|_| held.next_event()).collect();
    assert_eq!(wanted.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["log", "log", "held"]);
    assert_eq!((&wanted[0].data["text"], &wanted[1].data["attempt"]), (&json!("last words:"), &json!(2)));
    refused(&running, "events?kinds=delivery,dead", 400, &["`dead`", "`delivery`, `held`"]);
    refused(&running, "events?connector=its", 404, &["did you mean `it`?"]);
    // Seats are few; one that is left can be taken.
    let others: Vec<_> = (2..16).map(|_| running.events("").unwrap()).collect();
    assert_eq!(running.events("").err(), Some(503));
    assert_eq!(running.api("GET", "events", "").header("retry-after").as_deref(), Some("5"));
    drop(others);
    let deadline = Instant::now() + PATIENCE;
    while running.events("").is_err() {
        assert!(Instant::now() < deadline, "the seats of those who have gone stay taken");
    }
    let _ = running.terminate().ok();
    while all.next_event().is_some() {}
    assert_eq!(held.next_event(), None);
}

/// It takes nothing until everything is done: nobody waited for it, and what it was too slow for is counted.
#[test]
fn a_reader_that_is_too_slow_holds_nobody_up_and_is_told_what_it_lost() {
    let host = Bulkhead::new(&format!(
        "[connectors.it]\nplugin = '{}'\nconsume = 'in'\nlimits = {{ log_rate = '1000000/s' }}\n",
        guest("hostile").display()
    ));
    let running = host.start();
    let mut slow = running.events("kinds=log").unwrap();
    host.send("in", &["print 250"; 28]);
    running.wait_until("all outcomes", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]) == 28.0
    });
    let (mut got, mut lost) = (0, 0);
    while got + lost < 28 * 250 {
        let event = slow.next_event().unwrap();
        match event.kind.as_str() {
            "lost" => lost += event.data["count"].as_u64().unwrap(),
            kind => got += u64::from(kind == "log"),
        }
    }
    assert!(got > 0 && lost > 0, "{got} came, {lost} were lost");
    let _ = running.terminate().ok();
}

#[test]
fn the_record_is_read_backwards_in_pages() {
    let host = of_each_kind();
    let running = host.start();
    let mut follow = running.events("kinds=audit").unwrap();
    for verb in ["pause", "resume", "pause", "resume"] {
        let _ = host.run(&[verb, "it"]).ok();
        // It is written a moment after the verb is answered, and told then.
        let _ = follow.wait_for(verb, |event| event.data["subject"] == verb);
    }
    let file = host.audit();
    let newest_first: Vec<Value> = file.iter().rev().cloned().collect();
    assert_eq!(get(&running, "audit"), json!({ "records": newest_first, "next": null }));
    let (mut records, mut query) = (Vec::new(), "limit=3".to_owned());
    loop {
        let page = get(&running, &format!("audit?{query}"));
        records.extend(page["records"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=3&after={next}");
    }
    assert_eq!(records, newest_first);
    let actions = get(&running, "audit?kind=action&connector=it");
    let subjects: Vec<&Value> = actions["records"].as_array().unwrap().iter().map(|it| &it["subject"]).collect();
    assert_eq!(subjects, ["resume", "pause", "resume", "pause"]);
    refused(&running, "audit?after=x", 400, &["`after`"]);
    refused(&running, "audit?kind=actions", 400, &["actions", "`action`"]);
    let _ = running.terminate().ok();
}

/// Whoever misspells a key must not get an answer to another question.
#[test]
fn a_key_of_a_query_that_is_unknown_or_out_of_range_is_refused_by_its_name() {
    let host = of_each_kind();
    let running = host.start();
    let gets = bulkhead_host::admin::api::ROUTES.iter().filter(|(method, _)| *method == "GET");
    let places = [("{name}", "it"), ("{id}", "1"), ("{connector}", "it")];
    for (_, path) in gets {
        let path = places.iter().fold((*path).to_owned(), |path, (place, name)| path.replace(place, name));
        refused(&running, &format!("{}?limt=1", &path[1..]), 400, &["`limt`"]);
    }
    for list in ["dead", "deliveries", "audit", "queues/in/messages", "connectors/it/logs"] {
        for wrong in ["0", "1001", "-1", "ten", "1.5", ""] {
            let says = ["limit", "from 1 to 1000"];
            refused(&running, &format!("{list}?limit={wrong}"), 400, &says);
        }
        assert_eq!(running.api("GET", &format!("{list}?limit=1000"), "").status, 200, "{list}");
    }
    refused(&running, "connectors/it/logs?after=x", 400, &["after"]);
    refused(&running, "schedules?next=many", 400, &["next"]);
    let _ = running.terminate().ok();
}
