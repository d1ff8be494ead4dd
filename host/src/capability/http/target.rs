//! A URL, parsed once: the only parser, for what an operator grants and for what a plugin asks.
//!
//! Two parsers that disagree are how filters are passed, so everything that could be read in two ways is refused instead
//! of repaired: user information, backslashes, anything outside printable ASCII, odd spellings of addresses and ports,
//! dot segments in every encoding. Invariant: the [`Url`] inside says exactly what was written, and is what is sent.

use std::net::IpAddr;
use std::str::FromStr;

use url::Url;

/// Longest URL: servers rarely take more.
pub(super) const URL_BYTES_MAX: usize = 8 * 1024;
/// Longest host name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// The schemes that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The host of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name, lower case, internationalised labels as punycode.
    Name(String),
    /// An address; it is never looked up, so it is classified where it is found.
    Address(IpAddr),
}

/// An absolute http or https URL that reads in one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    url: Url,
    scheme: Scheme,
    host: Host,
    port: u16,
    names_port: bool,
}

impl Target {
    /// Parses what was written. A fragment is dropped: it is never sent.
    ///
    /// # Errors
    /// A fixed text that says what is not allowed; it repeats nothing of the input.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        check_characters(text)?;
        let (scheme, rest) = split_scheme(text)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let (host_text, port) = split_authority(authority)?;
        check_path(tail.split(['?', '#']).next().unwrap_or_default())?;
        let mut url = Url::parse(text).map_err(|_| "it is not a URL")?;
        url.set_fragment(None);
        let host = read_host(&url, host_text)?;
        Ok(Self { url, scheme, host, port: port.unwrap_or(scheme.port()), names_port: port.is_some() })
    }

    /// The URL as it is sent.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// http or https.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The host as it stands in the URL.
    #[must_use]
    pub fn host_text(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The port, the scheme's own where none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port: what answers, whatever is asked for.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host_text(), self.port)
    }

    /// Whether the port is written out.
    #[must_use]
    pub fn names_port(&self) -> bool {
        self.names_port
    }

    /// What lies between the slashes of the path; never empty.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.url.path().strip_prefix('/').unwrap_or_default().split('/')
    }

    /// The URL without its query, for texts and logs: a query may carry what nobody should read there.
    #[must_use]
    pub fn display(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        shorten(url.as_str())
    }
}

/// Whether every server reads this segment as one plain name, however often it decodes it: no slash, backslash or
/// control character, not `.` or `..`, also not before path parameters (`..;x`).
#[must_use]
pub fn is_plain(segment: &str) -> bool {
    /// Servers that decode twice exist, more often does not happen; what is deeper is refused.
    const DEPTH_MAX: usize = 3;
    let mut bytes = segment.as_bytes().to_vec();
    for _ in 0..=DEPTH_MAX {
        let name = bytes.split(|byte| *byte == b';').next().unwrap_or_default();
        if matches!(name, b"." | b"..") || bytes.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0..=0x1f | 0x7f)) {
            return false;
        }
        let decoded = decode(&bytes);
        if decoded == bytes {
            return true;
        }
        bytes = decoded;
    }
    false
}

/// At most 200 characters of something that a guest wrote.
#[must_use]
pub fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn check_characters(text: &str) -> Result<(), &'static str> {
    if text.len() > URL_BYTES_MAX {
        return Err("it is longer than 8 KiB");
    }
    if text.contains('\\') {
        return Err("it contains a backslash");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "only printable ASCII without spaces is allowed: percent-encode paths, write host names as punycode",
        );
    }
    Ok(())
}

fn split_scheme(text: &str) -> Result<(Scheme, &str), &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("it is not absolute: begin with `https://`")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err("only `https` and `http` are allowed"),
    };
    Ok((scheme, rest))
}

fn split_authority(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    if authority.contains('@') {
        return Err("it carries a user or a password: grant a credential with `auth` instead");
    }
    if authority.contains('%') {
        return Err("its host is percent-encoded");
    }
    // The colons of an IPv6 address stand between brackets.
    let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = authority[host_end..].find(':') else { return Ok((authority, None)) };
    let (host, port) = (&authority[..host_end + colon], &authority[host_end + colon + 1..]);
    let is_canonical = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
    match u16::from_str(port) {
        Ok(port) if is_canonical => Ok((host, Some(port))),
        Ok(_) | Err(_) => Err("its port is not a number from 1 to 65535"),
    }
}

/// Compares what the parser understood with what was written: a difference means that another parser may differ too.
fn read_host(url: &Url, written: &str) -> Result<Host, &'static str> {
    match url.host() {
        Some(url::Host::Domain(name)) if name == written.to_ascii_lowercase() => {
            check_name(name)?;
            Ok(Host::Name(name.to_owned()))
        }
        Some(url::Host::Ipv4(address)) if address.to_string() == written => Ok(Host::Address(address.into())),
        Some(url::Host::Ipv6(address)) => Ok(Host::Address(address.into())),
        Some(url::Host::Ipv4(_)) => Err("its address is spelled oddly: write four decimal numbers"),
        Some(url::Host::Domain(_)) | None => Err("its host is not a name"),
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    if name.len() <= HOST_BYTES_MAX && name.split('.').all(is_label) {
        Ok(())
    } else {
        Err("its host is not a name: letters, digits, `-` and `_` between single dots, no dot at the end")
    }
}

/// The parser would resolve dot segments, and a server behind a proxy may resolve them once more.
fn check_path(path: &str) -> Result<(), &'static str> {
    let is_dots = |segment: &str| {
        let decoded = decode(segment.as_bytes());
        matches!(decoded.split(|byte| *byte == b';').next(), Some(b"." | b".."))
    };
    if path.split('/').any(is_dots) {
        return Err("its path contains `.` or `..`: write it without them");
    }
    if decode(path.as_bytes()).iter().any(u8::is_ascii_control) {
        return Err("its path contains an encoded control character");
    }
    Ok(())
}

/// Percent-decodes once; what is not a code stays.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let code = tail.first_chunk::<2>().and_then(|[high, low]| Some(hex(*high)? * 16 + hex(*low)?));
        match (*first, code) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                rest = &tail[2..];
            }
            (byte, _) => decoded.push(byte),
        }
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_reads_in_one_way_is_taken() {
        for (text, host, port) in [
            ("https://api.example.com/x?y=%2e%2e#part", "api.example.com", 443),
            ("HTTP://API.Example.com:8080", "api.example.com", 8080),
            ("http://127.0.0.1:80/", "127.0.0.1", 80),
            ("http://[::1]:9000/a/b", "[::1]", 9000),
            ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443),
            ("https://a_b.example/acme%2Fshop", "a_b.example", 443),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.host_text(), target.port()), (host, port), "{text}");
            assert_eq!(target.url().fragment(), None);
        }
    }

    /// Every one of these means something else to some parser, or nothing at all.
    const READS_IN_TWO_WAYS: [&str; 71] = [
        "",
        "api.example.com",
        "//api.example.com/",
        "/path",
        "https:api.example.com",
        "https:/api.example.com",
        "https:///api.example.com",
        "ftp://api.example.com/",
        "file:///etc/passwd",
        "javascript://a/",
        "https://user@api.example.com/",
        "https://user:pass@api.example.com/",
        "https://@api.example.com/",
        "https://api.example.com@evil.example/",
        "https://api.example.com\\@evil.example/",
        "https:\\\\api.example.com",
        "https://api.example.com/a\\b",
        "https://api.example.com/a b",
        " https://api.example.com/",
        "https://api.example.com/\n",
        "https://api.exam\tple.com/",
        "https://api.example.com/\u{0}",
        "https://api.example.com/\u{7f}",
        "https://api.example.com/ä",
        "https://äpi.example.com/",
        "https://api。example。com/",
        "https://ａpi.example.com/",
        "https://①②⑦.0.0.1/",
        "https://api%2eexample.com/",
        "https://%61pi.example.com/",
        "https://api.example.com./",
        "https://api..example.com/",
        "https://.example.com/",
        "https://api.example.com:/",
        "https://api.example.com:0/",
        "https://api.example.com:0443/",
        "https://api.example.com:+443/",
        "https://api.example.com:65536/",
        "https://api.example.com:44a/",
        "https://api.example.com:443:443/",
        "https://api!.example.com/",
        "https://api*.example.com/",
        "https://",
        "https://?x",
        "http://127.1/",
        "http://127.0.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://127.0.0.01/",
        "http://127.0.0.1./",
        "http://127.0.0.256/",
        "http://1.2.3.4.5/",
        "http://[::1",
        "http://[::1]x/",
        "http://[::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[127.0.0.1]/",
        "http://::1/",
        "https://api.example.com/a/../b",
        "https://api.example.com/a/./b",
        "https://api.example.com/..",
        "https://api.example.com/a/%2e%2e/b",
        "https://api.example.com/a/%2E./b",
        "https://api.example.com/a/.%2e",
        "https://api.example.com/a/%2e/b",
        "https://api.example.com/a/..;x=1/b",
        "https://api.example.com/a/..%3bx/b",
        "https://api.example.com/a%00b",
        "https://api.example.com/a%0d%0aHost:b",
    ];

    #[test]
    fn what_reads_in_two_ways_is_refused() {
        for text in READS_IN_TWO_WAYS {
            assert!(Target::parse(text).is_err(), "{text:?}");
        }
        assert!(Target::parse(&format!("https://api.example.com/{}", "a".repeat(9000))).is_err());
    }

    #[test]
    fn a_plain_segment_stays_one_segment_however_often_it_is_decoded() {
        for segment in ["", "a", "a.b", "...", "a%20b", "100%25", "%C3%A4", "a;x=..", "50%"] {
            assert!(is_plain(segment), "{segment}");
        }
        for segment in [
            ".",
            "..",
            "%2e%2e",
            "a%2fb",
            "a%5Cb",
            "%252e%252e",
            "a%252Fb",
            "%25252f",
            "..;a",
            "%00",
            "%2525252525252f",
        ] {
            assert!(!is_plain(segment), "{segment}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_sent_reads_as_what_was_asked(text in "(http|https)://[a-z0-9.:\\[\\]-]{1,20}(/[!-~]{0,20})?|[ -~]{0,40}|\\PC{0,20}") {
            if let Ok(target) = Target::parse(&text) {
                let again = Target::parse(target.url().as_str()).unwrap();
                assert_eq!((again.url(), again.host(), again.port()), (target.url(), target.host(), target.port()));
                assert!(target.segments().next().is_some());
            }
        }
    }
}
