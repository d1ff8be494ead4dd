//! Credentials that the gate attaches to requests; a plugin never sees them.
//!
//! Owns how a value is placed in a request, not where it comes from (`secret_store`). Invariant: what a plugin wrote in
//! the place of a credential is gone before the credential is placed there.

pub mod hmac;
pub mod jwt;
pub mod oauth2;
pub mod placeholder;
pub(crate) mod scrub;
pub mod sigv4;

use data_encoding::BASE64;
use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::http::header::{Owner, is_same, owner};
use crate::mask::Secret;

/// `auth` of an http grant; the strings in `secret` positions are names in `[secrets]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer VALUE`.
    Bearer {
        /// Name of the secret.
        secret: String,
    },
    /// `Authorization: Basic base64(user:VALUE)`.
    Basic {
        /// The user's name, in the clear.
        user: String,
        /// Name of the secret that is the password.
        secret: String,
    },
    /// A header of any name.
    Header {
        /// The header's name.
        name: String,
        /// Stands before the value, as in `Token `.
        prefix: String,
        /// Name of the secret.
        secret: String,
    },
    /// A query parameter.
    Query {
        /// The parameter's name.
        name: String,
        /// Name of the secret.
        secret: String,
    },
    /// A signature over the request, in a header.
    Hmac(hmac::Settings),
    /// `Authorization: Bearer` with a token of a token endpoint.
    Oauth2(Box<oauth2::Settings>),
    /// AWS Signature Version 4.
    AwsSigv4(sigv4::Settings),
}

/// A request that is ready but for its credential.
pub(crate) struct Draft<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a mut HeaderMap,
    pub(crate) url: &'a mut Url,
    /// What is known of its body.
    pub(crate) body: sigv4::Payload<'a>,
}

/// What a credential is made of.
pub(crate) struct Values<'a> {
    /// The present value of a secret.
    pub(crate) get: &'a (dyn Fn(&str) -> Result<Secret, String> + Sync),
    /// The present token, for `oauth2`.
    pub(crate) token: Option<&'a Secret>,
    /// Seconds since the Unix epoch.
    pub(crate) now: i64,
}

impl Values<'_> {
    pub(crate) fn get(&self, name: &str) -> Result<Secret, Unattached> {
        (self.get)(name).map_err(|problem| Unattached::Missing { name: name.to_owned(), problem })
    }
}

/// Why a credential cannot be attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unattached {
    /// The secret of this name has no value at the moment.
    #[error("the secret `{name}` has no value: {problem}")]
    Missing {
        /// Of the secret.
        name: String,
        /// Why.
        problem: String,
    },
    /// A value cannot stand where it belongs.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// What an operator may set of an `auth` beside the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Of `basic`.
    User,
    /// The name of a header, well-formed.
    Header,
    /// What stands before the value in a header.
    Prefix,
    /// The name of a query parameter.
    Parameter,
}

impl Setting {
    /// Checks what was written.
    ///
    /// # Errors
    /// What is wrong and what is allowed; it repeats nothing of the text.
    pub fn check(self, text: &str) -> Result<(), &'static str> {
        match self {
            Self::User if text.contains(':') => Err("a user's name cannot hold a colon: HTTP has no way to send it"),
            Self::User if text.contains(char::is_control) => Err("a user's name cannot hold control characters"),
            Self::Header if owner(text) != Owner::Plugin => {
                Err("this header frames or routes the request: the host sets it, and it carries no credential")
            }
            Self::Prefix if HeaderValue::from_str(text).is_err() => {
                Err("not allowed in a header: use visible ASCII characters and spaces")
            }
            Self::Parameter if text.is_empty() => Err("the name of the parameter is empty"),
            Self::User | Self::Header | Self::Prefix | Self::Parameter => Ok(()),
        }
    }
}

/// The value does not fit the place where it belongs, as a line break in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret's value cannot stand where the grant wants it")]
pub struct Unfit;

impl Auth {
    /// The names of all secrets that it needs.
    #[must_use]
    pub fn secrets(&self) -> Vec<&str> {
        match self {
            Self::Bearer { secret }
            | Self::Basic { secret, .. }
            | Self::Header { secret, .. }
            | Self::Query { secret, .. } => vec![secret],
            Self::Hmac(hmac) => vec![&hmac.secret],
            Self::Oauth2(oauth2) => oauth2.secrets(),
            Self::AwsSigv4(aws) => {
                let keys = [&aws.access_key, &aws.secret_key];
                keys.into_iter().chain(&aws.session_token).map(String::as_str).collect()
            }
        }
    }

    /// Whether the whole body must be known before the first byte is sent: to sign it, or to send it once more.
    #[must_use]
    pub fn needs_body(&self, url: &Url) -> bool {
        match self {
            Self::Bearer { .. } | Self::Basic { .. } | Self::Header { .. } | Self::Query { .. } => false,
            Self::Hmac(hmac) => hmac.signed.has_body(),
            Self::Oauth2(_) => true,
            Self::AwsSigv4(aws) => !aws.is_body_unsigned(url),
        }
    }

    /// Attaches the credential, instead of whatever a plugin wrote in its place; answers the values that were used.
    pub(crate) fn apply(&self, values: &Values<'_>, draft: &mut Draft<'_>) -> Result<Vec<Secret>, Unattached> {
        match self {
            Self::Bearer { secret } => {
                let value = values.get(secret)?;
                place(draft.headers, AUTHORIZATION, &[b"Bearer ", value.expose()])?;
                Ok(vec![value])
            }
            Self::Basic { user, secret } => {
                let value = values.get(secret)?;
                let pair = Zeroizing::new([user.as_bytes(), b":", value.expose()].concat());
                let encoded = Zeroizing::new(BASE64.encode(&pair));
                place(draft.headers, AUTHORIZATION, &[b"Basic ", encoded.as_bytes()])?;
                // What is sent is as good as the password, however short that is.
                Ok(vec![value, Secret::new(encoded.as_bytes().to_vec())])
            }
            Self::Header { name, prefix, secret } => {
                let (value, name) = (values.get(secret)?, HeaderName::from_bytes(name.as_bytes()).map_err(|_| Unfit)?);
                place(draft.headers, name, &[prefix.as_bytes(), value.expose()])?;
                Ok(vec![value])
            }
            Self::Query { name, secret } => {
                let value = values.get(secret)?;
                set_parameter(draft.url, name, std::str::from_utf8(value.expose()).map_err(|_| Unfit)?);
                Ok(vec![value])
            }
            Self::Hmac(hmac) => {
                let key = values.get(&hmac.secret)?;
                hmac.sign(&key, draft, values.now)?;
                Ok(vec![key])
            }
            Self::Oauth2(_) => {
                let token = values.token.cloned().ok_or(Unfit)?;
                place(draft.headers, AUTHORIZATION, &[b"Bearer ", token.expose()])?;
                Ok(vec![token])
            }
            Self::AwsSigv4(aws) => aws.attach(values, draft),
        }
    }
}

fn place(headers: &mut HeaderMap, name: HeaderName, parts: &[&[u8]]) -> Result<(), Unfit> {
    let shadows: Vec<HeaderName> = headers.keys().filter(|key| is_same(key.as_str(), name.as_str())).cloned().collect();
    for shadow in shadows {
        headers.remove(shadow);
    }
    let joined = Zeroizing::new(parts.concat());
    let mut value = HeaderValue::from_bytes(&joined).map_err(|_| Unfit)?;
    // Keeps it out of debug texts, and out of the compression tables of HTTP/2.
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// The other parameters stay as the plugin encoded them: a signature may depend on it.
fn set_parameter(url: &mut Url, name: &str, value: &str) {
    let is_other = |pair: &&str| {
        let given = form_urlencoded::parse(pair.as_bytes()).next();
        !pair.is_empty() && !given.is_some_and(|(given, _)| given.eq_ignore_ascii_case(name))
    };
    let mut query: Vec<String> =
        url.query().unwrap_or_default().split('&').filter(is_other).map(str::to_owned).collect();
    query.push(form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish());
    url.set_query(Some(&query.join("&")));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn apply(auth: &Auth, value: &str, headers: &mut HeaderMap, url: &mut Url) -> Result<Vec<Secret>, Unattached> {
        let get = |_: &str| Ok(Secret::new(value.into()));
        let values = Values { get: &get, token: None, now: 0 };
        auth.apply(&values, &mut Draft { method: &Method::GET, headers, url, body: sigv4::Payload::Known(b"") })
    }

    fn attached(
        auth: &Auth,
        value: &str,
        given: &[(&'static str, &str)],
        url: &str,
    ) -> (Vec<(String, String)>, String) {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let mut url = Url::parse(url).unwrap();
        apply(auth, value, &mut headers, &mut url).unwrap();
        let text = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
        (headers.iter().map(text).collect(), url.to_string())
    }

    fn header(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn a_header_credential_replaces_every_header_that_could_pass_for_it() {
        let given = [("authorization", "mine"), ("authorization", "again")];
        let bearer = Auth::Bearer { secret: "s".into() };
        assert_eq!(attached(&bearer, "v", &given, "https://a.example/").0, header("authorization", "Bearer v"));
        let basic = Auth::Basic { user: "user".into(), secret: "s".into() };
        assert_eq!(
            attached(&basic, "pass", &given, "https://a.example/").0,
            header("authorization", "Basic dXNlcjpwYXNz")
        );
        let token = Auth::Header { name: "X-Api-Key".into(), prefix: "Token ".into(), secret: "s".into() };
        let given = [("x-api-key", "mine"), ("x_api_key", "mine"), ("x-api_key", "mine")];
        assert_eq!(attached(&token, "v", &given, "https://a.example/").0, header("x-api-key", "Token v"));
    }

    #[test]
    fn a_query_credential_replaces_its_parameter_and_leaves_the_others_as_written() {
        let auth = Auth::Query { name: "key".into(), secret: "s".into() };
        for (given, expected) in [
            ("https://a.example/x", "https://a.example/x?key=a+b%26c"),
            ("https://a.example/x?q=%7e+%20&z", "https://a.example/x?q=%7e+%20&z&key=a+b%26c"),
            ("https://a.example/x?key=1&k%65y=2&KEY=3&q=4", "https://a.example/x?q=4&key=a+b%26c"),
        ] {
            assert_eq!(attached(&auth, "a b&c", &[], given).1, expected);
        }
    }

    #[test]
    fn a_value_that_would_break_a_header_is_refused() {
        let auth = Auth::Bearer { secret: "s".into() };
        let (mut headers, mut url) = (HeaderMap::new(), Url::parse("https://a.example/").unwrap());
        assert_eq!(apply(&auth, "a\r\nb", &mut headers, &mut url), Err(Unfit.into()));
        assert!(headers.is_empty());
    }

    #[test]
    fn a_body_is_held_only_where_it_must_be_known() {
        let aws = |service: &str| {
            Auth::AwsSigv4(sigv4::Settings {
                access_key: "a".into(),
                secret_key: "b".into(),
                session_token: None,
                region: "r".into(),
                service: service.into(),
            })
        };
        let (tls, plain) = ("https://a.example/", "http://10.0.0.1:80/");
        for (auth, url, expected) in [
            (Auth::Bearer { secret: "s".into() }, tls, false),
            (aws("s3"), tls, false),
            (aws("s3"), plain, true),
            (aws("sqs"), tls, true),
        ] {
            assert_eq!(auth.needs_body(&Url::parse(url).unwrap()), expected, "{auth:?} {url}");
        }
    }

    #[test]
    fn odd_settings_are_refused() {
        for (setting, text) in [
            (Setting::Header, "Host"),
            (Setting::Header, "proxy-authorization"),
            (Setting::Header, "Content_Length"),
            (Setting::Prefix, "a\nb"),
            (Setting::User, "a:b"),
            (Setting::User, "a\nb"),
            (Setting::Parameter, ""),
        ] {
            assert!(setting.check(text).is_err(), "{setting:?}: {text:?}");
        }
        assert_eq!((Setting::Header.check("X-Api-Key"), Setting::Prefix.check("Token ")), (Ok(()), Ok(())));
    }
}
