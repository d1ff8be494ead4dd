//! Senders that show a secret.

use bulkhead_host::trigger::webhook::verify::{Scheme, Verified};
use data_encoding::BASE64;
use http::header::AUTHORIZATION;

use super::{Refused, Request, Webhook, header_id};

fn authorized(value: &str) -> Request {
    Request::new("{}").header("authorization", value)
}

#[test]
fn a_bearer_token_is_compared_as_a_whole() {
    let webhook = Webhook::new(Scheme::Bearer, &["t0ken", "older"]);
    let verified = webhook.accept(&authorized("Bearer t0ken"));
    let consumed_headers = vec![AUTHORIZATION];
    assert_eq!(verified, Verified { by: Some("bearer".into()), consumed_headers, ..Verified::default() });
    for value in ["Bearer older", "bearer t0ken", "BEARER  t0ken"] {
        assert!(webhook.check(&authorized(value)).is_ok(), "{value}");
    }
    for (value, why) in [
        ("Bearer t0ke", Refused::Wrong),
        ("Bearer t0ken ", Refused::Wrong),
        ("Bearer T0ken", Refused::Wrong),
        ("Bearer ", Refused::Wrong),
        ("Bearer", Refused::Malformed),
        ("Basic t0ken", Refused::Malformed),
        ("t0ken", Refused::Malformed),
        ("Bearer tökén", Refused::Malformed),
        ("", Refused::Missing),
    ] {
        assert_eq!(webhook.check(&authorized(value)), Err(why), "{value}");
    }
    assert_eq!(webhook.check(&Request::new("{}")), Err(Refused::Missing));
    assert_eq!(webhook.check(&authorized("Bearer t0ken").header("authorization", "Bearer x")), Err(Refused::Malformed));
}

#[test]
fn a_password_is_compared_and_a_user_where_one_is_named() {
    let shown = |pair: &str| authorized(&format!("Basic {}", BASE64.encode(pair.as_bytes())));
    let named = Webhook::new(Scheme::Basic(Some("shop".into())), &["pass:word"]);
    assert_eq!(named.accept(&shown("shop:pass:word")).by.as_deref(), Some("basic"));
    for pair in ["shop:pass", "shop:", ":pass:word", "shopx:pass:word", "other:pass:word"] {
        assert_eq!(named.check(&shown(pair)), Err(Refused::Wrong), "{pair}");
    }
    for value in ["Basic ****", "Basic c2hvcA==", "Bearer x"] {
        assert_eq!(named.check(&authorized(value)), Err(Refused::Malformed), "{value}");
    }
    let any = Webhook::new(Scheme::Basic(None), &["pass:word"]);
    assert!(any.check(&shown("anybody:pass:word")).is_ok() && any.check(&shown(":pass:word")).is_ok());
    assert_eq!(any.check(&shown("anybody:password")), Err(Refused::Wrong));
}

#[test]
fn gitlab_shows_a_token_and_has_an_id_of_its_own_header_alone() {
    let webhook = Webhook::new(Scheme::GitLab, &["t0ken"]);
    let request = Request::new("{}").header("x-gitlab-token", "t0ken").header("x-gitlab-event-uuid", "1");
    let verified = webhook.accept(&request.clone().header("idempotency-key", "f5e0"));
    assert_eq!((verified.by.as_deref(), verified.event_id.as_deref()), (Some("gitlab"), Some("f5e0")));
    assert_eq!(verified.consumed_headers, ["x-gitlab-token"]);
    let verified = webhook.accept(&request);
    assert_eq!((verified.event_id, verified.signature), (None, None));
    assert_eq!(webhook.check(&request.clone().instead("x-gitlab-token", "t0keN")), Err(Refused::Wrong));
    assert_eq!(webhook.check(&Request::new("{}")), Err(Refused::Missing));
    let chosen = Webhook::with_id(Scheme::GitLab, &["t0ken"], Some(header_id("x-gitlab-event-uuid")));
    assert_eq!(chosen.accept(&request).event_id.as_deref(), Some("1"));
}
