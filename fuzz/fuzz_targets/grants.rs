//! URLs against grants: the first line is the path that is granted, the rest the URL.
#![no_main]

#[path = "../../host/tests/properties/grants.rs"]
mod grants;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (prefix, url) = text.split_once('\n').unwrap_or(("", text));
    let is_plain = |segment: &str| !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_lowercase());
    if prefix.is_empty() || prefix.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain)) {
        grants::check_path(prefix, url);
    }
    grants::check_place(url);
});
