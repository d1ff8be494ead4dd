//! What the tests of the boundary stand on: TOML and events in, outcome out, with the real binary and the real ledger.
//!
//! [`Bulkhead`] is a folder with a TOML and a data directory, in which the binary is run as an operator would run it;
//! [`Running`] is a host that runs there; [`Fixture`] is the world outside, on loopback; [`Ledger`] reads the SQLite file
//! after the end, not through the host. Nothing here sleeps: it waits for a log line, a request, or the end of a
//! process, each with a bound. Everything panics when it cannot go on, with what the host has logged.

mod admin;
mod bulkhead;
mod fixture;
mod guest;
mod ledger;
mod metrics;
mod process;

pub use admin::Reply;
pub use bulkhead::{Bulkhead, Finished, Running};
pub use fixture::{Answer, Fixture, Request};
pub use guest::guest;
pub use ledger::{DeadLetter, Ledger, Stored};
pub use metrics::Metrics;
