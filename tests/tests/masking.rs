//! `[host.mask]`: what is masked of a message is shown nowhere, and the message itself stays whole.

use std::path::Path;
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Reply, Running, guest};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Begins every masked value of these tests, and nothing else.
const CANARY: &str = "cnry";
/// The same in base64, beginning at each of the three places of a group.
const IN_BASE64: [&str; 3] = ["Y25ye", "NucnkrO", "jbnJ5"];
/// With characters that are escaped in addresses.
const EMAIL: &str = "cnry+9 z@mail.example";

const MASK: &str =
    "[host.mask]\nheaders = ['Authorization', 'x-api-key']\npointers = ['/customer/email', '/cards/*']\n";

fn body() -> Value {
    json!({
        "id": "o-77",
        "customer": { "email": EMAIL, "name": "shown-name" },
        "cards": [{ "number": "cnry-4111", "limit": 90_807_060 }, "cnry\n2"],
    })
}

/// One queue, whose messages are logged, quoted in a reason, sent to a server that quotes them, and sent to where they must
/// not go.
fn toml(url: &str, mask: &str) -> String {
    let deliver = |name: &str, to: &str, allow: &str| {
        format!(
            "[connectors.{name}]\nplugin = 'builtin:http-request'\nconsume = 'in'\nconfig = {{ url = '{to}/c/{{{{ /customer/email }}}}' }}\n
            retry = {{ attempts = 1 }}\n{allow}\n"
        )
    };
    format!(
        "{mask}
        [queues.in]\nkeep = '1h'\n
        [connectors.watch]\nplugin = 'builtin:log'\nconsume = 'in'\n
        [connectors.quote]\nplugin = 'builtin:jq'\nconsume = 'in'\n
        config = {{ program = 'error(\"no \" + .customer.email + (.cards | tostring))', publish = 'out' }}\n
        allow.publish = ['out']\n{}{}
        [connectors.obey]\nplugin = '{}'\nconsume = 'orders'\nretry = {{ attempts = 1 }}\n",
        deliver("deliver", url, &format!("allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]")),
        deliver("stray", "https://nowhere.example", ""),
        guest("hostile").display(),
    )
}

fn host(server: &Fixture, data: &Path) -> Bulkhead {
    Bulkhead::on(data.join("data"), "history = 'all'", &toml(&server.url(), MASK))
}

/// Quotes what it got, and wants none of it.
fn quoting() -> Fixture {
    Fixture::start(|request| {
        let text = format!("{} {}", request.uri, String::from_utf8_lossy(&request.body));
        let is_mended = text.contains("o-78");
        if is_mended { Answer::status(200) } else { Answer::status(422).body(text) }
    })
}

fn send(running: &Running, queue: &str, message: &Value) -> String {
    let sent = running.api("POST", &format!("queues/{queue}/messages"), &message.to_string());
    assert_eq!(sent.status, 200, "{}", sent.body);
    sent.json()["ids"][0].as_str().unwrap().to_owned()
}

/// As the ledger counts them: what the log says of a death comes before it is on disk.
fn wait_for_letters(running: &Running, count: f64) {
    running.wait_until("dead letters", PATIENCE, |metrics| metrics.value("bulkhead_dead_letters", &[]) >= count);
}

#[track_caller]
fn check_clean(what: &str, text: &str) {
    let found = [CANARY, "90807060"].into_iter().chain(IN_BASE64).find(|form| text.contains(form));
    assert_eq!(found, None, "{what} holds it: {text}");
}

fn letter_of<'l>(letters: &'l [Value], connector: &str) -> &'l Value {
    let of = letters.iter().find(|letter| letter["connector"] == connector);
    of.unwrap_or_else(|| panic!("no letter of {connector} in {letters:?}"))
}

fn id(letter: &Value) -> &str {
    letter["id"].as_str().unwrap()
}

/// All that the API answers about messages, their deliveries and their deaths.
fn check_api(running: &Running, letters: &[Value], message_id: &str) {
    let ask = |path: &str| -> Reply {
        let reply = running.api("GET", path, "");
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        check_clean(path, &reply.body);
        reply
    };
    let message = format!("messages/{message_id}");
    let paths = ["dead", "dead/groups", "deliveries", "queues", "connectors", "connectors/stray", "audit", &message];
    for path in paths {
        let _ = ask(path);
    }
    for (path, holds) in [("queues/in/messages", "<masked /customer/email>"), ("connectors/watch/logs", "shown-name")] {
        let reply = ask(path);
        assert!(reply.body.contains(holds), "{path}: {}", reply.body);
    }
    for letter in letters {
        let (connector, queue) = (letter["connector"].as_str().unwrap(), letter["queue"].as_str().unwrap());
        let delivery = ask(&format!("deliveries/{connector}:{queue}:{}", letter["message_id"].as_str().unwrap()));
        assert!(delivery.body.contains("<masked>"), "{}", delivery.body);
        let shown = ask(&format!("dead/{}", id(letter))).json();
        assert!(shown["reason"].as_str().unwrap().contains("<masked>"), "{shown}");
    }
}

/// All that the verbs print, whoever answers them.
fn check_verbs(bulkhead: &Bulkhead, letters: &[Value], message_id: &str) {
    let check = |arguments: &[&str]| {
        let finished = bulkhead.run(arguments).ok();
        check_clean(&arguments.join(" "), &(finished.output + &finished.log.join("\n")));
    };
    for letter in letters {
        check(&["dead", "show", id(letter)]);
        check(&["dead", "show", id(letter), "--json"]);
    }
    check(&["dead", "list"]);
    check(&["dead", "list", "--group"]);
    check(&["trace", message_id]);
    check(&["trace", message_id, "--json"]);
    check(&["queues"]);
}

#[test]
fn a_masked_value_is_shown_nowhere_and_kept_whole() {
    let (data, server) = (tempfile::tempdir().unwrap(), quoting());
    let bulkhead = host(&server, data.path()).variable("BULKHEAD_LOG", "debug,cranelift_codegen=info,wasmtime=info");
    let running = bulkhead.start();
    let headers =
        json!([["Authorization", "Bearer cnry-token"], ["X_Api-Key", "cnry-key"], ["x-other", "shown-header"]]);
    let message_id = send(&running, "in", &json!({ "body": body().to_string(), "headers": headers, "key": EMAIL }));
    let done = [("outcome", "done")];
    running.wait_until("success", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) >= 1.0);
    wait_for_letters(&running, 3.0);
    let letters = bulkhead.dead();
    check_api(&running, &letters, &message_id);
    check_verbs(&bulkhead, &letters, &message_id);
    let shown = running.api("GET", &format!("dead/{}", id(letter_of(&letters, "deliver"))), "").json();
    let expected = json!([["authorization", "<masked>"], ["x_api-key", "<masked>"], ["x-other", "shown-header"]]);
    assert_eq!((&shown["headers"], &shown["key"]), (&expected, &json!("<masked>")));
    let text = shown["body"].as_str().unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(text).unwrap(),
        json!({
            "id": "o-77", "customer": { "email": "<masked /customer/email>", "name": "shown-name" },
            "cards": ["<masked /cards/0>", "<masked /cards/1>"],
        })
    );
    let url = shown["history"][0]["effects"][0]["url"].as_str().unwrap().to_owned();
    assert!(url.ends_with("/c/<masked>"), "{url}");
    check_clean("the metrics", &format!("{:?}", running.metrics()));
    let ended = running.terminate().ok();
    check_clean("the log", &ended.errors());
    let said = ended.log.iter().find(|line| line.contains("shown-name") && line.contains("bulkhead::plugin"));
    assert!(said.is_some_and(|line| line.contains("<masked>")), "{}", ended.errors());
    check_verbs(&bulkhead, &letters, &message_id);
    let records = bulkhead.audit();
    assert!(
        records.iter().any(|event| event["kind"] == "refusal" && event["text"].as_str().unwrap().contains("<masked>"))
    );
    check_clean("the audit record", &json!(records).to_string());
    let ledger = bulkhead.ledger();
    check_clean("the history", &ledger.told().join("\n"));
    let whole = body().to_string().into_bytes();
    assert!(ledger.dead().iter().all(|letter| letter.body == whole), "dead letters are whole");
    assert!(server.requests()[0].uri.contains("cnry"), "it was sent to the server, whose answer repeats it");
}

/// An operator edits what is shown; what is delivered is whole.
#[test]
fn an_edit_of_a_masked_body_keeps_what_is_masked() {
    let (data, server) = (tempfile::tempdir().unwrap(), quoting());
    let bulkhead = host(&server, data.path());
    let running = bulkhead.start();
    let _ = send(&running, "in", &json!({ "body": body().to_string() }));
    wait_for_letters(&running, 3.0);
    let letters = bulkhead.dead();
    let letter = id(letter_of(&letters, "deliver"));
    let edit = |body: &str| {
        running.api("POST", "dead/retry", &json!({ "filter": { "ids": [letter] }, "body": body }).to_string())
    };
    for (edited, why) in [
        (r#"{"customer":{"name":"<masked /customer/email>"}}"#, "cannot stand where values are"),
        (r#"{"cards":["<masked /cards/7>"]}"#, "does not have there"),
        ("<masked /cards/0>", "is no JSON"),
    ] {
        let refused = edit(edited);
        assert!(refused.status == 400 && refused.detail().contains(why), "{edited}: {}", refused.body);
    }
    let _ = running.terminate().ok();
    let shown = bulkhead.run(&["dead", "show", letter, "--json"]).ok().json()["body"].as_str().unwrap().to_owned();
    let edited = shown.replace("o-77", "o-78").replace("\"<masked /cards/0>\",", "");
    assert_eq!(bulkhead.run(&["dead", "retry", letter, "--edit-body", &edited]).ok().output, "1 delivered again\n");
    let _ = bulkhead.run_until_idle();
    let delivered: Value = serde_json::from_slice(&server.requests().last().unwrap().body).unwrap();
    let mut expected = body();
    (expected["id"], expected["cards"]) = (json!("o-78"), json!(["cnry\n2"]));
    assert_eq!(delivered, expected);
    assert_eq!(bulkhead.dead().len(), 2);
}

/// What a plugin writes before it breaks is a part of the reason; what a header held is known there as well.
#[test]
fn last_words_do_not_repeat_a_masked_header() {
    let (data, server) = (tempfile::tempdir().unwrap(), quoting());
    let bulkhead = host(&server, data.path());
    let running = bulkhead.start();
    let (key, token) = (("x-api-key", ""), ("authorization", "Bearer "));
    for (verb, (header, scheme)) in
        [("trap", key), ("panic", token), ("retry", token), ("get https://nowhere.example/", key)]
    {
        let joint = if verb.contains(' ') { "" } else { " " };
        let value = format!("cnry-key-{}", "x".repeat(3_000));
        let body = format!("{verb}{joint}{value}");
        let headers = json!([[header, format!("{scheme}{value}")]]);
        let _ = send(&running, "orders", &json!({ "body": body, "headers": headers }));
    }
    wait_for_letters(&running, 4.0);
    let list = running.api("GET", "dead", "");
    check_clean("the reasons", &list.body);
    let letters = list.json();
    let are_masked = letters.as_array().unwrap().iter().all(|it| it["reason"].as_str().unwrap().contains("<masked>"));
    assert!(are_masked && letters.as_array().unwrap().len() == 4, "{letters}");
    let ended = running.terminate().ok();
    check_clean("the log", &ended.errors());
    check_clean("the audit record", &json!(bulkhead.audit()).to_string());
    check_clean("the history", &bulkhead.ledger().told().join("\n"));
}

#[test]
fn a_reload_masks_from_then_on_and_no_more() {
    let (data, server) = (tempfile::tempdir().unwrap(), quoting());
    let bulkhead = host(&server, data.path());
    bulkhead.configure(&toml(&server.url(), ""));
    let running = bulkhead.start();
    let _ = send(&running, "in", &json!({ "body": body().to_string() }));
    wait_for_letters(&running, 3.0);
    let letters = bulkhead.dead();
    let show = || running.api("GET", &format!("dead/{}", id(letter_of(&letters, "deliver"))), "").body;
    assert!(show().matches(CANARY).count() > 3, "{}", show());
    let reload = |mask: &str| {
        bulkhead.configure(&toml(&server.url(), mask));
        let reply = running.api("POST", "reload", "{}");
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body
    };
    let changed = reload(MASK);
    assert!(changed.contains("host.mask"), "{changed}");
    // Its reason and its history were written down before.
    check_clean("a dead letter", &show());
    let _ = send(&running, "in", &json!({ "body": body().to_string() }));
    wait_for_letters(&running, 6.0);
    let young: Vec<Value> = bulkhead.dead().split_off(3);
    check_clean("the letters since", &json!(young).to_string());
    let _ = reload("");
    assert!(show().contains(CANARY));
    let _ = running.terminate().ok();
}

/// What cannot be looked through is not shown, and what has nothing of it is.
#[test]
fn a_body_that_is_no_json_is_shown_only_where_nothing_masked_can_be_in_it() {
    let (data, server) = (tempfile::tempdir().unwrap(), quoting());
    let bulkhead = host(&server, data.path());
    let bodies = [
        ("reject this", true),
        ("{\"customer\":{\"email\":\"cnry@x.example\"", false),
        ("customer[email]=cnry%40x.example", false),
    ];
    bulkhead.configure(&toml(&server.url(), MASK).replace("'/cards/*'", "'/cards'"));
    bulkhead.send("orders", &bodies.map(|(body, _)| body));
    let _ = bulkhead.run_until_idle();
    let letters = bulkhead.dead();
    for ((body, is_shown), letter) in bodies.iter().zip(&letters) {
        let shown = bulkhead.run(&["dead", "show", id(letter), "--json"]).ok();
        check_clean(body, &shown.output);
        let text = shown.json()["body"].as_str().unwrap().to_owned();
        assert_eq!(text == *body, *is_shown, "{text}");
    }
    assert_eq!(letters.len(), bodies.len());
}
