//! `ordering = "key"` with real plugins: what is seen of a key is in order, whatever fails, whoever else runs and whenever
//! the process dies; and nothing but its own key is held back.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_tests::{Bulkhead, Posted, guest};
use serde_json::json;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Ends of the process without warning.
const KILLS: u32 = 12;
/// Messages of a key that are sent in one life of the process.
const SENT_TOGETHER: u32 = 12;

fn connector(plugin: &str, consume: &str, keys: &str) -> Bulkhead {
    Bulkhead::new(&format!(
        "[queues.in]\nordering = 'key'\n[connectors.it]\nplugin = '{}'\nconsume = {{ queue = 'in', {consume} }}\n
        allow.publish = ['out']\n{keys}\n",
        guest(plugin).display()
    ))
}

/// One message as the API takes it; without a key where that is empty.
fn line(key: &str, body: &str) -> String {
    let message = if key.is_empty() { json!({ "body": body }) } else { json!({ "key": key, "body": body }) };
    format!("{message}\n")
}

/// All of them lie in the queue before the first one runs.
fn deliver(host: &Bulkhead, lines: &[(&str, &str)]) {
    let _ = host.run(&["pause", "it"]).ok();
    let running = host.start();
    let lines: String = lines.iter().map(|(key, body)| line(key, body)).collect();
    assert_eq!(host.post("in", &lines), Posted::Accepted);
    let _ = running.terminate().ok();
    let _ = host.run(&["resume", "it"]).ok();
    let _ = host.run_until_idle();
}

/// What was published, in order, by key.
fn published(host: &Bulkhead) -> BTreeMap<String, Vec<String>> {
    let mut published: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in host.ledger().messages("out") {
        published.entry(message.key.unwrap_or_default()).or_default().push(String::from_utf8(message.body).unwrap());
    }
    published
}

/// The bodies of dead letters.
fn dead(host: &Bulkhead) -> Vec<String> {
    host.ledger().dead().into_iter().map(|letter| String::from_utf8(letter.body).unwrap()).collect()
}

/// Every fifth message needs three attempts.
fn body(number: u32) -> String {
    if number % 5 == 3 { format!("{number} stumble 2") } else { number.to_string() }
}

/// The later ones of a key wait for the one that fails, and are not charged for it.
#[test]
fn every_key_keeps_its_order_through_failures_and_many_workers() {
    let host = connector("steps", "batch = 4, concurrency = 4", "retry = { attempts = 3, first = '1ms' }");
    let bodies: Vec<String> = (0..40).map(body).collect();
    let lines: Vec<(&str, &str)> = bodies.iter().flat_map(|body| KEYS.map(|key| (key, body.as_str()))).collect();
    deliver(&host, &lines);
    // Name, call, attempt: which call of its sandbox it was does not matter here.
    let seen = |body: &String| {
        let words: Vec<&str> = body.split(' ').collect();
        (words[0].parse::<u32>().unwrap(), words[2].to_owned())
    };
    let expected: Vec<(u32, String)> =
        (0..40).map(|number| (number, if number % 5 == 3 { "3" } else { "1" }.to_owned())).collect();
    let published = published(&host);
    assert_eq!(published.keys().collect::<Vec<_>>(), KEYS.iter().collect::<Vec<_>>());
    for (key, bodies) in published {
        assert_eq!(bodies.iter().map(seen).collect::<Vec<_>>(), expected, "{key}");
    }
    assert_eq!((dead(&host).len(), host.ledger().pending()), (0, 0));
}

#[test]
fn a_run_takes_several_messages_of_a_key_in_order() {
    let host = connector("steps", "batch = 4, concurrency = 4", "");
    deliver(&host, &[("a", "p"), ("a", "q"), ("a", "r"), ("a", "s"), ("a", "t")]);
    assert_eq!(published(&host)["a"], ["p 1 1", "q 2 1", "r 3 1", "s 4 1", "t 1 1"]);
}

/// What waits for another attempt in an hour holds back its own key alone; messages without a key have no order.
#[test]
fn a_key_that_waits_holds_back_no_other() {
    let retry = "retry = { first = '1h', max = '1h', jitter = 'none' }";
    let host = connector("steps", "batch = 2, concurrency = 4", retry);
    let lines = [
        ("a", "p"),
        ("a", "q stumble 1"),
        ("a", "r"),
        ("b", "p"),
        ("", "p stumble 1"),
        ("a", "s"),
        ("b", "q"),
        ("", "q"),
    ];
    deliver(&host, &lines);
    let names = |key: &str| {
        let bodies = published(&host).remove(key).unwrap_or_default();
        bodies.iter().map(|body| body.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((names("a"), names("b"), names("")), (vec!["p".into()], vec!["p".into(), "q".into()], vec!["q".into()]));
    let queues = host.queues();
    let queue = queues.as_array().unwrap().iter().find(|queue| queue["queue"] == "in").unwrap();
    let subscription = &queue["subscriptions"][0];
    // The two that failed, and the two behind one of them.
    assert_eq!((&subscription["backlog"], &subscription["retrying"]), (&json!(4), &json!(2)));
}

#[test]
fn a_dead_letter_releases_its_key() {
    let host = connector("steps", "batch = 8, concurrency = 2", "retry = { attempts = 3, first = '1ms' }");
    let lines =
        [("a", "p"), ("a", "q reject"), ("a", "r"), ("a", "s stumble 9"), ("a", "t"), ("a", "u trap"), ("a", "v")];
    deliver(&host, &lines);
    let names: Vec<String> = published(&host)["a"].iter().map(|body| body.replace(' ', "/")).collect();
    let names: Vec<&str> = names.iter().map(|body| body.split('/').next().unwrap()).collect();
    assert_eq!(names, ["p", "r", "t", "v"]);
    assert_eq!(dead(&host), ["q reject", "s stumble 9", "u trap"]);
}

#[test]
fn a_call_for_many_messages_has_one_of_each_key() {
    let host = connector("batch", "batch = 16, concurrency = 2", "");
    let company = ["a", "a", "b", "", "a", "c", "b", ""].map(|key| (key, "company"));
    deliver(&host, &company);
    // Each message tells the keys of its call.
    let calls: Vec<String> = published(&host).into_values().flatten().collect();
    assert_eq!(calls.len(), company.len());
    for call in &calls {
        let keys: Vec<&str> = call.split(' ').filter(|key| *key != "-").collect();
        let distinct: std::collections::BTreeSet<&&str> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len(), "{call}");
    }
    assert!(calls.iter().any(|call| call.split(' ').count() >= 5), "they are still called together: {calls:?}");
}

#[test]
fn a_failure_in_a_call_for_many_messages_costs_that_message_alone() {
    let host = connector("batch", "batch = 16", "retry = { attempts = 1 }");
    deliver(&host, &[("a", "bad"), ("a", "ok"), ("b", "ok"), ("b", "bad"), ("b", "ok")]);
    assert_eq!((dead(&host).len(), published(&host).into_values().flatten().count()), (2, 3));
}

/// Waits until something runs that did not run at the last death.
fn wait_for_work(host: &Bulkhead) {
    let (before, deadline) = (host.progress(), Instant::now() + PATIENCE);
    while host.in_flight().is_empty() || host.progress() == before {
        assert!(Instant::now() < deadline, "no work within {PATIENCE:?}");
        thread::yield_now();
    }
}

fn post(host: &Bulkhead, lines: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match host.post("in", lines) {
            Posted::Accepted => return,
            posted => assert_eq!(posted, Posted::NotSent),
        }
        assert!(Instant::now() < deadline, "nobody listened within {PATIENCE:?}");
        thread::yield_now();
    }
}

#[test]
fn killed_in_the_middle_of_the_work_every_key_keeps_its_order() {
    // A message may be charged for every crash, and then fail: its delay must stay short.
    let retry = "retry = { attempts = 1000, first = '1ms', max = '5ms' }";
    let host = connector("steps", "batch = 3, concurrency = 4", retry);
    // What is compiled at the first start is there at the next ones.
    let _ = host.start().terminate().ok();
    let mut in_mid_run = 0;
    for life in 0..KILLS {
        let running = host.launch();
        let numbers = life * SENT_TOGETHER..(life + 1) * SENT_TOGETHER;
        let lines = numbers.flat_map(|number| KEYS.map(|key| line(key, &body(number))));
        post(&host, &lines.collect::<String>());
        wait_for_work(&host);
        running.kill9();
        in_mid_run += u32::from(!host.in_flight().is_empty());
    }
    assert!(in_mid_run > KILLS / 3, "{in_mid_run} kills in the middle of a run");
    let _ = host.run_until_idle();
    let expected: Vec<u32> = (0..KILLS * SENT_TOGETHER).collect();
    for key in KEYS {
        let published = published(&host);
        let numbers = published[key].iter().map(|body| body.split(' ').next().unwrap().parse().unwrap());
        assert_eq!(numbers.collect::<Vec<u32>>(), expected, "{key}");
    }
    host.ledger().check_integrity();
    assert_eq!((dead(&host).len(), host.ledger().pending()), (0, 0));
}
