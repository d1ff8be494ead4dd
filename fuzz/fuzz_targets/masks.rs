//! Bodies and what is masked in them: the first line is a list of pointers with spaces between them, the rest the body.
#![no_main]

#[path = "../../host/tests/properties/masks.rs"]
mod masks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (pointers, body) = bytes.split_at(end);
    let pointers = String::from_utf8_lossy(pointers);
    masks::check(&pointers.split(' ').collect::<Vec<_>>(), body);
});
