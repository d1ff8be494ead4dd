//! Where the bytes of plugins come from.
//!
//! Owns the built-in ones. It does not know what a component can do: that is the runtime's.

mod builtin;

pub use builtin::{builtin, builtin_names};
