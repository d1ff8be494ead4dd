//! Types and traits generated from `wit/` and from the standard drafts in `wit-deps/`: how the host and a component
//! speak with each other.
//!
//! The imports of `wit/` are bound here; functions that wait for something are async, the others answer at once. The
//! exports are bound each alone, so that a component may have any subset of them, and borrow what they are called with.
//! Pre-release versions of a standard match only themselves: each draft has a module of its own.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, unused_qualifications)]

wasmtime::component::bindgen!({
    path: "wit",
    world: "everything",
    imports: {
        "bulkhead:connector/http": async,
        "bulkhead:connector/secrets": trappable,
        "bulkhead:connector/reveal": trappable,
    },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
    with: { "bulkhead:connector/secrets.secret": crate::bindings::SecretHandle },
});

/// The connector's one bucket of state, as a guest holds it.
#[derive(Debug)]
pub struct Bucket;

/// A compare-and-swap that a guest has begun.
#[derive(Debug)]
pub struct Cas {
    /// The key.
    pub key: String,
    /// Its value when the guest began.
    pub seen: Option<Vec<u8>>,
}

/// A secret, as a guest holds it: its name, never its value.
#[derive(Debug)]
pub struct SecretHandle {
    /// Its name in `[secrets]`.
    pub name: String,
}

/// `wasi:config@0.2.0-rc.1`.
pub mod config_rc1 {
    wasmtime::component::bindgen!({ path: "wit-deps/wasi-config-0.2.0-rc.1", world: "imports" });
}

/// `wasi:config@0.2.0-draft`.
pub mod config_draft {
    wasmtime::component::bindgen!({ path: "wit-deps/wasi-config-0.2.0-draft", world: "imports" });
}

/// `wasi:config@0.2.0-draft-2024-09-27`.
pub mod config_draft_2024 {
    wasmtime::component::bindgen!({ path: "wit-deps/wasi-config-0.2.0-draft-2024-09-27", world: "imports" });
}

/// `wasi:keyvalue@0.2.0-draft`.
pub mod keyvalue_draft {
    wasmtime::component::bindgen!({
        path: "wit-deps/wasi-keyvalue-0.2.0-draft",
        world: "imports",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::Bucket },
    });
}

/// `wasi:keyvalue@0.2.0-draft2`.
pub mod keyvalue_draft2 {
    wasmtime::component::bindgen!({
        path: "wit-deps/wasi-keyvalue-0.2.0-draft2",
        world: "imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::Bucket,
            "wasi:keyvalue/atomics.cas": super::Cas,
        },
    });
}

/// `wasi:logging@0.1.0-draft`.
pub mod logging_draft {
    wasmtime::component::bindgen!({ path: "wit-deps/wasi-logging-0.1.0-draft", world: "imports" });
}
