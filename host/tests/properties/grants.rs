//! What a grant covers, against a reader of URLs that is as careless as servers are: it decodes again and again, takes
//! backslashes for slashes, drops path parameters and resolves dots. Whatever it makes of a covered URL is covered.

use bulkhead_host::capability::http::pattern::{AnyHost, UrlPattern};
use bulkhead_host::capability::http::target::Target;

/// No reading of the URL's path leaves what `https://h.example{prefix}/*` grants.
pub fn check_path(prefix: &str, url: &str) {
    let Ok(pattern) = UrlPattern::parse(&format!("https://h.example{prefix}/*"), AnyHost::Refused) else { return };
    let Ok(target) = Target::parse(url) else { return };
    if !pattern.covers(&target) {
        return;
    }
    let start = format!("{prefix}/");
    for reading in readings(target.url().path()) {
        let read = String::from_utf8_lossy(&reading);
        assert!(reading.starts_with(start.as_bytes()), "{url} reads as {read}, which leaves {start}");
    }
}

/// A URL that `https://h.example/*` covers goes there, as it is written.
pub fn check_place(url: &str) {
    let pattern = UrlPattern::parse("https://h.example/*", AnyHost::Refused).unwrap();
    let Ok(target) = Target::parse(url) else { return };
    if pattern.covers(&target) {
        let rest = url.get("https://".len()..).filter(|_| url[..8].eq_ignore_ascii_case("https://"));
        let place = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        assert!(["h.example", "h.example:443"].contains(&place.to_ascii_lowercase().as_str()), "{url}");
    }
}

/// More often than any server decodes.
const DECODINGS: usize = 5;

/// Every path that some server may read in this one.
fn readings(path: &str) -> Vec<Vec<u8>> {
    let mut bytes = path.as_bytes().to_vec();
    let mut all = vec![resolve(&bytes)];
    for _ in 0..DECODINGS {
        bytes = decode(&bytes);
        all.push(resolve(&bytes));
    }
    all
}

fn decode(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut parts = text.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => decoded.extend([&[byte], &part.as_bytes()[2..]].concat()),
            None => decoded.extend([b"%", part.as_bytes()].concat()),
        }
    }
    decoded
}

fn resolve(bytes: &[u8]) -> Vec<u8> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for segment in bytes.split(|byte| matches!(byte, b'/' | b'\\')).skip(1) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        match name {
            b"." => {}
            b".." => drop(kept.pop()),
            name => kept.push(name.to_vec()),
        }
    }
    [b"/".as_slice(), &kept.join(&b'/')].concat()
}
