//! Bodies that a plugin streams, where the gate must know all of them before the first byte is sent: held whole up to a
//! bound. And where it need not: passed on as they come.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bulkhead_tests::{Answer, Authority, Bulkhead, Fixture, Flaw, Request, guest};
use serde_json::{Value, json};

/// For what happens within a moment, also on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const S3: &str =
    "auth = { aws_sigv4 = { access_key = 'id', secret_key = 'token', region = 'eu-central-1', service = 's3' } }";
const OAUTH2: &str = "auth = { oauth2 = { token_url = 'URL/token', client_id = 'me', client_secret = 'token' } }";
const HMAC: &str = "auth = { hmac = { header = 'X-Sign', secret = 'token' } }";
const PLACEHOLDER: &str = "placeholders = [{ secret = 'token', in = 'body' }]";

/// A connector that streams what its messages say, with this grant to everything at the fixture; `URL` is the fixture's.
fn streaming(fixture: &Fixture, grant: &str, head: &str) -> Bulkhead {
    let (plugin, url) = (guest("stream").display().to_string(), fixture.url());
    let grant = grant.replace("URL", &url);
    Bulkhead::new(&format!(
        r#"
        {head}
        [secrets]
        token = {{ env = "TOKEN" }}
        id    = {{ env = "ID" }}

        [connectors.stream]
        plugin  = "{plugin}"
        consume = {{ queue = "in", batch = 1 }}
        retry   = {{ attempts = 1 }}
        limits  = {{ request_bytes = "16MiB" }}
        allow.http = [{{ url = "{url}/*", methods = ["POST"], private = true, {grant} }}]
        "#
    ))
    .variable("TOKEN", "canary/value+7")
    .variable("ID", "AKIDEXAMPLE")
}

/// Everything that was asked of the receiver, without what was asked of the token endpoint.
fn received(fixture: &Fixture) -> Vec<Request> {
    fixture.requests().into_iter().filter(|request| request.uri != "/token").collect()
}

/// Grants tokens, of which the first is refused.
fn refusing_the_first() -> Fixture {
    let tokens = AtomicUsize::new(0);
    Fixture::start(move |request| {
        if request.uri == "/token" {
            let number = tokens.fetch_add(1, Ordering::Relaxed);
            return Answer::json(&json!({ "access_token": format!("token-{number}"), "expires_in": 3600 }));
        }
        Answer::status(if request.header("authorization") == Some("Bearer token-0") { 401 } else { 200 })
    })
}

/// A body of so many bytes is refused by the bound of this grant, which is named, and nothing of it is sent.
fn check_refused(fixture: &Fixture, grant: &str, bytes: usize, max: usize) {
    let host = streaming(fixture, grant, "");
    let running = host.start();
    host.send("in", &[format!("upload {}/x {bytes}", fixture.url())]);
    running.wait_for_log("connectors.stream.allow.http[0].max_signed_body", SOON);
    running.wait_until("dead letter", SOON, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "dead")]) == 1.0
    });
    assert_eq!(running.metrics().limits("stream"), ["request_bytes"], "{grant}");
    let _ = running.terminate().ok();
    let reason = host.ledger().dead().remove(0).reason;
    assert!(reason.contains(&format!("HttpRequestBodySize(Some({max}))")), "{grant}: {reason}");
    assert_eq!(received(fixture).len(), 0, "{grant}");
}

/// A bound far below the body: it is not held.
#[test]
fn s3_over_tls_takes_a_body_as_it_comes_with_no_signature_over_it() {
    let authority = Authority::new();
    let s3 = Fixture::start_tls(&authority.issue(Flaw::None), |_| Answer::status(200));
    let host = streaming(&s3, &format!("max_signed_body = '1KiB', {S3}"), "[host.tls]\nca_file = 'roots.pem'\n");
    std::fs::write(host.path("roots.pem"), authority.pem()).unwrap();
    host.send("in", &[format!("upload {}/bucket/key {MIB}", s3.url())]);
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<Value>::new());
    let request = s3.requests().remove(0);
    let header = |name: &str| request.header(name).unwrap_or_default();
    assert_eq!((header("x-amz-content-sha256"), header("transfer-encoding")), ("UNSIGNED-PAYLOAD", "chunked"));
    let signed = "SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=";
    assert!(header("authorization").contains(signed), "{}", header("authorization"));
    assert_eq!(request.body, vec![b'x'; MIB]);
}

#[test]
fn s3_without_tls_holds_a_body_to_sign_it() {
    let s3 = Fixture::answering([Answer::status(200)]);
    let host = streaming(&s3, &format!("max_signed_body = '1KiB', {S3}"), "");
    host.send("in", &[format!("upload {}/bucket/key {KIB}", s3.url())]);
    let _ = host.run_until_idle();
    let request = s3.requests().remove(0);
    // Of 1,024 times `x`.
    let digest = "49abd65bbf7f7e40c7055093ed2e3fd75f2f602f2c5fcf955c213e3135eb03f7";
    assert_eq!((request.header("x-amz-content-sha256"), request.body.len()), (Some(digest), KIB));
}

#[test]
fn a_streamed_body_is_sent_again_whole_with_a_fresh_token() {
    let fixture = refusing_the_first();
    let host = streaming(&fixture, OAUTH2, "");
    host.send("in", &[format!("upload {}/x {}", fixture.url(), 3 * MIB)]);
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<Value>::new());
    let requests = received(&fixture);
    let tokens: Vec<_> = requests.iter().map(|request| request.header("authorization").unwrap()).collect();
    assert_eq!(tokens, ["Bearer token-0", "Bearer token-1"]);
    assert!(requests.iter().all(|request| request.body == vec![b'x'; 3 * MIB]));
}

#[test]
fn a_placeholder_in_a_streamed_body_becomes_the_value_on_every_sending() {
    for (grant, times) in [(PLACEHOLDER.to_owned(), 1), (format!("{OAUTH2}, {PLACEHOLDER}"), 2)] {
        let fixture = refusing_the_first();
        let host = streaming(&fixture, &grant, "");
        host.send("in", &[format!("place {}/x token", fixture.url())]);
        let _ = host.run_until_idle();
        assert_eq!(host.dead(), Vec::<Value>::new());
        let bodies: Vec<_> = received(&fixture).into_iter().map(|request| request.body).collect();
        assert_eq!(bodies, vec!["<canary/value+7>"; times], "{grant}");
    }
}

#[test]
fn a_streamed_body_over_the_bound_of_its_grant_is_refused() {
    for grant in [S3, OAUTH2, HMAC, PLACEHOLDER] {
        check_refused(&refusing_the_first(), &format!("max_signed_body = '1KiB', {grant}"), KIB + 1, KIB);
    }
}

#[test]
fn the_bound_is_8_mib_where_a_grant_names_none() {
    let fixture = Fixture::answering([Answer::status(200)]);
    check_refused(&fixture, HMAC, 8 * MIB + 1, 8 * MIB);
    let host = streaming(&fixture, HMAC, "");
    host.send("in", &[format!("upload {}/x {}", fixture.url(), 8 * MIB)]);
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<Value>::new());
    let requests = received(&fixture);
    assert_eq!((requests.len(), requests[0].body.len()), (1, 8 * MIB));
}
