//! Issuers of JWTs whose keys are late, wrong, too many or others than before: what a sender is told, and what it costs.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use bulkhead_tests::{Answer, Bulkhead, Fixture, Line, Misdeed, Running, Upstream};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the host may grow by: no answer is read beyond its bound.
const GROWTH_MAX: u64 = 64 << 20;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

/// A set with the keys of these seeds.
fn keys(seeds: &[u8]) -> Value {
    let key = |seed: &u8| json!({"kty": "OKP", "crv": "Ed25519", "kid": seed.to_string(), "x": encode(pair(*seed).public_key())});
    json!({"keys": seeds.iter().map(key).collect::<Vec<_>>()})
}

/// A token of the key of this seed.
fn token(seed: u8) -> String {
    let expires = UNIX_EPOCH.elapsed().unwrap().as_secs() + 3_600;
    let head = json!({"alg": "EdDSA", "kid": seed.to_string()});
    let claims = json!({"iss": "issuer", "aud": "here", "exp": expires});
    let signed = format!("{}.{}", encode(head.to_string()), encode(claims.to_string()));
    format!("{signed}.{}", encode(pair(seed).sign(signed.as_bytes())))
}

/// A webhook of this name for the senders that an issuer names.
fn webhook(name: &str, jwks: &str) -> String {
    format!(
        "[connectors.{name}]\nwebhook = {{ path = '/{name}', publish = '{name}', verify = {{ scheme = 'jwt', \
         jwks = '{jwks}/jwks.json', private = true, issuer = 'issuer', audience = 'here' }} }}\n"
    )
}

fn send(host: &Bulkhead, name: &str, token: &str) -> u16 {
    // Whoever waits for an issuer that hangs waits longer than for others.
    let mut line = Line::open(host.webhooks());
    let head = format!("POST /{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    line.say(format!("{head}Connection: close\r\nContent-Length: 1\r\n\r\nx").as_bytes());
    line.status()
}

/// So many answers with this status have been counted.
fn counted(running: &Running, name: &str, status: u16) -> f64 {
    let status = status.to_string();
    running.metrics().value("bulkhead_webhooks_total", &[("connector", name), ("status", &status)])
}

/// An endpoint that answers what lies here at the moment.
fn issuer(says: &Arc<Mutex<Answer>>) -> Fixture {
    let says = says.clone();
    Fixture::start(move |_| says.lock().unwrap().clone())
}

/// Sends again and again until this is the answer, each time when the host has let go of somebody who says nothing: that
/// is some seconds, by its own clock.
#[track_caller]
fn wait_until_told(host: &Bulkhead, token: &str, status: u16) {
    let told = (0..5).any(|_| {
        assert_eq!(Line::open(host.webhooks()).hear(), "");
        send(host, "it", token) == status
    });
    assert!(told, "it is not answered with {status}");
}

fn ill_issuers() -> Vec<(&'static str, Upstream)> {
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let whole = |body: &str| Misdeed::Close([head(body.len()).as_bytes(), body.as_bytes()].concat());
    let large = json!({"keys": [], "more": "x".repeat(10 << 20)}).to_string();
    [
        ("hangs", Misdeed::Hang(b"")),
        ("hangs-later", Misdeed::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"keys\":")),
        ("drips", Misdeed::Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")),
        ("breaks", Misdeed::Reset(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")),
        ("fails", Misdeed::Close(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec())),
        (
            "redirects",
            Misdeed::Close(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ),
        ("is-large", whole(&large)),
        ("is-endless", Misdeed::chunks()),
        ("is-no-json", whole("<html>")),
        ("has-no-keys", whole("{\"keys\": []}")),
        ("has-no-public-key", whole("{\"keys\": [{\"kty\": \"oct\", \"kid\": \"1\", \"k\": \"c2VjcmV0\"}]}")),
    ]
    .map(|(name, misdeed)| (name, Upstream::start(misdeed)))
    .into()
}

/// Nobody can tell whether the token is good, so its sender shall try again; whoever else sends is served meanwhile.
#[test]
fn an_issuer_without_usable_keys_costs_its_own_senders_alone() {
    let issuers = ill_issuers();
    let good = issuer(&Arc::new(Mutex::new(Answer::json(&keys(&[1])))));
    let toml: String = issuers.iter().map(|(name, issuer)| webhook(name, &issuer.url())).collect();
    let host = Bulkhead::new(&format!("{toml}{}", webhook("good", &good.url())));
    let running = host.start();
    let token = token(1);
    assert_eq!(send(&host, "good", &token), 202);
    let before = (running.memory_peak_bytes(), running.threads_and_files());
    let ask = |name| [(); 2].map(|()| send(&host, name, &token));
    thread::scope(|scope| {
        let ask = &ask;
        let asking: Vec<_> = issuers.iter().map(|(name, _)| (*name, scope.spawn(move || ask(name)))).collect();
        for _ in 0..100 {
            assert_eq!(send(&host, "good", &token), 202);
        }
        for (name, asked) in asking {
            assert_eq!((asked.join().unwrap(), counted(&running, name, 503)), ([503; 2], 2.0), "{name}");
        }
    });
    let grown = running.memory_peak_bytes().saturating_sub(before.0);
    assert!(grown < GROWTH_MAX, "grown by {} MiB", grown >> 20);
    for (name, issuer) in &issuers {
        // Who has failed is left alone for a moment.
        assert!((1..=2).contains(&issuer.connections()), "{name}: {}", issuer.connections());
    }
    drop(issuers);
    running.wait_until("rest", PATIENCE, |_| {
        let (threads, files) = running.threads_and_files();
        threads <= before.1.0 && files <= before.1.1 + 2
    });
    // The record is whole when the host has stopped.
    let _ = running.terminate().ok();
    let reasons = host.audit().iter().filter(|record| record["reason"] == "jwks").count();
    assert!(reasons >= 11, "{reasons}");
}

/// Keys that were fetched once outlast the endpoint, and those that it has in their place count as soon as it may be asked.
#[test]
fn keys_change_while_their_senders_send() {
    let says = Arc::new(Mutex::new(Answer::json(&keys(&[1]))));
    let issuer = issuer(&says);
    let host = Bulkhead::new(&webhook("it", &issuer.url()));
    let running = host.start();
    let (one, two) = (token(1), token(2));
    assert_eq!([send(&host, "it", &one), send(&host, "it", &two), send(&host, "it", &one)], [202, 401, 202]);
    *says.lock().unwrap() = Answer::status(500);
    assert_eq!(send(&host, "it", &one), 202);
    // Once the endpoint has been asked in vain, nobody can tell whether there is such a key by now.
    wait_until_told(&host, &two, 503);
    assert_eq!(send(&host, "it", &one), 202);
    *says.lock().unwrap() = Answer::json(&keys(&[2]));
    wait_until_told(&host, &two, 202);
    assert_eq!([send(&host, "it", &one), send(&host, "it", &two)], [401, 202]);
    assert_eq!(issuer.requests().len(), 3, "for the first token, for the unknown key, and again for it");
    drop(running);
}
