//! Credentials on requests that stream: bodies that must be known first, and answers that repeat a credential in pieces.

use bulkhead_host::bindings::bulkhead::connector::http::{HttpError, Request};
use bulkhead_host::capability::credential::{Auth, hmac};
use bulkhead_host::capability::http::GrantSettings;
use bulkhead_host::limit::Limits;
use bytes::Bytes;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::{Error, WasiBody};

use crate::support::gate::{Fixture, entry, get};
use crate::support::server::{Server, compress, ok};

fn pieces(pieces: &[&'static str]) -> WasiBody {
    let frames: Vec<_> = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))).collect();
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

async fn send(gate: &mut Fixture, url: &str, body: WasiBody) -> Result<http::Response<WasiBody>, Error> {
    let request = http::Request::builder().method("POST").uri(url).body(body).unwrap();
    let mut table = ResourceTable::new();
    let view = gate.session.view(&mut table);
    let sent = view.hooks.send_request(request, None, Box::new(std::future::ready(Ok(()))));
    Ok(Box::into_pin(sent).await?.0)
}

fn signed(server: &Server) -> GrantSettings {
    let auth = Auth::Hmac(hmac::Settings {
        header: "X-Sign".into(),
        prefix: String::new(),
        signed: hmac::Template::default(),
        timestamp: None,
        algorithm: hmac::Algorithm::Sha256,
        encoding: hmac::Encoding::Hex,
        secret: "token".into(),
    });
    GrantSettings { auth: Some(auth), ..entry(&server.url("/*"), &["POST"]) }
}

#[tokio::test]
async fn a_body_that_must_be_signed_is_held_until_it_is_whole() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![signed(&server)]);
    send(&mut gate, &server.url("/"), pieces(&["pay", "lo", "ad"])).await.unwrap();
    let seen = server.requests().pop().unwrap();
    // HMAC-SHA-256 of `payload` under `canary`.
    let signature = "x-sign: a496934a41342beeaf5547fa0ec448273e9ad54064326b9f3f7079f4868a82c6\r\n";
    assert!(seen.contains(signature) && seen.contains("content-length: 7\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\npayload"), "{seen}");
}

#[tokio::test]
async fn what_is_held_is_bounded_by_the_grant_and_by_the_calls_memory() {
    let server = Server::start(|_| ok("")).await;
    let small = Limits { memory_bytes: 4, ..Limits::default() };
    for (max_signed_body, limits, max) in [(Some(6), Limits::default(), 6), (None, small, 4)] {
        let mut gate = Fixture::limited(vec![GrantSettings { max_signed_body, ..signed(&server) }], limits);
        let error = send(&mut gate, &server.url("/"), pieces(&["pay", "lo", "ad"])).await.unwrap_err();
        assert!(matches!(error, Error::HttpRequestBodySize(Some(bytes)) if bytes == max), "{error:?}");
        assert!(gate.metrics().contains(r#"limit="request_bytes"} 1"#));
        // What a failed request held is given back.
        let fitting = send(&mut gate, &server.url("/"), pieces(&["pay", "l"])).await;
        assert!(fitting.is_ok(), "{:?}", fitting.err());
    }
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_credential_in_pieces_is_blotted_out_of_a_stream() {
    let answer =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n<can>\r\n6\r\n<canar\r\n4\r\ny>ca\r\n0\r\n\r\n";
    let server = Server::start(|_| answer.as_bytes().to_vec()).await;
    let auth = Some(Auth::Bearer { secret: "token".into() });
    let mut gate = Fixture::new(vec![GrantSettings { auth, ..entry(&server.url("/*"), &["GET", "POST"]) }]);
    let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let response = send(&mut gate, &server.url("/"), empty).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(String::from_utf8_lossy(&body), "<can><******>ca");
    let whole = gate.send(get(&server.url("/"))).await.unwrap();
    assert_eq!(whole.body, body);
    assert!(gate.metrics().contains(r#"bulkhead_scrubbed_total{connector="orders"} 2"#));
}

fn bearing(server: &Server) -> GrantSettings {
    let auth = Some(Auth::Bearer { secret: "token".into() });
    GrantSettings { auth, ..entry(&server.url("/*"), &["GET", "HEAD"]) }
}

/// What cannot be searched for the credential is not handed over.
#[tokio::test]
async fn an_answer_that_stays_compressed_is_refused_where_a_credential_was_sent() {
    for encodings in ["gzip, gzip", "br, gzip", "x-gzip", "compress", "aws-chunked", "Identity, x"] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encodings}\r\nContent-Length: 6\r\n\r\n");
        let server = Server::start(move |_| [head.as_bytes(), b"canary"].concat()).await;
        let mut gate = Fixture::new(vec![bearing(&server)]);
        let error = gate.send(get(&server.url("/"))).await.unwrap_err();
        let HttpError::Interrupted(text) = &error else { panic!("{encodings}: {error:?}") };
        assert!(text.contains("cannot be searched for the credential"), "{text}");
        // Nothing else to search: the head alone goes on.
        let head = Request { method: "HEAD".into(), ..get(&server.url("/")) };
        assert!(gate.send(head).await.is_ok(), "{encodings}");
    }
}

/// The chunks are undone by the client, and nothing below them.
#[tokio::test]
async fn an_answer_that_was_compressed_for_the_way_is_refused_too() {
    for encodings in ["gzip, chunked", "gzip", "deflate, chunked"] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {encodings}\r\n\r\n6\r\ncanary\r\n0\r\n\r\n");
        let server = Server::start(move |_| answer.clone().into_bytes()).await;
        let mut gate = Fixture::new(vec![bearing(&server)]);
        let refused = gate.send(get(&server.url("/"))).await;
        assert!(
            matches!(&refused, Err(HttpError::Interrupted(text)) if text.contains("cannot be searched")),
            "{encodings}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn every_compression_that_is_undone_is_searched() {
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        let body = compress(encoding, b"<canary> <%63anary> <63616e617279>").await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n", body.len());
        let answer = [head.into_bytes(), body].concat();
        let server = Server::start(move |_| answer.clone()).await;
        let mut gate = Fixture::new(vec![bearing(&server)]);
        let answer = gate.send(get(&server.url("/"))).await.unwrap();
        assert_eq!(String::from_utf8(answer.body).unwrap(), "<******> <********> <************>", "{encoding}");
        assert!(gate.metrics().contains("bulkhead_scrubbed_total{connector=\"orders\"} 1"));
    }
}

/// The pair is as good as the password, and longer: it is looked for where the password is too short for that.
#[tokio::test]
async fn the_encoded_pair_of_a_short_password_is_blotted_out() {
    let server = Server::start(|request: &str| {
        let sent = request.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap().to_owned();
        ok(&sent)
    })
    .await;
    let auth = Some(Auth::Basic { user: "u".into(), secret: "token".into() });
    let mut gate = Fixture::new(vec![GrantSettings { auth, ..entry(&server.url("/*"), &["GET"]) }]);
    let answer = gate.send(get(&server.url("/"))).await.unwrap();
    assert_eq!(answer.body, b"Basic ************");
}
