//! Which request headers belong to the host.
//!
//! Names that change how a message is framed or routed are refused, so that a plugin learns about it; names that the
//! host sets anyway are overwritten. Invariant: `_` counts as `-`, because servers that follow CGI read them as one.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Headers of one request.
const HEADERS_MAX: usize = 128;
/// Names and values of all headers of one request.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Who decides about a header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The plugin.
    Plugin,
    /// The host: what a plugin says is left out.
    Host,
    /// The connection: naming it at all is refused.
    Connection,
}

/// Why headers cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// The connection's, by its name.
    Owned(String),
    /// Not well-formed, or too much.
    Malformed(&'static str),
}

/// Who decides about the header called `name`.
#[must_use]
pub fn owner(name: &str) -> Owner {
    let name = comparable(name);
    match name.as_str() {
        "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "http2-settings"
        | "expect" => Owner::Connection,
        "host" | "accept-encoding" | "content-length" | "user-agent" => Owner::Host,
        name if name.starts_with("proxy-") => Owner::Connection,
        _ => Owner::Plugin,
    }
}

/// Whether servers may take both for the same header.
#[must_use]
pub fn is_same(left: &str, right: &str) -> bool {
    comparable(left) == comparable(right)
}

/// What a plugin may say of the headers that it gave.
///
/// # Errors
/// One of them cannot be sent.
pub fn admit<'a>(given: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<HeaderMap, Unsendable> {
    let mut headers = HeaderMap::new();
    let mut bytes = 0;
    for (name, value) in given {
        bytes += name.len() + value.len();
        if bytes > HEADER_BYTES_MAX || headers.len() == HEADERS_MAX {
            return Err(Unsendable::Malformed("its headers are over 128 or 64 KiB together"));
        }
        let name =
            HeaderName::from_bytes(name).map_err(|_| Unsendable::Malformed("the name of a header is malformed"))?;
        let value =
            HeaderValue::from_bytes(value).map_err(|_| Unsendable::Malformed("the value of a header is malformed"))?;
        match owner(name.as_str()) {
            Owner::Plugin => {
                headers.append(name, value);
            }
            Owner::Host => {}
            Owner::Connection => return Err(Unsendable::Owned(name.as_str().to_owned())),
        }
    }
    Ok(headers)
}

fn comparable(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn admitted(given: &[(&str, &str)]) -> Result<Vec<(String, String)>, Unsendable> {
        let pairs = given.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let text = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
        admit(pairs).map(|headers| headers.iter().map(text).collect())
    }

    #[test]
    fn framing_and_routing_belong_to_the_connection() {
        for name in [
            "Connection",
            "keep-alive",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "transfer_encoding",
            "Upgrade",
            "HTTP2-Settings",
            "Expect",
            "Proxy-Authorization",
            "proxy-connection",
            "Proxy_Anything",
        ] {
            assert_eq!(admitted(&[(name, "x")]), Err(Unsendable::Owned(name.to_ascii_lowercase())));
        }
    }

    #[test]
    fn what_the_host_sets_is_left_out() {
        let given = [
            ("Host", "evil.example"),
            ("Accept-Encoding", "identity"),
            ("Content-Length", "0"),
            ("content_length", "0"),
            ("User-Agent", "x"),
            ("X-Mine", "1"),
            ("x-mine", "2"),
        ];
        let expected = [("x-mine", "1"), ("x-mine", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(admitted(&given), Ok(expected.to_vec()));
    }

    #[test]
    fn smuggling_is_malformed() {
        for (name, value) in [
            ("", "x"),
            (":path", "/"),
            ("a b", "x"),
            ("a\r\nb", "x"),
            ("a:", "x"),
            ("ä", "x"),
            ("x", "a\r\nTransfer-Encoding: chunked"),
            ("x", "a\nb"),
            ("x", "a\0b"),
        ] {
            assert!(matches!(admitted(&[(name, value)]), Err(Unsendable::Malformed(_))), "{name:?}: {value:?}");
        }
        let many = vec![("x", "y"); HEADERS_MAX + 1];
        assert!(matches!(admitted(&many), Err(Unsendable::Malformed(_))));
        assert!(matches!(admitted(&[("x", &"y".repeat(HEADER_BYTES_MAX))]), Err(Unsendable::Malformed(_))));
    }
}
