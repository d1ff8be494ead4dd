//! The host's files about leases, and the world in which they work here.

#[path = "../../../../src/broker/local/lane.rs"]
#[allow(dead_code, reason = "the host uses the rest")]
pub(crate) mod lane;
#[path = "../../../../src/broker/local/lease/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "the host uses the rest")]
pub(crate) mod lease;

mod chance;
mod connector;
mod judge;
pub(crate) mod world;
