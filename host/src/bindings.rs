//! Types and traits generated from `wit/`: how the host and a component speak with each other.
//!
//! Every import is an async function of the host; every export is bound alone, so that a component may have any subset.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, unused_qualifications)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "everything",
    imports: { default: async },
    exports: { default: async },
});
