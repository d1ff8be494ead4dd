//! The OpenAPI document of the admin API: that it is whole, that it lies in the repository as it is, and that a running host
//! answers what it says. `BLESS=1` writes `docs/openapi.json` again.
#![allow(clippy::disallowed_methods, reason = "BLESS is for whoever runs the tests")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use boon::{Compiler, Draft, Schemas};
use bulkhead_host::admin::api::{ROUTES, openapi};
use bulkhead_tests::{Bulkhead, Running, guest};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_document_in_the_repository_is_the_one_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let text = serde_json::to_string_pretty(&openapi::document()).unwrap() + "\n";
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap_or_default() == text, "docs/openapi.json is otherwise: see BLESS");
}

#[test]
fn every_route_is_in_the_document_and_every_reference_leads_somewhere() {
    let document = openapi::document();
    assert_eq!(document["openapi"], "3.1.0");
    for (method, path) in ROUTES {
        let operation = &document["paths"][path][method.to_lowercase()];
        assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 8), "{method} {path}: {operation}");
        let named: Vec<&str> = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let in_path: Vec<&str> =
            parameters.filter(|it| it["in"] == "path").filter_map(|it| it["name"].as_str()).collect();
        assert_eq!(in_path, named, "{method} {path}");
        let statuses = ["401", "403", "421", "default"];
        assert!(statuses.iter().all(|status| operation["responses"][*status].is_object()), "{method} {path}");
    }
    let operations = document["paths"].as_object().unwrap().values().map(|it| it.as_object().unwrap().len());
    assert_eq!(operations.sum::<usize>(), ROUTES.len());
    let mut ids: Vec<&Value> = operations_of(&document).map(|operation| &operation["operationId"]).collect();
    ids.sort_by_key(|id| id.as_str());
    ids.dedup();
    assert_eq!(ids.len(), ROUTES.len(), "each has an id of its own");
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 100, "{}", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("the document stands by itself");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    // Names that were made up for two types of one name say nothing.
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let numbered = schemas.keys().find(|name| name.ends_with(|last: char| last.is_ascii_digit()));
    assert_eq!(numbered, None);
    for (name, schema) in schemas {
        assert!(schema["description"].is_string(), "`{name}` does not say what it is");
    }
}

fn operations_of(document: &Value) -> impl Iterator<Item = &Value> {
    document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values())
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            references.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

/// The document, in which no object may have fields that it does not name.
struct Judge {
    document: Value,
}

impl Judge {
    fn new(mut document: Value) -> Self {
        close(&mut document["components"]["schemas"]);
        Self { document }
    }

    /// What the document says that a route answers with this status.
    fn answer(&self, method: &str, path: &str, status: u16) -> String {
        let responses = format!("/paths/{}/{}/responses", path.replace('/', "~1"), method.to_lowercase());
        let exact = format!("{responses}/{status}");
        let found = if self.document.pointer(&exact).is_some() { exact } else { format!("{responses}/default") };
        let found = match self.document.pointer(&format!("{found}/$ref")).and_then(Value::as_str) {
            Some(reference) => reference.trim_start_matches('#').to_owned(),
            None => found,
        };
        let media_type = if status < 400 { "application~1json" } else { "application~1problem+json" };
        format!("{found}/content/{media_type}/schema")
    }

    #[track_caller]
    fn check(&self, pointer: &str, value: &Value) {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.set_default_draft(Draft::V2020_12);
        compiler.add_resource("api:/document", self.document.clone()).unwrap();
        let location = format!("api:/document#{pointer}");
        let schema = compiler.compile(&location, &mut schemas).unwrap_or_else(|error| panic!("{pointer}: {error:#}"));
        schemas.validate(value, schema).unwrap_or_else(|error| panic!("{pointer}: {error:#}\n{value:#}"));
    }
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let is_closed = fields.contains_key("additionalProperties") || fields.contains_key("$ref");
            if fields.get("type").is_some_and(|it| it == "object") && fields.contains_key("properties") && !is_closed {
                fields.insert("unevaluatedProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// With a message in every state, a plugin that has spoken, and something in the record.
fn busy() -> Bulkhead {
    Bulkhead::new(&format!(
        "[connectors.it]\nplugin = '{}'\nconsume = 'in'\nbrake = 0\nretry = {{ attempts = 2, first = '1h', jitter = 'none' }}
        allow.publish = ['later']\nschedule = {{ every = '365d' }}\n
        [connectors.show]\nplugin = 'builtin:log'\nconsume = 'shown'\n
        [connectors.intake]\nwebhook = {{ path = '/orders', verify = 'none', publish = 'orders' }}\n",
        guest("hostile").display()
    ))
}

#[test]
fn a_running_host_answers_what_the_document_says() {
    let host = busy();
    let running = host.start();
    let _ = host.run(&["send", "in", "--id", "tries", "--body", "retry soon"]).ok();
    let _ = host.run(&["send", "in", "--id", "dies", "--body", "reject never"]).ok();
    host.send("in", &["publish-later later 3600000"]);
    host.send("shown", &["said"]);
    running.wait_until("outcomes", PATIENCE, |metrics| {
        let outcome = |outcome| metrics.value("bulkhead_deliveries_total", &[("outcome", outcome)]);
        (outcome("done"), outcome("retry"), outcome("dead")) == (3.0, 1.0, 1.0)
    });
    let judge = Judge::new(running.api("GET", "openapi.json", "").json());
    let reads = [
        ("/connectors/{name}", "connectors/it"),
        ("/connectors/{name}/logs", "connectors/show/logs"),
        ("/queues/{name}", "queues/in"),
        ("/queues/{name}/messages", "queues/later/messages"),
        ("/dead/{id}", "dead/1"),
        ("/deliveries/{id}", "deliveries/it:in:tries"),
        ("/messages/{id}", "messages/dies"),
        ("/series", "series?queue=in"),
    ];
    for (path, real) in reads {
        check(&judge, &running, ("GET", path), real, "", 200);
    }
    let is_json = |path: &str| path != "/events" && path != "/openapi.json";
    for (method, path) in ROUTES.iter().filter(|(_, path)| !path.contains('{') && is_json(path)) {
        if *method == "GET" {
            check(&judge, &running, (*method, *path), &path[1..], "", 200);
        }
    }
    check_changes(&judge, &running);
    check_refusals(&judge, &running);
    check_events(&judge, &host, &running);
    let _ = running.terminate().ok();
}

#[track_caller]
fn check(judge: &Judge, running: &Running, (method, path): (&str, &str), real: &str, body: &str, status: u16) {
    let reply = running.api(method, real, body);
    assert_eq!(reply.status, status, "{method} {real}: {}", reply.body);
    let answer = reply.json();
    let is_empty = [json!([]), json!({ "messages": [], "next": null }), json!({ "lines": [] })].contains(&answer);
    assert!(!is_empty || path == "/secrets", "{path} has nothing to show: {answer}");
    judge.check(&judge.answer(method, path, status), &answer);
}

fn check_changes(judge: &Judge, running: &Running) {
    let changes = [
        (("POST", "/queues/{name}/messages"), "queues/in/messages", r#"{"body":"ok"}"#),
        (("POST", "/schedules/{connector}/fire"), "schedules/it/fire", r#"{"at":"2026-01-01T00:00:00Z"}"#),
        (("POST", "/dead/retry"), "dead/retry", r#"{"filter":{"connector":"it"},"dry_run":true}"#),
        (("POST", "/dead/drop"), "dead/drop", r#"{"dry_run":true}"#),
        (("POST", "/check"), "check", ""),
        (("POST", "/reload"), "reload", ""),
        (("POST", "/dead/{id}/retry"), "dead/1/retry", ""),
    ];
    for (route, real, body) in changes {
        check(judge, running, route, real, body, 200);
        let takes = format!("/paths/{}/post/requestBody/content/application~1json/schema", route.1.replace('/', "~1"));
        if judge.document.pointer(&takes).is_some() {
            judge.check(&takes, &serde_json::from_str(body).unwrap());
        }
    }
}

fn check_refusals(judge: &Judge, running: &Running) {
    for (route, real, body, status) in [
        (("GET", "/queues/{name}"), "queues/none", "", 404),
        (("GET", "/deliveries"), "deliveries?limit=0", "", 400),
        (("POST", "/queues/{name}/messages"), "queues/in/messages", "[]", 400),
        (("DELETE", "/queues/{name}/subscriptions/{connector}"), "queues/in/subscriptions/it", "", 409),
    ] {
        check(judge, running, route, real, body, status);
    }
}

fn check_events(judge: &Judge, host: &Bulkhead, running: &Running) {
    let mut events = running.events("").unwrap();
    host.send("shown", &["once more"]);
    let _ = host.run(&["pause", "show"]).ok();
    let _ = host.run(&["reload"]).ok();
    let mut left: Vec<&str> = vec!["delivery", "held", "log", "audit", "reload"];
    while !left.is_empty() {
        let event = events.next_event().unwrap();
        let schema = "/paths/~1events/get/responses/200/content/text~1event-stream/schema/x-events";
        judge.check(&format!("{schema}/{}", event.kind), &event.data);
        left.retain(|kind| *kind != event.kind);
    }
}
