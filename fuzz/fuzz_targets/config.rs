//! A file as `bulkhead.toml`.
#![no_main]

#[path = "../../host/tests/properties/config.rs"]
mod config;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| config::check(bytes));
