//! URLs as text: values encoded into them, and references resolved against them (RFC 3986).
//!
//! The host parses and checks every URL before it sends anything; this only builds what it will see. A full URL parser
//! would be most of a small component's size.

use std::fmt::Write;

/// Percent-encodes a value so that it stays one part of a path or one value of a query.
///
/// ```
/// use bulkhead_sdk::http::encode;
///
/// assert_eq!(encode("a/b c&d=é"), "a%2Fb%20c%26d%3D%C3%A9");
/// ```
#[must_use]
pub fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Resolves a reference, as in a `Link` or `Location` header, against the URL that it was found at.
///
/// ```
/// use bulkhead_sdk::http::join;
///
/// assert_eq!(join("https://a.example/v1/orders?page=1", "?page=2"), "https://a.example/v1/orders?page=2");
/// assert_eq!(join("https://a.example/v1/orders", "/v2/orders"), "https://a.example/v2/orders");
/// ```
#[must_use]
pub fn join(base: &str, reference: &str) -> String {
    let reference = reference.split('#').next().unwrap_or_default();
    let base = base.split('#').next().unwrap_or_default();
    if has_scheme(reference) {
        return reference.to_owned();
    }
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    if let Some(rest) = reference.strip_prefix("//") {
        return format!("{scheme}://{rest}");
    }
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(authority_end);
    let (path, query) = split_query(target);
    let (reference_path, reference_query) = split_query(reference);
    let (path, query) = if reference_path.is_empty() {
        (path.to_owned(), if reference_query.is_empty() { query } else { reference_query })
    } else if reference_path.starts_with('/') {
        (without_dots(reference_path), reference_query)
    } else {
        let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
        (without_dots(&format!("{folder}{reference_path}")), reference_query)
    };
    format!("{scheme}://{authority}{path}{query}")
}

/// Adds one value to a URL's query, before the fragment.
pub(crate) fn push_query(url: &mut String, name: &str, value: &str) {
    let fragment = url.find('#').map(|start| url.split_off(start));
    let separator = match url.find('?') {
        None => "?",
        Some(_) if url.ends_with(['?', '&']) => "",
        Some(_) => "&",
    };
    let _ = write!(url, "{separator}{}={}", encode(name), encode(value));
    url.push_str(fragment.as_deref().unwrap_or_default());
}

fn has_scheme(reference: &str) -> bool {
    let Some((scheme, _)) = reference.split_once(':') else { return false };
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Path, and query with its question mark.
fn split_query(target: &str) -> (&str, &str) {
    target.split_at(target.find('?').unwrap_or(target.len()))
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut open_end = false;
    for segment in path.split('/').skip(1) {
        open_end = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let end = if open_end && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The normal and abnormal examples of RFC 3986, section 5.4, as far as they can be sent.
    #[test]
    fn references_resolve_as_the_rfc_says() {
        for (reference, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../g", "http://a/g"),
            ("../../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("https://other/x", "https://other/x"),
        ] {
            assert_eq!(join("http://a/b/c/d;p?q", reference), expected, "{reference}");
        }
    }

    #[test]
    fn a_base_without_a_path_gets_one() {
        assert_eq!(join("https://a.example", "x"), "https://a.example/x");
        assert_eq!(join("https://a.example?x=1", "?x=2"), "https://a.example?x=2");
    }

    #[test]
    fn queries_grow() {
        let mut url = "https://a.example/x#top".to_owned();
        push_query(&mut url, "a b", "1&2");
        push_query(&mut url, "c", "");
        assert_eq!(url, "https://a.example/x?a%20b=1%262&c=#top");
    }
}
