//! Requests that somebody else has sent, or that came too late, or that nobody can read.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use bulkhead_host::trigger::webhook::verify::{Scheme, Verdict};
use data_encoding::{BASE64, HEXLOWER};

use super::vectors::{self, all, of};
use super::{Refused, Request, Webhook, header_id, pointer_id, write_private};

/// The header with the signature of each vector.
fn carrier(vector: &vectors::Vector) -> &'static str {
    let names = [
        "x-hub-signature-256",
        "x-slack-signature",
        "webhook-signature",
        "svix-signature",
        "stripe-signature",
        "x-shopify-hmac-sha256",
        "shopify-hmac-sha256",
        "x-twilio-signature",
    ];
    names.into_iter().find(|name| vector.request.headers.contains_key(*name)).unwrap()
}

#[test]
fn another_secret_or_another_body_is_wrong() {
    for vector in all() {
        let other = if vector.by == "standard-webhooks" { "whsec_AAAA" } else { "another" };
        assert_eq!(Webhook::new(vector.scheme.clone(), &[other]).check(&vector.request), Err(Refused::Wrong));
        // What means the same and is written in another way has another signature.
        let mut request = vector.request.clone();
        request.body.push(b' ');
        assert_eq!(vector.webhook().check(&request), Err(Refused::Wrong), "{}", vector.by);
    }
}

#[test]
fn a_time_is_good_for_the_window_and_no_longer() {
    for vector in all().into_iter().filter(|vector| vector.is_timed) {
        let webhook = vector.webhook();
        let at = |offset_ms: i64| Request {
            now_ms: vector.request.now_ms.checked_add_signed(offset_ms).unwrap(),
            ..vector.request.clone()
        };
        assert!(webhook.check(&at(300_000)).is_ok() && webhook.check(&at(-300_000)).is_ok(), "{}", vector.by);
        assert_eq!(webhook.check(&at(300_001)), Err(Refused::Stale), "{}", vector.by);
        assert_eq!(webhook.check(&at(-300_001)), Err(Refused::Future), "{}", vector.by);
    }
}

#[test]
fn a_signature_that_stands_there_twice_is_malformed() {
    for vector in all() {
        let name = carrier(&vector);
        let again = vector.request.headers[name].to_str().unwrap().to_owned();
        let request = vector.request.clone().header(name, &again);
        assert_eq!(vector.webhook().check(&request), Err(Refused::Malformed), "{}", vector.by);
    }
}

#[test]
fn what_is_no_signature_is_malformed_or_missing() {
    for vector in all() {
        let name = carrier(&vector);
        for value in ["é", "t", "v1", "sha256", "sha256=é", "v0=zz", "v1,*", "v1=zz", "sha256=abc", ","] {
            let refused = vector.webhook().check(&vector.request.clone().instead(name, value));
            // To the standard, all before a comma may be a version to come.
            let is_it = matches!(refused, Err(Refused::Malformed | Refused::Missing));
            assert!(is_it, "{}: {value}: {refused:?}", vector.by);
        }
        let request = vector.request.clone().instead(name, "sig\u{e9}");
        assert_eq!(vector.webhook().check(&request), Err(Refused::Malformed), "{}", vector.by);
        let request = vector.request.clone().instead(name, "");
        assert_eq!(vector.webhook().check(&request), Err(Refused::Missing), "{}", vector.by);
    }
}

#[test]
fn a_time_that_is_none_is_malformed() {
    let slack = of("slack");
    for value in ["é", "-1", "+1531420618", "1531420618.0", "0x10", " 1", "99999999999999999999999"] {
        let request = slack.request.clone().instead("x-slack-request-timestamp", value);
        assert_eq!(slack.webhook().check(&request), Err(Refused::Malformed), "{value}");
    }
    let request = slack.request.clone().instead("x-slack-request-timestamp", "18446744073709551615");
    assert_eq!(slack.webhook().check(&request), Err(Refused::Future));
}

#[test]
fn a_thousand_signatures_are_too_many_and_sixteen_are_not() {
    let stripe = of("stripe");
    let right =
        stripe.request.headers["stripe-signature"].to_str().unwrap().split("v1=").nth(1).unwrap()[..64].to_owned();
    let wrong = HEXLOWER.encode(&[7; 32]);
    let header = |wrongs: usize| format!("t=1492774577,{}v1={right}", format!("v1={wrong},").repeat(wrongs));
    let request = |wrongs| stripe.request.clone().instead("stripe-signature", &header(wrongs));
    assert!(stripe.webhook().check(&request(15)).is_ok());
    assert_eq!(stripe.webhook().check(&request(16)), Err(Refused::TooMany));
    assert_eq!(stripe.webhook().check(&request(999)), Err(Refused::TooMany));

    let standard = of("standard-webhooks");
    let right = standard.request.headers["webhook-signature"].to_str().unwrap().to_owned();
    let wrong = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= v2,unknown ";
    let header = |pairs: usize| format!("{}{right}", wrong.repeat(pairs));
    let request = |pairs| standard.request.clone().instead("webhook-signature", &header(pairs));
    assert!(standard.webhook().check(&request(7)).is_ok());
    assert_eq!(standard.webhook().check(&request(8)), Err(Refused::TooMany));
    assert_eq!(standard.webhook().check(&request(500)), Err(Refused::TooMany));
}

#[test]
fn any_of_several_secrets_will_do_and_a_changed_one_counts_at_once() {
    for vector in all() {
        let other = if vector.by == "standard-webhooks" { "whsec_AAAA" } else { "another" };
        let webhook = Webhook::new(vector.scheme.clone(), &[other, &vector.secret]);
        assert!(webhook.check(&vector.request).is_ok(), "{}", vector.by);
        write_private(&webhook.secret_file(1), &format!("{other}\n"));
        assert_eq!(webhook.check(&vector.request), Err(Refused::Wrong), "{}", vector.by);
        write_private(&webhook.secret_file(0), &vector.secret);
        assert!(webhook.check(&vector.request).is_ok(), "{}", vector.by);
    }
}

#[test]
fn a_secret_that_has_gone_says_nothing_about_the_request() {
    for vector in all() {
        let webhook = vector.webhook();
        assert_eq!(webhook.verifier.faults(), [""; 0]);
        write_private(&webhook.secret_file(0), "");
        assert_eq!(webhook.check(&vector.request), Err(Refused::Unavailable), "{}", vector.by);
        assert!(webhook.verifier.faults()[0].starts_with("the secret `secret-0` cannot be used"));
    }
}

#[test]
fn what_is_no_key_of_the_standard_is_said_without_its_value() {
    for (value, why) in [
        ("whsk_c2VjcmV0", "private key"),
        ("whpk_c2VjcmV0", "not a public key"),
        ("whpk_****", "not base64"),
        ("whsec_****", "`whsec_` or `whpk_`"),
        ("whsec_", "`whsec_` or `whpk_`"),
        ("secret value", "`whsec_` or `whpk_`"),
    ] {
        let webhook = Webhook::new(Scheme::StandardWebhooks, &[value]);
        let faults = webhook.verifier.faults();
        assert!(faults.len() == 1 && faults[0].contains(why), "{value}: {faults:?}");
        let hidden = value.split_once('_').map_or(value, |(_, rest)| rest);
        assert!(hidden.is_empty() || !faults[0].contains(hidden), "{faults:?}");
    }
}

#[test]
fn one_signature_of_the_standard_has_one_reading() {
    let standard = of("standard-webhooks");
    let webhook = standard.webhook();
    // The signed text is the same: where the id ends is not.
    let mut moved = standard.request.clone().instead("webhook-id", "msg.1614265330").instead("webhook-timestamp", "1");
    moved.body = b"{}".to_vec();
    assert_eq!(webhook.check(&moved), Err(Refused::Malformed));
    // Parts of both sets of headers are no set.
    let id = standard.request.headers["webhook-id"].to_str().unwrap().to_owned();
    let mixed = standard.request.clone().header("svix-id", &id).without(&"webhook-id".parse().unwrap());
    assert_eq!(webhook.check(&mixed), Err(Refused::Missing));
}

#[test]
fn an_id_that_no_message_can_have_is_malformed_also_when_it_is_signed() {
    let (id, secret) = ("x".repeat(257), format!("whsec_{}", BASE64.encode(&[7; 24])));
    let tag = sign(&Key::new(HMAC_SHA256, &[7; 24]), format!("{id}.1700000000.{{}}").as_bytes());
    let request = Request::new("{}")
        .header("webhook-id", &id)
        .header("webhook-timestamp", "1700000000")
        .header("webhook-signature", &format!("v1,{}", BASE64.encode(tag.as_ref())));
    assert_eq!(Webhook::new(Scheme::StandardWebhooks, &[&secret]).check(&request), Err(Refused::Malformed));
}

#[test]
fn slack_is_answered_only_when_it_is_slack() {
    let body = r#"{"token": "x", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P", "type": "url_verification"}"#;
    let slack = of("slack");
    let key = Key::new(HMAC_SHA256, slack.secret.as_bytes());
    let signed = |body: &str| {
        let tag = sign(&key, format!("v0:1531420618:{body}").as_bytes());
        let request = Request { body: body.as_bytes().to_vec(), ..slack.request.clone() };
        request.instead("x-slack-signature", &format!("v0={}", HEXLOWER.encode(tag.as_ref())))
    };
    let webhook = slack.webhook();
    let content_type = "text/plain; charset=utf-8";
    let challenge = b"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P".to_vec();
    assert_eq!(webhook.check(&signed(body)), Ok(Verdict::Answer { content_type, body: challenge }));
    let forged = Request { body: body.as_bytes().to_vec(), ..slack.request.clone() };
    assert_eq!(webhook.check(&forged), Err(Refused::Wrong));
    assert_eq!(webhook.check(&signed(r#"{"type": "url_verification"}"#)), Err(Refused::Malformed));
    let event = webhook.accept(&signed(r#"{"type": "event_callback", "event_id": "Ev08MFMKH6"}"#));
    assert_eq!((event.event_id.as_deref(), event.signature), (Some("Ev08MFMKH6"), None));
}

#[test]
fn twilio_signs_what_it_calls_and_all_that_it_sends() {
    let twilio = of("twilio");
    let webhook = twilio.webhook();
    let with = |change: fn(&mut Request)| {
        let mut request = twilio.request.clone();
        change(&mut request);
        webhook.check(&request)
    };
    assert!(with(|request| request.origin = "https://mycompany.com:443").is_ok());
    // Twilio leaves a port out also where it is needed.
    assert!(with(|request| request.origin = "https://mycompany.com:8443").is_ok());
    assert_eq!(with(|request| request.origin = "https://mycompany.org:443"), Err(Refused::Wrong));
    assert_eq!(with(|request| request.origin = "http://mycompany.com"), Err(Refused::Wrong));
    assert_eq!(with(|request| request.origin = ""), Err(Refused::Wrong));
    assert_eq!(with(|request| request.target = "/myapp.php?foo=1".to_owned()), Err(Refused::Wrong));
    // The order of a form does not matter, and what stands there twice with one value counts once.
    assert!(with(|request| request.body = swapped(&request.body)).is_ok());
    assert!(with(|request| request.body.extend_from_slice(b"&Digits=1234")).is_ok());
    assert_eq!(with(|request| request.body.extend_from_slice(b"&Digits=1235")), Err(Refused::Wrong));
    assert_eq!(with(|request| request.body = b"a&".repeat(1_001)), Err(Refused::TooMany));
    // A body that neither the parameters nor a hash cover.
    let uncovered = twilio.request.clone().instead("content-type", "application/json");
    assert_eq!(webhook.check(&uncovered), Err(Refused::Missing));
}

/// It is the hash that was named which counts, and not any that fits.
#[test]
fn twilio_names_the_hash_of_a_key_of_its_own() {
    let twilio = of("twilio");
    let with = |settings: &str| {
        twilio.webhook().check(&twilio.request.clone().header("x-twilio-webhooks-signature-settings", settings))
    };
    assert!(with("key=k").is_ok() && with("key=k, algorithm = HMAC_SHA1").is_ok());
    assert_eq!(with("key=k,algorithm=HMAC_SHA256"), Err(Refused::Wrong));
    assert_eq!(with("key=k,algorithm=HMAC_MD5"), Err(Refused::Malformed));
}

/// What stands under one of Shopify's names is not made good by the other.
#[test]
fn shopify_signs_under_one_name() {
    let shopify = of("shopify");
    let signature = shopify.request.headers["x-shopify-hmac-sha256"].to_str().unwrap().to_owned();
    let request = shopify.request.clone().instead("x-shopify-hmac-sha256", "AAAA");
    let webhook = shopify.webhook();
    assert_eq!(webhook.check(&request.clone().header("shopify-hmac-sha256", &signature)), Err(Refused::Wrong));
    assert_eq!(webhook.accept(&shopify.request).consumed_headers.len(), 2);
}

fn swapped(body: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = body.split(|byte| *byte == b'&').collect();
    parts.reverse();
    parts.join(&b'&')
}

#[test]
fn an_id_of_the_operators_choice_takes_the_place_of_the_schemes() {
    let github = of("github");
    let pointed = Webhook::with_id(Scheme::GitHub, &[&github.secret], Some(pointer_id("/id")));
    let verified = pointed.accept(&github.request);
    // The body is not JSON: there is no id, and the signature alone is known again.
    assert_eq!((verified.event_id, verified.signature.is_some()), (None, true));
    let stripe = of("stripe");
    let object = Webhook::with_id(Scheme::Stripe, &[&stripe.secret], Some(pointer_id("/object")));
    let verified = object.accept(&stripe.request);
    assert_eq!((verified.event_id.as_deref(), verified.signature), (Some("event"), None));
    let named = Webhook::with_id(Scheme::Stripe, &[&stripe.secret], Some(header_id("x-id")));
    let verified = named.accept(&stripe.request.clone().header("x-id", "7"));
    assert_eq!((verified.event_id.as_deref(), verified.signature.is_some()), (Some("7"), true));
    assert_eq!(named.check(&stripe.request.clone().header("x-id", &"x".repeat(257))), Err(Refused::Malformed));
    let open = Webhook::with_id(Scheme::Open, &[], Some(header_id("x-id")));
    let verified = open.accept(&Request::new("").header("x-id", "7"));
    assert_eq!((verified.by, verified.event_id.as_deref(), verified.signature), (None, Some("7"), None));
}
