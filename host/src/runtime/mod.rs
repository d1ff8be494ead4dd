//! Compile, cache, instantiate, call, kill: how a plugin runs.
//!
//! [`engine`] is the one engine with the guests' threads; [`compile`] turns bytes into a component, [`offer`] links it or
//! says what to change, [`inspect`] looks at it; [`plugin`] is one that is linked, [`sandbox`] an instance of it that is
//! called; [`permit`] bounds how many there are at once; [`failure`] says why a call did not work. Nothing here decides
//! what becomes of a delivery.

pub mod compile;
pub mod engine;
mod epoch;
pub mod failure;
pub mod inspect;
mod meter;
pub mod offer;
pub mod permit;
pub mod plugin;
pub mod sandbox;
mod thread;

pub use engine::Engine;
pub use plugin::{Export, Linked, Plugin};
pub use sandbox::{BatchResult, Sandbox, Scope, Staged};
