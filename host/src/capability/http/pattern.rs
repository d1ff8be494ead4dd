//! The URL pattern of a grant.
//!
//! | part | written | covers |
//! | --- | --- | --- |
//! | scheme | `https://`, `http://` | that scheme |
//! | host | `api.example.com` | that name |
//! | | `*.example.com` | exactly one more label in front |
//! | | `10.0.0.5:8080`, `[fd00::5]:8080` | that address; the port must be written |
//! | | `*` | every host on every port; only with `any = true` |
//! | port | none | the scheme's own |
//! | path | none | every path |
//! | | `/a/b` | exactly that path |
//! | | `/a/*` | everything below `/a/`, at any depth |
//! | | `/a/*/b` | any one segment in the middle |
//!
//! The query of a request is not matched. A `*` never covers a segment that a server could read as another path
//! (`%2f`, `%5c`, dots, also encoded twice); a pattern may spell such a segment out (`/projects/acme%2Fshop/*`).

use std::fmt;

use super::target::{Host, Scheme, Target, is_plain};

/// Scheme, host (exact or with a leading wildcard label), port and path prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPattern {
    text: String,
    scheme: Scheme,
    host: HostPattern,
    port: PortPattern,
    path: PathPattern,
}

/// Whether the operator wrote `any = true`, without which `https://*` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnyHost {
    /// Written out.
    Allowed,
    /// Not written.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum HostPattern {
    Any,
    Exact(Host),
    /// `.example.com`: one label stands before it.
    Below(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortPattern {
    Any,
    Default(u16),
    Written(u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PathPattern {
    Every,
    Exact(Vec<Segment>),
    Below(Vec<Segment>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    AnyOne,
}

impl UrlPattern {
    /// Checks a pattern that an operator wrote.
    ///
    /// # Errors
    /// The text says what is wrong and what is allowed; it repeats nothing of the pattern, which may hold a password.
    pub fn parse(text: &str, any: AnyHost) -> Result<Self, String> {
        let wrong = |what: &str| format!("not a URL pattern: {what}");
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("begin with `https://` or `http://`"))?;
        if rest.contains(['?', '#']) {
            return Err(wrong("leave out the query, it is not matched, and the fragment, it is never sent"));
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (wildcard, authority) = Wildcard::split(authority);
        if authority.contains('*') {
            return Err(wrong("in a host, `*` stands for one whole label in front, as in `https://*.example.com`"));
        }
        let target = Target::parse(&format!("{scheme}://{authority}{path}")).map_err(wrong)?;
        let host = wildcard.host(&target, any).map_err(wrong)?;
        let port = match (target.names_port(), &host) {
            (true, _) => PortPattern::Written(target.port()),
            (false, HostPattern::Any) => PortPattern::Any,
            (false, HostPattern::Exact(Host::Address(_))) => {
                return Err(wrong("write the port of an address, as in `http://10.0.0.5:8080/`"));
            }
            (false, HostPattern::Exact(Host::Name(_)) | HostPattern::Below(_)) => PortPattern::Default(target.port()),
        };
        let path = if path.is_empty() { PathPattern::Every } else { PathPattern::parse(&target).map_err(wrong)? };
        Ok(Self { text: text.to_owned(), scheme: target.scheme(), host, port, path })
    }

    /// http or https.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether host and port are written out, as `private = true` requires.
    #[must_use]
    pub fn names_host_and_port(&self) -> bool {
        matches!((&self.host, self.port), (HostPattern::Exact(_), PortPattern::Written(_)))
    }

    /// Whether a request to `target` falls under this pattern.
    #[must_use]
    pub fn covers(&self, target: &Target) -> bool {
        self.scheme == target.scheme()
            && self.host.covers(target.host())
            && self.port.covers(target.port())
            && self.path.covers(target)
    }

    /// Whether every request that falls under `other` falls under this pattern too; `false` where that is not certain.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.host.includes(&other.host)
            && self.port.includes(other.port)
            && self.path.includes(&other.path)
    }

    /// The host, where it is one alone.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        match &self.host {
            HostPattern::Exact(host) => Some(host),
            HostPattern::Any | HostPattern::Below(_) => None,
        }
    }

    /// The same without its path: whom it is about.
    #[must_use]
    pub fn origin(&self) -> &str {
        let host_at = self.text.find("://").map_or(0, |at| at + 3);
        let bytes = self.text[host_at..].find('/').unwrap_or(self.text.len() - host_at);
        &self.text[..host_at + bytes]
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for UrlPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// The wildcard that stood in front of a host; what is left parses as a URL.
#[derive(Clone, Copy)]
enum Wildcard {
    None,
    Label,
    Host,
}

impl Wildcard {
    fn split(authority: &str) -> (Self, String) {
        if let Some(rest) = authority.strip_prefix("*.") {
            (Self::Label, rest.to_owned())
        } else if authority == "*" || authority.starts_with("*:") {
            (Self::Host, authority.replacen('*', "any", 1))
        } else {
            (Self::None, authority.to_owned())
        }
    }

    fn host(self, target: &Target, any: AnyHost) -> Result<HostPattern, &'static str> {
        match (self, target.host()) {
            (Self::None, host) => Ok(HostPattern::Exact(host.clone())),
            (Self::Label, Host::Name(name)) if name.contains('.') => Ok(HostPattern::Below(format!(".{name}"))),
            (Self::Label, _) => Err("`*.` needs at least two labels after it, as in `*.example.com`"),
            (Self::Host, _) if any == AnyHost::Allowed => Ok(HostPattern::Any),
            (Self::Host, _) => Err("it grants every host: write `any = true` beside it if that is meant"),
        }
    }
}

impl HostPattern {
    fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Exact(host)) => self.covers(host),
            (_, Self::Below(_)) => self == other,
            (_, Self::Any) => false,
        }
    }

    fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exact(granted), host) => granted == host,
            (Self::Below(suffix), Host::Name(name)) => {
                name.strip_suffix(suffix.as_str()).is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
            (Self::Below(_), Host::Address(_)) => false,
        }
    }
}

impl PortPattern {
    fn includes(self, other: Self) -> bool {
        match other {
            Self::Any => self == Self::Any,
            Self::Default(port) | Self::Written(port) => self.covers(port),
        }
    }

    fn covers(self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Default(granted) | Self::Written(granted) => granted == port,
        }
    }
}

impl PathPattern {
    fn parse(target: &Target) -> Result<Self, &'static str> {
        let mut segments = target.segments().map(Segment::parse).collect::<Result<Vec<_>, _>>()?;
        let is_open = segments.last() == Some(&Segment::AnyOne);
        if is_open {
            segments.pop();
        }
        Ok(if is_open { Self::Below(segments) } else { Self::Exact(segments) })
    }

    fn covers(&self, target: &Target) -> bool {
        let mut asked = target.segments();
        match self {
            Self::Every => true,
            Self::Exact(granted) => covers_each(granted, &mut asked) && asked.next().is_none(),
            Self::Below(granted) => {
                let mut rest = asked.by_ref().peekable();
                covers_each(granted, &mut rest) && rest.peek().is_some() && rest.all(is_plain)
            }
        }
    }
}

impl PathPattern {
    fn includes(&self, other: &Self) -> bool {
        let (rest, granted, is_open) = match (self, other) {
            (Self::Every, _) => return true,
            (_, Self::Every) | (Self::Exact(_), Self::Below(_)) => return false,
            (Self::Exact(granted), Self::Exact(asked)) => return granted.len() == asked.len() && begin(granted, asked),
            (Self::Below(granted), Self::Exact(asked)) => (asked, granted, false),
            (Self::Below(granted), Self::Below(asked)) => (asked, granted, true),
        };
        let is_below = rest.len() > granted.len() || (is_open && rest.len() == granted.len());
        is_below
            && begin(granted, rest)
            && rest[granted.len()..].iter().all(|segment| Segment::AnyOne.includes(segment))
    }
}

/// Whether each of the first segments of `asked` falls under one of `granted`.
fn begin(granted: &[Segment], asked: &[Segment]) -> bool {
    granted.len() <= asked.len() && granted.iter().zip(asked).all(|(granted, asked)| granted.includes(asked))
}

fn covers_each<'a>(granted: &[Segment], asked: &mut impl Iterator<Item = &'a str>) -> bool {
    granted.iter().all(|segment| asked.next().is_some_and(|asked| segment.covers(asked)))
}

impl Segment {
    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "*" => Ok(Self::AnyOne),
            text if text.contains('*') => Err("`*` stands for a whole segment of the path, as in `/repos/*/issues`"),
            text => Ok(Self::Literal(upper_codes(text))),
        }
    }

    fn includes(&self, other: &Self) -> bool {
        match other {
            Self::AnyOne => *self == Self::AnyOne,
            // The end of a path such as `/a/` is an empty segment, which no `*` in the middle covers.
            Self::Literal(text) => self.covers(text),
        }
    }

    fn covers(&self, asked: &str) -> bool {
        match self {
            Self::Literal(granted) => *granted == upper_codes(asked),
            Self::AnyOne => !asked.is_empty() && is_plain(asked),
        }
    }
}

/// `%2f` and `%2F` are the same code.
fn upper_codes(segment: &str) -> String {
    let mut left = 0;
    let upper = |character: char| {
        if character == '%' {
            left = 2;
            return character;
        }
        if left == 0 {
            return character;
        }
        left -= 1;
        character.to_ascii_uppercase()
    };
    segment.chars().map(upper).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(pattern: &str, covered: &[&str], not_covered: &[&str]) {
        let parsed = UrlPattern::parse(pattern, AnyHost::Allowed).unwrap();
        for url in covered {
            assert!(parsed.covers(&Target::parse(url).unwrap()), "{pattern} must cover {url}");
        }
        for url in not_covered {
            assert!(!parsed.covers(&Target::parse(url).unwrap()), "{pattern} must not cover {url}");
        }
    }

    #[test]
    fn scheme_host_and_port_are_exact() {
        check(
            "https://api.example.com",
            &["https://api.example.com", "https://API.example.com/", "https://api.example.com:443/x/y?z=1"],
            &[
                "http://api.example.com/",
                "https://api.example.com:8443/",
                "https://example.com/",
                "https://a.api.example.com/",
                "https://api.example.com.evil.example/",
                "https://evil-api.example.com/",
                "https://93.184.216.34/",
            ],
        );
        check(
            "http://10.0.0.5:8080/",
            &["http://10.0.0.5:8080", "http://10.0.0.5:8080/?q"],
            &["http://10.0.0.5/", "http://10.0.0.5:8080/x", "http://10.0.0.6:8080/", "http://[::ffff:10.0.0.5]:8080/"],
        );
        check("http://[fd00::5]:80/*", &["http://[fd00:0:0::5]:80/x", "http://[FD00::5]/x"], &["http://[fd00::6]/x"]);
    }

    #[test]
    fn a_pattern_includes_what_it_covers_all_of() {
        let parse = |text: &str| UrlPattern::parse(text, AnyHost::Allowed).unwrap();
        let check = |wide: &str, narrow: &str, expected: bool| {
            assert_eq!(parse(wide).includes(&parse(narrow)), expected, "{wide} and {narrow}");
        };
        check("https://a.example", "https://a.example/x/*", true);
        check("https://a.example/*", "https://a.example/x", true);
        check("https://a.example/x/*", "https://a.example/x/y/*", true);
        check("https://a.example/*/y", "https://a.example/x/y", true);
        check("https://*.example.com", "https://a.example.com:443/x", true);
        check("https://*", "https://a.example:8443/x", true);
        check("https://a.example/x/*", "https://a.example/x", false);
        check("https://a.example/x/*", "https://a.example/*", false);
        check("https://a.example/*", "https://a.example/a%2fb", false);
        check("https://a.example/x", "https://a.example/x/*", false);
        check("https://a.example/x", "https://a.example", false);
        check("https://a.example", "http://a.example", false);
        check("https://a.example.com", "https://*.example.com", false);
        check("https://a.example", "https://a.example:8443", false);
        check("https://a.example:443", "https://*", false);
    }

    #[test]
    fn a_leading_star_is_exactly_one_label() {
        check(
            "https://*.example.com/*",
            &["https://a.example.com/", "https://xn--bcher-kva.example.com/x"],
            &[
                "https://example.com/",
                "https://a.b.example.com/",
                "https://aexample.com/",
                "https://a.example.com.x.y/",
            ],
        );
    }

    #[test]
    fn a_star_alone_is_every_host_and_port_but_one_scheme() {
        check(
            "https://*",
            &["https://a.example/", "https://b.example:8443/x", "https://1.1.1.1/"],
            &["http://a.example/"],
        );
        check("https://*:8443", &["https://b.example:8443/x"], &["https://b.example/x"]);
        assert!(UrlPattern::parse("https://*", AnyHost::Refused).unwrap_err().contains("any = true"));
    }

    #[test]
    fn a_path_ends_at_a_segment() {
        check(
            "https://h.example/repos/acme/shop/*",
            &[
                "https://h.example/repos/acme/shop/",
                "https://h.example/repos/acme/shop/issues",
                "https://h.example/repos/acme/shop/issues/1/comments?page=2",
                "https://h.example/repos/acme/shop/a%20b/100%25",
            ],
            &[
                "https://h.example/repos/acme/shop",
                "https://h.example/repos/acme/shop-private/x",
                "https://h.example/repos/acme/shopx/issues",
                "https://h.example/repos/acme%2Fshop/issues",
                "https://h.example/Repos/acme/shop/issues",
                "https://h.example//repos/acme/shop/issues",
                "https://h.example/repos/acme/shop/x%2f..%2fsecret",
                "https://h.example/repos/acme/shop/%252e%252e/secret",
                "https://h.example/repos/acme/shop/x%5csecret",
            ],
        );
        check(
            "https://h.example/a/b",
            &["https://h.example/a/b?x"],
            &["https://h.example/a/b/", "https://h.example/a/bc"],
        );
        check("https://h.example/", &["https://h.example"], &["https://h.example/a"]);
    }

    #[test]
    fn a_star_in_the_middle_is_one_segment() {
        check(
            "https://h.example/users/*/orders",
            &["https://h.example/users/7/orders"],
            &[
                "https://h.example/users//orders",
                "https://h.example/users/7/8/orders",
                "https://h.example/users/7%2f8/orders",
                "https://h.example/users/7/orders/1",
            ],
        );
    }

    #[test]
    fn an_encoded_slash_is_covered_where_it_is_spelled_out() {
        check(
            "https://h.example/projects/acme%2fshop/*",
            &["https://h.example/projects/acme%2Fshop/issues"],
            &["https://h.example/projects/acme/shop/issues", "https://h.example/projects/acme%2Fshop/a%2Fb"],
        );
    }

    #[test]
    fn only_an_exact_host_with_its_port_may_be_private() {
        for (pattern, expected) in [
            ("http://10.0.0.5:80/", true),
            ("http://internal.example:8080/*", true),
            ("https://internal.example:443", true),
            ("https://internal.example/", false),
            ("https://*.example.com:443/", false),
            ("https://*:443/", false),
            ("https://*", false),
        ] {
            let pattern = UrlPattern::parse(pattern, AnyHost::Allowed).unwrap();
            assert_eq!(pattern.names_host_and_port(), expected, "{pattern}");
        }
    }

    #[test]
    fn odd_patterns_are_refused() {
        for pattern in [
            "",
            "*",
            "example.com",
            "*://example.com/",
            "ftp://example.com/",
            "https://",
            "https:///x",
            "https://user@example.com/",
            "https://example.com/?q=1",
            "https://example.com/#x",
            "https://*.com/",
            "https://*.10.0.0.1:80/",
            "https://a.*.com/",
            "https://a*.example.com/",
            "https://*example.com/",
            "https://**/",
            "https://*.*.example.com/",
            "https://example.com:*/",
            "https://example.com:0/",
            "https://10.0.0.5/",
            "https://[::1]/",
            "https://0x7f.1:80/",
            "https://example.com/a*",
            "https://example.com/a*b/c",
            "https://example.com/a/../b",
            "https://example.com/a/%2e%2e/*",
            "https://example.com/a b",
            "https://exämple.com/",
            "https://example.com\\x",
        ] {
            assert!(UrlPattern::parse(pattern, AnyHost::Allowed).is_err(), "{pattern}");
        }
    }
}
