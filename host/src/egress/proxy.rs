//! The proxy that requests leave by, where the configuration names one; the environment never does.
//!
//! Requests to public places pass it; those of a grant with `private = true` go directly, for they stay on this side of
//! it. The proxy looks names up itself, so what a name leads to is checked here only as far as it can be looked up here.

use url::Url;

/// `[host.proxy]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    url: Url,
    credential: Option<Credential>,
}

/// Who the host is to a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The user's name, in the clear.
    pub user: String,
    /// Name of the secret that is the password.
    pub password: String,
}

impl Proxy {
    /// Checks what an operator wrote.
    ///
    /// # Errors
    /// The text says what is allowed; it repeats nothing of the input.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "write it as \"http://proxy.example:3128\": a scheme, a host and a port";
        let url = Url::parse(text).map_err(|_| FORM)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "leave out user and password, for the file holds no secrets: name them as `auth = { basic = { user = \"NAME\", password = \"SECRET\" } }`, an entry of `[secrets]`",
            );
        }
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        match url.scheme() {
            "http" | "https" if url.has_host() && is_bare => Ok(Self { url, credential: None }),
            _ => Err(FORM),
        }
    }

    /// The same, where the proxy wants to know who asks.
    #[must_use]
    pub fn with_credential(self, credential: Option<Credential>) -> Self {
        Self { credential, ..self }
    }

    /// What it is shown.
    #[must_use]
    pub fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The one name that a client behind the proxy looks up.
    pub(super) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_scheme_a_host_and_a_port() {
        for text in ["http://proxy.example:3128", "http://10.0.0.1:3128/", "https://proxy.example"] {
            assert!(Proxy::parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "proxy.example:3128",
            "socks5://proxy.example:1080",
            "http://user:pass@proxy.example:3128",
            "http://proxy.example/path",
            "http://proxy.example?x",
        ] {
            assert!(Proxy::parse(text).is_err(), "{text}");
        }
    }
}
