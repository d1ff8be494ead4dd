//! `builtin:http-poll` in the real host: what it asks an API for, and what comes out of it.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Request};
use serde_json::{Value, json};

/// For what happens within a moment, also on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// One tick: the schedule's first.
const ONCE: &str = "365d";

/// Polls `/orders` of the API, with more keys of `config`.
fn poll(api: &Fixture, every: &str, config: &str) -> Bulkhead {
    let url = api.url();
    Bulkhead::new(&format!(
        r#"
        [queues.orders]
        dedup = "1h"

        [connectors.poll]
        plugin   = "builtin:http-poll"
        schedule = {{ every = "{every}" }}
        retry    = {{ attempts = 3, first = "1ms" }}
        allow.publish = ["orders"]
        allow.http    = [{{ url = "{url}/*", methods = ["GET"], private = true }}]

        [connectors.poll.config]
        url     = "{url}/orders"
        publish = "orders"
        id      = "/id"
        {config}
        "#
    ))
}

fn bodies(bulkhead: &Bulkhead) -> Vec<Value> {
    let messages = bulkhead.ledger().messages("orders");
    messages.iter().map(|message| serde_json::from_slice(&message.body).unwrap()).collect()
}

fn uris(api: &Fixture) -> Vec<String> {
    api.requests().into_iter().map(|request| request.uri).collect()
}

/// Three pages of one record each, told apart by their URIs; the last leads nowhere.
fn check_pages(config: &str, expected: [&str; 3], page: fn(&Request) -> Answer) {
    let api = Fixture::start(page);
    let bulkhead = poll(&api, ONCE, config);
    let _ = bulkhead.run_until_idle();
    assert_eq!(uris(&api)[..3], expected, "{config}");
    assert_eq!(bodies(&bulkhead), [json!({"id": 1}), json!({"id": 2}), json!({"id": 3})], "{config}");
    assert_eq!(bulkhead.dead().len(), 0, "{config}");
}

/// The page's number: the last character of its URI, where that is a digit.
fn number(request: &Request) -> u64 {
    request.uri.chars().last().and_then(|last| last.to_digit(10)).unwrap_or(1).into()
}

#[test]
fn query_and_headers_are_sent_and_records_found_by_a_pointer() {
    let api = Fixture::answering([Answer::json(&json!({"data": {"items": [{"id": 7, "at": "monday"}]}}))]);
    let config = r#"
        query   = { status = "open & new", size = 50, full = true }
        headers = { x-tenant = "acme" }
        records = "/data/items"
        version = "/at"
    "#;
    let bulkhead = poll(&api, ONCE, config);
    let _ = bulkhead.run_until_idle();
    assert_eq!(uris(&api), ["/orders?full=true&size=50&status=open%20%26%20new"]);
    let request = &api.requests()[0];
    assert_eq!((request.header("x-tenant"), request.header("accept")), (Some("acme"), Some("application/json")));
    let messages = bulkhead.ledger().messages("orders");
    assert_eq!((messages.len(), messages[0].key.as_deref()), (1, Some("7")));
    assert!(messages[0].id.starts_with("7@monday~"), "{}", messages[0].id);
}

#[test]
fn pages_follow_the_link_header() {
    check_pages("", ["/orders", "/orders?p=2", "/orders?p=3"], |request| {
        let number = number(request);
        let page = Answer::json(&json!([{"id": number}]));
        if number == 3 { page } else { page.with("link", &format!("</orders?p={}>; rel=\"next\"", number + 1)) }
    });
}

#[test]
fn pages_follow_a_url_in_the_body() {
    let config = "records = '/data'\npage = { next = '/paging/next' }";
    check_pages(config, ["/orders", "/orders?p=2", "/orders?p=3"], |request| {
        let number = number(request);
        let next = (number < 3).then(|| format!("/orders?p={}", number + 1));
        Answer::json(&json!({"data": [{"id": number}], "paging": {"next": next}}))
    });
}

#[test]
fn pages_are_counted_until_one_is_empty() {
    let config = "page = { number = 'page' }";
    check_pages(config, ["/orders?page=1", "/orders?page=2", "/orders?page=3"], |request| match number(request) {
        4.. => Answer::json(&json!([])),
        number => Answer::json(&json!([{"id": number}])),
    });
}

#[test]
fn pages_follow_a_cursor_in_the_body() {
    let config = "records = '/data'\npage = { cursor = '/meta/cursor', query = 'after' }";
    check_pages(config, ["/orders", "/orders?after=c2", "/orders?after=c3"], |request| {
        let number = number(request);
        let cursor = (number < 3).then(|| format!("c{}", number + 1));
        Answer::json(&json!({"data": [{"id": number}], "meta": {"cursor": cursor}}))
    });
}

#[test]
fn pages_follow_the_last_record() {
    let config = "page = { last = '/id', query = 'starting_after' }";
    check_pages(config, ["/orders", "/orders?starting_after=1", "/orders?starting_after=2"], |request| {
        match request.uri.rsplit_once('=').map(|(_, last)| last.parse::<u64>().unwrap()) {
            None => Answer::json(&json!([{"id": 1}])),
            Some(3..) => Answer::json(&json!([])),
            Some(last) => Answer::json(&json!([{"id": last + 1}])),
        }
    });
}

#[test]
fn the_next_pass_asks_since_the_newest_record() {
    let api = Fixture::answering([Answer::json(&json!([{"id": 1, "at": 5}, {"id": 2, "at": 9}, {"id": 3, "at": 7}]))]);
    let config = "version = '/at'\nsince = { query = 'after', start = 0 }";
    let bulkhead = poll(&api, "50ms", config);
    let running = bulkhead.start();
    api.wait_for(2, SOON);
    let _ = running.terminate().ok();
    assert_eq!(uris(&api)[..2], ["/orders?after=0", "/orders?after=9"]);
    assert_eq!(bodies(&bulkhead).len(), 3, "what is seen again is dropped");
}

#[test]
fn an_unchanged_page_is_not_published_again() {
    let api = Fixture::start(|request| match request.header("if-none-match") {
        Some("\"v1\"") => Answer::status(304),
        _ => Answer::json(&json!([{"id": 1}])).with("etag", "\"v1\""),
    });
    let bulkhead = poll(&api, "50ms", "");
    let running = bulkhead.start();
    api.wait_for(3, SOON);
    let _ = running.terminate().ok();
    let tags: Vec<_> = api.requests()[..3].iter().map(|request| request.header("if-none-match").is_some()).collect();
    assert_eq!(tags, [false, true, true]);
    assert_eq!((bodies(&bulkhead).len(), bulkhead.dead().len()), (1, 0));
}

#[test]
fn a_second_change_of_a_record_is_a_new_message_and_the_same_version_a_repeat() {
    let version = |version: u32| Answer::json(&json!([{"id": 1, "version": version}]));
    let api = Fixture::answering([version(1), version(1), version(2), version(2)]);
    let bulkhead = poll(&api, "50ms", "version = '/version'");
    let running = bulkhead.start();
    api.wait_for(5, SOON);
    let _ = running.terminate().ok();
    assert_eq!(bodies(&bulkhead), [json!({"id": 1, "version": 1}), json!({"id": 1, "version": 2})]);
}

/// Pages of one record each, of which the second is answered with `trouble` at first.
fn pages_with_trouble(trouble: Answer) -> Fixture {
    let is_first = AtomicBool::new(true);
    Fixture::start(move |request| match number(request) {
        2 if is_first.swap(false, SeqCst) => trouble.clone(),
        4.. => Answer::json(&json!([])),
        number => Answer::json(&json!([{"id": number}])),
    })
}

#[test]
fn a_later_page_that_asks_for_a_moment_gets_it_within_the_tick() {
    let api = pages_with_trouble(Answer::status(429).with("retry-after", "1"));
    let bulkhead = poll(&api, ONCE, "page = { number = 'page' }");
    let _ = bulkhead.run_until_idle();
    assert_eq!(bodies(&bulkhead), [json!({"id": 1}), json!({"id": 2}), json!({"id": 3})], "{:?}", uris(&api));
    assert_eq!(uris(&api).len(), 5, "{:?}", uris(&api));
}

/// What came with the pages before is published, and none of them is asked for again.
#[test]
fn the_next_tick_goes_on_at_the_page_that_was_busy() {
    let api = pages_with_trouble(Answer::status(503));
    let bulkhead = poll(&api, "1s", "page = { number = 'page' }");
    let running = bulkhead.start();
    api.wait_for(5, SOON);
    let _ = running.terminate().ok();
    let asked = ["/orders?page=1", "/orders?page=2", "/orders?page=2", "/orders?page=3", "/orders?page=4"];
    assert_eq!(uris(&api)[..5], asked);
    assert_eq!(bodies(&bulkhead), [json!({"id": 1}), json!({"id": 2}), json!({"id": 3})]);
    assert!(bulkhead.ledger().dead().is_empty());
}

#[test]
fn trouble_at_the_first_page_is_retried_and_then_a_dead_letter() {
    let api = Fixture::answering([Answer::status(503)]);
    let bulkhead = poll(&api, ONCE, "");
    let _ = bulkhead.run_until_idle();
    let dead = bulkhead.ledger().dead();
    assert_eq!((api.requests().len(), dead.len(), dead[0].attempts), (3, 1, 3));
    assert!(dead[0].reason.contains("503"), "{}", dead[0].reason);
}
