//! Whatever a request holds: nothing panics, and nothing that was changed on the way is accepted.

use std::cell::OnceCell;

use bulkhead_host::trigger::webhook::verify::Scheme;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::vectors::{self, Vector};
use super::{Refused, Request, Webhook};

/// All vectors with their webhooks, made once.
struct Bench(Vec<(Vector, Webhook)>);

thread_local! {
    static BENCH: OnceCell<Bench> = const { OnceCell::new() };
}

fn with_bench<T>(work: impl FnOnce(&Bench) -> T) -> T {
    let with_webhook = |vector: Vector| {
        let webhook = vector.webhook();
        (vector, webhook)
    };
    let made = || Bench(vectors::all().into_iter().map(with_webhook).collect());
    BENCH.with(|bench| work(bench.get_or_init(made)))
}

/// What is not signed: the ids of GitHub, Shopify and Twilio, the name of a key, and media types.
const UNSIGNED: [&str; 8] = [
    "x-github-delivery",
    "x-shopify-webhook-id",
    "x-shopify-event-id",
    "shopify-webhook-id",
    "shopify-event-id",
    "i-twilio-idempotency-token",
    "x-twilio-webhooks-signature-settings",
    "content-type",
];

/// Whether a change is none: a signature in hexadecimal reads the same in both cases, and what stands behind Stripe's `v1`
/// is of another version.
fn is_idle(before: &str, after: &str) -> bool {
    let proof = |text: &str| text.split(',').take(2).map(str::to_ascii_lowercase).collect::<Vec<String>>();
    let is_hex = ["sha256=", "v0=", "t="].iter().any(|start| before.starts_with(start));
    is_hex && proof(before) == proof(after)
}

fn flip(bytes: &mut [u8], bit: usize) {
    let bits = bytes.len() * 8;
    bytes[bit % bits / 8] ^= 1 << (bit % 8);
}

const PARTS: [&str; 13] =
    ["v1,", "v1a,", "v0=", "t=", ",v1=", "sha256=", "Bearer ", "Basic ", " ", "=", ".", "1700000000", "AAAA"];

/// What no caller should hand over is among them.
const ORIGINS: [&str; 7] = ["https://a", "https://a:443", "http://a:80", "https://[::1]", "https://[::1]:443", ":", ""];

fn header_value() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        proptest::sample::select(&PARTS[..]).prop_map(|part| part.as_bytes().to_vec()),
        proptest::collection::vec(prop_oneof![32u8..=126, 128u8..=255], 0..40),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_flipped_bit_is_refused(which in any::<proptest::sample::Index>(), part in 0usize..4, bit in any::<usize>()) {
        with_bench(|bench| {
            let (vector, webhook) = which.get(&bench.0);
            let mut request = vector.request.clone();
            // A form means the same in several spellings, and Twilio signs what it means.
            let is_form = request.headers.get("content-type").is_some_and(|value| value.as_bytes().ends_with(b"utf-8"));
            if part == 0 && !is_form {
                flip(&mut request.body, bit);
            } else {
                let names: Vec<HeaderName> =
                    request.headers.keys().filter(|name| !UNSIGNED.contains(&name.as_str())).cloned().collect();
                let name = &names[part % names.len()];
                let mut value = request.headers[name].as_bytes().to_vec();
                let before = String::from_utf8(value.clone()).unwrap();
                flip(&mut value, bit);
                let Ok(changed) = HeaderValue::from_bytes(&value) else { return Ok(()) };
                if is_idle(&before, &String::from_utf8_lossy(&value)) {
                    return Ok(());
                }
                request.headers.insert(name, changed);
            }
            prop_assert!(webhook.check(&request).is_err(), "{}: {request:?}", vector.by);
            Ok(())
        })?;
    }

    #[test]
    fn nothing_panics_and_nothing_unsigned_is_accepted(
        which in any::<proptest::sample::Index>(),
        values in proptest::collection::vec(header_value(), 10),
        target in "/[ -~]{0,80}",
        origin in proptest::sample::select(&ORIGINS[..]),
        body in proptest::collection::vec(any::<u8>(), 0..200),
        now_ms in any::<u64>(),
    ) {
        with_bench(|bench| {
            let (vector, webhook) = which.get(&bench.0);
            let mut request = Request { target, origin, body, now_ms, ..vector.request.clone() };
            for (name, value) in vector.request.headers.keys().zip(values) {
                request.headers.insert(name, HeaderValue::from_bytes(&value).unwrap());
            }
            prop_assert!(webhook.check(&request).is_err());
            Ok(())
        })?;
    }

    #[test]
    fn nothing_panics_where_a_secret_is_shown(value in header_value(), header in any::<bool>()) {
        let name = if header { "authorization" } else { "x-gitlab-token" };
        let request = |name: &'static str| {
            let mut request = Request::new("{}");
            request.headers.insert(name, HeaderValue::from_bytes(&value).unwrap());
            request
        };
        for scheme in [Scheme::Bearer, Scheme::Basic(None), Scheme::GitLab] {
            let refused = Webhook::new(scheme, &["a secret that no generator finds"]).check(&request(name));
            prop_assert!(matches!(refused, Err(Refused::Missing | Refused::Wrong | Refused::Malformed)));
        }
    }
}
