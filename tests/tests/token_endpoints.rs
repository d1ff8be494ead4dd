//! Token endpoints that mean no good, and a store that cannot keep what a good one grants: messages wait, nothing is
//! followed, nothing is used before it is on disk.

use std::time::Duration;

use async_compression::tokio::write::GzipEncoder;
use bulkhead_tests::{Answer, Bulkhead, Fixture, Misdeed, Running, Upstream};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

/// For what happens within a moment, also on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;
/// What the host may grow by for an answer of a few hundred KiB at most, the allocator's slack included.
const GROWTH_MAX: u64 = 32 * MIB;
const CLIENT: &str = "client_secret = 'secret'";

/// A connector that delivers to `receiver` with a token from `token_url`.
fn deliver(receiver: &Fixture, token_url: &str, oauth2: &str) -> Bulkhead {
    let url = receiver.url();
    Bulkhead::new(&format!(
        r#"
        [secrets]
        secret = {{ env = "SECRET" }}
        first  = {{ env = "FIRST" }}

        [connectors.one]
        plugin  = "builtin:http-request"
        consume = "in"
        config  = {{ url = "{url}/take" }}
        retry   = {{ attempts = 1 }}
        allow.http = [{{ url = "{url}/*", methods = ["POST"], private = true, auth = {{ oauth2 = {{ token_url = "{token_url}", client_id = "me", {oauth2} }} }} }}]
        "#
    ))
    .variable("SECRET", "s3cret")
    .variable("FIRST", "refresh-0")
}

fn outcomes(running: &Running, outcome: &'static str) -> f64 {
    running.metrics().value("bulkhead_deliveries_total", &[("outcome", outcome)])
}

/// The delivery waits for this reason, at no attempt; the receiver hears nothing, and the host stays as large as it was.
fn check_waits(token_url: &str, because: &str) {
    let receiver = Fixture::answering([Answer::status(200)]);
    let host = deliver(&receiver, token_url, CLIENT);
    let running = host.start();
    let before = running.memory_peak_bytes();
    host.send("in", &["{}"]);
    let line = running.wait_for_log("requests that need it wait", SOON);
    assert!(line.contains(because), "{line}");
    running.wait_until("delivery that waits", SOON, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "retry")]) >= 1.0
    });
    let grown = running.memory_peak_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{because}: grown by {} MiB", grown / MIB);
    let metrics = running.metrics();
    let labels = [("connector", "one"), ("effect", "secret"), ("reason", "token")];
    assert!(metrics.value("bulkhead_denied_total", &labels) >= 1.0);
    assert_eq!(metrics.value("bulkhead_panics_total", &[]), 0.0);
    let _ = running.terminate().ok();
    assert_eq!((receiver.requests().len(), host.ledger().dead().len()), (0, 0), "{because}");
}

#[test]
fn an_answer_over_its_bound_is_no_token() {
    for misdeed in [Misdeed::endless(10 << 30), Misdeed::chunks()] {
        let endpoint = Upstream::start(misdeed);
        check_waits(&format!("{}/token", endpoint.url()), "its answer is too large");
    }
}

/// Half a MiB on its way, and half a GiB when it is there.
#[test]
fn a_bomb_is_no_token() {
    let bomb = bomb();
    assert!((bomb.len() as u64) < MIB);
    let endpoint = Fixture::answering([Answer::status(200).with("content-encoding", "gzip").body(bomb)]);
    check_waits(&format!("{}/token", endpoint.url()), "its answer is too large");
}

/// Whoever would get the client's secret there, whether the place is forbidden or not.
#[test]
fn a_redirect_of_an_endpoint_is_not_followed() {
    let elsewhere = Fixture::start(|_| Answer::json(&json!({ "access_token": "from elsewhere" })));
    let near = elsewhere.url().replace("127.0.0.1", "localhost");
    for (status, place) in [(302, elsewhere.url()), (307, elsewhere.url()), (308, near)] {
        let place = format!("{place}/token");
        let endpoint = Fixture::answering([Answer::status(status).with("location", &place)]);
        check_waits(&format!("{}/token", endpoint.url()), &format!("it answered {status}"));
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[test]
fn an_endpoint_that_breaks_off_or_answers_nonsense_is_waited_for() {
    for (misdeed, because) in [
        (Misdeed::Reset(b"HTTP/1.1 200"), "it cannot be reached"),
        (Misdeed::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()), "its answer broke off"),
        (
            Misdeed::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()),
            "its answer holds no bearer token",
        ),
    ] {
        let endpoint = Upstream::start(misdeed);
        check_waits(&format!("{}/token", endpoint.url()), because);
    }
}

/// The endpoint has given the next refresh token away: until that is on disk, the token that came with it is not used.
#[test]
fn nothing_is_used_before_its_refresh_token_is_kept() {
    let fixture = Fixture::start(|request| match request.uri == "/token" {
        true => {
            let grant = json!({ "access_token": "token-1", "expires_in": 3600, "refresh_token": "refresh-1" });
            Answer::json(&grant)
        }
        false => Answer::status(200),
    });
    let host = deliver(&fixture, &format!("{}/token", fixture.url()), "refresh_token = 'first'");
    // Stands where the store writes, also to those who may write everywhere.
    let obstacle = host.data().join("sealed.json.new");
    std::fs::create_dir_all(&obstacle).unwrap();
    host.send("in", &["{}"]);
    let running = host.start();
    let line = running.wait_for_log("requests that need it wait", SOON);
    assert!(line.contains("the new refresh token cannot be kept"), "{line}");
    running.wait_until("delivery that waits", SOON, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "retry")]) >= 1.0
    });
    let asked = |path: &str| fixture.requests().iter().filter(|request| request.uri == path).count();
    assert_eq!((asked("/token"), asked("/take"), outcomes(&running, "dead")), (1, 0, 0.0));
    std::fs::remove_dir(&obstacle).unwrap();
    fixture.wait_for(2, SOON);
    running.wait_until("delivery", SOON, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]) == 1.0
    });
    let _ = running.terminate().ok();
    // With what was granted then, and after the end the next is asked for with what was kept.
    assert_eq!((asked("/token"), asked("/take")), (1, 1));
    assert_eq!(fixture.requests()[1].header("authorization"), Some("Bearer token-1"));
    host.send("in", &["{}"]);
    let _ = host.run_until_idle();
    assert!(fixture.requests()[2].body.starts_with(b"grant_type=refresh_token&refresh_token=refresh-1&"));
}

fn bomb() -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut encoder, zeros) = (GzipEncoder::new(Vec::new()), vec![0; 1 << 20]);
        for _ in 0..512 {
            encoder.write_all(&zeros).await.unwrap();
        }
        encoder.shutdown().await.unwrap();
        encoder.into_inner()
    })
}
