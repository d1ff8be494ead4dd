//! What must hold for whatever comes in: checked by proptest in every test run, and by the fuzzers in `fuzz/` for as long
//! as somebody lets them run. Each check panics where its property does not hold.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

pub mod addresses;
pub mod config;
pub mod grants;
pub mod headers;
pub mod masks;
