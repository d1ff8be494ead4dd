//! The proxy that requests leave by, where the configuration names one; the environment never does.
//!
//! Requests to public places pass it; those of a grant with `private = true` go directly, for they stay on this side of
//! it. The proxy looks names up itself, so what a name leads to is checked here only as far as it can be looked up here.

use url::Url;

/// `[host.proxy] url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    url: Url,
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
                "leave out user and password: the file holds no secrets, and the host shows none to a proxy; let the proxy know this machine by its address",
            );
        }
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        match url.scheme() {
            "http" | "https" if url.has_host() && is_bare => Ok(Self { url }),
            _ => Err(FORM),
        }
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
