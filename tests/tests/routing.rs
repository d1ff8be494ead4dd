//! Routes: what is copied where, with its parent or not at all.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn route(name: &str, from: &str, to: &str, when: &str) -> String {
    let when = if when.is_empty() { String::new() } else { format!("when = {{ {when} }}\n") };
    format!("[routes.{name}]\nfrom = '{from}'\nto = {to}\n{when}")
}

fn hostile(keys: &str) -> String {
    format!("[connectors.hostile]\nplugin = '{}'\nbrake = 0\n{keys}\n", guest("hostile").display())
}

fn bodies(host: &Bulkhead, queue: &str) -> Vec<String> {
    let stored = host.ledger().messages(queue).into_iter();
    stored.map(|message| String::from_utf8(message.body).unwrap()).collect()
}

/// Which of these bodies a condition copies.
#[track_caller]
fn check(when: &str, lines: &[&str], expected: &[&str]) {
    let host = Bulkhead::new(&route("r", "in", "'out'", when));
    host.send("in", lines);
    assert_eq!(bodies(&host, "out"), expected, "{when}");
    assert_eq!(bodies(&host, "in"), lines);
}

#[test]
fn a_place_in_the_body_says_what_is_copied() {
    let lines = [r#"{"a":{"b":"x1"}}"#, r#"{"a":{"b":2}}"#, r#"{"a":[true]}"#, "{ no JSON", "7"];
    check("", &lines, &lines);
    check("pointer = '/a/b'", &lines, &lines[..2]);
    check("pointer = '/a/b', equals = 2", &lines, &lines[1..2]);
    check("pointer = '/a/b', equals = '2'", &lines, &[]);
    check("pointer = '/a/b', matches = 'x*'", &lines, &lines[..1]);
    check("pointer = '/a/0', equals = true", &lines, &lines[2..3]);
    check("pointer = '', equals = 7", &lines, &lines[4..]);
    check("pointer = '/a', equals = { b = 2 }", &lines, &lines[1..2]);
}

#[test]
fn a_header_says_what_is_copied() {
    let host = Bulkhead::new(
        &(route("r", "in", "'red'", "header = 'X-Colour', equals = 'red'")
            + &route("s", "in", "'any'", "header = 'x-colour'")),
    );
    let running = host.start();
    for message in [
        r#"{"body":"1","headers":[["x-colour","red"]]}"#,
        r#"{"body":"2","headers":[["x-colour","blue"],["x-colour","red"]]}"#,
        r#"{"body":"3","headers":[["x-colour","reddish"]]}"#,
        r#"{"body":"4","headers":[["colour","red"]]}"#,
    ] {
        let reply = running.api("POST", "queues/in/messages", message);
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    let _ = running.terminate().ok();
    assert_eq!(
        (bodies(&host, "red"), bodies(&host, "any")),
        (vec!["1".into(), "2".into()], ["1", "2", "3"].map(String::from).to_vec())
    );
}

/// One transaction: whoever is killed leaves both or none; and who publishes again publishes the same copies.
#[test]
fn a_copy_is_there_when_its_parent_is() {
    let toml = hostile("consume = 'in'\nallow.publish = ['mid']")
        + &route("r", "mid", "['one', 'two']", "")
        + &route("s", "two", "'three'", "");
    let host = Bulkhead::new(&toml);
    host.send("in", &["publish mid"; 2_000]);
    let running = host.start();
    let done = [("outcome", "done")];
    running.wait_until("work", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) > 50.0);
    running.kill9();
    let _ = host.run_until_idle();
    let ledger = host.ledger();
    let ids = |queue: &str| {
        let mut ids: Vec<String> = ledger.messages(queue).into_iter().map(|message| message.id).collect();
        ids.sort();
        ids.dedup();
        ids.len()
    };
    assert_eq!(["mid", "one", "two", "three"].map(ids), [2_000; 4]);
}

#[test]
fn a_repeat_is_not_copied_again() {
    let host = Bulkhead::new(&format!("[queues.in]\ndedup = '1h'\n{}", route("r", "in", "'out'", "")));
    let running = host.start();
    for _ in 0..2 {
        assert_eq!(running.api("POST", "queues/in/messages", r#"{"id":"same","body":"x"}"#).status, 200);
    }
    let _ = running.terminate().ok();
    assert_eq!(bodies(&host, "out"), ["x"]);
}

/// The copies end with the hops, and somebody learns of it.
#[test]
fn routes_that_go_round_end() {
    let host = Bulkhead::new(&(route("there", "a", "'b'", "") + &route("back", "b", "'a'", "")));
    let running = host.start();
    assert_eq!(running.api("POST", "queues/a/messages", r#"{"body":"x"}"#).status, 200);
    assert_eq!(running.metrics().value("bulkhead_unrouted_total", &[("queue", "b")]), 1.0);
    running.wait_for_log("routes go round", PATIENCE);
    let _ = running.terminate().ok();
    assert_eq!((bodies(&host, "a").len(), bodies(&host, "b").len()), (17, 16));
}

/// Each hop would be twice as many.
#[test]
fn routes_that_split_and_go_round_end() {
    let toml = ["one", "two"].map(|name| route(name, "a", "'b'", "") + &route(&format!("{name}-back"), "b", "'a'", ""));
    let host = Bulkhead::new(&toml.concat());
    let running = host.start();
    assert_eq!(running.api("POST", "queues/a/messages", r#"{"body":"x"}"#).status, 200);
    assert!(running.metrics().value("bulkhead_unrouted_total", &[]) > 0.0);
    let _ = running.terminate().ok();
    assert_eq!(bodies(&host, "a").len() + bodies(&host, "b").len(), 1 + 64);
}

/// A full queue at the end holds back what leads to it, over two routes too.
#[test]
fn a_full_queue_holds_back_what_is_routed_to_it() {
    let toml =
        hostile("consume = 'in'\nallow.publish = ['a']") + &route("r", "a", "'b'", "") + &route("s", "b", "'c'", "");
    let host = Bulkhead::new(&format!("[queues.c]\nmax_bytes = '1KiB'\n{toml}"));
    host.send("c", &["x".repeat(1024 - 26)]);
    let refused = host.run(&["send", "a", "--body", "x"]).ended_with(1);
    assert!(refused.errors().contains("queue `c` is full"), "{}", refused.errors());
    host.send("in", &["publish a"]);
    let running = host.start();
    let full = [("connector", "hostile"), ("reason", "full")];
    running.wait_until("hold", PATIENCE, |metrics| metrics.value("bulkhead_held", &full) == 1.0);
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().messages("in").len(), 1);
}

/// No copy waits for ever or is lost: who can take it gets it, also where the whole queue is smaller, and for who cannot
/// it is a dead letter.
#[test]
fn a_copy_that_is_too_large_for_its_reader_is_a_dead_letter_there() {
    let reader = |name: &str, keys: &str| {
        let plugin = guest("hostile");
        format!("[connectors.{name}]\nplugin = '{}'\nbrake = 0\n{keys}\n", plugin.display())
    };
    let toml = reader("large", "consume = 'c'")
        + &reader("small", "consume = 'b'\nlimits = { message = '64KiB' }")
        + &route("r", "a", "['b', 'c']", "");
    let host = Bulkhead::new(&format!("[queues.c]\nmax_bytes = '1KiB'\n[queues.a]\nkeep = '1h'\n{toml}"));
    let body = format!("ok {}", "x".repeat(100 << 10));
    host.send("a", &[body.as_str(), "ok"]);
    let running = host.start();
    let ended = |metrics: &bulkhead_tests::Metrics, outcome| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", outcome)])
    };
    running.wait_until("ends", PATIENCE, |metrics| ended(metrics, "done") + ended(metrics, "dead") == 4.0);
    assert_eq!(
        (ended(&running.metrics(), "done"), running.metrics().limits("small")),
        (3.0, vec!["message".to_owned()])
    );
    let _ = running.terminate().ok();
    let ledger = host.ledger();
    let letters = ledger.dead();
    assert_eq!((letters.len(), letters[0].connector.as_str(), &letters[0].body), (1, "small", &body.into_bytes()));
    assert!(letters[0].reason.contains("`connectors.small.limits.message` is 65536 bytes"), "{}", letters[0].reason);
    assert_eq!((ledger.messages("b").len(), ledger.messages("c").len()), (0, 0));
}

/// Who empties the queue is not held back by it.
#[test]
fn a_connector_goes_on_that_publishes_to_what_leads_to_its_own_full_queue() {
    let toml = hostile("consume = { queue = 'b', batch = 1 }\nallow.publish = ['a']")
        + &route("r", "a", "'b'", "header = 'none'");
    let host = Bulkhead::new(&format!("[queues.b]\nmax_bytes = '1KiB'\n{toml}"));
    host.send("b", &[format!("ok {}", "x".repeat(1021 - 26))]);
    let _ = host.run_until_idle();
    assert!(host.ledger().messages("b").is_empty());
}
