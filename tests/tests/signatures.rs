//! Requests that the host signs by a template: a receiver that makes the signature anew, of what has arrived, takes them.

use std::time::{Duration, UNIX_EPOCH};

use bulkhead_host::clock::wall;
use bulkhead_tests::{Answer, Bulkhead, Fixture, Request, guest};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const KEY: &str = "canary/value+7";
const MIB: usize = 1 << 20;
/// Between the signing and the look at the clock, on a machine that stands still for a while.
const DAY: Duration = Duration::from_secs(86_400);

/// RFC 2104, for keys that are shorter than a block.
pub(crate) fn hmac_sha256(key: &str, text: &[u8]) -> String {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key.as_bytes());
    let hash =
        |pad: u8, text: &[u8]| Sha256::new().chain_update(block.map(|byte| byte ^ pad)).chain_update(text).finalize();
    HEXLOWER.encode(&hash(0x5c, &hash(0x36, text)))
}

/// What the host must have signed of a request: each word for a part of it, all others as they are.
fn signed(words: &[&str], request: &Request) -> Vec<u8> {
    let part = |word: &&str| match *word {
        "METHOD" => request.method.as_bytes().to_vec(),
        "PATH" => request.uri.as_bytes().to_vec(),
        "HOST" => request.header("host").unwrap().as_bytes().to_vec(),
        "TIMESTAMP" => request.header("x-time").unwrap().as_bytes().to_vec(),
        "BODY" => request.body.to_vec(),
        text => text.as_bytes().to_vec(),
    };
    words.iter().flat_map(part).collect()
}

/// Takes requests with one signature, which is the right one, and with one time at most.
fn verifying(words: &'static [&'static str]) -> Fixture {
    Fixture::start(move |request| {
        let expected = format!("v0={}", hmac_sha256(KEY, &signed(words, request)));
        let given: Vec<_> = request.headers.get_all("x-sign").iter().collect();
        let is_one = request.headers.get_all("x-time").iter().count() <= 1;
        Answer::status(if given == [expected.as_str()] && is_one { 200 } else { 401 })
    })
}

/// One connector with the plugin of this name and a grant that signs what `signed` says.
fn signing(plugin: &str, fixture: &Fixture, hmac: &str, grant: &str) -> Bulkhead {
    let (plugin, url) = (guest(plugin).display().to_string(), fixture.url());
    let hmac = format!("header = 'X-Sign', prefix = 'v0=', secret = 'key', {hmac}");
    Bulkhead::new(&format!(
        r#"
        [secrets]
        key = {{ env = "KEY" }}

        [connectors.sender]
        plugin  = "{plugin}"
        consume = "in"
        retry   = {{ attempts = 1 }}
        allow.publish = ["seen"]
        allow.http = [{{ url = "{url}/*", methods = ["PUT", "POST"], private = true, auth = {{ hmac = {{ {hmac} }} }}, {grant} }}]
        "#
    ))
    .variable("KEY", KEY)
}

/// The one request, which was taken.
fn taken(host: &Bulkhead, fixture: &Fixture) -> Request {
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<Value>::new());
    let mut requests = fixture.requests();
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

/// What the plugin says in the place of the signature and of the time is gone.
fn check(hmac: &str, words: &'static [&'static str]) -> Request {
    let fixture = verifying(words);
    let host = signing("courier", &fixture, hmac, "");
    let url = format!("{}/a%20b?c=d&e=%7e", fixture.url());
    let headers = json!([["x-sign", "mine"], ["X_Sign", "mine"], ["x-time", "1"], ["x_time", "2"]]);
    let errand = json!({ "method": "PUT", "url": url, "headers": headers, "body": "grüße\0\n", "check": true });
    host.send("in", &[errand.to_string()]);
    taken(&host, &fixture)
}

#[test]
fn each_part_of_a_request_can_be_signed() {
    check("", &["BODY"]);
    check("signed = '{body}'", &["BODY"]);
    check("signed = '{method}'", &["METHOD"]);
    check("signed = '{path}'", &["PATH"]);
    check("signed = '{host}'", &["HOST"]);
    let all = r#"signed = "{method}\n{host}{path}\n{timestamp}:{body}.", timestamp = "X-Time""#;
    check(all, &["METHOD", "\n", "HOST", "PATH", "\n", "TIMESTAMP", ":", "BODY", "."]);
}

#[test]
fn the_timestamp_is_the_time_in_seconds_and_the_only_one() {
    let request = check("signed = '{timestamp}.{body}', timestamp = 'X-Time'", &["TIMESTAMP", ".", "BODY"]);
    let told = UNIX_EPOCH + Duration::from_secs(request.header("x-time").unwrap().parse().unwrap());
    let now = wall();
    assert!(now - DAY < told && told < now + DAY, "{told:?}");
    assert_eq!(request.headers.get_all("x_time").iter().count(), 0);
    // Where there is none, that header is the plugin's own.
    assert_eq!(check("signed = '{body}'", &["BODY"]).headers.get_all("x_time").iter().count(), 1);
}

#[test]
fn a_body_that_streams_is_held_to_be_signed_with_the_timestamp() {
    let fixture = verifying(&["TIMESTAMP", ".", "BODY"]);
    let host = signing("stream", &fixture, "signed = '{timestamp}.{body}', timestamp = 'X-Time'", "");
    host.send("in", &[format!("upload {}/x {}", fixture.url(), 3 * MIB)]);
    let request = taken(&host, &fixture);
    assert_eq!((request.body.len(), request.header("content-length")), (3 * MIB, Some("3145728")));
    let expected = format!("v0={}", hmac_sha256(KEY, &signed(&["TIMESTAMP", ".", "BODY"], &request)));
    assert_eq!(request.header("x-sign"), Some(&*expected));
}

/// A bound far below the body: it is not held.
#[test]
fn a_body_that_is_not_signed_streams() {
    let fixture = verifying(&["METHOD", " ", "PATH"]);
    let host = signing("stream", &fixture, "signed = '{method} {path}'", "max_signed_body = '1KiB'");
    host.send("in", &[format!("upload {}/x?y {MIB}", fixture.url())]);
    let request = taken(&host, &fixture);
    assert_eq!((request.body.len(), request.header("transfer-encoding")), (MIB, Some("chunked")));
    let expected = format!("v0={}", hmac_sha256(KEY, b"POST /x?y"));
    assert_eq!(request.header("x-sign"), Some(&*expected));
}
