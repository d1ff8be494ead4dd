//! Tokens from a token endpoint: shared, fetched in time and once at a time, kept when they rotate, replaced after a 401.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Request, guest};
use data_encoding::BASE64URL_NOPAD;
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::json;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::alg_id;

/// For what happens within a moment, also on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Connectors that deliver to the fixture with a token of its endpoint.
fn deliver(fixture: &Fixture, connectors: &[&str], oauth2: &str) -> Bulkhead {
    deliver_with(fixture, connectors, oauth2, "")
}

fn deliver_with(fixture: &Fixture, connectors: &[&str], oauth2: &str, extra: &str) -> Bulkhead {
    let url = fixture.url();
    let secrets = "[secrets]\nsecret = { env = 'SECRET' }\nfirst = { env = 'FIRST' }\nkey = { env = 'KEY' }\n";
    let retry = if extra.contains("retry") { "" } else { "retry = { attempts = 2, first = '1ms' }" };
    let connectors = connectors.iter().map(|name| {
        format!(
            r#"
            [connectors.{name}]
            plugin  = "builtin:http-request"
            consume = {{ queue = "in", concurrency = 4, batch = 2 }}
            config  = {{ url = "{url}/{name}" }}
            {retry}
            allow.http = [{{ url = "{url}/{name}", methods = ["POST"], private = true, auth = {{ oauth2 = {{ token_url = "{url}/token", client_id = "me", {oauth2} }} }} }}]
            {extra}
            "#
        )
    });
    let bulkhead = Bulkhead::new(&(secrets.to_owned() + &connectors.collect::<String>()));
    bulkhead.variable("SECRET", "s3cret").variable("FIRST", "refresh-0").variable("KEY", "no key")
}

fn is_asking(request: &Request) -> bool {
    request.uri == "/token"
}

fn form(request: &Request) -> String {
    String::from_utf8(request.body.to_vec()).unwrap()
}

fn asked(fixture: &Fixture) -> Vec<String> {
    fixture.requests().iter().filter(|request| is_asking(request)).map(form).collect()
}

fn used(fixture: &Fixture) -> Vec<String> {
    let requests = fixture.requests();
    let used = requests.iter().filter(|request| !is_asking(request));
    used.map(|request| request.header("authorization").unwrap_or_default().to_owned()).collect()
}

#[test]
fn one_token_serves_all_connectors_that_share_the_credential() {
    let fixture = Fixture::start(|request| match is_asking(request) {
        true => Answer::json(&json!({ "access_token": "token-1", "token_type": "bearer", "expires_in": 3600 })),
        false => Answer::status(200),
    });
    let bulkhead = deliver(&fixture, &["one", "two"], "client_secret = 'secret', scopes = ['a', 'b']");
    bulkhead.send("in", &["{}"; 30]);
    let _ = bulkhead.run_until_idle();
    assert_eq!(asked(&fixture), ["grant_type=client_credentials&scope=a+b"]);
    assert_eq!(used(&fixture), vec!["Bearer token-1"; 60]);
    let requests = fixture.requests();
    // me:s3cret
    assert_eq!(
        requests.iter().find(|request| is_asking(request)).unwrap().header("authorization"),
        Some("Basic bWU6czNjcmV0")
    );
    assert_eq!(bulkhead.dead().len(), 0);
}

#[test]
fn a_token_goes_on_over_a_reload() {
    let fixture = Fixture::start(|request| match is_asking(request) {
        true => Answer::json(&json!({ "access_token": "token-1", "token_type": "bearer", "expires_in": 3600 })),
        false => Answer::status(200),
    });
    let bulkhead = deliver(&fixture, &["one"], "client_secret = 'secret'");
    let running = bulkhead.start();
    bulkhead.send("in", &["{}"]);
    fixture.wait_for(2, SOON);
    let toml = fs::read_to_string(bulkhead.path("bulkhead.toml")).unwrap();
    fs::write(bulkhead.path("bulkhead.toml"), toml.replace("batch = 2", "batch = 3")).unwrap();
    assert_eq!(running.api("POST", "reload", "{}").json()["changed"][0]["connector"], "one");
    bulkhead.send("in", &["{}"]);
    fixture.wait_for(3, SOON);
    let _ = running.terminate().ok();
    assert_eq!((asked(&fixture).len(), used(&fixture)), (1, vec!["Bearer token-1".to_owned(); 2]));
}

#[test]
fn a_token_is_fetched_anew_before_it_expires() {
    let count = AtomicUsize::new(0);
    let fixture = Fixture::start(move |request| match is_asking(request) {
        true => {
            let number = count.fetch_add(1, Ordering::Relaxed);
            Answer::json(&json!({ "access_token": format!("token-{number}"), "expires_in": 0 }))
        }
        false => Answer::status(200),
    });
    let bulkhead = deliver(&fixture, &["one"], "client_secret = 'secret'");
    bulkhead.send("in", &["{}"; 3]);
    let _ = bulkhead.run_until_idle();
    let mut used = used(&fixture);
    used.sort();
    assert_eq!(used, ["Bearer token-0", "Bearer token-1", "Bearer token-2"]);
}

/// A server that takes every refresh token once, and the whole family back when it sees one again.
fn rotating() -> Fixture {
    rotating_or(|request| (!is_asking(request)).then_some(Answer::status(200)))
}

/// The same where `other` has no answer.
fn rotating_or(other: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) -> Fixture {
    let present = Mutex::new(0);
    Fixture::start(move |request| {
        if let Some(answer) = other(request) {
            return answer;
        }
        let mut present = present.lock().unwrap();
        if !form(request).contains(&format!("refresh_token=refresh-{present}&")) {
            return Answer::status(400).body(r#"{"error": "invalid_grant"}"#);
        }
        *present += 1;
        let (token, refresh) = (format!("token-{present}"), format!("refresh-{present}"));
        Answer::json(&json!({ "access_token": token, "expires_in": 3600, "refresh_token": refresh }))
    })
}

#[test]
fn a_rotated_refresh_token_outlives_the_process() {
    let fixture = rotating();
    let bulkhead = deliver(&fixture, &["one", "two"], "refresh_token = 'first'");
    for _ in 0..3 {
        bulkhead.send("in", &["{}"]);
        let _ = bulkhead.run_until_idle();
    }
    let expected =
        [0, 1, 2].map(|number| format!("grant_type=refresh_token&refresh_token=refresh-{number}&client_id=me"));
    assert_eq!(asked(&fixture), expected);
    let mut used = used(&fixture);
    used.sort();
    assert_eq!(used, [1, 1, 2, 2, 3, 3].map(|number| format!("Bearer token-{number}")));
    assert_eq!(bulkhead.run(&["secrets", "list"]).ok().output, "");
    let kept = fs::read_to_string(bulkhead.path("data/sealed.json")).unwrap();
    assert!(!kept.contains("refresh-"), "{kept}");
}

/// Credentials that differ in scopes alone begin with the same refresh token, which its endpoint takes once.
#[test]
fn a_refresh_token_is_spent_by_one_at_a_time_also_for_other_scopes() {
    let names = ["one", "two", "three", "four"];
    let rotating = rotating();
    let bulkhead = deliver(&rotating, &names, "refresh_token = 'first', scopes = ['SCOPE']");
    let path = bulkhead.path("bulkhead.toml");
    let toml = fs::read_to_string(&path).unwrap();
    fs::write(&path, names.iter().fold(toml, |toml, name| toml.replacen("SCOPE", name, 1))).unwrap();
    bulkhead.send("in", &["{}"; 4]);
    let _ = bulkhead.run_until_idle();
    let spent =
        |number: usize| asked(&rotating).iter().filter(|form| form.contains(&format!("refresh-{number}&"))).count();
    assert_eq!([0, 1, 2, 3, 4].map(spent), [1, 1, 1, 1, 0], "{:?}", asked(&rotating));
    assert_eq!((used(&rotating).len(), bulkhead.dead().len()), (16, 0));
}

/// The token is used no sooner than the refresh token that came with it is on disk.
#[test]
fn a_rotated_refresh_token_outlives_kill_9() {
    let rotating = rotating_or(|request| (request.uri == "/one").then_some(Answer::Hang));
    let bulkhead = deliver(&rotating, &["one"], "refresh_token = 'first'");
    bulkhead.send("in", &["{}"]);
    for round in 1..=3 {
        let running = bulkhead.start();
        // One is asked for the token, one hangs with it.
        rotating.wait_for(2 * round, SOON);
        running.kill9();
    }
    assert_eq!(used(&rotating), ["Bearer token-1", "Bearer token-2", "Bearer token-3"]);
    let last = asked(&rotating).pop().unwrap();
    assert_eq!(last, "grant_type=refresh_token&refresh_token=refresh-2&client_id=me");
}

/// The endpoint has given the next refresh token away: an answer that nobody waits for any more must not be lost.
#[test]
fn a_fetch_goes_on_when_its_requester_has_gone() {
    let (open, opened) = mpsc::sync_channel::<()>(1);
    let opened = Mutex::new(opened);
    let fixture = Fixture::start(move |request| {
        if !is_asking(request) {
            return Answer::status(200);
        }
        // Where the test has failed meanwhile, nobody opens any more.
        let _ = opened.lock().unwrap().recv();
        Answer::json(&json!({ "access_token": "token-1", "expires_in": 3600, "refresh_token": "refresh-1" }))
    });
    // Goes before the server does, which waits for it.
    let open = open;
    let patient = "limits = { wall = '300ms' }\n[connectors.one.retry]\nattempts = 1000\nmax = '20ms'";
    let bulkhead = deliver_with(&fixture, &["one"], "refresh_token = 'first'", patient);
    let running = bulkhead.start();
    bulkhead.send("in", &["{}"]);
    running.wait_until("a requester that has gone", SOON, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "retry")]) >= 1.0
    });
    open.send(()).unwrap();
    running.wait_until("a settled message", SOON, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]) >= 1.0
    });
    let _ = running.terminate().ok();
    assert_eq!((asked(&fixture).len(), used(&fixture)), (1, vec!["Bearer token-1".to_owned()]));
}

#[test]
fn another_first_refresh_token_takes_over_from_a_rotated_one() {
    let fixture = Fixture::start(|request| match is_asking(request) {
        true => Answer::json(&json!({ "access_token": "token", "refresh_token": "rotated" })),
        false => Answer::status(200),
    });
    let bulkhead = deliver(&fixture, &["one"], "refresh_token = 'first'");
    bulkhead.send("in", &["{}"]);
    let _ = bulkhead.run_until_idle();
    let bulkhead = bulkhead.variable("FIRST", "given-anew");
    bulkhead.send("in", &["{}"]);
    let _ = bulkhead.run_until_idle();
    assert!(asked(&fixture)[1].contains("refresh_token=given-anew&"), "{:?}", asked(&fixture));
}

#[test]
fn a_token_that_was_revoked_is_replaced_and_the_request_sent_once_more() {
    let (tokens, requests) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let fixture = Fixture::start(move |request| {
        if is_asking(request) {
            let number = tokens.fetch_add(1, Ordering::Relaxed);
            return Answer::json(&json!({ "access_token": format!("token-{number}"), "expires_in": 3600 }));
        }
        // From the third request on, the first token is refused.
        let is_revoked =
            requests.fetch_add(1, Ordering::Relaxed) >= 2 && request.header("authorization") == Some("Bearer token-0");
        Answer::status(if is_revoked { 401 } else { 200 })
    });
    let bulkhead = deliver(&fixture, &["one"], "client_secret = 'secret'");
    let running = bulkhead.start();
    for count in 1..=4 {
        bulkhead.send("in", &[format!(r#"{{"number": {count}}}"#)]);
        running.wait_until("a settled message", SOON, |metrics| {
            metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]) >= f64::from(count)
        });
    }
    let _ = running.terminate().ok();
    let expected = ["token-0", "token-0", "token-0", "token-1", "token-1"].map(|token| format!("Bearer {token}"));
    assert_eq!((used(&fixture), asked(&fixture).len(), bulkhead.dead().len()), (expected.to_vec(), 2, 0));
    let bodies: Vec<String> = fixture.requests().iter().filter(|request| !is_asking(request)).map(form).collect();
    assert_eq!(bodies[2], bodies[3], "the same request again");
}

#[test]
fn a_receiver_that_refuses_every_token_causes_no_storm() {
    let fixture = Fixture::start(|request| match is_asking(request) {
        true => Answer::json(&json!({ "access_token": "token", "expires_in": 3600 })),
        false => Answer::status(401),
    });
    let bulkhead = deliver(&fixture, &["one"], "client_secret = 'secret'");
    bulkhead.send("in", &["{}"; 10]);
    let _ = bulkhead.run_until_idle();
    assert!(asked(&fixture).len() <= 2, "{} tokens were fetched", asked(&fixture).len());
    assert_eq!(bulkhead.dead().len(), 10);
}

#[test]
fn messages_wait_for_an_endpoint_that_fails_and_it_is_left_alone() {
    let count = AtomicUsize::new(0);
    let fixture = Fixture::start(move |request| match is_asking(request) {
        true if count.fetch_add(1, Ordering::Relaxed) == 0 => {
            Answer::status(400).body(r#"{"error": "invalid_client", "error_description": "s3cret is wrong"}"#)
        }
        true => Answer::json(&json!({ "access_token": "token" })),
        false => Answer::status(200),
    });
    let bulkhead = deliver(&fixture, &["one"], "client_secret = 'secret', client_auth = 'body'");
    bulkhead.send("in", &["{}"; 20]);
    let log = bulkhead.run_until_idle().errors();
    assert!(log.contains("it answered 400 with `invalid_client`") && !log.contains("s3cret"), "{log}");
    assert_eq!((asked(&fixture).len(), used(&fixture).len(), bulkhead.dead().len()), (2, 20, 0));
    assert_eq!(asked(&fixture)[1], "grant_type=client_credentials&client_id=me&client_secret=s3cret");
}

#[test]
fn a_service_account_shows_a_signed_statement() {
    let fixture = Fixture::start(|request| match is_asking(request) {
        true => Answer::json(&json!({ "access_token": "token" })),
        false => Answer::status(200),
    });
    let key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2\nOF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+jn65BtOMvdyHKcvjBeBSDZH2r\n1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G\n-----END PRIVATE KEY-----\n";
    let oauth2 = "scopes = ['a'], assertion = { key = 'key', algorithm = 'ES256', issuer = 'robot@example.com' }";
    let bulkhead = deliver(&fixture, &["one"], oauth2).variable("KEY", key);
    bulkhead.send("in", &["{}"]);
    let _ = bulkhead.run_until_idle();
    let asked = asked(&fixture).remove(0);
    let start = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJ";
    assert!(asked.starts_with(start) && asked.ends_with("&scope=a&client_id=me"), "{asked}");
    assert_eq!((asked.matches('.').count(), used(&fixture)), (2, vec!["Bearer token".to_owned()]));
}

/// The three parts of a statement in the body of a request for a token: what is signed, and the signature.
fn statement(form: &str) -> (String, Vec<u8>) {
    let statement = form.split('&').find_map(|pair| pair.strip_prefix("assertion=")).unwrap();
    let (signed, signature) = statement.rsplit_once('.').unwrap();
    (signed.to_owned(), BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap())
}

fn is_signed_by(key: &KeyPair, (signed, signature): &(String, Vec<u8>)) -> bool {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let algorithm = algorithms.iter().find(|it| it.signature_alg_id() == alg_id::RSA_PKCS1_SHA256).unwrap();
    algorithm.verify_signature(key.public_key_raw(), signed.as_bytes(), signature).is_ok()
}

/// As somebody who rotates it would: the new file takes the old one's place at once.
fn write_key(path: &Path, key: &KeyPair, mode: u32) {
    let new = path.with_extension("new");
    fs::write(&new, key.serialize_pem()).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn a_statement_is_signed_with_the_key_that_lies_in_its_file_now() {
    let fixture = Fixture::start(|request| match is_asking(request) {
        true => Answer::json(&json!({ "access_token": "token", "expires_in": 0 })),
        false => Answer::status(200),
    });
    let keys = [0, 1].map(|_| KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());
    let oauth2 = "assertion = { key = 'robot', key_id = 'k1', issuer = 'robot@example.com' }";
    let bulkhead = deliver_with(&fixture, &["one"], oauth2, "[secrets.robot]\nfile = 'robot.pem'");
    let path = bulkhead.path("robot.pem");
    write_key(&path, &keys[0], 0o644);
    let refused = bulkhead.run(&["run"]).ended_with(2).errors();
    assert!(refused.contains("is open to others (mode 0644)"), "{refused}");
    assert!(fixture.requests().is_empty());
    write_key(&path, &keys[0], 0o600);
    let running = bulkhead.start();
    for (nth, key) in keys.iter().enumerate() {
        write_key(&path, key, 0o600);
        bulkhead.send("in", &["{}"]);
        running.wait_until("a settled message", SOON, |metrics| {
            metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]) == (nth + 1) as f64
        });
    }
    let statements: Vec<_> = asked(&fixture).iter().map(|form| statement(form)).collect();
    let by = |key| statements.iter().map(|statement| is_signed_by(key, statement)).collect::<Vec<_>>();
    assert_eq!((by(&keys[0]), by(&keys[1])), (vec![true, false], vec![false, true]));
    let head = BASE64URL_NOPAD.decode(statements[0].0.split('.').next().unwrap().as_bytes()).unwrap();
    let head: serde_json::Value = serde_json::from_slice(&head).unwrap();
    assert_eq!(head, json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" }));
}

/// Where endpoint and receiver are one server, it knows more than the token.
#[test]
fn whatever_a_token_was_asked_for_with_is_blotted_out_of_answers() {
    const PROOFS: [&str; 4] = ["client/s3cret", "refresh/0000", "refresh/1111", "access/token"];
    let fixture = Fixture::start(|request| match is_asking(request) {
        true => Answer::json(&json!({ "access_token": PROOFS[3], "refresh_token": PROOFS[2], "expires_in": 3600 })),
        false => Answer::status(200).with("x-all", &PROOFS.join(" ")).body(PROOFS.join(" ").replace('/', "%2f")),
    });
    let (url, plugin) = (fixture.url(), guest("courier").display().to_string());
    let auth =
        format!("{{ token_url = '{url}/token', client_id = 'me', client_secret = 'secret', refresh_token = 'first' }}");
    let bulkhead = Bulkhead::new(&format!(
        "[secrets]\nsecret = {{ env = 'SECRET' }}\nfirst = {{ env = 'FIRST' }}\n
        [connectors.one]\nplugin = '{plugin}'\nconsume = 'in'\nallow.publish = ['seen']\n
        allow.http = [{{ url = '{url}/api', methods = ['GET'], private = true, auth = {{ oauth2 = {auth} }} }}]\n"
    ))
    .variable("SECRET", PROOFS[0])
    .variable("FIRST", PROOFS[1]);
    bulkhead.send("in", &[json!({ "method": "GET", "url": format!("{url}/api") }).to_string()]);
    let log = bulkhead.run_until_idle().errors();
    let seen = String::from_utf8(bulkhead.ledger().messages("seen").remove(0).body).unwrap();
    for proof in PROOFS {
        let word = proof.split('/').next_back().unwrap();
        assert!(!seen.contains(word) && !log.contains(word), "{proof}: {seen} {log}");
    }
    assert!(log.contains("repeated a credential: it was blotted out"), "{log}");
}

/// What an endpoint says is nobody's to see: its words may be what it was asked with.
#[test]
fn an_endpoint_that_echoes_what_it_was_asked_with_is_not_repeated() {
    for (status, answer) in [
        (400, json!({ "error": "canary_secret", "error_description": "canary_secret" })),
        (200, json!({ "access_token": "canary_secret" })),
        (200, json!({ "access_token": 7, "echo": "canary_secret" })),
        (500, json!("canary_secret")),
    ] {
        let text = answer.to_string();
        let fixture = Fixture::start(move |request| match is_asking(request) {
            true => Answer::status(status).with("x-echo", "canary_secret").body(text.clone()),
            false => Answer::status(200),
        });
        let bulkhead = deliver(&fixture, &["one"], "client_secret = 'secret'").variable("SECRET", "canary_secret");
        let running = bulkhead.start();
        bulkhead.send("in", &["{}"]);
        let line = running.wait_for_log("requests that need it wait", SOON);
        running.wait_until("a delivery that waits", SOON, |metrics| {
            metrics.value("bulkhead_deliveries_total", &[("outcome", "retry")]) >= 1.0
        });
        let log = running.terminate().ok().errors();
        assert!(!log.contains("canary_secret"), "{answer}: {line}");
        assert_eq!((used(&fixture), bulkhead.dead().len()), (Vec::<String>::new(), 0), "{answer}");
    }
}

/// The token is revoked while many requests of many connectors are under way with it.
#[test]
fn one_fetch_replaces_a_revoked_token_for_all_who_share_it() {
    const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];
    let tokens = AtomicUsize::new(0);
    let fixture = Fixture::start(move |request| match is_asking(request) {
        true => {
            let number = tokens.fetch_add(1, Ordering::Relaxed);
            Answer::json(&json!({ "access_token": format!("token-{number}"), "expires_in": 3600 }))
        }
        // It is revoked from the beginning: all who have it learn so at once.
        false if request.header("authorization") == Some("Bearer token-0") => Answer::status(401),
        false => Answer::status(200),
    });
    let bulkhead = deliver(&fixture, &NAMES, "client_secret = 'secret'");
    bulkhead.send("in", &["{}"; 40]);
    let _ = bulkhead.run_until_idle();
    let taken = used(&fixture).iter().filter(|token| *token == "Bearer token-1").count();
    assert_eq!((asked(&fixture).len(), taken, bulkhead.dead().len()), (2, NAMES.len() * 40, 0));
}

/// The endpoint is on loopback, and the grant is not private.
#[test]
fn the_endpoint_is_reached_under_the_rules_of_the_grant() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let toml = format!(
        r#"
        [secrets]
        secret = {{ env = "SECRET" }}

        [connectors.one]
        plugin  = "builtin:http-request"
        consume = "in"
        config  = {{ url = "https://api.example.com/" }}
        allow.http = [{{ url = "https://api.example.com/", methods = ["POST"], auth = {{ oauth2 = {{ token_url = "{}/token", client_id = "me", client_secret = "secret" }} }} }}]
        "#,
        fixture.url().replace("http:", "https:")
    );
    let bulkhead = Bulkhead::new(&toml).variable("SECRET", "s3cret");
    let running = bulkhead.start();
    bulkhead.send("in", &["{}"]);
    running.wait_for_log("the address is not allowed", SOON);
    let _ = running.terminate().ok();
    assert_eq!((fixture.requests().len(), bulkhead.dead().len()), (0, 0));
}
