//! Signatures that the configuration describes.

use aws_lc_rs::hmac::{self, Key, sign};
use bulkhead_host::trigger::webhook::verify::Scheme;
use bulkhead_host::trigger::webhook::verify::hmac::{Algorithm, Settings};
use bulkhead_host::trigger::webhook::verify::signature::Encoding;
use bulkhead_host::trigger::webhook::verify::template::Template;
use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use http::HeaderName;

use super::{Refused, Request, Webhook, header_id, pointer_id};

fn settings(signed: &str) -> Settings {
    Settings {
        other_header: None,
        header: HeaderName::from_static("x-signature"),
        prefix: String::new(),
        encoding: Encoding::Hex,
        algorithm: Algorithm::Sha256,
        signed: Template::parse(signed).unwrap(),
        timestamp: None,
        id: None,
    }
}

fn scheme(settings: Settings) -> Scheme {
    Scheme::Hmac(Box::new(settings))
}

#[test]
fn every_hash_and_every_spelling_of_a_signature_is_read() {
    let body = r#"{"a": ">>>???"}"#;
    let hashes = [
        (Algorithm::Sha1, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        (Algorithm::Sha256, hmac::HMAC_SHA256),
        (Algorithm::Sha512, hmac::HMAC_SHA512),
    ];
    let spellings = [
        (Encoding::Hex, &HEXLOWER),
        (Encoding::Hex, &HEXUPPER),
        (Encoding::Base64, &BASE64),
        (Encoding::Base64, &BASE64_NOPAD),
        (Encoding::Base64Url, &BASE64URL),
        (Encoding::Base64Url, &BASE64URL_NOPAD),
    ];
    for (algorithm, hash) in hashes {
        let tag = sign(&Key::new(hash, b"secret"), body.as_bytes());
        for (encoding, spelling) in spellings {
            let prefix = "v1=".to_owned();
            let settings = Settings { algorithm, encoding, prefix, ..settings("{body}") };
            let webhook = Webhook::new(scheme(settings), &["secret"]);
            let header = format!("v1={}", spelling.encode(tag.as_ref()));
            let verified = webhook.accept(&Request::new(body).header("x-signature", &header));
            assert_eq!((verified.by.as_deref(), verified.signature.is_some()), (Some("hmac"), true));
            let bare = Request::new(body).header("x-signature", &spelling.encode(tag.as_ref()));
            assert_eq!(webhook.check(&bare), Err(Refused::Malformed), "without its prefix");
            let short = format!("v1={}", spelling.encode(&tag.as_ref()[..12]));
            assert_eq!(webhook.check(&Request::new(body).header("x-signature", &short)), Err(Refused::Wrong));
        }
    }
}

#[test]
fn all_that_the_template_names_is_signed() {
    let settings = Settings {
        timestamp: Some(HeaderName::from_static("x-time")),
        id: Some(HeaderName::from_static("x-id")),
        ..settings("{method} {path} {id}/{timestamp}\n{body}")
    };
    let webhook = Webhook::with_id(scheme(settings), &["secret"], Some(header_id("x-id")));
    let text = "PUT /hooks/orders?a=1 e7/1700000000\n{}";
    let tag = HEXLOWER.encode(sign(&Key::new(hmac::HMAC_SHA256, b"secret"), text.as_bytes()).as_ref());
    let request = Request::new("{}").header("x-signature", &tag).header("x-time", "1700000000").header("x-id", "e7");
    let request = Request { method: "PUT", target: "/hooks/orders?a=1".to_owned(), ..request };
    let verified = webhook.accept(&request);
    assert_eq!((verified.event_id.as_deref(), verified.signature), (Some("e7"), None));
    for other in [
        Request { method: "POST", ..request.clone() },
        Request { target: "/hooks/orders?a=2".to_owned(), ..request.clone() },
        Request { target: "/hooks/orders".to_owned(), ..request.clone() },
        Request { body: b"[]".to_vec(), ..request.clone() },
        request.clone().instead("x-time", "1700000001"),
        request.clone().instead("x-id", "e8"),
    ] {
        assert_eq!(webhook.check(&other), Err(Refused::Wrong), "{other:?}");
    }
    for name in ["x-signature", "x-time", "x-id"] {
        let name = HeaderName::from_static(name);
        assert_eq!(webhook.check(&request.clone().without(&name)), Err(Refused::Missing), "{name}");
    }
    let late = Request { now_ms: request.now_ms + 300_001, ..request };
    assert_eq!(webhook.check(&late), Err(Refused::Stale));
}

#[test]
fn an_id_in_the_body_is_signed_and_one_in_a_header_is_not() {
    let body = r#"{"event": {"id": 7}}"#;
    let tag = HEXLOWER.encode(sign(&Key::new(hmac::HMAC_SHA256, b"secret"), body.as_bytes()).as_ref());
    let request = Request::new(body).header("x-signature", &tag).header("x-id", "e7");
    let check = |place, expected: &str, is_signed: bool| {
        let verified = Webhook::with_id(scheme(settings("{body}")), &["secret"], Some(place)).accept(&request);
        assert_eq!((verified.event_id.as_deref(), verified.signature.is_none()), (Some(expected), is_signed));
    };
    check(pointer_id("/event/id"), "7", true);
    check(header_id("x-id"), "e7", false);
}
