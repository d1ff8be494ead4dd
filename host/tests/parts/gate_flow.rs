//! What holds requests back: rates, breakers, receivers that ask for patience. Nothing is sent, no attempt is charged.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bulkhead_host::bindings::bulkhead::connector::http::{HttpError, Response};
use bulkhead_host::capability::breaker;
use bulkhead_host::capability::http::GrantSettings;
use bulkhead_host::capability::rate::Rate;

use crate::support::gate::{Fixture, entry, get};
use crate::support::server::{Server, ok};

const HOUR: Duration = Duration::from_secs(3_600);

fn rated(server: &Server, amount: u32, per: Duration) -> GrantSettings {
    let rate = Some(Rate::new(NonZeroU32::new(amount).unwrap(), per));
    GrantSettings { rate, ..entry(&server.url("/*"), &["GET"]) }
}

fn guarded(server: &Server, failures: u32, open: Duration) -> GrantSettings {
    let breaker = Some(breaker::Settings { failures, open });
    GrantSettings { breaker, ..entry(&server.url("/*"), &["GET"]) }
}

/// Checks that a request is held for some time up to `most`.
fn check_held(answer: &Result<Response, HttpError>, most: Duration) {
    let Err(HttpError::Held(ms)) = answer else { panic!("not held: {answer:?}") };
    let held = Duration::from_millis(*ms);
    assert!(held <= most && held > most / 2, "{held:?} of {most:?}");
}

fn check_denied(gate: &Fixture, reason: &str) {
    let line = format!(r#"bulkhead_denied_total{{connector="orders",effect="http",reason="{reason}"}} 1"#);
    assert!(gate.metrics().contains(&line), "{line}");
}

#[tokio::test]
async fn over_its_rate_a_request_waits() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![rated(&server, 2, Duration::from_secs(1))]);
    let started = Instant::now();
    let answers = gate.send_all((0..3).map(|_| get(&server.url("/"))).collect()).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
    assert_eq!(gate.end_call().held, None);
}

#[tokio::test]
async fn what_would_wait_for_longer_than_the_call_is_held() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![rated(&server, 1, HOUR)]);
    gate.send(get(&server.url("/"))).await.unwrap();
    check_held(&gate.send(get(&server.url("/"))).await, HOUR);
    check_denied(&gate, "rate");
    assert!(gate.end_call().held.is_some());
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn a_rate_counts_over_all_runs_of_its_connector_alone() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![rated(&server, 1, HOUR)]);
    gate.send(get(&server.url("/"))).await.unwrap();
    check_held(&gate.another_run().send(get(&server.url("/"))).await, HOUR);
    gate.neighbour(vec![rated(&server, 1, HOUR)]).send(get(&server.url("/"))).await.unwrap();
}

#[tokio::test]
async fn failures_in_a_row_open_the_breaker() {
    let server = Server::start(|_| b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
    let mut gate = Fixture::new(vec![guarded(&server, 2, HOUR)]);
    for _ in 0..2 {
        assert_eq!(gate.send(get(&server.url("/"))).await.unwrap().status, 500);
    }
    check_held(&gate.send(get(&server.url("/"))).await, HOUR);
    check_denied(&gate, "breaker");
    assert!(gate.pause().is_some());
    let host = server.url("/*");
    let line = format!(r#"bulkhead_breaker_open{{connector="orders",host="{host}"}} 1"#);
    assert!(gate.metrics().contains(&line), "{line}");
    assert_eq!(server.lines().len(), 2);
    gate.neighbour(vec![guarded(&server, 2, HOUR)]).send(get(&server.url("/"))).await.unwrap();
}

#[tokio::test]
async fn silence_and_broken_answers_open_it_and_refusals_do_not() {
    let unreachable = Server::start(|_| ok("")).await.url("/");
    for (server, opens) in [
        (Server::hanging(b"").await, true),
        (Server::start(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()).await, true),
        (Server::start(|_| b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec()).await, false),
        (Server::start(|_| b"HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n".to_vec()).await, false),
    ] {
        let timeout = Some(Duration::from_millis(200));
        let mut gate = Fixture::new(vec![GrantSettings { timeout, ..guarded(&server, 1, HOUR) }]);
        let _ = gate.send(get(&server.url("/"))).await;
        assert_eq!(gate.pause().is_some(), opens);
    }
    let breaker = Some(breaker::Settings { failures: 1, open: HOUR });
    let mut gate = Fixture::new(vec![GrantSettings { breaker, ..entry(&unreachable, &["GET"]) }]);
    assert!(matches!(gate.send(get(&unreachable)).await, Err(HttpError::Unreachable(_))));
    assert!(gate.pause().is_some());
}

#[tokio::test]
async fn when_its_time_is_over_one_request_probes() {
    let is_up = Arc::new(AtomicBool::new(false));
    let up = is_up.clone();
    let answer = move |_: &str| if up.load(Ordering::Relaxed) { ok("") } else { Vec::new() };
    let server = Server::start(answer).await;
    let mut gate = Fixture::new(vec![guarded(&server, 1, Duration::from_millis(100))]);
    assert!(matches!(gate.send(get(&server.url("/"))).await, Err(HttpError::Interrupted(_))));
    for is_answered in [false, true] {
        while gate.pause().is_some() {
            tokio::task::yield_now().await;
        }
        is_up.store(is_answered, Ordering::Relaxed);
        assert_eq!(gate.send(get(&server.url("/"))).await.is_ok(), is_answered);
    }
    assert_eq!(gate.pause(), None);
    let answers = gate.send_all((0..4).map(|_| get(&server.url("/"))).collect()).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test]
async fn a_retry_after_holds_back_everybody_who_asks_that_receiver() {
    for answer in [
        "HTTP/1.1 429 Slow down\r\nRetry-After: 99999\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 503 Closed\r\nRetry-After: Sat, 01 Mar 2025 13:00:00 GMT\r\nDate: Sat, 01 Mar 2025 12:00:00 GMT\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (server, other) = (Server::start(|_| answer.into()).await, Server::start(|_| ok("")).await);
        let entries = vec![entry(&server.url("/*"), &["GET"]), entry(&other.url("/*"), &["GET"])];
        let mut gate = Fixture::new(entries.clone());
        gate.send(get(&server.url("/"))).await.unwrap();
        check_held(&gate.send(get(&server.url("/a"))).await, HOUR);
        check_denied(&gate, "retry_after");
        check_held(&gate.neighbour(entries).send(get(&server.url("/b"))).await, HOUR);
        gate.send(get(&other.url("/"))).await.unwrap();
        assert_eq!(server.lines().len(), 1);
    }
}

#[tokio::test]
async fn a_short_retry_after_is_waited_for() {
    let busy = "HTTP/1.1 429 Slow down\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(|request| if request.contains("/busy") { busy.into() } else { ok("") }).await;
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
    assert_eq!(gate.send(get(&server.url("/busy"))).await.unwrap().status, 429);
    let started = Instant::now();
    assert_eq!(gate.send(get(&server.url("/"))).await.unwrap().status, 200);
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
}
