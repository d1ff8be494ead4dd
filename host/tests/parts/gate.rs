//! HTTP through the gate, at its boundary: a grant and a request in, an answer and metrics out. Servers are real, on
//! loopback at port 0; nothing leaves the machine.

use std::time::Duration;

use bulkhead_host::bindings::bulkhead::connector::http::{HttpError, Request};
use bulkhead_host::capability::credential::Auth;
use bulkhead_host::capability::http::{CallUse, GrantSettings};
use bulkhead_host::id::{self, Kind};
use bulkhead_host::settlement::Keeper;

use crate::support::gate::{Fixture, entry, get, post};
use crate::support::server::{Server, gzip_of_zeros, ok};

#[tokio::test]
async fn a_granted_request_is_answered() {
    let server = Server::start(|_| b"HTTP/1.1 201 Made\r\nX-One: 1\r\nContent-Length: 2\r\n\r\nhi".to_vec()).await;
    let mut gate = Fixture::new(vec![entry(&server.url("/a/*"), &["GET"])]);
    let response = gate.send(get(&server.url("/a/b?q=1"))).await.unwrap();
    assert_eq!((response.status, response.body.as_slice()), (201, b"hi".as_slice()));
    assert!(response.headers.contains(&("x-one".to_owned(), "1".to_owned())));
    assert_eq!(server.lines(), ["GET /a/b?q=1 HTTP/1.1"]);
    assert_eq!(gate.end_call(), CallUse::default());
    let pattern = server.url("/a/*");
    let line = format!(r#"bulkhead_http_requests_total{{connector="orders",host="{pattern}",status="201"}} 1"#);
    assert!(gate.metrics().contains(&line));
}

#[tokio::test]
async fn a_body_and_headers_arrive_as_given() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["POST"])]);
    let headers = [("Content-Type", "text/plain"), ("x-a", "1"), ("x-a", "2")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    gate.send(Request { headers, ..post(&server.url("/x"), b"payload") }).await.unwrap();
    let text = server.requests().pop().unwrap();
    for part in ["content-type: text/plain\r\n", "content-length: 7\r\n", "\r\n\r\npayload", "user-agent: bulkhead/"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(text.matches("\r\nx-a: ").count(), 2);
    assert!(gate.end_call().unsafe_sent);
}

/// Checks that a request is refused with `reason`, and that the text names `fix`.
async fn check_denied(gate: &mut Fixture, request: Request, reason: &str, fix: &str) {
    let error = gate.send(request).await.unwrap_err();
    let (HttpError::Denied(text) | HttpError::Invalid(text)) = &error else { panic!("{error:?}") };
    assert!(text.contains(fix), "{fix} in {text}");
    let line = format!(r#"bulkhead_denied_total{{connector="orders",effect="http",reason="{reason}"}} 1"#);
    assert!(gate.metrics().contains(&line), "{line}");
}

#[tokio::test]
async fn nothing_is_granted_by_an_empty_list() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(Vec::new());
    let fix = format!("may not GET {}: add it to `connectors.orders.allow.http`", server.url("/x"));
    check_denied(&mut gate, get(&server.url("/x?secret=1")), "not_granted", &fix).await;
    assert_eq!(server.lines().len(), 0);
}

#[tokio::test]
async fn another_path_port_or_scheme_is_not_granted() {
    let (server, other) = (Server::start(|_| ok("")).await, Server::start(|_| ok("")).await);
    for url in [server.url("/ab"), server.url("/"), other.url("/a/x"), server.url("/a/x").replace("http:", "https:")] {
        let mut gate = Fixture::new(vec![entry(&server.url("/a/*"), &["GET"])]);
        check_denied(&mut gate, get(&url), "not_granted", "add it to `connectors.orders.allow.http`").await;
    }
    assert_eq!(server.lines().len() + other.lines().len(), 0);
}

#[tokio::test]
async fn another_method_names_the_list_of_methods() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"]), entry(&server.url("/b"), &["PUT"])]);
    let fix = "add \"POST\" to `connectors.orders.allow.http[0].methods`";
    check_denied(&mut gate, post(&server.url("/x"), b""), "method", fix).await;
    assert_eq!(gate.end_call(), CallUse::default());
    assert_eq!(server.lines().len(), 0);
}

#[tokio::test]
async fn a_later_entry_may_grant_the_method() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"]), entry(&server.url("/b"), &["POST"])]);
    gate.send(post(&server.url("/b"), b"")).await.unwrap();
}

#[tokio::test]
async fn private_addresses_need_a_grant_that_says_so() {
    let server = Server::start(|_| ok("")).await;
    let hosts = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[2002:7f00:1::]"];
    for host in hosts.into_iter().chain(["0.0.0.0", "[::]", "169.254.169.254", "[fd00:ec2::254]"]) {
        let url = format!("http://{host}:{}/", server.port());
        let mut gate = Fixture::new(vec![GrantSettings { private: false, ..entry(&url, &["GET"]) }]);
        check_denied(&mut gate, get(&url), "address", "connector `orders` may not reach `").await;
    }
    assert_eq!(server.lines().len(), 0);
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_place_names_the_key() {
    let server = Server::start(|_| ok("")).await;
    let url = format!("http://localhost:{}/", server.port());
    let mut gate = Fixture::new(vec![GrantSettings { private: false, ..entry(&url, &["GET"]) }]);
    let fix = "may not reach `localhost`, which is on a private network or this machine: \
               set `connectors.orders.allow.http[0].private = true`";
    check_denied(&mut gate, get(&url), "address", fix).await;
    assert_eq!(server.lines().len(), 0);
    Fixture::new(vec![entry(&url, &["GET"])]).send(get(&url)).await.unwrap();
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn private_counts_only_where_host_and_port_are_written() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![entry("http://*", &["GET"])]);
    check_denied(&mut gate, get(&server.url("/")), "address", "where host and port are written out").await;
}

#[tokio::test]
async fn odd_urls_and_methods_cannot_be_sent() {
    let server = Server::start(|_| ok("")).await;
    let url = server.url("/");
    let odd =
        [url.replace("://", "://user:pass@"), url.replace("://", ":\\\\"), format!("{url}a/../b"), format!("{url}\n")];
    for odd in odd.iter().map(String::as_str).chain(["", "http://127.1/", "http://2130706433/", "file:///etc/passwd"]) {
        let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
        check_denied(&mut gate, get(odd), "invalid", "cannot be sent").await;
    }
    for method in ["", "TRACE", "CONNECT", "trace", "GET /x HTTP/1.1\r\n", "G T"] {
        let mut gate = Fixture::new(vec![entry(&server.url("/*"), &[method])]);
        let request = Request { method: method.to_owned(), ..get(&url) };
        check_denied(&mut gate, request, "invalid", "cannot be sent").await;
    }
    assert_eq!(server.lines().len(), 0);
}

#[tokio::test]
async fn headers_of_the_connection_are_refused() {
    let server = Server::start(|_| ok("")).await;
    for name in ["Transfer-Encoding", "Connection", "TE", "Upgrade", "Proxy-Authorization", "transfer_encoding"] {
        let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
        let request = Request { headers: vec![(name.to_owned(), "chunked".to_owned())], ..get(&server.url("/")) };
        check_denied(&mut gate, request, "header", "belongs to the host").await;
    }
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
    let headers = vec![("x".to_owned(), "a\r\nTransfer-Encoding: chunked".to_owned())];
    check_denied(&mut gate, Request { headers, ..get(&server.url("/")) }, "invalid", "header is malformed").await;
    assert_eq!(server.lines().len(), 0);
}

#[tokio::test]
async fn headers_of_the_host_are_overwritten() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["POST"])]);
    let owned = [("Host", "evil.example"), ("Content-Length", "1"), ("Accept-Encoding", "identity")];
    let headers = owned.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    gate.send(Request { headers, ..post(&server.url("/"), b"12345") }).await.unwrap();
    let text = server.requests().pop().unwrap();
    assert!(text.contains("content-length: 5\r\n") && text.ends_with("\r\n\r\n12345"), "{text}");
    assert!(text.contains(&format!("host: 127.0.0.1:{}\r\n", server.port())), "{text}");
    assert!(!text.contains("evil.example") && !text.contains("identity"), "{text}");
}

#[tokio::test]
async fn a_redirect_goes_to_the_plugin_and_cookies_are_not_kept() {
    let answer = b"HTTP/1.1 302 Found\r\nLocation: /b\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n";
    let server = Server::start(|_| answer.to_vec()).await;
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
    for _ in 0..2 {
        assert_eq!(gate.send(get(&server.url("/a"))).await.unwrap().status, 302);
    }
    assert_eq!(server.lines(), ["GET /a HTTP/1.1", "GET /a HTTP/1.1"]);
    assert!(server.requests().iter().all(|request| !request.to_lowercase().contains("cookie")));
}

/// An answer that a proxy and a client could end at different places is none, and what comes behind it answers nobody.
#[tokio::test]
async fn an_answer_whose_end_is_in_doubt_interrupts() {
    let behind = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0, 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 0\r\n\r\n",
    ] {
        let server = Server::start(move |_| [head, behind].concat().into_bytes()).await;
        let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
        let answer = gate.send(get(&server.url("/"))).await;
        assert!(matches!(answer, Err(HttpError::Interrupted(_))), "{head:?}: {answer:?}");
    }
}

#[tokio::test]
async fn what_comes_behind_an_answer_is_nobodys_answer() {
    let behind = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ] {
        let server = Server::keeping([head, behind].concat().into_bytes()).await;
        let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
        for _ in 0..50 {
            let answer = gate.send(get(&server.url("/"))).await;
            let is_own =
                answer.as_ref().is_ok_and(|response| ["ok", ""].map(str::as_bytes).contains(&&response.body[..]));
            assert!(is_own || matches!(answer, Err(HttpError::Interrupted(_))), "{head:?}: {answer:?}");
        }
    }
}

/// What the server saw of one request under `auth`, with a secret `canary`.
async fn sent_with(auth: Auth, given: &[(&str, &str)], path: &str) -> String {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![GrantSettings { auth: Some(auth), ..entry(&server.url("/*"), &["GET"]) }]);
    let headers = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    gate.send(Request { headers, ..get(&server.url(path)) }).await.unwrap();
    server.requests().pop().unwrap()
}

#[tokio::test]
async fn the_credential_replaces_what_the_plugin_wrote_in_its_place() {
    let bearer = Auth::Bearer { secret: "token".into() };
    let text = sent_with(bearer, &[("Authorization", "Bearer mine"), ("authorization", "again")], "/").await;
    assert!(text.contains("authorization: Bearer canary\r\n"), "{text}");
    assert!(!text.contains("mine") && !text.contains("again"), "{text}");
    let basic = Auth::Basic { user: "user".into(), secret: "token".into() };
    assert!(sent_with(basic, &[], "/").await.contains("authorization: Basic dXNlcjpjYW5hcnk=\r\n"));
    let header = Auth::Header { name: "X-Key".into(), prefix: "Token ".into(), secret: "token".into() };
    let text = sent_with(header, &[("x_key", "mine")], "/").await;
    assert!(text.contains("x-key: Token canary\r\n") && !text.contains("mine"), "{text}");
    let query = Auth::Query { name: "key".into(), secret: "token".into() };
    assert!(sent_with(query, &[], "/a?k%65y=mine&q=1").await.starts_with("GET /a?q=1&key=canary HTTP/1.1"));
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_holds_the_request() {
    let server = Server::start(|_| ok("")).await;
    let auth = Some(Auth::Bearer { secret: "token".into() });
    let mut gate = Fixture::new(vec![GrantSettings { auth, ..entry(&server.url("/*"), &["GET"]) }]);
    gate.remove_secret();
    assert!(matches!(gate.send(get(&server.url("/"))).await, Err(HttpError::Held(10_000))));
    let (delay, why) = gate.end_call().held.unwrap();
    assert_eq!(delay, Duration::from_secs(10));
    assert!(why.contains("the credential cannot be attached"), "{why}");
    assert_eq!(server.lines().len(), 0);
}

#[tokio::test]
async fn no_error_text_shows_a_credential_of_the_url() {
    let server = Server::start(|_| Vec::new()).await;
    let auth = Some(Auth::Query { name: "key".into(), secret: "token".into() });
    let mut gate = Fixture::new(vec![GrantSettings { auth, ..entry(&server.url("/*"), &["GET"]) }]);
    let error = gate.send(get(&server.url("/"))).await.unwrap_err();
    assert!(matches!(&error, HttpError::Interrupted(text) if !text.contains("canary")), "{error:?}");
}

#[tokio::test]
async fn a_message_sends_the_same_idempotency_keys_on_every_attempt() {
    let server = Server::start(|_| ok("")).await;
    let url = server.url("/x");
    for _ in 0..2 {
        let granted = GrantSettings { idempotency: true, ..entry(&server.url("/*"), &["GET", "POST"]) };
        let mut gate = Fixture::new(vec![granted]);
        for request in [get(&url), post(&url, b"1"), post(&url, b"2")] {
            gate.send(request).await.unwrap();
        }
    }
    let key = |text: &String| text.lines().find_map(|line| line.strip_prefix("idempotency-key: ").map(str::to_owned));
    let derived = |ordinal| Some(id::derive(Kind::Idempotency, &["m1", "first-name", "POST", &url], ordinal));
    let keys: Vec<_> = server.requests().iter().map(key).collect();
    assert_eq!(keys, [None, derived(0), derived(1), None, derived(0), derived(1)]);
}

#[tokio::test]
async fn an_answer_is_decompressed() {
    let body = gzip_of_zeros(1000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = [head.into_bytes(), body].concat();
    let server = Server::start(move |_| answer.clone()).await;
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
    let response = gate.send(get(&server.url("/"))).await.unwrap();
    assert_eq!(response.body, vec![0; 1000]);
    assert!(response.headers.iter().all(|(name, _)| name != "content-encoding" && name != "content-length"));
    assert!(server.requests()[0].contains("accept-encoding: "));
}

#[tokio::test]
async fn a_server_that_hangs_drips_or_breaks_off_interrupts() {
    for (server, because) in [
        (Server::hanging(b"").await, "in time"),
        (Server::hanging(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await, "in time"),
        (Server::start(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()).await, "broke off"),
        (Server::start(|_| Vec::new()).await, "broke off"),
        (Server::start(|_| b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()).await, "broke off"),
    ] {
        let timeout = Some(Duration::from_millis(200));
        let mut gate = Fixture::new(vec![GrantSettings { timeout, ..entry(&server.url("/*"), &["POST"]) }]);
        let error = gate.send(post(&server.url("/"), b"x")).await.unwrap_err();
        assert!(matches!(&error, HttpError::Interrupted(text) if text.contains(because)), "{error:?}");
        assert!(gate.metrics().contains(r#"status="error"} 1"#));
        assert!(gate.end_call().unsafe_sent);
    }
}

#[tokio::test]
async fn a_guests_timeout_only_shortens() {
    let server = Server::hanging(b"").await;
    for timeout_ms in [0, 1, 50] {
        let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
        let request = Request { timeout_ms: Some(timeout_ms), ..get(&server.url("/")) };
        assert!(matches!(gate.send(request).await, Err(HttpError::Interrupted(_))));
    }
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
    gate.begin_call_for(Duration::from_millis(50));
    let request = Request { timeout_ms: Some(u64::MAX), ..get(&server.url("/")) };
    assert!(matches!(gate.send(request).await, Err(HttpError::Interrupted(_))));
}

#[tokio::test]
async fn what_cannot_be_connected_is_unreachable() {
    let gone = Server::start(|_| ok("")).await.url("/");
    let server = Server::start(|_| ok("")).await;
    let plain = server.url("/").replace("http:", "https:");
    let nowhere = "http://nowhere.invalid:80/".to_owned();
    for (url, because) in [(gone, "the connection was refused"), (plain, "TLS"), (nowhere, "name was not resolved")] {
        let mut gate = Fixture::new(vec![entry(&url, &["GET"])]);
        let error = gate.send(get(&url)).await.unwrap_err();
        assert!(matches!(&error, HttpError::Unreachable(text) if text.contains(because)), "{error:?}");
    }
}

#[tokio::test]
async fn many_are_sent_at_once_and_answered_in_order() {
    let server = Server::in_step(3).await;
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
    let paths = ["/a", "/b", "/c"];
    let mut requests: Vec<_> = paths.map(|path| get(&server.url(path))).to_vec();
    requests.insert(1, get("https://elsewhere.example/"));
    let answers = gate.send_all(requests).await;
    assert!(matches!(&answers[1], Err(HttpError::Denied(_))));
    let bodies: Vec<_> = answers.into_iter().flatten().map(|answer| String::from_utf8(answer.body).unwrap()).collect();
    assert_eq!(bodies, paths);
}

#[tokio::test]
async fn the_first_unsafe_request_waits_for_what_was_decided_before() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET", "POST"])]);
    let keeper = Keeper::default();
    keeper.close();
    gate.begin_call_behind(keeper.barrier());
    gate.send(get(&server.url("/safe"))).await.unwrap();
    let (sent, ()) = tokio::join!(gate.send(post(&server.url("/unsafe"), b"")), async {
        keeper.demanded().await;
        assert_eq!(server.lines(), ["GET /safe HTTP/1.1"]);
        keeper.open();
    });
    sent.unwrap();
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn nothing_is_sent_outside_a_call() {
    let server = Server::start(|_| ok("")).await;
    let mut gate = Fixture::new(vec![entry(&server.url("/*"), &["GET"])]);
    gate.end_call();
    assert!(matches!(gate.send(get(&server.url("/"))).await, Err(HttpError::Invalid(_))));
    assert_eq!(server.lines().len(), 0);
}
