//! Parts of the host where tests of the whole would be slow or could not look: one program, since each would be linked for
//! as long as it runs. What changes its process (its allocator, its log, its panics) is a program of its own beside it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod address;
mod capability;
mod config;
mod config_cases;
mod config_schema;
mod gate;
mod gate_credentials;
mod gate_flow;
mod gate_limits;
mod gate_streaming;
mod gate_targets;
mod masks;
mod pattern;
#[path = "../properties/mod.rs"]
mod properties;
mod runtime;
mod runtime_load;
mod schedule_times;
#[path = "../support/mod.rs"]
mod support;
