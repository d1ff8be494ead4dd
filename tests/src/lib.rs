//! What the tests of the boundary stand on: TOML and events in, outcome out, with the real binary and the real ledger.
//!
//! [`Bulkhead`] is a folder with a TOML and a data directory, in which the binary is run as an operator would run it;
//! [`Running`] is a host that runs there; [`Fixture`] is the world outside, on loopback, and
//! [`Upstream`] its worse part; [`SmallDisk`] is a disk that can be filled; [`Ledger`] reads the SQLite file
//! after the end, not through the host. Nothing here sleeps: it waits for a log line, a request, or the end of a
//! process, each with a bound. Everything panics when it cannot go on, with what the host has logged.

mod admin;
mod bulk;
mod bulkhead;
mod collector;
mod compiled;
mod disk;
mod dns;
mod events;
mod fixture;
mod guest;
mod inflight;
pub mod inside;
mod ledger;
mod metrics;
mod process;
mod proxy;
mod sabotage;
mod seclusion;
mod sender;
mod tls;
mod toolchain;
mod upstream;

pub use admin::{Reply, exchange};
pub use bulk::BulkServer;
pub use bulkhead::{Bulkhead, Finished, Posted, Running};
pub use collector::{Collector, Span};
pub use disk::SmallDisk;
pub use dns::{Family, Found, NameServer, Question, Record};
pub use events::{Event, Events};
pub use fixture::{Answer, Fixture, Request};
pub use guest::{MESSAGE_TYPES, example, guest};
pub use inflight::Run;
pub use ledger::{DeadLetter, Ledger, Stored};
pub use metrics::Metrics;
pub use process::Spawned;
pub use proxy::TunnelProxy;
pub use rustix::process::Signal;
pub use sabotage::{Call, Failure, Saboteur, sabotaged};
pub use seclusion::{Canaries, NAME_SERVER, secluded};
pub use sender::{Line, post, try_post};
pub use tls::{Authority, Certified, Flaw, Handshake, TlsServer};
pub use toolchain::{has, has_program};
pub use upstream::{Misdeed, Upstream};

/// The examples of the author guide are tests, natively.
#[cfg(doctest)]
#[doc = include_str!("../../docs/authors.md")]
struct AuthorGuide;

/// The first connector of the README, too.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
