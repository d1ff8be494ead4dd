//! The limits of HTTP: each bites under its own label, names its key, and bites no earlier than it says.

use std::time::Duration;

use bulkhead_host::bindings::bulkhead::connector::http::{HttpError, Request};
use bulkhead_host::capability::http::GrantSettings;
use bulkhead_host::limit::Limits;

use crate::support::gate::{Fixture, entry, get, post};
use crate::support::log;
use crate::support::server::{Server, compress, gzip_of_zeros, ok};

/// Checks that a request goes over `limit`, counted once under that label and no other, and that the text names `fix`.
async fn check(gate: &mut Fixture, request: Request, limit: &str, fix: &str) {
    let error = gate.send(request).await.unwrap_err();
    let (HttpError::Denied(text) | HttpError::Invalid(text) | HttpError::TooLarge(text)) = &error else {
        panic!("{error:?}")
    };
    assert!(text.contains(fix), "{fix} in {text}");
    let metrics = gate.metrics();
    let hits: Vec<_> = metrics.lines().filter(|line| line.starts_with("bulkhead_limit_hits_total{")).collect();
    assert_eq!(hits, [format!(r#"bulkhead_limit_hits_total{{connector="orders",limit="{limit}"}} 1"#)]);
}

#[tokio::test]
async fn a_call_sends_no_more_requests_than_its_limit() {
    let server = Server::start(|_| ok("")).await;
    let limits = Limits { requests: 2, ..Limits::default() };
    let mut gate = Fixture::limited(vec![entry(&server.url("/*"), &["GET"])], limits);
    for _ in 0..2 {
        gate.send(get(&server.url("/"))).await.unwrap();
    }
    check(&mut gate, get(&server.url("/")), "requests", "raise `connectors.orders.limits.requests`").await;
    assert_eq!(server.lines().len(), 2);
    gate.begin_call();
    gate.send(get(&server.url("/"))).await.unwrap();
}

#[tokio::test]
async fn refusals_count_as_requests_and_do_not_fill_the_log() {
    let (lines, guard) = log::capture();
    let mut gate = Fixture::limited(Vec::new(), Limits { requests: 1, ..Limits::default() });
    for _ in 0..100 {
        gate.send(get("https://api.example.com/x?token=canary")).await.unwrap_err();
    }
    drop(guard);
    let expected = [
        (("effect", "http"), "connectors.orders.allow.http"),
        (("limit", "requests"), "connectors.orders.limits.requests"),
    ];
    let found = lines.take();
    assert_eq!(found.len(), 2, "one line for all that are alike");
    for (line, ((field, subject), key)) in found.iter().zip(expected) {
        let fields = &line["fields"];
        assert_eq!(line["level"], "WARN");
        assert_eq!((&fields["connector"], &fields[field]), (&"orders".into(), &subject.into()));
        assert_eq!(fields["key"], key);
        assert!(!line.to_string().contains("canary"));
    }
}

#[tokio::test]
async fn a_request_body_over_its_limit_is_not_sent() {
    let server = Server::start(|_| ok("")).await;
    let limits = Limits { request_bytes: 4, ..Limits::default() };
    let granted = entry(&server.url("/*"), &["POST"]);
    let mut gate = Fixture::limited(vec![granted.clone()], limits.clone());
    gate.send(post(&server.url("/"), b"1234")).await.unwrap();
    let fix = "`connectors.orders.limits.request_bytes`";
    check(&mut gate, post(&server.url("/"), b"12345"), "request_bytes", fix).await;
    let mut gate = Fixture::limited(vec![GrantSettings { max_request: Some(3), ..granted }], limits);
    let fix = "`connectors.orders.allow.http[0].max_request`";
    check(&mut gate, post(&server.url("/"), b"1234"), "request_bytes", fix).await;
    assert_eq!(server.lines().len(), 1);
}

/// Checks that an answer is cut at 50,000 bytes.
async fn check_cut(answer: Vec<u8>) {
    let server = Server::start(move |_| answer.clone()).await;
    let limits = Limits { response_bytes: 50_000, ..Limits::default() };
    let mut gate = Fixture::limited(vec![entry(&server.url("/*"), &["GET"])], limits);
    let fix = "over 50000 bytes: raise `connectors.orders.limits.response_bytes`";
    check(&mut gate, get(&server.url("/")), "response_bytes", fix).await;
}

#[tokio::test]
async fn an_answer_that_announces_too_much_is_not_read() {
    check_cut(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\nxx".to_vec()).await;
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut() {
    let chunks = b"1000\r\n".iter().copied().chain([b'x'; 4096]).chain(*b"\r\n").cycle().take(100 * 4104);
    let head = *b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    check_cut(head.into_iter().chain(chunks).collect()).await;
}

#[tokio::test]
async fn a_bomb_is_cut_at_its_decompressed_size() {
    let bomb = gzip_of_zeros(100_000_000);
    assert!(bomb.len() < 1_000_000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bomb.len());
    // The announced size is within no limit either, and is not what counts.
    let limits = Limits { response_bytes: 5_000_000, ..Limits::default() };
    let answer = [head.into_bytes(), bomb].concat();
    let server = Server::start(move |_| answer.clone()).await;
    let mut gate = Fixture::limited(vec![entry(&server.url("/*"), &["GET"])], limits);
    check(&mut gate, get(&server.url("/")), "response_bytes", "over 5000000 bytes").await;
}

/// Zeros, compressed by `encoding` as it is named in HTTP.
async fn zeros(encoding: &str, bytes: usize) -> Vec<u8> {
    compress(encoding, &vec![0; bytes]).await
}

/// A gate that takes answers of 1,000,000 bytes, and a server with so many zeros.
async fn compressed(encoding: &'static str, bytes: usize) -> (Fixture, Server) {
    let body = zeros(encoding, bytes).await;
    assert!(body.len() < bytes / 50, "{encoding}: {}", body.len());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = [head.into_bytes(), body].concat();
    let server = Server::start(move |_| answer.clone()).await;
    let limits = Limits { response_bytes: 1_000_000, ..Limits::default() };
    (Fixture::limited(vec![entry(&server.url("/*"), &["GET"])], limits), server)
}

#[tokio::test]
async fn every_compression_is_undone_and_cut_at_its_decompressed_size() {
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        let (mut gate, server) = compressed(encoding, 1_000_000).await;
        let response = gate.send(get(&server.url("/"))).await.unwrap();
        assert!(response.body == vec![0; 1_000_000], "{encoding}: {} bytes", response.body.len());
        assert!(server.requests()[0].contains(encoding), "{encoding}: {}", server.requests()[0]);
        let (mut gate, server) = compressed(encoding, 30_000_000).await;
        check(&mut gate, get(&server.url("/")), "response_bytes", "over 1000000 bytes").await;
    }
}

#[tokio::test]
async fn a_compression_that_lies_interrupts() {
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: 16\r\n\r\n");
        let answer = [head.into_bytes(), b"not compressed!!".to_vec()].concat();
        let server = Server::start(move |_| answer.clone()).await;
        let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
        let answer = gate.send(get(&server.url("/"))).await;
        assert!(matches!(&answer, Err(HttpError::Interrupted(text)) if text.contains("decoded")), "{answer:?}");
    }
}

/// What is compressed twice is not undone at all: the plugin gets what came, and is told what it is.
#[tokio::test]
async fn nested_compressions_are_not_undone() {
    for encodings in ["gzip, gzip", "br, gzip", "gzip, identity", "x-gzip", "zstd,zstd,zstd"] {
        let body = zeros("gzip", 10_000_000).await;
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encodings}\r\nContent-Length: {}\r\n\r\n", body.len());
        let answer = [head.into_bytes(), body.clone()].concat();
        let server = Server::start(move |_| answer.clone()).await;
        let limits = Limits { response_bytes: 1_000_000, ..Limits::default() };
        let mut gate = Fixture::limited(vec![entry(&server.url("/*"), &["GET"])], limits);
        let response = gate.send(get(&server.url("/"))).await.unwrap();
        assert!(response.body == body, "{encodings}: {} bytes", response.body.len());
        assert!(response.headers.contains(&("content-encoding".to_owned(), encodings.to_owned())), "{encodings}");
    }
}

#[tokio::test]
async fn an_entry_may_take_smaller_answers_than_its_connector() {
    let server = Server::start(|_| ok("12345")).await;
    let granted = |max_response| GrantSettings { max_response, ..entry(&server.url("/*"), &["GET"]) };
    Fixture::new(vec![granted(Some(5))]).send(get(&server.url("/"))).await.unwrap();
    let fix = "raise `connectors.orders.allow.http[0].max_response`";
    check(&mut Fixture::new(vec![granted(Some(4))]), get(&server.url("/")), "response_bytes", fix).await;
}

#[tokio::test]
async fn heads_without_an_end_interrupt() {
    let one_line = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 10_000_000]].concat();
    let lines = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"x: y\r\n".repeat(100_000), b"\r\n".to_vec()].concat();
    let large =
        [b"HTTP/1.1 200 OK\r\n".to_vec(), [b"x: ", &[b'y'; 1000][..], b"\r\n"].concat().repeat(100), b"\r\n".to_vec()]
            .concat();
    let interim = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(100_000);
    for answer in [one_line, lines, large, interim] {
        let server = Server::start(move |_| answer.clone()).await;
        let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
        let answer = gate.send(get(&server.url("/"))).await;
        assert!(matches!(answer, Err(HttpError::Interrupted(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn what_waits_too_long_behind_its_own_sandboxs_requests_is_refused_and_not_held() {
    let server = Server::hanging(b"").await;
    let limits = Limits { requests_at_once: 1, ..Limits::default() };
    let mut gate = Fixture::limited(vec![entry(&server.url("/*"), &["GET"])], limits);
    let within = |timeout_ms| Request { timeout_ms: Some(timeout_ms), ..get(&server.url("/")) };
    let answers = gate.send_all(vec![within(1000), within(50)]).await;
    assert!(matches!(answers[0], Err(HttpError::Interrupted(_))));
    let Err(HttpError::Unreachable(text)) = &answers[1] else { panic!("{:?}", answers[1]) };
    assert!(text.contains("raise `connectors.orders.limits.requests_at_once`"), "{text}");
    assert_eq!(gate.end_call().held, None);
    assert!(gate.metrics().contains(r#"bulkhead_limit_hits_total{connector="orders",limit="requests_at_once"} 1"#));
}

#[tokio::test]
async fn all_runs_of_a_connector_share_its_requests_under_way_and_no_other_does() {
    let server = Server::hanging(b"").await;
    let limits = Limits { requests_at_once: 1, ..Limits::default() };
    let mut gate = Fixture::limited(vec![entry(&server.url("/*"), &["GET"])], limits);
    let within = |timeout_ms| Request { timeout_ms: Some(timeout_ms), ..get(&server.url("/")) };
    let (mut other_run, mut neighbour) = (gate.another_run(), gate.neighbour(vec![entry(&server.url("/*"), &["GET"])]));
    let (first, second, third) =
        tokio::join!(gate.send(within(1000)), other_run.send(within(50)), neighbour.send(within(1000)),);
    assert!(matches!(first, Err(HttpError::Interrupted(_))), "{first:?}");
    assert!(matches!(second, Err(HttpError::Held(1000))), "{second:?}");
    assert!(matches!(third, Err(HttpError::Interrupted(_))), "{third:?}");
    assert_eq!(server.lines().len(), 2);
    assert_eq!(other_run.end_call().held.map(|(delay, _)| delay), Some(Duration::from_secs(1)));
    assert!(gate.metrics().contains(r#"bulkhead_limit_hits_total{connector="orders",limit="requests_at_once"} 1"#));
}

#[tokio::test]
async fn all_answers_of_a_call_together_fit_the_sandbox() {
    let server = Server::start(|_| ok(&"x".repeat(600))).await;
    let limits = Limits { memory_bytes: 1000, ..Limits::default() };
    let mut gate = Fixture::limited(vec![entry(&server.url("/*"), &["GET"])], limits);
    let answers = gate.send_all(vec![get(&server.url("/")), get(&server.url("/"))]).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(answers.iter().any(|answer| matches!(answer, Err(HttpError::TooLarge(_)))));
}
