//! Passes over pages, against a scripted API.

#![allow(clippy::unwrap_used)]

use bulkhead_plugin_http_poll::HttpPoll;
use bulkhead_sdk::http::{ErrorKind, Request, Response};
use bulkhead_sdk::testing::{Host, Installed};
use bulkhead_sdk::{Failure, Scheduled, Tick};
use serde_json::{Value, json};

fn host(more: Value, respond: impl Fn(&Request) -> Result<Response, ErrorKind> + 'static) -> Installed {
    let mut config = json!({"url": "https://a.example/orders", "publish": "orders", "id": "/id", "version": "/at"});
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    Host::new().config(config).respond(respond).install()
}

fn tick() -> Result<(), Failure> {
    HttpPoll::run(Tick::default())
}

fn keys(host: &Installed) -> Vec<String> {
    host.published("orders").into_iter().filter_map(|draft| draft.key).collect()
}

fn urls(host: &Installed) -> Vec<String> {
    host.requests().iter().map(|request| request.url().replace("https://a.example", "")).collect()
}

fn header(request: &Request, name: &str) -> Option<String> {
    request.headers().iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

/// Two pages, linked, with ETags.
fn linked(request: &Request) -> Result<Response, ErrorKind> {
    let (etag, body, link) = match request.url() {
        "https://a.example/orders" => {
            ("\"a\"", r#"[{"id":1,"at":1},{"id":2,"at":3}]"#, Some("</orders?p=2>; rel=\"next\""))
        }
        _ => ("\"b\"", r#"[{"id":3,"at":2}]"#, None),
    };
    if header(request, "if-none-match").as_deref() == Some(etag) {
        return Ok(Response::new(304));
    }
    let page = Response::new(200).with_header("etag", etag).with_body(body);
    Ok(link.map_or(page.clone(), |link| page.with_header("link", link)))
}

#[test]
fn every_page_is_published() {
    let host = host(json!({}), linked);
    tick().unwrap();
    assert_eq!(urls(&host), ["/orders", "/orders?p=2"]);
    assert_eq!(keys(&host), ["1", "2", "3"]);
    assert_eq!(host.published("orders")[0].body, br#"{"id":1,"at":1}"#);
}

#[test]
fn unchanged_pages_are_not_published_again() {
    let host = host(json!({}), linked);
    tick().unwrap();
    tick().unwrap();
    assert_eq!(urls(&host), ["/orders", "/orders?p=2", "/orders", "/orders?p=2"]);
    assert_eq!(keys(&host).len(), 3);
}

#[test]
fn since_is_the_newest_record_of_a_whole_pass() {
    let host = host(json!({"since": {"query": "after", "start": 0}}), linked_by_since);
    tick().unwrap();
    tick().unwrap();
    assert_eq!(urls(&host), ["/orders?after=0", "/orders?after=3"]);
}

fn linked_by_since(_: &Request) -> Result<Response, ErrorKind> {
    Ok(Response::new(200).with_body(r#"[{"id":1,"at":1},{"id":2,"at":3},{"id":3,"at":2}]"#))
}

#[test]
fn trouble_at_a_later_page_keeps_what_was_done() {
    let host = host(json!({}), |request| match request.url() {
        "https://a.example/orders" => linked(request),
        _ => Ok(Response::new(503)),
    });
    tick().unwrap();
    tick().unwrap_err();
    assert_eq!(keys(&host), ["1", "2"]);
    assert_eq!(urls(&host), ["/orders", "/orders?p=2", "/orders?p=2"]);
}

/// A cursor that has expired: without a new start every tick to come would fail at it.
#[test]
fn a_position_that_is_gone_is_given_up_for_the_first_page() {
    let asked = std::cell::Cell::new(0);
    let host = host(json!({}), move |request| match request.url() {
        "https://a.example/orders" => linked(request),
        _ => {
            asked.set(asked.get() + 1);
            Ok(Response::new(match asked.get() {
                1 => 503,
                2 => 410,
                _ => return linked(request),
            }))
        }
    });
    tick().unwrap();
    tick().unwrap();
    assert_eq!(urls(&host), ["/orders", "/orders?p=2", "/orders?p=2", "/orders", "/orders?p=2"]);
    assert_eq!(keys(&host), ["1", "2", "3"]);
}

#[test]
fn trouble_at_the_first_page_fails_the_tick() {
    let _host = host(json!({}), |_| Ok(Response::new(429).with_header("retry-after", "7")));
    let failure = tick().unwrap_err();
    assert!(matches!(failure, Failure::Retry { after: Some(delay), .. } if delay.as_secs() == 7));
}

#[test]
fn a_short_wait_is_waited() {
    let tries = std::cell::Cell::new(0);
    let host = host(json!({}), move |request| {
        tries.set(tries.get() + 1);
        if tries.get() == 2 { Ok(Response::new(429).with_header("retry-after", "0")) } else { linked(request) }
    });
    tick().unwrap();
    assert_eq!(urls(&host), ["/orders", "/orders?p=2", "/orders?p=2"]);
    assert_eq!(keys(&host), ["1", "2", "3"]);
}

#[test]
fn a_long_pass_takes_several_ticks() {
    let host = host(json!({"page": {"number": "page"}}), |request| {
        let page: u64 = request.url().rsplit_once('=').unwrap().1.parse().unwrap();
        let records: Vec<_> = (0..2_000).map(|n| json!({"id": page * 10_000 + n, "at": 1})).collect();
        Ok(Response::new(200).with_body(json!(if page <= 4 { records } else { Vec::new() }).to_string()))
    });
    tick().unwrap();
    assert_eq!(urls(&host), ["/orders?page=1", "/orders?page=2", "/orders?page=3"]);
    tick().unwrap();
    assert_eq!(urls(&host)[3..], ["/orders?page=4", "/orders?page=5"]);
    assert_eq!(keys(&host).len(), 8_000);
    tick().unwrap();
    assert_eq!(urls(&host)[5], "/orders?page=1");
}

#[test]
fn pages_that_lead_in_circles_end() {
    let host = host(json!({"page": {"next": "/next"}, "records": "/data"}), |_| {
        Ok(Response::new(200).with_body(r#"{"next": "/orders", "data": []}"#))
    });
    tick().unwrap();
    assert_eq!(urls(&host), ["/orders"]);
}

#[test]
fn a_full_queue_fails_the_tick_before_anything_is_done() {
    let config = json!({"url": "https://a.example/orders", "publish": "orders"});
    let _host = Host::new().config(config).respond(linked).full("orders").install();
    assert!(tick().unwrap_err().is_retry());
}

#[test]
fn an_answer_that_is_no_list_is_rejected() {
    let _host = host(json!({"records": "/data"}), |_| Ok(Response::new(200).with_body("{}")));
    assert_eq!(tick(), Err(Failure::reject("the answer has nothing at `/data`")));
}

#[test]
fn another_url_starts_from_nothing() {
    let kept = json!({"url": "https://b.example/", "since": 9, "resume": null, "tags": {}});
    let config =
        json!({"url": "https://a.example/orders", "publish": "orders", "since": {"query": "after", "pointer": "/at"}});
    let host = Host::new().config(config).state("http-poll", kept).respond(linked_by_since).install();
    tick().unwrap();
    assert_eq!(urls(&host), ["/orders"]);
}

#[test]
fn another_way_to_read_sees_the_pages_again() {
    let host = host(json!({}), linked);
    tick().unwrap();
    let kept: Value = host.value("http-poll").unwrap();
    drop(host);
    let config = json!({"url": "https://a.example/orders", "publish": "others", "id": "/id", "version": "/at"});
    let host = Host::new().config(config).state("http-poll", kept).respond(linked).install();
    tick().unwrap();
    assert_eq!(host.published("others").len(), 3);
}
