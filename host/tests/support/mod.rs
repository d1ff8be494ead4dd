//! What tests share: a gate or a whole connector of its own for each test, and servers that behave as told.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

pub mod gate;
pub mod guest;
pub mod log;
pub mod runtime;
pub mod server;
pub mod spellings;
