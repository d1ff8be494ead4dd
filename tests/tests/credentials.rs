//! Credentials that the gate attaches: what arrives at the receiver, and that the plugin sees none of it.

use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Request, guest};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// For what happens within a moment, also on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A connector that sends what messages describe, with one grant to everything at the fixture.
fn courier(fixture: &Fixture, grant: &str, extra: &str) -> Bulkhead {
    let (plugin, url) = (guest("courier").display().to_string(), fixture.url());
    Bulkhead::new(&format!(
        r#"
        [secrets]
        token  = {{ env = "TOKEN" }}
        id     = {{ env = "ID" }}
        unused = {{ env = "UNUSED" }}

        [connectors.courier]
        plugin  = "{plugin}"
        consume = "in"
        retry   = {{ attempts = 2, first = "1ms" }}
        allow.publish = ["seen"]
        allow.http = [{{ url = "{url}/*", methods = ["GET", "POST"], private = true, {grant} }}]
        {extra}
        "#
    ))
    .variable("TOKEN", "canary/value+7")
    .variable("ID", "AKIDEXAMPLE")
    .variable("UNUSED", "nobody-gets-this")
}

fn errand(fixture: &Fixture, path: &str, more: &Value) -> String {
    let mut errand = json!({ "method": "POST", "url": format!("{}{path}", fixture.url()) });
    errand.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    errand.to_string()
}

/// What the plugin saw of the answers.
fn seen(bulkhead: &Bulkhead) -> Vec<Value> {
    let messages = bulkhead.ledger().messages("seen");
    messages.iter().map(|message| serde_json::from_slice(&message.body).unwrap()).collect()
}

/// Sends one errand through the gate; what arrived.
fn arrived(grant: &str, path: &str, more: &Value) -> Request {
    let fixture = Fixture::answering([Answer::status(200)]);
    let bulkhead = courier(&fixture, grant, "");
    bulkhead.send("in", &[errand(&fixture, path, more)]);
    let _ = bulkhead.run_until_idle();
    assert_eq!(bulkhead.dead(), Vec::<Value>::new());
    fixture.requests().pop().unwrap()
}

fn dead_reason(bulkhead: &Bulkhead) -> String {
    let letters = bulkhead.dead();
    assert_eq!(letters.len(), 1, "{letters:?}");
    letters[0]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn hmac_signs_the_body_in_the_header_that_the_grant_names() {
    let grant = "auth = { hmac = { header = 'X-Sign', prefix = 'sha256=', secret = 'id' } }";
    let body = "what do ya want for nothing?";
    let fixture = Fixture::answering([Answer::status(200)]);
    let bulkhead = courier(&fixture, grant, "").variable("ID", "Jefe");
    bulkhead.send("in", &[errand(&fixture, "/", &json!({ "body": body, "headers": [["x-sign", "mine"]] }))]);
    let _ = bulkhead.run_until_idle();
    let request = fixture.requests().pop().unwrap();
    // RFC 4231, test case 2.
    let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!((request.header("x-sign"), &request.body[..]), (Some(expected), body.as_bytes()));
}

#[test]
fn aws_requests_carry_a_signature_over_what_arrives() {
    let aws = "auth = { aws_sigv4 = { access_key = 'id', secret_key = 'token', session_token = 'unused', region = 'eu-central-1', service = 's3' } }";
    let request = arrived(aws, "/bucket/a%20b?b=2&a=1+1", &json!({ "body": "payload" }));
    let authorization = request.header("authorization").unwrap();
    let date = request.header("x-amz-date").unwrap();
    let start = format!("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{}/eu-central-1/s3/aws4_request, ", &date[..8]);
    assert!(authorization.starts_with(&start), "{authorization}");
    let signed = "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=";
    assert!(authorization.contains(signed), "{authorization}");
    let digest: String = Sha256::digest("payload").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(request.header("x-amz-content-sha256"), Some(&*digest));
    assert_eq!(request.header("x-amz-security-token"), Some("nobody-gets-this"));
    assert_eq!(request.uri, "/bucket/a%20b?a=1%201&b=2");
}

#[test]
fn a_body_that_must_be_signed_has_a_bound_of_its_own() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let grant = "max_signed_body = '1KiB', auth = { hmac = { header = 'X-Sign', secret = 'token' } }";
    let bulkhead = courier(&fixture, grant, "");
    let running = bulkhead.start();
    bulkhead.send("in", &[errand(&fixture, "/", &json!({ "body": "x".repeat(1025) }))]);
    running.wait_for_log("became a dead letter", SOON);
    assert_eq!(running.metrics().limits("courier"), ["request_bytes"]);
    let _ = running.terminate().ok();
    let reason = dead_reason(&bulkhead);
    assert!(reason.contains("connectors.courier.allow.http[0].max_signed_body"), "{reason}");
    assert_eq!(fixture.requests().len(), 0);
}

#[test]
fn placeholders_become_values_where_the_grant_says_so() {
    let place = |part: &str| format!("placeholders = [{{ secret = 'token', in = '{part}' }}]");
    let placed = json!({ "place": ["token"] });
    assert_eq!(arrived(&place("query"), "/x?key=[token]", &placed).uri, "/x?key=canary%2Fvalue%2B7");
    let header = json!({ "place": ["token"], "headers": [["x-key", "Key [token]"]] });
    assert_eq!(arrived(&place("header"), "/x", &header).header("x-key"), Some("Key canary/value+7"));
    let body = json!({ "place": ["token"], "body": "{\"key\": \"[token]\"}" });
    assert_eq!(&arrived(&place("body"), "/x", &body).body[..], b"{\"key\": \"canary/value+7\"}");
    let path = json!({ "place": ["id"] });
    let id = "placeholders = [{ secret = 'id', in = 'path' }]";
    assert_eq!(arrived(id, "/bot[id]/send", &path).uri, "/botAKIDEXAMPLE/send");
}

#[test]
fn a_request_with_a_placeholder_has_the_same_idempotency_key_on_every_attempt() {
    let fixture = Fixture::answering([Answer::status(503), Answer::status(200)]);
    let grant = "idempotency = true, placeholders = [{ secret = 'id', in = 'path' }]";
    let bulkhead = courier(&fixture, grant, "");
    bulkhead.send("in", &[errand(&fixture, "/[id]", &json!({ "place": ["id"], "check": true }))]);
    let _ = bulkhead.run_until_idle();
    let requests = fixture.requests();
    let keys: Vec<&str> = requests.iter().map(|request| request.header("idempotency-key").unwrap()).collect();
    assert!(keys.len() == 2 && keys[0] == keys[1], "{keys:?}");
}

#[test]
fn placeholders_mean_nothing_anywhere_else() {
    let grant = "placeholders = [{ secret = 'token', in = 'header' }]";
    let everywhere = json!({
        "place": ["token"], "body": "[token]", "headers": [["x-key", "[token]"]],
    });
    let request = arrived(grant, "/[token]?key=[token]", &everywhere);
    assert_eq!(request.header("x-key"), Some("canary/value+7"));
    assert!(!request.uri.contains("canary") && !request.body.windows(6).any(|bytes| bytes == b"canary"));
}

#[test]
fn a_word_that_a_message_brings_along_is_no_placeholder() {
    let grant = "placeholders = [{ secret = 'token', in = 'body' }]";
    let request = arrived(grant, "/", &json!({ "body": "{{secret:token}} bulkhead_secret_token [token]" }));
    assert_eq!(&request.body[..], b"{{secret:token}} bulkhead_secret_token [token]");
}

#[test]
fn a_secret_without_a_place_is_refused_and_the_keys_are_named() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let bulkhead = courier(&fixture, "placeholders = [{ secret = 'token', in = 'body' }]", "");
    bulkhead.send("in", &[errand(&fixture, "/", &json!({ "place": ["unused"] }))]);
    let log = bulkhead.run_until_idle().errors();
    assert!(dead_reason(&bulkhead).contains("connectors.courier.allow.secrets"));
    assert!(log.contains("`placeholders` of an http grant"), "{log}");
}

#[test]
fn a_value_is_revealed_by_allow_secrets_alone() {
    let placed = "placeholders = [{ secret = 'token', in = 'body' }]";
    let reveal = json!({ "reveal": ["token"], "body": "<token>" });
    let fixture = Fixture::answering([Answer::status(200)]);
    let bulkhead = courier(&fixture, placed, "");
    bulkhead.send("in", &[errand(&fixture, "/", &reveal)]);
    let _ = bulkhead.run_until_idle();
    assert!(dead_reason(&bulkhead).contains("connectors.courier.allow.secrets"));
    let bulkhead = courier(&fixture, placed, "allow.secrets = ['token']");
    bulkhead.send("in", &[errand(&fixture, "/", &reveal)]);
    let _ = bulkhead.run_until_idle();
    assert_eq!(&fixture.requests().pop().unwrap().body[..], b"canary/value+7");
}

/// The receiver sends back all that it got, in every form that servers use.
#[test]
fn an_answer_that_repeats_a_credential_is_blotted_out_and_counted() {
    let fixture = Fixture::start(|request| {
        let value = request.header("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned();
        let forms = format!("raw {value} hex {} url canary%2Fvalue%2B7 base64 Y2FuYXJ5L3ZhbHVlKzc=", hex(&value));
        Answer::status(200).with("x-echo", &value).body(forms)
    });
    let bulkhead = courier(&fixture, "auth = { bearer = 'token' }", "");
    let running = bulkhead.start();
    bulkhead.send("in", &[errand(&fixture, "/", &json!({}))]);
    running.wait_for_log("repeated a credential: it was blotted out", SOON);
    running.wait_until("a settled message", SOON, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]) >= 1.0
    });
    assert_eq!(running.metrics().value("bulkhead_scrubbed_total", &[("connector", "courier")]), 1.0);
    let _ = running.terminate().ok();
    let seen = seen(&bulkhead).remove(0);
    assert_eq!(
        seen["body"],
        "raw ************** hex **************************** url ****************** base64 ********************"
    );
    let echo = seen["headers"].as_array().unwrap().iter().find(|header| header[0] == "x-echo").unwrap();
    assert_eq!(echo[1], "**************");
}

/// What a receiver gets, and what it knows besides: all of it comes back.
fn echo(request: &Request) -> Answer {
    if request.uri == "/token" {
        return Answer::json(&json!({ "access_token": "canary/value+7", "expires_in": 3600 }));
    }
    let mut answer = Answer::status(200).with("x-uri", &request.uri);
    let mut body = format!("{} canary/value+7 %63anary%2fvalue%2B7", request.uri);
    for (name, value) in &request.headers {
        let value = value.to_str().unwrap();
        answer = answer.with(&format!("x-{name}"), value);
        body += &format!(" {name}: {value}");
    }
    answer.body(body)
}

#[test]
fn every_kind_of_credential_is_blotted_out() {
    for auth in [
        "auth = { bearer = 'token' }",
        "auth = { basic = { user = 'me', password = 'token' } }",
        "auth = { header = { name = 'X-Key', prefix = 'Token ', secret = 'token' } }",
        "auth = { query = { name = 'key', secret = 'token' } }",
        "auth = { hmac = { header = 'X-Sign', secret = 'token' } }",
        "auth = { oauth2 = { token_url = 'URL/token', client_id = 'me', client_secret = 'id' } }",
        "auth = { aws_sigv4 = { access_key = 'id', secret_key = 'unused', session_token = 'token', region = 'r', service = 's3' } }",
    ] {
        let fixture = Fixture::start(echo);
        let bulkhead = courier(&fixture, &auth.replace("URL", &fixture.url()), "");
        bulkhead.send("in", &[errand(&fixture, "/", &json!({}))]);
        let log = bulkhead.run_until_idle();
        let lines = log.log.iter().filter(|line| line.contains("repeated a credential: it was blotted out"));
        assert_eq!(lines.count(), 1, "{auth}");
        let seen = seen(&bulkhead).remove(0).to_string();
        // `me:canary/value+7` and what it becomes on its way.
        for form in ["canary", "anary%2", "Y2FuYXJ5L3ZhbHVlKzc", "bWU6Y2FuYXJ5L3ZhbHVlKzc"] {
            assert!(!seen.contains(form), "{auth}: {form} in {seen}");
        }
    }
}

#[test]
fn an_answer_in_an_encoding_that_hides_a_credential_never_reaches_the_plugin() {
    let fixture = Fixture::start(|_| Answer::status(200).with("content-encoding", "compress").body("canary/value+7"));
    let bulkhead = courier(&fixture, "auth = { bearer = 'token' }", "");
    bulkhead.send("in", &[errand(&fixture, "/", &json!({}))]);
    let _ = bulkhead.run_until_idle();
    assert_eq!(seen(&bulkhead), Vec::<Value>::new());
    assert!(dead_reason(&bulkhead).contains("cannot be searched for the credential"));
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
