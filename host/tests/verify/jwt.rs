//! Tokens of an issuer whose keys lie on a server on loopback.

use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use bulkhead_host::capability::http::target::Target;
use bulkhead_host::egress::address::Reach;
use bulkhead_host::trigger::webhook::verify::Scheme;
use bulkhead_host::trigger::webhook::verify::jwt::{ALGORITHMS, Settings};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::support::server::{Server, ok};
use super::{Refused, Request, Webhook};

/// Seconds since the Unix epoch at which all requests come in, unless a test says otherwise.
const NOW: u64 = 1_700_000_000;
/// After this many seconds the endpoint may be asked again, however long the last time took.
const SETTLED: u64 = 60;

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64URL_NOPAD.encode(bytes.as_ref())
}

fn ed25519(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn ed25519_jwk(seed: u8, id: &str) -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": encode(ed25519(seed).public_key()) })
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// Claims that are good at [`NOW`].
fn claims() -> Value {
    json!({ "iss": "https://issuer.example", "aud": "bulkhead", "sub": "mail@sender.example", "exp": NOW + 60 })
}

fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn ed25519_token(seed: u8, id: Option<&str>, claims: &Value) -> String {
    let mut header = json!({ "alg": "EdDSA", "typ": "JWT" });
    if let Some(id) = id {
        header["kid"] = id.into();
    }
    token(&header, claims, |text| ed25519(seed).sign(text).as_ref().to_vec())
}

fn bearing(token: &str) -> Request {
    Request::new("{}").at(NOW).header("authorization", &format!("Bearer {token}"))
}

/// With a token of this key that is good for longer than any key is kept.
fn long_bearing(seed: u8, id: &str) -> Request {
    let mut long = claims();
    long["exp"] = json!(NOW + 1_000_000);
    bearing(&ed25519_token(seed, Some(id), &long))
}

fn after(seconds: u64, request: Request) -> Request {
    request.at(NOW + seconds)
}

/// An issuer, and the webhook that trusts it.
struct Issuer {
    webhook: Webhook,
    server: Server,
    /// What the server answers; `None` is a failure.
    answer: Arc<Mutex<Option<String>>>,
    _runtime: Runtime,
}

impl Issuer {
    fn new(keys: &str) -> Self {
        Self::with(keys, |_| {})
    }

    fn with(keys: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let answer = Arc::new(Mutex::new(Some(keys.to_owned())));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let said = answer.clone();
        let server = runtime.block_on(Server::start(move |_| match &*said.lock().unwrap() {
            Some(keys) => ok(keys),
            None => b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
        }));
        let mut settings = Settings {
            jwks: Target::parse(&server.url("/jwks.json")).unwrap(),
            reach: Reach::Private,
            issuer: "https://issuer.example".to_owned(),
            audience: "bulkhead".to_owned(),
            subject: None,
            algorithms: ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect(),
        };
        change(&mut settings);
        Self { webhook: Webhook::new(Scheme::Jwt(Box::new(settings)), &[]), server, answer, _runtime: runtime }
    }

    fn says(&self, keys: Option<&str>) {
        *self.answer.lock().unwrap() = keys.map(str::to_owned);
    }

    fn refuses(&self, request: &Request, why: Refused) {
        assert_eq!(self.webhook.check(request), Err(why));
    }

    fn accepts(&self, request: &Request) {
        assert_eq!(self.webhook.accept(request).by.as_deref(), Some("mail@sender.example"));
    }

    fn fetches(&self) -> usize {
        self.server.lines().len()
    }
}

#[test]
fn what_an_issuer_has_signed_is_accepted_and_says_who_sends() {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let parts = RsaPublicKeyComponents::<Vec<u8>>::from(rsa.public_key());
    let ecdsa = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let (x, y) = ecdsa.public_key().as_ref()[1..].split_at(32);
    let issuer = Issuer::new(&set(&[
        json!({ "kty": "unheard-of", "kid": "new" }),
        json!({ "kty": "RSA", "kid": "r", "alg": "RS256", "n": encode(&parts.n), "e": encode(&parts.e) }),
        json!({ "kty": "EC", "crv": "P-256", "kid": "e", "x": encode(x), "y": encode(y) }),
        ed25519_jwk(1, "d"),
    ]));
    let random = SystemRandom::new();
    issuer.accepts(&bearing(&token(&json!({ "alg": "RS256", "kid": "r" }), &claims(), |text| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).unwrap();
        signature
    })));
    issuer.accepts(&bearing(&token(&json!({ "alg": "ES256", "kid": "e" }), &claims(), |text| {
        ecdsa.sign(&random, text).unwrap().as_ref().to_vec()
    })));
    issuer.accepts(&bearing(&ed25519_token(1, Some("d"), &claims())));
    issuer.accepts(&bearing(&ed25519_token(1, None, &claims())));
    let mut nobody = claims();
    nobody.as_object_mut().unwrap().remove("sub");
    let verified = issuer.webhook.accept(&bearing(&ed25519_token(1, Some("d"), &nobody)));
    assert_eq!((verified.by.as_deref(), verified.event_id), (Some("https://issuer.example"), None));
    assert_eq!(issuer.fetches(), 1);
}

#[test]
fn a_token_for_somebody_else_is_wrong() {
    let issuer = Issuer::with(&set(&[ed25519_jwk(1, "d")]), |settings| {
        settings.subject = Some("mail@sender.example".to_owned());
    });
    issuer.accepts(&bearing(&ed25519_token(1, Some("d"), &claims())));
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        bearing(&ed25519_token(1, Some("d"), &claims))
    };
    issuer.accepts(&with("aud", json!(["other", "bulkhead"])));
    for (name, value) in [
        ("iss", json!("https://issuer.example.attacker.example")),
        ("iss", Value::Null),
        ("aud", json!("other")),
        ("aud", json!(["other"])),
        ("aud", Value::Null),
        ("sub", json!("other@sender.example")),
    ] {
        assert!(
            matches!(issuer.webhook.check(&with(name, value.clone())), Err(Refused::Wrong | Refused::Malformed)),
            "{name} {value}"
        );
    }
    // Another key under the same name.
    issuer.refuses(&bearing(&ed25519_token(2, Some("d"), &claims())), Refused::Wrong);
}

#[test]
fn a_token_is_good_for_its_time_and_the_window() {
    let issuer = Issuer::new(&set(&[ed25519_jwk(1, "d")]));
    let with = |exp: Value, nbf: Value| {
        let mut claims = claims();
        claims["exp"] = exp;
        claims["nbf"] = nbf;
        bearing(&ed25519_token(1, Some("d"), &claims))
    };
    issuer.accepts(&with(json!(NOW - 300), json!(NOW + 300)));
    issuer.refuses(&with(json!(NOW - 301), json!(NOW)), Refused::Stale);
    issuer.refuses(&with(json!(NOW + 60), json!(NOW + 301)), Refused::Future);
    for exp in [Value::Null, json!("soon"), json!([])] {
        assert!(issuer.webhook.check(&with(exp.clone(), json!(NOW))).is_err(), "{exp}");
    }
}

#[test]
fn a_token_does_not_choose_how_it_is_checked() {
    let keys = set(&[ed25519_jwk(1, "d"), json!({ "kty": "oct", "kid": "o", "k": encode("shared") })]);
    let issuer = Issuer::with(&keys, |settings| {
        settings.algorithms = ALGORITHMS.iter().filter(|(name, _)| *name != "PS256").map(|(_, it)| *it).collect();
    });
    let public = ed25519(1).public_key().as_ref().to_vec();
    let shared = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec();
    let none = token(&json!({ "alg": "none", "kid": "d" }), &claims(), |_| Vec::new());
    issuer.refuses(&bearing(&none), Refused::Malformed);
    let hs = token(&json!({ "alg": "HS256", "kid": "d" }), &claims(), |text| shared(&public, text));
    issuer.refuses(&bearing(&hs), Refused::Wrong);
    let oct = token(&json!({ "alg": "HS256", "kid": "o" }), &claims(), |text| shared(b"shared", text));
    issuer.refuses(&bearing(&oct), Refused::Wrong);
    let barred = token(&json!({ "alg": "PS256", "kid": "d" }), &claims(), |_| vec![0; 256]);
    issuer.refuses(&bearing(&barred), Refused::Wrong);
    let shared_alone = Issuer::new(&set(&[json!({ "kty": "oct", "kid": "o", "k": encode("shared") })]));
    shared_alone.refuses(&bearing(&ed25519_token(1, Some("o"), &claims())), Refused::Unavailable);
    let own_key = json!({ "alg": "EdDSA", "kid": "d", "jwk": ed25519_jwk(2, "d"), "jku": "https://attacker.example" });
    let own_key = token(&own_key, &claims(), |text| ed25519(2).sign(text).as_ref().to_vec());
    issuer.refuses(&bearing(&own_key), Refused::Wrong);
    for odd in ["a.b", "a.b.c", "..", "é", "a.b.c.d"] {
        issuer.refuses(&bearing(odd), Refused::Malformed);
    }
}

#[test]
fn a_new_key_is_fetched_and_made_up_ones_cause_no_flood() {
    let issuer = Issuer::new(&set(&[ed25519_jwk(1, "one")]));
    issuer.accepts(&bearing(&ed25519_token(1, Some("one"), &claims())));
    assert_eq!(issuer.fetches(), 1);
    let two = bearing(&ed25519_token(2, Some("two"), &claims()));
    issuer.says(Some(&set(&[ed25519_jwk(1, "one"), ed25519_jwk(2, "two")])));
    // It was asked a moment ago.
    for _ in 0..20 {
        issuer.refuses(&two, Refused::Wrong);
    }
    assert_eq!(issuer.fetches(), 1);
    issuer.accepts(&after(SETTLED, two.clone()));
    assert_eq!(issuer.fetches(), 2);
    for kid in 0..100 {
        let made_up = bearing(&ed25519_token(3, Some(&format!("made-up-{kid}")), &claims()));
        issuer.refuses(&after(2 * SETTLED + kid / 50 * 29, made_up), Refused::Wrong);
    }
    assert_eq!(issuer.fetches(), 3);
    issuer.accepts(&after(2 * SETTLED, two));
}

#[test]
fn those_who_come_together_cause_one_fetch() {
    let issuer = Issuer::new(&set(&[ed25519_jwk(1, "one")]));
    let request = bearing(&ed25519_token(1, Some("one"), &claims()));
    let checks = futures_util::future::join_all((0..32).map(|_| issuer.webhook.check_async(&request)));
    assert!(issuer.webhook.runtime.block_on(checks).iter().all(Result::is_ok));
    assert_eq!(issuer.fetches(), 1);
}

#[test]
fn keys_stay_in_use_while_the_endpoint_has_no_others() {
    let issuer = Issuer::new(&set(&[ed25519_jwk(1, "one")]));
    let (one, two) = (long_bearing(1, "one"), long_bearing(2, "two"));
    issuer.accepts(&one);
    for (day, answer) in (1..).zip([None, Some("no JSON"), Some("{\"keys\": []}")]) {
        issuer.says(answer);
        issuer.accepts(&after(day * 86_400, one.clone()));
        // Whether there is such a key by now nobody can tell.
        issuer.refuses(&after(day * 86_400 + SETTLED, two.clone()), Refused::Unavailable);
        assert!(issuer.fetches() as u64 > day);
    }
    // A key that was withdrawn is out as soon as the endpoint has said so.
    issuer.says(Some(&set(&[ed25519_jwk(2, "two")])));
    issuer.accepts(&after(500_000, two));
    issuer.refuses(&after(500_000, one), Refused::Wrong);
}

#[test]
fn keys_of_an_hour_wait_for_newer_ones() {
    let issuer = Issuer::new(&set(&[ed25519_jwk(1, "one")]));
    let one = long_bearing(1, "one");
    issuer.accepts(&one);
    issuer.says(Some(&set(&[ed25519_jwk(2, "two")])));
    issuer.refuses(&after(3_600, one), Refused::Wrong);
}

#[test]
fn aging_keys_are_fetched_again_while_they_are_used() {
    let issuer = Issuer::new(&set(&[ed25519_jwk(1, "one")]));
    let one = long_bearing(1, "one");
    issuer.accepts(&one);
    issuer.says(Some(&set(&[ed25519_jwk(2, "two")])));
    issuer.accepts(&after(599, one.clone()));
    // It does not wait for the fetch that it begins. Whoever has an unknown key does, and could not begin one so soon.
    issuer.accepts(&after(600, one.clone()));
    issuer.accepts(&after(1, long_bearing(2, "two")));
    issuer.refuses(&after(600, one), Refused::Wrong);
    assert_eq!(issuer.fetches(), 2);
}

#[test]
fn who_asks_and_goes_away_does_not_end_the_fetch() {
    let issuer = Issuer::new(&set(&[ed25519_jwk(1, "one")]));
    let request = bearing(&ed25519_token(1, Some("one"), &claims()));
    // Nothing is answered while this is held.
    let held = issuer.answer.lock().unwrap();
    issuer.webhook.runtime.block_on(async {
        let gone = futures_util::poll!(std::pin::pin!(issuer.webhook.check_async(&request)));
        assert!(gone.is_pending());
    });
    drop(held);
    issuer.accepts(&request);
    assert_eq!(issuer.fetches(), 1);
}

#[test]
fn without_any_keys_nobody_can_tell() {
    let issuer = Issuer::new("[]");
    let one = bearing(&ed25519_token(1, Some("one"), &claims()));
    issuer.refuses(&one, Refused::Unavailable);
    issuer.says(Some(&set(&[ed25519_jwk(1, "one")])));
    issuer.refuses(&after(4, one.clone()), Refused::Unavailable);
    assert_eq!(issuer.fetches(), 1);
    issuer.accepts(&after(SETTLED, one));
    assert_eq!(issuer.fetches(), 2);
}

#[test]
fn a_private_place_is_asked_only_where_the_configuration_says_so() {
    let issuer = Issuer::with(&set(&[ed25519_jwk(1, "one")]), |settings| settings.reach = Reach::Public);
    issuer.refuses(&bearing(&ed25519_token(1, Some("one"), &claims())), Refused::Unavailable);
    assert_eq!(issuer.fetches(), 0);
}
