//! IPv4 addresses from four bytes, IPv6 addresses from sixteen.
#![no_main]

#[path = "../../host/tests/properties/addresses.rs"]
mod addresses;

use std::net::{Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(bytes) = bytes.first_chunk::<16>() {
        addresses::check(Ipv6Addr::from(*bytes).into());
    } else if let Some(bytes) = bytes.first_chunk::<4>() {
        addresses::check(Ipv4Addr::from(*bytes).into());
    }
});
