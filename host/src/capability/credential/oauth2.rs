//! OAuth 2: what is asked of a token endpoint, and what its answer says (RFC 6749).
//!
//! Only texts: who sends them, and what is kept of the answers, is in `http::token`.

use std::time::Duration;

use data_encoding::BASE64;
use http::header::{AUTHORIZATION, HeaderMap};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::{Map, Value};
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::{Unattached, Unfit, Values, jwt, place};
use crate::capability::http::target::Target;
use crate::mask::Secret;

/// What the form encoding of HTML leaves as it is, without its `+` for a space.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');
/// The words for why a token is refused (RFC 6749, 8628, 8707, OpenID Connect). Any other may be what was sent, echoed.
const ERROR_WORDS: [&str; 16] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "access_denied",
    "server_error",
    "temporarily_unavailable",
    "invalid_target",
    "slow_down",
    "expired_token",
    "invalid_token",
    "interaction_required",
    "login_required",
    "consent_required",
];

/// `oauth2` of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where tokens come from.
    pub token_url: Target,
    /// Who asks.
    pub client_id: String,
    /// Name of the secret that proves it.
    pub client_secret: Option<String>,
    /// Where the two stand.
    pub client_auth: ClientAuth,
    /// What the token shall be good for.
    pub scopes: Vec<String>,
    /// What it is asked for with.
    pub flow: Flow,
}

/// Where a client's id and secret stand in a request for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// In the `Authorization` header.
    Basic,
    /// Among the parameters.
    Body,
}

/// What a token is asked for with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The client's own credentials.
    ClientCredentials,
    /// A refresh token: the name of the secret that is the first one.
    RefreshToken(String),
    /// A signed statement.
    Assertion(jwt::Settings),
}

/// A request for a token.
pub(crate) struct Asking {
    pub(crate) headers: HeaderMap,
    pub(crate) form: Zeroizing<String>,
    /// What in it nobody may get to see.
    pub(crate) proofs: Vec<Secret>,
}

/// What a token endpoint grants.
pub(crate) struct Granted {
    pub(crate) access_token: Secret,
    pub(crate) lifetime: Option<Duration>,
    /// Takes the place of the one that it was asked with.
    pub(crate) refresh_token: Option<Secret>,
}

impl Settings {
    /// All names of secrets that it needs.
    pub(super) fn secrets(&self) -> Vec<&str> {
        let flow = match &self.flow {
            Flow::ClientCredentials => None,
            Flow::RefreshToken(secret) => Some(secret),
            Flow::Assertion(assertion) => Some(&assertion.key),
        };
        self.client_secret.iter().chain(flow).map(String::as_str).collect()
    }

    /// What to send to the token endpoint; `refresh_token` is the present one of that flow.
    pub(crate) fn ask(&self, values: &Values<'_>, refresh_token: Option<&Secret>) -> Result<Asking, Unattached> {
        let scope = self.scopes.join(" ");
        let mut headers = HeaderMap::new();
        let mut form = Serializer::new(String::new());
        let mut proofs = Vec::new();
        match &self.flow {
            Flow::ClientCredentials => {
                form.append_pair("grant_type", "client_credentials");
            }
            Flow::RefreshToken(secret) => {
                let token = refresh_token.cloned().map_or_else(|| values.get(secret), Ok)?;
                form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", text(&token)?);
                proofs.push(token);
            }
            Flow::Assertion(assertion) => {
                let statement = assertion.statement(&values.get(&assertion.key)?, &scope, values.now)?;
                form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
                form.append_pair("assertion", text(&statement)?);
                proofs.push(statement);
            }
        }
        if !scope.is_empty() {
            form.append_pair("scope", &scope);
        }
        match (&self.client_secret, self.client_auth) {
            (None, _) => {
                form.append_pair("client_id", &self.client_id);
            }
            (Some(secret), client_auth) => {
                let secret = values.get(secret)?;
                match client_auth {
                    ClientAuth::Body => {
                        form.append_pair("client_id", &self.client_id);
                        form.append_pair("client_secret", text(&secret)?);
                    }
                    ClientAuth::Basic => self.place_basic(&secret, &mut headers)?,
                }
                proofs.push(secret);
            }
        }
        Ok(Asking { headers, form: Zeroizing::new(form.finish()), proofs })
    }

    /// Both halves are form-encoded first (RFC 6749, 2.3.1).
    fn place_basic(&self, secret: &Secret, headers: &mut HeaderMap) -> Result<(), Unfit> {
        let id = percent_encode(self.client_id.as_bytes(), RESERVED).to_string();
        let secret = Zeroizing::new(percent_encode(secret.expose(), RESERVED).to_string());
        let pair = Zeroizing::new([id.as_bytes(), b":", secret.as_bytes()].concat());
        let encoded = Zeroizing::new(BASE64.encode(&pair));
        place(headers, AUTHORIZATION, &[b"Basic ", encoded.as_bytes()])
    }
}

impl Granted {
    /// Reads a success; `None` where it grants nothing that can be used.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let mut answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let mut secret = |name: &str| match answer.remove(name)? {
            Value::String(text) if !text.is_empty() => Some(Secret::new(text.into_bytes())),
            _ => None,
        };
        let (access_token, refresh_token) = (secret("access_token")?, secret("refresh_token"));
        let kind = answer.get("token_type").and_then(Value::as_str);
        if kind.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return None;
        }
        // The standard wants a number; text is seen in the wild.
        let seconds = answer.get("expires_in").and_then(|it| it.as_u64().or_else(|| it.as_str()?.parse().ok()));
        Some(Self { access_token, lifetime: seconds.map(Duration::from_secs), refresh_token })
    }
}

/// The standard's word for why a token was refused, as in `invalid_grant`; nothing of the answer is shown.
pub(crate) fn error_word(body: &[u8]) -> Option<&'static str> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let word = answer["error"].as_str()?;
    ERROR_WORDS.into_iter().find(|known| *known == word)
}

fn text(secret: &Secret) -> Result<&str, Unfit> {
    std::str::from_utf8(secret.expose()).map_err(|_| Unfit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(flow: Flow, client_auth: ClientAuth) -> Settings {
        Settings {
            token_url: Target::parse("https://auth.example/token").unwrap(),
            client_id: "my id".into(),
            client_secret: Some("secret".into()),
            client_auth,
            scopes: vec!["a".into(), "b".into()],
            flow,
        }
    }

    #[test]
    fn each_flow_asks_as_the_standard_says() {
        let get = |name: &str| Ok(Secret::new(format!("{name}:1").into_bytes()));
        let values = Values { get: &get, token: None, now: 0 };
        let asking = settings(Flow::ClientCredentials, ClientAuth::Basic).ask(&values, None).unwrap();
        assert_eq!(*asking.form, "grant_type=client_credentials&scope=a+b");
        let basic = BASE64.encode(b"my%20id:secret%3A1");
        assert_eq!(asking.headers[AUTHORIZATION], format!("Basic {basic}").as_str());
        let refresh = settings(Flow::RefreshToken("first".into()), ClientAuth::Body);
        let asking = refresh.ask(&values, None).unwrap();
        let rest = "scope=a+b&client_id=my+id&client_secret=secret%3A1";
        assert_eq!(*asking.form, format!("grant_type=refresh_token&refresh_token=first%3A1&{rest}"));
        let asking = refresh.ask(&values, get("second").as_ref().ok()).unwrap();
        assert_eq!(*asking.form, format!("grant_type=refresh_token&refresh_token=second%3A1&{rest}"));
        assert_eq!(refresh.secrets(), ["secret", "first"]);
    }

    #[test]
    fn answers_are_read_and_others_grant_nothing() {
        let granted = Granted::parse(br#"{"access_token": "a", "token_type": "Bearer", "expires_in": "60"}"#).unwrap();
        assert_eq!((granted.access_token.expose(), granted.lifetime), (b"a".as_slice(), Some(Duration::from_secs(60))));
        for body in [
            "",
            "[]",
            "\"a\"",
            "null",
            "{}",
            r#"{"access_token": ""}"#,
            r#"{"access_token": "a", "token_type": "mac"}"#,
        ] {
            assert!(Granted::parse(body.as_bytes()).is_none(), "{body}");
        }
        assert_eq!(error_word(br#"{"error": "invalid_grant"}"#), Some("invalid_grant"));
        for other in [r#"{"error": "the token s3cret is bad"}"#, r#"{"error": "secret"}"#, "[]", ""] {
            assert_eq!(error_word(other.as_bytes()), None, "{other}");
        }
    }
}
