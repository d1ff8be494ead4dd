//! What a call does to the world, noted for its history while it goes on.
//!
//! Requests may end after their call, on other threads: each entry is found again by its call and its place. Invariant:
//! what is late for its call is left out, never added to the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::veil::Veil;
use crate::settlement::attempt::{EFFECTS_MAX, Effect};

/// The effects of one sandbox's present call. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorder {
    noted: Arc<Mutex<Noted>>,
    veil: Veil,
}

#[derive(Debug, Default)]
struct Noted {
    call: u64,
    effects: Vec<Effect>,
}

/// A request that was begun.
#[derive(Debug)]
pub(super) struct Begun {
    recorder: Recorder,
    call: u64,
    /// None where there are too many.
    place: Option<usize>,
}

impl Recorder {
    /// One that notes of addresses only what may be shown.
    pub(super) fn behind(veil: Veil) -> Self {
        Self { noted: Arc::default(), veil }
    }

    /// A text about the present call, as an operator may see it.
    pub(super) fn veil(&self) -> &Veil {
        &self.veil
    }

    /// A call begins: its list is empty.
    pub(super) fn begin_call(&self) {
        let mut noted = self.lock();
        noted.call += 1;
        noted.effects.clear();
    }

    pub(super) fn add(&self, effect: Effect) {
        let mut noted = self.lock();
        if noted.effects.len() < EFFECTS_MAX {
            noted.effects.push(effect);
        }
    }

    /// Notes a request that is about to be sent.
    pub(super) fn begin(&self, method: &str, url: &str) -> Begun {
        let mut noted = self.lock();
        let place = (noted.effects.len() < EFFECTS_MAX).then_some(noted.effects.len());
        if place.is_some() {
            let url = self.veil.hide(url).into_owned();
            noted.effects.push(Effect::Request { method: method.to_owned(), url, status: None, duration_ms: None });
        }
        Begun { recorder: self.clone(), call: noted.call, place }
    }

    /// Takes what the call did.
    pub(super) fn take(&self) -> Vec<Effect> {
        let mut noted = self.lock();
        noted.call += 1;
        std::mem::take(&mut noted.effects)
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    /// It is over; without a status where its answer did not come, or not whole.
    pub(super) fn end(&self, answered: Option<u16>, took_ms: u64) {
        let mut noted = self.recorder.lock();
        if noted.call != self.call {
            return;
        }
        if let Some(Effect::Request { status, duration_ms, .. }) = self.place.and_then(|at| noted.effects.get_mut(at)) {
            (*status, *duration_ms) = (answered, Some(took_ms));
        }
    }
}
