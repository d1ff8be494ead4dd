//! Senders that sign as the general `hmac` does: what to write for them, and Slack's first question.

use http::HeaderName;
use serde::Deserialize;

use super::Refused;
use super::hmac::{Algorithm, Settings};
use super::signature::Encoding;
use super::template::Template;

/// Slack's question has some hundred bytes; what is larger is an event, and need not be read for it.
const QUESTION_BYTES_MAX: usize = 4 * 1024;

/// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
pub(super) fn github() -> Settings {
    over_body("x-hub-signature-256", "sha256=", Encoding::Hex)
}

/// <https://shopify.dev/docs/apps/build/webhooks/subscribe/https>, and what is to take its place:
/// <https://shopify.dev/docs/apps/build/events/verify-deliveries>
pub(super) fn shopify() -> Settings {
    Settings {
        other_header: Some(HeaderName::from_static("shopify-hmac-sha256")),
        ..over_body("x-shopify-hmac-sha256", "", Encoding::Base64)
    }
}

/// <https://api.slack.com/authentication/verifying-requests-from-slack>
pub(super) fn slack() -> Settings {
    Settings {
        signed: template("v0:{timestamp}:{body}"),
        timestamp: Some(HeaderName::from_static("x-slack-request-timestamp")),
        ..over_body("x-slack-signature", "v0=", Encoding::Hex)
    }
}

fn over_body(header: &'static str, prefix: &str, encoding: Encoding) -> Settings {
    Settings {
        header: HeaderName::from_static(header),
        other_header: None,
        prefix: prefix.to_owned(),
        encoding,
        algorithm: Algorithm::Sha256,
        signed: template("{body}"),
        timestamp: None,
        id: None,
    }
}

fn template(text: &str) -> Template {
    Template::parse(text).expect("it is written out here and holds the body")
}

/// What Slack wants to hear before it sends events to an address, where the body asks for it.
pub(super) fn challenge(body: &[u8]) -> Result<Option<String>, Refused> {
    #[derive(Deserialize)]
    struct Question {
        r#type: String,
        challenge: Option<String>,
    }
    if body.len() > QUESTION_BYTES_MAX {
        return Ok(None);
    }
    match serde_json::from_slice::<Question>(body) {
        Ok(Question { r#type, challenge }) if r#type == "url_verification" => {
            challenge.map(Some).ok_or(Refused::Malformed)
        }
        // Slash commands are forms.
        Ok(_) | Err(_) => Ok(None),
    }
}
