//! What a new operator does first, end to end: send, run, look.

use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Metrics, guest};

/// For what happens within a moment, also on a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn echo() -> Bulkhead {
    let plugin = guest("echo");
    Bulkhead::new(&format!(
        r#"
        [connectors.echo]
        plugin  = "{}"
        consume = "in"
        config  = {{ publish = "out" }}
        allow.publish = ["out"]
        "#,
        plugin.display()
    ))
}

fn deliver_to(fixture: &Fixture) -> Bulkhead {
    let url = fixture.url();
    Bulkhead::new(&format!(
        r#"
        [secrets]
        token = {{ env = "TOKEN" }}

        [connectors.deliver]
        plugin  = "builtin:http-request"
        consume = "in"
        config  = {{ url = "{url}/take" }}
        retry   = {{ attempts = 3, first = "10ms", max = "20ms" }}
        allow.http = [{{ url = "{url}/take", methods = ["POST"], auth = {{ bearer = "token" }}, idempotency = true, private = true }}]
        "#
    ))
    .variable("TOKEN", "canary")
}

#[test]
fn what_is_sent_comes_out_of_the_plugin_in_order_and_is_on_disk() {
    let bulkhead = echo();
    let ids = bulkhead.send("in", &["one", "two", "three"]);
    assert_eq!(ids.len(), 3);
    let _ = bulkhead.run_until_idle();
    let ledger = bulkhead.ledger();
    let bodies: Vec<Vec<u8>> = ledger.messages("out").into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    assert_eq!((ledger.messages("in").len(), ledger.pending(), ledger.dead().len()), (0, 0, 0));
    ledger.check_integrity();
}

#[test]
fn what_is_sent_to_a_running_host_keeps_its_order() {
    let bulkhead =
        Bulkhead::new("[queues.in]\n[connectors.log]\nplugin = \"builtin:log\"\nconsume = \"in\"\nenabled = false\n");
    // More than one request of `send` carries.
    let lines: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    let running = bulkhead.start();
    bulkhead.send("in", &lines);
    let _ = running.terminate().ok();
    let stored = bulkhead.ledger().messages("in");
    assert!(stored.iter().map(|message| message.body.as_slice()).eq(lines.iter().map(String::as_bytes)));
}

#[test]
fn a_request_is_tried_again_with_the_same_key_and_the_credential() {
    let fixture = Fixture::answering([Answer::status(503), Answer::status(200)]);
    let bulkhead = deliver_to(&fixture);
    bulkhead.send("in", &["{}"]);
    let _ = bulkhead.run_until_idle();
    let requests = fixture.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].header("idempotency-key").is_some());
    assert_eq!(requests[0].header("idempotency-key"), requests[1].header("idempotency-key"));
    assert!(requests.iter().all(|request| request.header("authorization") == Some("Bearer canary")));
    assert_eq!(bulkhead.dead().len(), 0);
}

#[test]
fn a_rejected_message_is_a_dead_letter_with_its_reason() {
    let fixture = Fixture::answering([Answer::status(422)]);
    let bulkhead = deliver_to(&fixture);
    let ids = bulkhead.send("in", &["{}"]);
    let _ = bulkhead.run_until_idle();
    let letters = bulkhead.dead();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0]["connector"].as_str(), letters[0]["message_id"].as_str()),
        (Some("deliver"), Some(&*ids[0]))
    );
    assert!(letters[0]["reason"].as_str().unwrap().contains("422"), "{letters:?}");
}

#[test]
fn a_host_that_runs_takes_messages_over_its_admin_listener_and_stops_cleanly() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let bulkhead = deliver_to(&fixture);
    let running = bulkhead.start();
    bulkhead.send("in", &["{}", "{}"]);
    fixture.wait_for(2, SOON);
    let _ = running.terminate().ok();
    assert_eq!(bulkhead.queues()[0]["subscriptions"][0]["backlog"], 0);
}

#[test]
fn what_is_accepted_outlives_kill_9() {
    let fixture = Fixture::answering([Answer::Hang]);
    let bulkhead = deliver_to(&fixture);
    let running = bulkhead.start();
    bulkhead.send("in", &["{}"]);
    fixture.wait_for(1, SOON);
    running.kill9();
    assert_eq!(bulkhead.ledger().messages("in").len(), 1);
}

#[test]
fn killed_again_and_again_nothing_is_lost_and_nothing_is_doubled() {
    let bulkhead = echo();
    let lines: Vec<String> = (0..30_000).map(|number| format!("message {number}")).collect();
    bulkhead.send("in", &lines);
    let mut killed_at_work = 0;
    for round in 0..12 {
        let running = bulkhead.start();
        let settled = |metrics: &Metrics| metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]);
        running.wait_until("some work", SOON, |metrics| settled(metrics) >= f64::from(round * 137 % 1_500));
        running.kill9();
        if bulkhead.ledger().messages("in").is_empty() {
            break;
        }
        killed_at_work += 1;
    }
    assert!(killed_at_work > 0, "all was done before the first kill: send more");
    let _ = bulkhead.run_until_idle();
    let ledger = bulkhead.ledger();
    let mut bodies: Vec<Vec<u8>> = ledger.messages("out").into_iter().map(|message| message.body).collect();
    let mut expected: Vec<Vec<u8>> = lines.into_iter().map(String::into_bytes).collect();
    bodies.sort_unstable();
    expected.sort_unstable();
    assert!(bodies == expected, "{} messages came out of {}", bodies.len(), expected.len());
    assert_eq!((ledger.pending(), ledger.dead().len()), (0, 0));
    ledger.check_integrity();
}

#[test]
fn a_schedule_fires_once_at_the_first_start() {
    let fixture = Fixture::answering([Answer::json(&serde_json::json!([]))]);
    let url = fixture.url();
    let bulkhead = Bulkhead::new(&format!(
        r#"
        [connectors.poll]
        plugin   = "builtin:http-poll"
        schedule = {{ every = "365d" }}
        config   = {{ url = "{url}/", publish = "out" }}
        allow.publish = ["out"]
        allow.http    = [{{ url = "{url}/", methods = ["GET"], private = true }}]
        "#
    ));
    let _ = bulkhead.run_until_idle();
    let _ = bulkhead.run_until_idle();
    assert_eq!(fixture.requests().len(), 1);
}

#[test]
fn the_demo_is_configured_without_a_problem() {
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/bulkhead.toml");
    let bulkhead = Bulkhead::new("").variable("DEMO_SHOP_TOKEN", "a").variable("DEMO_WAREHOUSE_TOKEN", "b");
    bulkhead.configure(&std::fs::read_to_string(demo).unwrap());
    let checked = bulkhead.run(&["check", "--json"]).ok();
    assert_eq!(checked.json()["ok"], true);
}
