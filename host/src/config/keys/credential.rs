//! Keys of credentials, for receivers, for the collector of traces and for the proxy, and of placeholders for secrets.

use super::super::schema::Default::{Is, Required, Unset, Words};
use super::super::schema::{Key, Kind, Section};
use super::{HOUR, SECOND};

pub(super) static HOST_PROXY_AUTH: Section = Section {
    about: "The credential for the proxy. It is in the clear on the way there unless `url` begins with `https`.",
    exactly_one: true,
    keys: &[Key::new("basic", Kind::Table(&HOST_PROXY_AUTH_BASIC), Unset, "`Proxy-Authorization: Basic`.")],
};

static HOST_PROXY_AUTH_BASIC: Section = Section {
    about: "`Proxy-Authorization: Basic`, which the proxy alone is shown.",
    exactly_one: false,
    keys: &[
        Key::new("user", Kind::Text, Required, "The user's name, in the clear."),
        Key::new("password", Kind::SecretName, Required, "The secret that is the password."),
    ],
};

pub(super) static AUTH: Section = Section {
    about: "The credential of a grant: exactly one of these.",
    exactly_one: true,
    keys: &[
        Key::new("bearer", Kind::SecretName, Unset, "`Authorization: Bearer` and the secret's value."),
        Key::new("basic", Kind::Table(&AUTH_BASIC), Unset, "`Authorization: Basic`."),
        Key::new("header", Kind::Table(&AUTH_HEADER), Unset, "A header."),
        Key::new("query", Kind::Table(&AUTH_QUERY), Unset, "A query parameter."),
        Key::new(
            "hmac",
            Kind::Table(&AUTH_HMAC),
            Unset,
            "A signature over the body, or more of the request, in a header.",
        ),
        Key::new(
            "oauth2",
            Kind::Table(&AUTH_OAUTH2),
            Unset,
            "A token from a token endpoint, as `Authorization: Bearer`.",
        ),
        Key::new("aws_sigv4", Kind::Table(&AUTH_AWS_SIGV4), Unset, "AWS Signature Version 4."),
        Key::new("mtls", Kind::Table(&AUTH_MTLS), Unset, "A client certificate."),
    ],
};

static AUTH_MTLS: Section = Section {
    about: "The certificate that the host shows to servers that ask for one.",
    exactly_one: false,
    keys: &[
        Key::new(
            "cert",
            Kind::Path,
            Required,
            "A PEM file with the certificate and those that lead to its root. It is read again when the key changes.",
        ),
        Key::new("key", Kind::SecretName, Required, "The secret that is the private key, as PEM."),
    ],
};

pub(super) static AUTH_BASIC: Section = Section {
    about: "`Authorization: Basic`.",
    exactly_one: false,
    keys: &[
        Key::new("user", Kind::Text, Required, "The user's name, in the clear."),
        Key::new("password", Kind::SecretName, Required, "The secret that is the password."),
    ],
};

pub(super) static AUTH_HEADER: Section = Section {
    about: "A header with the secret's value.",
    exactly_one: false,
    keys: &[
        Key::new("name", Kind::HeaderName, Required, "The header's name."),
        Key::new("prefix", Kind::Text, Is(""), "Stands before the value, as in `Token `."),
        Key::new("secret", Kind::SecretName, Required, "The secret."),
    ],
};

static AUTH_QUERY: Section = Section {
    about: "A query parameter with the secret's value.",
    exactly_one: false,
    keys: &[
        Key::new("name", Kind::Text, Required, "The parameter's name."),
        Key::new("secret", Kind::SecretName, Required, "The secret."),
    ],
};

static AUTH_HMAC: Section = Section {
    about: "A signature over the request as it is sent, in a header.",
    exactly_one: false,
    keys: &[
        Key::new("header", Kind::HeaderName, Required, "The header that carries the signature."),
        Key::new("prefix", Kind::Text, Is(""), "Stands before the signature, as in `sha256=`."),
        Key::new(
            "signed",
            Kind::Text,
            Is("{body}"),
            "What is signed: a text in which `{method}`, `{path}` (with the query), `{host}` (with a port that is not the scheme's own), `{timestamp}` (seconds since the Unix epoch) and `{body}` stand for parts of the request. Without `{body}` a body streams.",
        ),
        Key::new(
            "timestamp",
            Kind::HeaderName,
            Unset,
            "The header that carries the timestamp; where `signed` has `{timestamp}`, and only there.",
        ),
        Key::new("algorithm", Kind::Choice(&["sha256", "sha512"]), Is("sha256"), "The hash under the HMAC."),
        Key::new("encoding", Kind::Choice(&["hex", "base64"]), Is("hex"), "How the signature is written."),
        Key::new("secret", Kind::SecretName, Required, "The secret that is the key."),
    ],
};

static AUTH_OAUTH2: Section = Section {
    about: "A token from a token endpoint (OAuth 2). Connectors with the same settings share one token; it is fetched before it expires, and once more when a receiver answers 401. Without `refresh_token` and `assertion` it is asked for with the client's own credentials.",
    exactly_one: false,
    keys: &[
        Key::new(
            "token_url",
            Kind::Text,
            Required,
            "The token endpoint. A private address needs `private = true` on the grant and its port written out.",
        ),
        Key::new("client_id", Kind::Text, Required, "Who asks."),
        Key::new("client_secret", Kind::SecretName, Unset, "The secret that proves it."),
        Key::new(
            "client_auth",
            Kind::Choice(&["basic", "body"]),
            Is("basic"),
            "Where the two stand: in the `Authorization` header, or among the parameters.",
        ),
        Key::new("scopes", Kind::List(&Kind::Text), Unset, "What the token shall be good for."),
        Key::new(
            "refresh_token",
            Kind::SecretName,
            Unset,
            "The secret that is the first refresh token. One that replaces it is kept in the sealed store; another value here takes over.",
        ),
        Key::new("assertion", Kind::Table(&AUTH_ASSERTION), Unset, "A signed statement that is exchanged for a token."),
    ],
};

static AUTH_ASSERTION: Section = Section {
    about: "A JWT that is exchanged for a token (RFC 7523), as service accounts do.",
    exactly_one: false,
    keys: &[
        Key::new("key", Kind::SecretName, Required, "The secret that is the private key, in PEM."),
        Key::new("algorithm", Kind::Choice(&["RS256", "ES256"]), Is("RS256"), "How it signs."),
        Key::new("key_id", Kind::Text, Unset, "`kid`, where the endpoint knows several keys."),
        Key::new("issuer", Kind::Text, Words("client_id"), "`iss`."),
        Key::new("subject", Kind::Text, Words("the issuer"), "`sub`, where the token is to be somebody else's."),
        Key::new("audience", Kind::Text, Words("token_url"), "`aud`."),
        Key::new("lifetime", Kind::Duration(SECOND, HOUR), Is("5m"), "How long the statement itself is good for."),
    ],
};

static AUTH_AWS_SIGV4: Section = Section {
    about: "AWS Signature Version 4. For S3 over TLS the body stays out of the signature, and streams.",
    exactly_one: false,
    keys: &[
        Key::new("access_key", Kind::SecretName, Required, "The secret that is the access key's id."),
        Key::new("secret_key", Kind::SecretName, Required, "The secret that is the access key."),
        Key::new("session_token", Kind::SecretName, Unset, "The secret that is the session token of temporary keys."),
        Key::new("region", Kind::Text, Required, "As in `eu-central-1`."),
        Key::new("service", Kind::Text, Required, "As in `s3` or `sqs`."),
    ],
};

pub(super) static PLACEHOLDER: Section = Section {
    about: "A place for a secret. The plugin writes the placeholder that `secrets.get` gives it; the host puts the value there, encoded for the place, in requests to this grant only.",
    exactly_one: false,
    keys: &[
        Key::new("secret", Kind::SecretName, Required, "The secret."),
        Key::new(
            "in",
            Kind::Choice(&["path", "query", "header", "body"]),
            Required,
            "The part of the request that the placeholder stands in.",
        ),
    ],
};
