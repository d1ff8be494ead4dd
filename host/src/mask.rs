//! Values that must never be shown: secrets, and what [`Masks`] means of messages.
//!
//! Invariant: a [`Secret`] is zeroed when dropped, prints as `<secret>` whatever the formatter, and two of them are
//! compared in a time that says nothing about where they differ.

mod edit;
mod json;
mod masks;
mod pointer;
mod repeats;
mod search;
pub(crate) mod spelling;

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

pub use masks::{HEADERS_MAX, Masks};
pub use pointer::{POINTERS_MAX, Pointer};
pub use repeats::Repeats;

/// The value of a secret.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes a value over.
    #[must_use]
    pub fn new(value: Vec<u8>) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, for the gate alone.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<secret>")
    }
}
