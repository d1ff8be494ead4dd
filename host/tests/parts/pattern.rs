//! Grants and headers under paths, places and names made of what is dangerous: the properties are those of the fuzzers.

use crate::properties::{grants, headers};
use proptest::prelude::*;

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
        for url in [format!("https://h.example{path}"), format!("https://h.example{prefix}{path}")] {
            grants::check_path(prefix, &url);
        }
    }

    #[test]
    fn what_is_covered_goes_to_the_granted_place(
        url in "https?://(h\\.example|a\\.h\\.example|H\\.EXAMPLE|h\\.example\\.|xh\\.example|[a-z.@:%\\[\\]0-9]{1,12})(:[0-9]{1,5})?(/[a-z]{0,3}){0,2}"
    ) {
        grants::check_place(&url);
    }

    #[test]
    fn no_header_that_is_let_through_frames_or_routes_the_request(
        name in "(?i)[ \\t]?(content[-_]length|transfer[-_]encoding|connection|host|te|trailer|upgrade|proxy[-_][a-z]{1,6}|expect|keep[-_]alive|x-[a-z]{1,4})[ \\t:]?|\\PC{0,8}",
        value in "[ -~]{0,10}|\\PC{0,4}|[\\r\\n\\x00-\\x1f]{1,3}",
    ) {
        headers::check([(name.as_bytes(), value.as_bytes())].into_iter());
    }
}
