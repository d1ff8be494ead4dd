//! What is happening, counted, so that a fault can be timed by events instead of by guesses.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counters that can be waited for.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    counts: Mutex<Counts>,
    changed: Condvar,
}

/// How often something has happened since the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// A send was begun.
    pub(crate) begun: u64,
    /// The host has accepted a send.
    pub(crate) accepted: u64,
    /// A request has reached the sink.
    pub(crate) arrived: u64,
    /// An answer has left the sink.
    pub(crate) answered: u64,
    /// The host was started.
    pub(crate) started: u64,
    /// Connections of the sink that are open.
    pub(crate) open: u64,
}

impl Pulse {
    /// Counts something.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// How it stands.
    pub(crate) fn counts(&self) -> Counts {
        *self.lock()
    }

    /// Waits until it `is_so`, at most so long; whether it is.
    pub(crate) fn wait(&self, within: Duration, is_so: impl Fn(&Counts) -> bool) -> bool {
        let deadline = Instant::now() + within;
        let mut counts = self.lock();
        while !is_so(&counts) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            counts = self.changed.wait_timeout(counts, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Lets some time pass.
    pub(crate) fn pause(&self, duration: Duration) {
        self.wait(duration, |_| false);
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
