//! The names that tools rely on: metrics with their labels, and the shapes of JSON on the command line. A name that is
//! gone or changed breaks somebody's dashboard or script; a new one is written down here too.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Metrics, Request, Running, exchange, guest, has_program};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// All of them, with their labels in the order of the alphabet.
pub(crate) const METRICS: [&str; 31] = [
    "bulkhead_attempt_seconds{connector}",
    "bulkhead_breaker_open{connector,host}",
    "bulkhead_build_info{version}",
    "bulkhead_config_info{sha256}",
    "bulkhead_conflicts_total{connector}",
    "bulkhead_dead_letters{connector}",
    "bulkhead_deliveries_total{connector,outcome}",
    "bulkhead_delivery_seconds{connector}",
    "bulkhead_denied_total{connector,effect,reason}",
    "bulkhead_duplicates_total{queue}",
    "bulkhead_expired_total{connector,queue}",
    "bulkhead_held{connector,reason}",
    "bulkhead_history_dropped_total{}",
    "bulkhead_http_request_seconds{connector,host}",
    "bulkhead_http_requests_total{connector,host,status}",
    "bulkhead_ledger_commit_seconds{}",
    "bulkhead_ledger_commit_settlements{}",
    "bulkhead_ledger_wal_bytes{}",
    "bulkhead_limit_hits_total{connector,limit}",
    "bulkhead_orphaned_messages{connector,queue}",
    "bulkhead_panics_total{}",
    "bulkhead_plugin_steps_total{connector,kind}",
    "bulkhead_queue_backlog{connector,queue}",
    "bulkhead_queue_oldest_seconds{connector,queue}",
    "bulkhead_reloads_total{outcome}",
    "bulkhead_sandbox_reserved_bytes{}",
    "bulkhead_sandbox_seconds{}",
    "bulkhead_schedule_lag_seconds{connector}",
    "bulkhead_scrubbed_total{connector}",
    "bulkhead_trace_spans_dropped_total{reason}",
    "bulkhead_trace_spans_exported_total{}",
];

fn connector(name: &str, plugin: &str, keys: &str) -> String {
    format!("[connectors.{name}]\nplugin = '{}'\nconsume = 'for-{name}'\n{keys}\n", guest(plugin).display())
}

/// Repeats the credential that came with the request, or fails.
fn answer(request: &Request) -> Answer {
    match request.uri.as_str() {
        "/broken" => Answer::status(503),
        "/spans" => Answer::status(400),
        _ => Answer::status(200).body(request.header("authorization").unwrap_or_default().to_owned()),
    }
}

/// Does something for each metric.
fn everything(server: &Fixture) -> Bulkhead {
    let url = server.url();
    let grant = format!(
        "allow.http = [{{ url = '{url}/*', methods = ['GET'], private = true, auth = {{ bearer = 'token' }}, breaker = {{ failures = 1, open = '1h' }} }}]"
    );
    let toml = [
        &format!("[host.otlp]\nurl = '{url}/spans'\n"),
        "[secrets]\ntoken = { env = 'TOKEN' }\n[queues.for-busy]\ndedup = '1h'\n[queues.for-late]\nexpires = '1s'\n",
        &connector(
            "busy",
            "hostile",
            "schedule = { every = '365d' }\nretry = { attempts = 2, first = '1ms' }\nlimits = { publishes = 1 }\nallow.publish = ['out']",
        ),
        &connector("caller", "hostile", &grant),
        &connector("late", "hostile", ""),
        &connector("steps", "steps", "allow.publish = ['out']"),
    ]
    .concat();
    let host = Bulkhead::new(&format!("{toml}{}", connector("gone", "hostile", ""))).variable("TOKEN", "a-long-token");
    host.send("for-gone", &["kept for nobody"]);
    host.configure(&toml);
    let _ = host.run(&["pause", "late"]).ok();
    host.send("for-late", &["too late"]);
    host.send("for-busy", &["ok", "retry it", "publish elsewhere", "flood out"]);
    for _ in 0..2 {
        let _ = host.run(&["send", "for-busy", "--id", "same", "--body", "ok"]).ok();
    }
    host.send("for-caller", &[format!("get {url}/"), format!("get {url}/broken")]);
    host.send("for-steps", &["it figure"]);
    host
}

#[test]
fn every_metric_has_its_name_and_its_labels() {
    let server = Fixture::start(answer);
    let host = everything(&server);
    let running = host.start();
    let late = [("connector", "late")];
    running.wait_until("a message of some age", PATIENCE, |metrics| {
        metrics.value("bulkhead_queue_oldest_seconds", &late) > 1.0
    });
    let _ = host.run(&["reload"]).ok();
    let _ = host.run(&["resume", "late"]).ok();
    let _ = host.run(&["send", "for-busy", "--id", "same", "--body", "ok"]).ok();
    let expected: BTreeSet<String> = METRICS.map(str::to_owned).into();
    let is_all = |metrics: &Metrics| {
        metrics.value("bulkhead_expired_total", &late) == 1.0 && metrics.families().is_superset(&expected)
    };
    running.wait_until("all metrics", PATIENCE, is_all);
    assert_eq!(running.metrics().families(), expected);
    let outcome = |outcome| running.metrics().value("bulkhead_deliveries_total", &[("outcome", outcome)]);
    assert!(["done", "retry", "dead"].into_iter().all(|name| outcome(name) > 0.0));
    check_texts(&running);
}

/// Whoever asks for OpenMetrics gets it; everybody else gets the older text, and promtool finds nothing wrong with it.
fn check_texts(running: &Running) {
    let address = running.admin();
    let scrape =
        |accept: &str| exchange(address, &format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n{accept}\r\n")).unwrap();
    let newer = scrape("Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n");
    assert!(newer.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(newer.body.contains("# TYPE bulkhead_deliveries counter\n") && newer.body.ends_with("# EOF\n"));
    let older = scrape("");
    assert!(older.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert_eq!(Metrics::read(&older.body).families(), Metrics::read(&newer.body).families());
    if !has_program("promtool", "the text of /metrics is not checked") {
        return;
    }
    let mut promtool = Command::new("promtool");
    let mut checking =
        promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    checking.stdin.take().unwrap().write_all(older.body.as_bytes()).unwrap();
    let checked = checking.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// What a value is made of: the names of its fields, and the type of each; a list by its first entry.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("boolean"),
        Value::Number(number) => json!(if number.is_u64() { "whole number" } else { "number" }),
        Value::String(_) => json!("text"),
        Value::Array(entries) => entries.first().map_or_else(|| json!([]), |entry| json!([shape(entry)])),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
    }
}

fn check(host: &Bulkhead, arguments: &[&str], code: i32, expected: &Value) {
    let printed = host.run(&[arguments, &["--json"]].concat()).ended_with(code).json();
    assert_eq!(&shape(&printed), expected, "{arguments:?}: {printed:#}");
}

fn letters() -> Bulkhead {
    let host = Bulkhead::new(&connector("it", "hostile", ""));
    host.send("for-it", &["reject it"]);
    let _ = host.run_until_idle();
    host.send("for-it", &["ok"]);
    host
}

#[test]
fn the_shape_of_queues() {
    let subscription = json!({
        "connector": "text", "backlog": "whole number", "in_flight": "whole number", "retrying": "whole number",
        "dead": "whole number", "oldest_seconds": "whole number",
    });
    let queue = json!([{
        "queue": "text", "broker": "text", "messages": "whole number", "bytes": "whole number", "subscriptions": [subscription],
    }]);
    check(&letters(), &["queues"], 0, &queue);
    let empty = Bulkhead::new(&connector("it", "hostile", ""));
    let _ = empty.run_until_idle();
    let mut queue = queue;
    queue[0]["subscriptions"][0]["oldest_seconds"] = json!("null");
    check(&empty, &["queues"], 0, &queue);
}

#[test]
fn the_shape_of_dead_letters() {
    let letter = json!([{
        "id": "text", "connector": "text", "queue": "text", "message_id": "text", "attempts": "whole number",
        "reason": "text", "died_at": "text",
    }]);
    check(&letters(), &["dead", "list"], 0, &letter);
}

#[test]
fn the_shape_of_what_was_sent() {
    check(&letters(), &["send", "for-it", "--body", "ok"], 0, &json!({ "ids": ["text"] }));
}

#[test]
fn the_shape_of_a_reload() {
    let host = Bulkhead::new(&(connector("it", "hostile", "") + &connector("gone", "hostile", "")));
    let running = host.start();
    let keys = "allow.publish = ['out']\nconsume = { queue = 'other', concurrency = 2 }";
    host.configure(
        &(connector("it", "steps", keys).replace("consume = 'for-it'", "")
            + &connector("new", "steps", keys).replace("consume = 'for-new'", "")),
    );
    let names = json!({ "added": ["text"], "removed": ["text"], "changed": [] });
    let difference = json!({ "connector": "text", "keys": ["text"], "sha256": ["text"], "gained": ["text"] });
    let expected = json!({
        "added": [{ "connector": "text", "gained": ["text"] }], "removed": [{ "connector": "text" }], "changed": [difference],
        "queues": names, "routes": { "added": [], "removed": [], "changed": [] }, "keys": [], "warnings": [],
    });
    let against = format!("http://{}", running.admin());
    check(&host, &["check", "--against", &against], 0, &expected);
    check(&host, &["reload"], 0, &expected);
    let _ = running.terminate().ok();
}

#[test]
fn the_shape_of_a_check() {
    let host = letters();
    let ok = host.run(&["check", "--json"]).ok().json();
    assert_eq!(shape(&ok), json!({ "ok": "boolean", "problems": [], "notes": ["text"] }), "{ok:#}");
    let _ = host.run(&["lock"]).ok();
    check(&host, &["check"], 0, &json!({ "ok": "boolean", "problems": [] }));
    host.configure(&connector("it", "hostile", "retri = 1"));
    let problem = json!({
        "severity": "text", "file": "text", "line": "whole number", "column": "whole number", "key": "text",
        "message": "text", "help": "text",
    });
    check(&host, &["check"], 2, &json!({ "ok": "boolean", "problems": [problem] }));
}

#[test]
fn the_shape_of_schedules() {
    let ticking = "schedule = { every = '1h', input = 'ok' }";
    let host = Bulkhead::new(&connector("it", "hostile", ticking));
    let schedule = |last: &Value, lag: &str| json!([{ "connector": "text", "schedule": "text", "next": ["text"], "last": last, "lag_seconds": lag }]);
    check(&host, &["schedules"], 0, &schedule(&json!("null"), "null"));
    let _ = host.run_until_idle();
    let last = json!({ "planned_at": "text", "outcome": "text", "ended_at": "text" });
    check(&host, &["schedules", "--next", "1"], 0, &schedule(&last, "number"));
    let fired = json!({ "id": "text", "schedule": "text", "planned_at": "text", "duplicate": "boolean" });
    check(&host, &["schedules", "fire", "it"], 0, &fired);
}

#[test]
fn the_shape_of_a_backup_and_of_what_was_restored() {
    let host = letters();
    let contents = json!({
        "file": "text", "made_at": "text", "program": "text", "version": "whole number", "queues": "whole number",
        "messages": "whole number", "dead_letters": "whole number", "files": ["text"], "bytes": "whole number",
    });
    check(&host, &["backup", "file"], 0, &contents);
    let file = host.path("file");
    check(&Bulkhead::new(""), &["restore", file.to_str().unwrap()], 0, &contents);
}

#[test]
fn the_shapes_of_a_drawing_pages_and_an_examination() {
    let host = letters();
    let flow = json!({
        "nodes": [{ "id": "text", "kind": "text", "name": "text", "label": "text" }],
        "edges": [{ "from": "text", "to": "text", "kind": "text", "label": "text" }],
    });
    check(&host, &["graph"], 0, &flow);
    check(&host, &["docs", "pages"], 0, &json!({ "folder": "text", "pages": ["text"] }));
    let examined = json!({
        "ok": "boolean", "findings": [{ "about": "text", "level": "text", "message": "text" }], "notes": ["text"],
    });
    check(&host, &["doctor"], 0, &examined);
}

#[test]
fn the_shape_of_an_inspection() {
    let host = letters();
    let plugin = guest("tally");
    let plugin = plugin.to_str().unwrap();
    let mut printed = host.run(&["inspect", plugin, "--json"]).ok().json();
    assert_eq!((&printed["name"], &printed["wants"]), (&json!("guest-tally"), &json!([r#"publish = ["QUEUE"]"#])));
    assert!(printed["config_schema"]["properties"]["publish"].is_object(), "{printed:#}");
    printed["config_schema"] = json!({});
    let expected = json!({
        "name": "text", "version": "text", "summary": "text", "exports": ["text"],
        "imports": [{ "name": "text", "offered": "text" }], "wants": ["text"], "config_schema": {},
        "size": "whole number", "sha256": "text",
    });
    assert_eq!(shape(&printed), expected, "{printed:#}");
    let words: BTreeSet<&str> =
        printed["imports"].as_array().unwrap().iter().filter_map(|import| import["offered"].as_str()).collect();
    assert!(words.iter().all(|word| ["yes", "refused", "no"].contains(word)), "{words:?}");
}
