//! Compile, cache, instantiate, call, kill: how a plugin runs.
//!
//! [`engine`] is the one engine with the guests' threads; [`compile`] turns bytes into a component that links;
//! [`sandbox`] makes a fresh sandbox and calls it; [`permit`] bounds how many there are at once; [`failure`] says why a
//! call did not work. Nothing here decides what becomes of a delivery.

pub mod engine;
mod epoch;
pub mod failure;
mod meter;
pub mod permit;
