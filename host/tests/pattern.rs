//! What a grant covers, against a reader of URLs that is as careless as servers are: it decodes again and again, takes
//! backslashes for slashes, drops path parameters and resolves dots. Whatever it makes of a covered URL is covered.
#![allow(clippy::unwrap_used)]

use bulkhead_host::capability::http::header::{Owner, admit, owner};
use bulkhead_host::capability::http::pattern::{AnyHost, UrlPattern};
use bulkhead_host::capability::http::target::Target;
use proptest::prelude::*;

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

/// Paths made of what is dangerous, and of what a grant names.
fn path() -> impl Strategy<Value = String> {
    let piece = proptest::sample::select(vec![
        "/", "/", "/", "a", "b", "acme", "secret", ".", "..", "%2e", "%2E", "%252e", "%25252e", "%2f", "%2F", "%252f",
        "%5c", "%255c", ";", ";x=1", "%3b", "%00", "%0a", "%20", "*", "%2a", "%", "%2", "%c0%ae", "+", "~", "@", ":",
    ]);
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn no_reading_of_a_covered_path_leaves_the_grant(prefix in proptest::sample::select(vec!["", "/a", "/a/acme"]), path in path()) {
        let pattern = UrlPattern::parse(&format!("https://h.example{prefix}/*"), AnyHost::Refused).unwrap();
        for url in [format!("https://h.example{path}"), format!("https://h.example{prefix}{path}")] {
            let Ok(target) = Target::parse(&url) else { continue };
            if pattern.covers(&target) {
                let start = format!("{prefix}/");
                for reading in readings(target.url().path()) {
                    prop_assert!(reading.starts_with(start.as_bytes()), "{} reads as {}", url, String::from_utf8_lossy(&reading));
                }
            }
        }
    }

    #[test]
    fn what_is_covered_goes_to_the_granted_place(
        url in "https?://(h\\.example|a\\.h\\.example|H\\.EXAMPLE|h\\.example\\.|xh\\.example|[a-z.@:%\\[\\]0-9]{1,12})(:[0-9]{1,5})?(/[a-z]{0,3}){0,2}"
    ) {
        let pattern = UrlPattern::parse("https://h.example/*", AnyHost::Refused).unwrap();
        if let Ok(target) = Target::parse(&url) && pattern.covers(&target) {
            let place = url.strip_prefix("https://").and_then(|rest| rest.split('/').next()).unwrap();
            prop_assert!(["h.example", "h.example:443"].contains(&place.to_ascii_lowercase().as_str()), "{}", url);
        }
    }

    #[test]
    fn no_header_that_is_let_through_frames_or_routes_the_request(
        name in "(?i)[ \\t]?(content[-_]length|transfer[-_]encoding|connection|host|te|trailer|upgrade|proxy[-_][a-z]{1,6}|expect|keep[-_]alive|x-[a-z]{1,4})[ \\t:]?|\\PC{0,8}",
        value in "[ -~]{0,10}|\\PC{0,4}|[\\r\\n\\x00-\\x1f]{1,3}",
    ) {
        let Ok(headers) = admit([(name.as_bytes(), value.as_bytes())].into_iter()) else { return Ok(()) };
        for (name, value) in &headers {
            prop_assert_eq!(owner(name.as_str()), Owner::Plugin);
            let plain = name.as_str().to_lowercase().replace('_', "-");
            let framing = ["content-length", "transfer-encoding", "connection", "host", "te", "trailer", "upgrade", "expect", "keep-alive"];
            prop_assert!(!framing.contains(&plain.as_str()) && !plain.starts_with("proxy-"), "{}", plain);
            prop_assert!(value.as_bytes().iter().all(|byte| *byte == b'\t' || *byte >= 0x20 && *byte != 0x7f));
        }
    }
}
