//! What tests of the gate share: a gate of its own for each test, and servers that behave as told.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod gate;
pub mod log;
pub mod server;
