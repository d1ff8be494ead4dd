//! Headers as a plugin hands them over: a line each, the name before the first colon.
#![no_main]

#[path = "../../host/tests/properties/headers.rs"]
mod headers;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let lines = bytes.split(|byte| *byte == b'\n');
    headers::check(lines.map(|line| match line.iter().position(|byte| *byte == b':') {
        Some(colon) => (&line[..colon], &line[colon + 1..]),
        None => (line, &b""[..]),
    }));
});
