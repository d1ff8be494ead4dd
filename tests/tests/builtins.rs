//! `builtin:http-request`, `builtin:jq` and `builtin:log` in the real host, and what all built-in plugins say about themselves.

use std::fs;
use std::path::Path;

use bulkhead_tests::{Answer, Bulkhead, Fixture};
use serde_json::{Value, json};

/// Delivers from `in` with these keys of `config`; `{url}` stands for the receiver's.
fn deliver(receiver: &Fixture, config: &str) -> Bulkhead {
    let url = receiver.url();
    let config = config.replace("{url}", &url);
    Bulkhead::new(&format!(
        r#"
        [connectors.deliver]
        plugin  = "builtin:http-request"
        consume = "in"
        retry   = {{ attempts = 2, first = "1ms" }}
        allow.http = [{{ url = "{url}/*", methods = ["GET", "PUT", "POST"], idempotency = true, private = true }}]

        [connectors.deliver.config]
        {config}
        "#
    ))
}

/// Runs the program over one message; the messages that come out, by queue.
fn jq(program: &str, message: &str) -> Vec<(&'static str, Option<String>, Value)> {
    let bulkhead = Bulkhead::new(&format!(
        "[connectors.jq]\nplugin = 'builtin:jq'\nconsume = 'in'\nallow.publish = ['out', 'vip']\nconfig = {{ publish = 'out', program = '''{program}''' }}\n"
    ));
    bulkhead.send("in", &[message]);
    let _ = bulkhead.run_until_idle();
    assert_eq!(bulkhead.dead(), Vec::<Value>::new());
    let ledger = bulkhead.ledger();
    let of = |queue| ledger.messages(queue).into_iter().map(move |message| (queue, message.key, message.body));
    let messages = of("out").chain(of("vip"));
    messages.map(|(queue, key, body)| (queue, key, serde_json::from_slice(&body).unwrap())).collect()
}

#[test]
fn a_request_is_filled_from_the_message() {
    let receiver = Fixture::answering([Answer::status(200)]);
    let config = r#"
        method  = "PUT"
        url     = "{url}/orders/{{ /id }}?queue={{ queue }}"
        headers = { x-customer = "{{ /customer/name }}", x-message = "{{ id }}" }
        body    = { total = "{{ /total }}", note = "order {{ /id }}" }
    "#;
    let bulkhead = deliver(&receiver, config);
    let ids = bulkhead.send("in", &[r#"{"id": "a&b", "total": 1.5, "customer": {"name": "Ada"}}"#]);
    let _ = bulkhead.run_until_idle();
    let request = &receiver.requests()[0];
    assert_eq!((request.method.as_str(), request.uri.as_str()), ("PUT", "/orders/a%26b?queue=in"));
    assert_eq!((request.header("x-customer"), request.header("x-message")), (Some("Ada"), Some(&*ids[0])));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert!(request.header("idempotency-key").is_some());
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body, json!({"total": 1.5, "note": "order a&b"}));
}

#[test]
fn a_body_goes_as_it_is() {
    let receiver = Fixture::answering([Answer::status(200)]);
    let bulkhead = deliver(&receiver, "url = '{url}/in'");
    bulkhead.send("in", &["plain text"]);
    let _ = bulkhead.run_until_idle();
    let request = &receiver.requests()[0];
    assert_eq!((request.method.as_str(), request.body.as_ref()), ("POST", b"plain text".as_slice()));
    assert_eq!(request.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn half_a_request_is_never_sent() {
    let receiver = Fixture::answering([Answer::status(200)]);
    let bulkhead = deliver(&receiver, "url = '{url}/orders/{{ /id }}'");
    bulkhead.send("in", &["{}"]);
    let _ = bulkhead.run_until_idle();
    assert_eq!(
        (receiver.requests().len(), bulkhead.ledger().dead()[0].reason.as_str()),
        (0, "the message has no `/id`")
    );
}

/// What a status leads to: requests sent, dead letters.
fn check_status(status: u16, expected: (usize, usize)) {
    let receiver = Fixture::answering([Answer::status(status)]);
    let lists = "url = '{url}/in'\nsuccess = [409, '3xx']\nretry = [404]\nreject = [503]";
    let bulkhead = deliver(&receiver, lists);
    bulkhead.send("in", &["{}"]);
    let _ = bulkhead.run_until_idle();
    assert_eq!((receiver.requests().len(), bulkhead.dead().len()), expected, "{status}");
}

#[test]
fn lists_decide_what_a_status_means() {
    check_status(204, (1, 0));
    check_status(409, (1, 0));
    check_status(302, (1, 0));
    check_status(404, (2, 1));
    check_status(503, (1, 1));
    check_status(502, (2, 1));
    check_status(422, (1, 1));
}

#[test]
fn jq_maps() {
    let program = "{id, total: (.items | map(.price) | add)}";
    let mapped = jq(program, r#"{"id": 1, "items": [{"price": 2}, {"price": 3}]}"#);
    assert_eq!(mapped, [("out", None, json!({"id": 1, "total": 5}))]);
}

#[test]
fn jq_filters() {
    assert_eq!(jq("select(.open)", r#"{"open": false}"#), []);
    assert_eq!(jq("select(.open)", r#"{"open": true}"#), [("out", None, json!({"open": true}))]);
}

#[test]
fn jq_splits() {
    assert_eq!(jq(".lines[]", r#"{"lines": [1, 2]}"#), [("out", None, json!(1)), ("out", None, json!(2))]);
}

#[test]
fn jq_routes_and_sets_the_key() {
    let program = r#"{"$queue": (if .total > 10 then "vip" else "out" end), "$key": .id, "body": .total}"#;
    assert_eq!(jq(program, r#"{"id": 7, "total": 11}"#), [("vip", Some("7".to_owned()), json!(11))]);
    assert_eq!(jq(program, r#"{"id": 8, "total": 1}"#), [("out", Some("8".to_owned()), json!(1))]);
}

#[test]
fn jq_that_fails_is_a_dead_letter_with_the_programs_words() {
    let bulkhead = Bulkhead::new(
        "[connectors.jq]\nplugin = 'builtin:jq'\nconsume = 'in'\nconfig = { program = 'error(\"no customer\")' }\n",
    );
    bulkhead.send("in", &["{}"]);
    let _ = bulkhead.run_until_idle();
    assert_eq!(bulkhead.ledger().dead()[0].reason, "program: \"no customer\"");
}

#[test]
fn log_writes_each_message_at_its_level() {
    let bulkhead =
        Bulkhead::new("[connectors.watch]\nplugin = 'builtin:log'\nconsume = 'in'\nconfig = { level = 'warn' }\n");
    bulkhead.send("in", &["look at me"]);
    let log = bulkhead.run_until_idle().log;
    let line = log.iter().find(|line| line.contains("look at me")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(line).unwrap()["level"], "WARN");
}

#[test]
fn every_built_in_plugin_shows_the_schema_of_its_config_and_has_a_readme() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let bulkhead = Bulkhead::new("");
    for name in ["http-poll", "http-request", "jq", "log"] {
        let shown = bulkhead.run(&["inspect", &format!("builtin:{name}"), "--json"]).ok().json();
        let schema = fs::read_to_string(plugins.join(name).join("config.schema.json")).unwrap();
        assert_eq!(shown["config_schema"], serde_json::from_str::<Value>(&schema).unwrap(), "{name}");
        assert_eq!((shown["name"].as_str(), shown["wants"].is_array()), (Some(name), true));
        assert!(fs::read_to_string(plugins.join(name).join("README.md")).unwrap().contains("| key |"), "{name}");
    }
}
