//! Keys of `verify` of a webhook: who may send.

use super::super::schema::Default::{Is, Required, Unset, Words};
use super::super::schema::{Key, Kind, Section};
use super::{HOUR, SECOND};

/// The schemes, as they are written.
const SCHEMES: [&str; 12] = [
    "standard-webhooks",
    "github",
    "gitlab",
    "shopify",
    "slack",
    "stripe",
    "twilio",
    "hmac",
    "bearer",
    "basic",
    "jwt",
    "none",
];

pub(super) static VERIFY: Section = Section {
    about: "Who may send: `verify = \"none\"` lets everybody, a table says how senders prove who they are. Each scheme takes its own keys; others beside it are errors. [Webhooks](webhooks.md) says what each scheme checks.",
    exactly_one: false,
    keys: &[
        Key::new("scheme", Kind::Choice(&SCHEMES), Required, "How senders prove who they are."),
        Key::new("secret", Kind::SecretName, Unset, "The secret that senders sign with, or show."),
        Key::new(
            "secrets",
            Kind::List(&Kind::SecretName),
            Unset,
            "Several secrets instead, 8 at most, any of which will do: while one takes over from another.",
        ),
        Key::new(
            "window",
            Kind::Duration(SECOND, HOUR),
            Is("5m"),
            "How far the time of a signature may lie from the host's, in the past and in the future.",
        ),
        Key::new("id", Kind::Table(&VERIFY_ID), Words("the scheme's"), "Where the sender's id of the event is."),
        Key::new("header", Kind::HeaderName, Unset, "`hmac`: the header that carries the signature."),
        Key::new("prefix", Kind::Text, Is(""), "`hmac`: stands before the signature, as in `sha256=`."),
        Key::new(
            "encoding",
            Kind::Choice(&["hex", "base64", "base64url"]),
            Is("hex"),
            "`hmac`: how the signature is written.",
        ),
        Key::new(
            "algorithm",
            Kind::Choice(&["sha256", "sha512", "sha1"]),
            Is("sha256"),
            "`hmac`: the hash under the HMAC.",
        ),
        Key::new(
            "signed",
            Kind::Text,
            Is("{body}"),
            "`hmac`: what is signed, of text and `{body}`, `{timestamp}`, `{id}`, `{method}`, `{path}` (with the query).",
        ),
        Key::new(
            "timestamp",
            Kind::HeaderName,
            Unset,
            "`hmac`: the header that carries the time, in seconds since the Unix epoch; `signed` must hold it.",
        ),
        Key::new("user", Kind::Text, Unset, "`basic`: the user that alone may send; any user otherwise."),
        Key::new("jwks", Kind::Text, Unset, "`jwt`: the URL where the issuer publishes its keys."),
        Key::new(
            "private",
            Kind::Boolean,
            Is("false"),
            "`jwt`: lets `jwks` be at a private or loopback address; it must name its port.",
        ),
        Key::new("issuer", Kind::Text, Unset, "`jwt`: `iss`."),
        Key::new("audience", Kind::Text, Unset, "`jwt`: `aud`, or one of several there."),
        Key::new("subject", Kind::Text, Unset, "`jwt`: `sub` of the one that alone may send; any otherwise."),
        Key::new(
            "algorithms",
            Kind::List(&Kind::Choice(&[
                "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
            ])),
            Words("RS256, ES256 and EdDSA"),
            "`jwt`: what tokens may be signed with.",
        ),
    ],
};

static VERIFY_ID: Section = Section {
    about: "Where the sender's id of the event is: a second event with the same one is a repeat.",
    exactly_one: true,
    keys: &[
        Key::new("header", Kind::HeaderName, Unset, "A header."),
        Key::new("pointer", Kind::Text, Unset, "A JSON pointer into the body, as in `/event/id`."),
    ],
};
