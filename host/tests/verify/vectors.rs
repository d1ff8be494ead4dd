//! The examples that senders publish, each with what is known of it.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use bulkhead_host::trigger::webhook::verify::Scheme;
use data_encoding::{BASE64, HEXLOWER};

use super::{Request, Webhook};

/// A request with all that it takes to check it.
pub(crate) struct Vector {
    pub(crate) by: &'static str,
    pub(crate) scheme: Scheme,
    pub(crate) secret: String,
    pub(crate) request: Request,
    id: Option<&'static str>,
    /// Whether the id lies under the signature.
    is_signed: bool,
    /// Whether a time does.
    pub(crate) is_timed: bool,
}

/// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
fn github() -> Vector {
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    Vector {
        by: "github",
        scheme: Scheme::GitHub,
        secret: "It's a Secret to Everybody".to_owned(),
        request: Request::new("Hello, World!")
            .header("x-hub-signature-256", signature)
            .header("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        id: Some("72d3162e-cc78-11e3-81ab-4c9367dc0958"),
        is_signed: false,
        is_timed: false,
    }
}

/// <https://api.slack.com/authentication/verifying-requests-from-slack>: a slash command, which has no id.
fn slack() -> Vector {
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    Vector {
        by: "slack",
        scheme: Scheme::Slack,
        secret: "8f742231b10e8888abcd99yyyzzz85a5".to_owned(),
        request: Request::new(body)
            .at(1_531_420_618)
            .header("x-slack-request-timestamp", "1531420618")
            .header("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
        id: None,
        is_signed: false,
        is_timed: true,
    }
}

/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>
fn standard() -> Vector {
    Vector {
        by: "standard-webhooks",
        scheme: Scheme::StandardWebhooks,
        secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
        request: Request::new(r#"{"test": 2432232314}"#)
            .at(1_614_265_330)
            .header("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
            .header("webhook-timestamp", "1614265330")
            .header("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        id: Some("msg_p5jXN8AQM9LWM0D4loKWxJek"),
        is_signed: true,
        is_timed: true,
    }
}

/// The same under the names of before the standard.
fn svix() -> Vector {
    let Vector { request, .. } = standard();
    let value = |name: &str| request.headers[name].to_str().unwrap().to_owned();
    let (id, time, signature) = (value("webhook-id"), value("webhook-timestamp"), value("webhook-signature"));
    let request = Request { headers: http::HeaderMap::new(), ..request.clone() };
    let request = request.header("svix-id", &id).header("svix-timestamp", &time).header("svix-signature", &signature);
    Vector { request, ..standard() }
}

/// The same signed with the first key of RFC 8032, section 7.1.
fn ed25519() -> Vector {
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let pair = Ed25519KeyPair::from_seed_unchecked(&HEXLOWER.decode(seed.as_bytes()).unwrap()).unwrap();
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(HEXLOWER.encode(pair.public_key().as_ref()), public);
    let signed = pair.sign(br#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#);
    let Vector { request, .. } = standard();
    Vector {
        secret: format!("whpk_{}", BASE64.encode(pair.public_key().as_ref())),
        request: request.instead("webhook-signature", &format!("v1a,{}", BASE64.encode(signed.as_ref()))),
        ..standard()
    }
}

/// Stripe publishes how it signs, and no example with its secret.
fn stripe() -> Vector {
    let (secret, body) = ("whsec_test_secret", r#"{"id":"evt_test_webhook","object":"event"}"#);
    let key = Key::new(HMAC_SHA256, secret.as_bytes());
    let v1 = HEXLOWER.encode(sign(&key, format!("1492774577.{body}").as_bytes()).as_ref());
    let v0 = "6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39";
    let header = format!("t=1492774577,v1={v1},v0={v0}");
    Vector {
        by: "stripe",
        scheme: Scheme::Stripe,
        secret: secret.to_owned(),
        request: Request::new(body).at(1_492_774_577).header("stripe-signature", &header),
        id: Some("evt_test_webhook"),
        is_signed: true,
        is_timed: true,
    }
}

/// Shopify publishes how it signs, and no example with its secret.
fn shopify() -> Vector {
    let (secret, body) = ("hush", r#"{"id": 820982911946154508}"#);
    let signature = sign(&Key::new(HMAC_SHA256, secret.as_bytes()), body.as_bytes());
    Vector {
        by: "shopify",
        scheme: Scheme::Shopify,
        secret: secret.to_owned(),
        request: Request::new(body)
            .header("x-shopify-hmac-sha256", &BASE64.encode(signature.as_ref()))
            .header("x-shopify-webhook-id", "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043")
            .header("x-shopify-event-id", "98880550-7158-44d4-b7cd-2c97c8a091b5"),
        id: Some("98880550-7158-44d4-b7cd-2c97c8a091b5"),
        is_signed: false,
        is_timed: false,
    }
}

/// Of the kind that is to take the place of Shopify's webhooks.
fn shopify_event() -> Vector {
    let Vector { secret, request, .. } = shopify();
    let signature = request.headers["x-shopify-hmac-sha256"].to_str().unwrap();
    let request = Request { headers: http::HeaderMap::new(), ..request.clone() }
        .header("shopify-hmac-sha256", signature)
        .header("shopify-webhook-id", "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043")
        .header("shopify-event-id", "98880550-7158-44d4-b7cd-2c97c8a091b5");
    Vector { secret, request, id: Some("b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"), ..shopify() }
}

/// <https://www.twilio.com/docs/usage/webhooks/webhooks-security>
fn twilio() -> Vector {
    let body = "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212";
    let request = Request::new(body)
        .header("x-twilio-signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=")
        .header("i-twilio-idempotency-token", "6c0b2b3e-1a0f-4f0f-9a55-7a1d4b2d7c10")
        .header("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    Vector {
        by: "twilio",
        scheme: Scheme::Twilio,
        secret: "12345".to_owned(),
        request: Request { target: "/myapp.php?foo=1&bar=2".to_owned(), origin: "https://mycompany.com", ..request },
        id: Some("6c0b2b3e-1a0f-4f0f-9a55-7a1d4b2d7c10"),
        is_signed: false,
        is_timed: false,
    }
}

/// With a body that is no form, from the tests of Twilio's own library.
fn twilio_json() -> Vector {
    let hash = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let Vector { request, .. } = twilio();
    let body = br#"{"property": "value", "boolean": true}"#.to_vec();
    let target = format!("/myapp.php?foo=1&bar=2&bodySHA256={hash}");
    let request = Request { target, body, ..request }
        .instead("content-type", "application/json")
        .instead("x-twilio-signature", "a9nBmqA0ju/hNViExpshrM61xv4=");
    Vector { request, ..twilio() }
}

/// As Twilio's own library signs it with a key that was made for webhooks.
fn twilio_with_a_key() -> Vector {
    let request = twilio()
        .request
        .instead("x-twilio-signature", "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s=")
        .header("x-twilio-webhooks-signature-settings", "key=webhooks_sharedkey_01,algorithm=HMAC_SHA256");
    Vector { request, ..twilio() }
}

pub(crate) fn all() -> Vec<Vector> {
    let of_shopify = [shopify(), shopify_event()];
    let of_twilio = [twilio(), twilio_json(), twilio_with_a_key()];
    let others = [github(), slack(), standard(), svix(), ed25519(), stripe()];
    others.into_iter().chain(of_shopify).chain(of_twilio).collect()
}

pub(crate) fn of(by: &str) -> Vector {
    all().into_iter().find(|vector| vector.by == by).unwrap()
}

impl Vector {
    pub(crate) fn webhook(&self) -> Webhook {
        Webhook::new(self.scheme.clone(), &[&self.secret])
    }
}

#[test]
fn what_senders_publish_is_accepted() {
    for vector in all() {
        let verified = vector.webhook().accept(&vector.request);
        assert_eq!(verified.by.as_deref(), Some(vector.by));
        assert_eq!(verified.event_id.as_deref(), vector.id, "{}", vector.by);
        assert_eq!(verified.signature.is_none(), vector.is_signed, "{}", vector.by);
    }
}

#[test]
fn what_proves_a_sender_is_taken_out_and_needed() {
    for vector in all() {
        let webhook = vector.webhook();
        let consumed = webhook.accept(&vector.request).consumed_headers;
        let present: Vec<_> = consumed.iter().filter(|name| vector.request.headers.contains_key(*name)).collect();
        assert_eq!(present.len(), 1, "{}", vector.by);
        let bare = vector.request.clone().without(present[0]);
        assert_eq!(webhook.check(&bare), Err(super::Refused::Missing), "{}", vector.by);
    }
    assert_eq!(twilio_json().webhook().accept(&twilio_json().request).consumed_query, ["bodySHA256"]);
}

#[test]
fn a_signature_is_known_again_and_cannot_be_sent_again() {
    for vector in all().into_iter().filter(|vector| !vector.is_signed) {
        let webhook = vector.webhook();
        let verdict = webhook.check(&vector.request);
        assert_eq!(verdict, webhook.check(&vector.request), "{}", vector.by);
        let shown = format!("{verdict:?}");
        for value in vector.request.headers.values().filter_map(|value| value.to_str().ok()) {
            let is_id = Some(value) == vector.id;
            assert!(is_id || !shown.contains(value), "{}: {value} is shown in {shown}", vector.by);
        }
    }
    let upper = |text: &str| text.replace("sha256=", "").to_uppercase();
    let plain = github().request;
    let other = plain.headers["x-hub-signature-256"].to_str().unwrap();
    let other = plain.clone().instead("x-hub-signature-256", &format!("sha256={}", upper(other)));
    let webhook = github().webhook();
    assert_eq!(webhook.accept(&plain).signature, webhook.accept(&other).signature);
}
