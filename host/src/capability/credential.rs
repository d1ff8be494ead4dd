//! Credentials that the gate attaches to requests; a plugin never sees them.
//!
//! Owns how a value is placed in a request, not where it comes from (`secret_store`). Invariant: what a plugin wrote in
//! the place of a credential is gone before the credential is placed there.

use data_encoding::BASE64;
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
    /// The name of the secret whose value is attached.
    #[must_use]
    pub fn secret(&self) -> &str {
        match self {
            Self::Bearer { secret }
            | Self::Basic { secret, .. }
            | Self::Header { secret, .. }
            | Self::Query { secret, .. } => secret,
        }
    }

    /// Places the value in a request, instead of whatever a plugin wrote there.
    ///
    /// # Errors
    /// The value does not fit.
    pub fn attach(&self, value: &Secret, headers: &mut HeaderMap, url: &mut Url) -> Result<(), Unfit> {
        match self {
            Self::Bearer { .. } => place(headers, AUTHORIZATION, &[b"Bearer ", value.expose()]),
            Self::Basic { user, .. } => {
                let pair = Zeroizing::new([user.as_bytes(), b":", value.expose()].concat());
                let encoded = Zeroizing::new(BASE64.encode(&pair));
                place(headers, AUTHORIZATION, &[b"Basic ", encoded.as_bytes()])
            }
            Self::Header { name, prefix, .. } => {
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Unfit)?;
                place(headers, name, &[prefix.as_bytes(), value.expose()])
            }
            Self::Query { name, .. } => {
                set_parameter(url, name, std::str::from_utf8(value.expose()).map_err(|_| Unfit)?);
                Ok(())
            }
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
        auth.attach(&Secret::new(value.into()), &mut headers, &mut url).unwrap();
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
        assert_eq!(auth.attach(&Secret::new(b"a\r\nb".to_vec()), &mut headers, &mut url), Err(Unfit));
        assert!(headers.is_empty());
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
