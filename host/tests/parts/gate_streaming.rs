//! `wasi:http` through the gate: the same refusals as codes of the standard, bodies that stream, limits while they do.

use std::time::Duration;

use bulkhead_host::capability::credential::Auth;
use bulkhead_host::capability::http::GrantSettings;
use bulkhead_host::limit::Limits;
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokio::sync::mpsc;
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use crate::support::gate::{Fixture, entry};
use crate::support::server::{Server, ok};

fn request(method: &str, url: &str, body: WasiBody) -> http::Request<WasiBody> {
    http::Request::builder().method(method).uri(url).body(body).unwrap()
}

fn empty() -> WasiBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn whole(body: &str) -> WasiBody {
    Full::new(Bytes::from(body.to_owned())).map_err(|never| match never {}).boxed_unsync()
}

/// A body that a test feeds as it goes.
fn open() -> (mpsc::Sender<Frame<Bytes>>, WasiBody) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = stream::unfold(receiver, |mut receiver| async move { Some((Ok(receiver.recv().await?), receiver)) });
    (sender, StreamBody::new(frames).boxed_unsync())
}

async fn send(
    gate: &mut Fixture,
    request: http::Request<WasiBody>,
    options: RequestOptions,
) -> Result<http::Response<WasiBody>, Error> {
    let mut table = ResourceTable::new();
    let view = gate.session.view(&mut table);
    let sent = view.hooks.send_request(request, Some(options), Box::new(std::future::ready(Ok(()))));
    Ok(Box::into_pin(sent).await?.0)
}

async fn send_plainly(gate: &mut Fixture, request: http::Request<WasiBody>) -> Result<http::Response<WasiBody>, Error> {
    send(gate, request, RequestOptions::default()).await
}

async fn text(response: http::Response<WasiBody>) -> Result<String, Error> {
    Ok(String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn a_granted_request_is_answered_with_the_credential_attached() {
    let server = Server::start(|_| ok("hello")).await;
    let auth = Some(Auth::Bearer { secret: "token".into() });
    let mut gate = Fixture::new(vec![GrantSettings { auth, ..entry(&server.url("/*"), &["GET"]) }]);
    let mut asked = request("GET", &server.url("/x?q=1"), empty());
    asked.headers_mut().insert("authorization", "mine".parse().unwrap());
    let response = send_plainly(&mut gate, asked).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await.unwrap(), "hello");
    let seen = server.requests().pop().unwrap();
    assert!(seen.starts_with("GET /x?q=1 ") && seen.contains("authorization: Bearer canary\r\n"), "{seen}");
    assert!(!seen.contains("mine") && !seen.contains("transfer-encoding"), "{seen}");
    assert!(gate.metrics().contains(r#"status="200"} 1"#));
}

#[tokio::test]
async fn refusals_are_codes_and_counted_like_the_others() {
    let server = Server::start(|_| ok("")).await;
    let user = server.url("/").replace("://", "://user@");
    let mut public = entry(&server.url("/public"), &["GET"]);
    public.private = false;
    let mut gate = Fixture::new(vec![entry(&server.url("/a"), &["GET"]), public]);
    for (method, url, reason) in [
        ("GET", server.url("/b"), "not_granted"),
        ("POST", server.url("/a"), "method"),
        ("GET", server.url("/public"), "address"),
        ("GET", user, "invalid"),
    ] {
        let error = send_plainly(&mut gate, request(method, &url, empty())).await.unwrap_err();
        let is_expected = match reason {
            "address" => matches!(error, Error::DestinationIpProhibited),
            "invalid" => matches!(error, Error::InternalError(Some(_))),
            _ => matches!(error, Error::HttpRequestDenied),
        };
        assert!(is_expected, "{error:?}");
        let line = format!(r#"bulkhead_denied_total{{connector="orders",effect="http",reason="{reason}"}} 1"#);
        assert!(gate.metrics().contains(&line), "{line}");
    }
    assert_eq!(server.lines().len(), 0);
}

#[tokio::test]
async fn only_headers_of_the_connection_are_forbidden() {
    let mut gate = Fixture::new(Vec::new());
    let mut table = ResourceTable::new();
    let filter = gate.session.view(&mut table).hooks.forbidden_header_filter();
    for (name, is_forbidden) in
        [("transfer-encoding", true), ("proxy-x", true), ("te", true), ("host", false), ("authorization", false)]
    {
        assert_eq!(filter(&name.parse().unwrap()), is_forbidden, "{name}");
    }
}

#[tokio::test]
async fn a_body_streams_out_with_its_announced_length_or_in_chunks() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["POST"])]);
    let mut announced = request("POST", &server.url("/"), whole("12345"));
    announced.headers_mut().insert("content-length", 5.into());
    send_plainly(&mut gate, announced).await.unwrap();
    send_plainly(&mut gate, request("POST", &server.url("/"), whole("12345"))).await.unwrap();
    let seen = server.requests();
    assert!(seen[0].contains("content-length: 5\r\n") && seen[0].ends_with("\r\n\r\n12345"), "{}", seen[0]);
    assert!(seen[1].contains("transfer-encoding: chunked\r\n") && seen[1].contains("5\r\n12345\r\n"), "{}", seen[1]);
    assert!(gate.end_call().unsafe_sent);
}

#[tokio::test]
async fn an_answer_is_there_before_its_end() {
    let server = Server::hanging(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await;
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
    let mut body = send_plainly(&mut gate, request("GET", &server.url("/"), empty())).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
}

#[tokio::test]
async fn a_growing_request_body_is_cut_at_its_limit() {
    let server = Server::start(|_| ok("")).await;
    let limits = Limits { request_bytes: 4, ..Limits::default() };
    let mut gate = Fixture::limited(vec![entry(&server.url("/*"), &["POST"])], limits);
    let (sender, body) = open();
    let feed = async {
        for chunk in ["123", "45"] {
            sender.send(Frame::data(Bytes::from(chunk))).await.unwrap();
        }
    };
    let (answer, ()) = tokio::join!(send_plainly(&mut gate, request("POST", &server.url("/"), body)), feed);
    assert!(matches!(answer, Err(Error::HttpRequestBodySize(Some(4)))), "{:?}", answer.map(drop));
    assert!(gate.metrics().contains(r#"bulkhead_limit_hits_total{connector="orders",limit="request_bytes"} 1"#));
}

#[tokio::test]
async fn trailers_of_requests_are_refused() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["POST"])]);
    let (sender, body) = open();
    let feed = async { sender.send(Frame::trailers(http::HeaderMap::new())).await.unwrap() };
    let (answer, ()) = tokio::join!(send_plainly(&mut gate, request("POST", &server.url("/"), body)), feed);
    let Err(Error::InternalError(Some(text))) = answer.map(drop) else { panic!("trailers were sent") };
    assert!(text.contains("trailers"), "{text}");
}

#[tokio::test]
async fn a_growing_answer_is_cut_at_its_limit() {
    let chunks = b"1000\r\n".iter().copied().chain([b'x'; 4096]).chain(*b"\r\n").cycle().take(100 * 4104);
    let answer: Vec<u8> =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".iter().copied().chain(chunks).collect();
    let server = Server::start(move |_| answer.clone()).await;
    let limits = Limits { response_bytes: 50_000, ..Limits::default() };
    let mut gate = Fixture::limited(vec![entry(&server.url("/*"), &["GET"])], limits);
    let response = send_plainly(&mut gate, request("GET", &server.url("/"), empty())).await.unwrap();
    assert!(matches!(text(response).await, Err(Error::HttpResponseBodySize(Some(50_000)))));
    assert!(gate.metrics().contains(r#"bulkhead_limit_hits_total{connector="orders",limit="response_bytes"} 1"#));
}

#[tokio::test]
async fn a_guests_timeouts_of_zero_and_of_ages_are_clamped() {
    let (silent, drip) = (Server::hanging(b"").await, Server::hanging(b"HTTP/1.1 200 OK\r\n\r\nhalf").await);
    for timeout in [Duration::ZERO, Duration::MAX] {
        let mut gate = Fixture::new(vec![entry(&silent.url("/*"), &["GET"]), entry(&drip.url("/*"), &["GET"])]);
        gate.begin_call_for(Duration::from_millis(100));
        let (first_byte_timeout, between_bytes_timeout) = (Some(timeout), Some(timeout));
        let options = RequestOptions { first_byte_timeout, connect_timeout: Some(timeout), between_bytes_timeout };
        let answer = send(&mut gate, request("GET", &silent.url("/"), empty()), options).await;
        assert!(matches!(answer.map(drop), Err(Error::HttpResponseIncomplete)));
        let options = RequestOptions { first_byte_timeout: None, ..options };
        gate.begin_call_for(Duration::from_millis(100));
        let response = send(&mut gate, request("GET", &drip.url("/"), empty()), options).await.unwrap();
        assert!(matches!(text(response).await, Err(Error::HttpResponseIncomplete)));
    }
}
