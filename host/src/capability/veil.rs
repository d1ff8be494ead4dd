//! What no text about the present call may repeat: masked values of its messages (`host.mask`).
//!
//! Shared with the log and the requests of a sandbox, some of which end later. Invariant: without masks it costs a call
//! nothing.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

use crate::mask::Repeats;

/// Bytes of a text that are looked through and shown, more than whoever keeps one keeps of it: a plugin hands over more.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// The veil of one sandbox. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Veil(Arc<RwLock<Repeats>>);

impl Veil {
    /// A call begins, about other messages.
    pub(super) fn lay(&self, repeats: Repeats) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = repeats;
    }

    /// A text as an operator may see it, cut where something could be in it.
    pub(super) fn hide<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let repeats = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if repeats.is_empty() {
            return text.into();
        }
        repeats.hide(&text[..text.floor_char_boundary(TEXT_BYTES_MAX)])
    }
}
