//! Permits to run: at most so many sandboxes at once, fair between connectors.
//!
//! A permit is taken before a slot of the engine's pool, so the pool is never full. Connectors that wait take turns: one
//! with a thousand waiting runs delays another by one run, not by a thousand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::id::Name;

/// The permits of one process (`host.runs`). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Permits(Arc<Mutex<State>>);

/// The right to one sandbox; given back when dropped.
#[derive(Debug)]
pub struct Permit(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    /// Connectors with waiting runs, the next to be served in front.
    turns: VecDeque<Turn>,
}

#[derive(Debug)]
struct Turn {
    connector: Name,
    waiting: VecDeque<oneshot::Sender<Permit>>,
}

impl Permits {
    /// So many sandboxes at once.
    #[must_use]
    pub fn new(runs: usize) -> Self {
        Self(Arc::new(Mutex::new(State { free: runs.max(1), turns: VecDeque::new() })))
    }

    /// Waits for a permit. Cancel-safe.
    pub async fn acquire(&self, connector: &Name) -> Permit {
        let mut waiting = match self.take_or_wait(connector) {
            Ok(permit) => return permit,
            Err(waiting) => waiting,
        };
        loop {
            if let Ok(permit) = waiting.await {
                return permit;
            }
            // Unreachable while `self` lives: a waiting sender is only dropped by sending. Asking again is right anyway.
            waiting = match self.take_or_wait(connector) {
                Ok(permit) => return permit,
                Err(waiting) => waiting,
            };
        }
    }

    /// Permits that nobody holds.
    #[must_use]
    pub fn free(&self) -> usize {
        lock(&self.0).free
    }

    fn take_or_wait(&self, connector: &Name) -> Result<Permit, oneshot::Receiver<Permit>> {
        let mut state = lock(&self.0);
        if state.free > 0 {
            state.free -= 1;
            return Ok(Permit(self.0.clone()));
        }
        let (sender, receiver) = oneshot::channel();
        match state.turns.iter_mut().find(|turn| turn.connector == *connector) {
            Some(turn) => turn.waiting.push_back(sender),
            None => state.turns.push_back(Turn { connector: connector.clone(), waiting: VecDeque::from([sender]) }),
        }
        Err(receiver)
    }
}

impl State {
    /// The next waiting run: its connector goes to the end of the line.
    fn next(&mut self) -> Option<oneshot::Sender<Permit>> {
        while let Some(mut turn) = self.turns.pop_front() {
            turn.waiting.retain(|sender| !sender.is_closed());
            let Some(sender) = turn.waiting.pop_front() else { continue };
            if !turn.waiting.is_empty() {
                self.turns.push_back(turn);
            }
            return Some(sender);
        }
        None
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let next = {
            let mut state = lock(&self.0);
            let next = state.next();
            if next.is_none() {
                state.free += 1;
            }
            next
        };
        if let Some(sender) = next {
            // A waiter that has just gone drops the permit that it was sent, and so passes it on.
            drop(sender.send(Self(self.0.clone())));
        }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    #[test]
    fn waiting_connectors_take_turns() {
        let permits = Permits::new(1);
        let (busy, quiet) = (name("busy"), name("quiet"));
        let held = permits.acquire(&busy).now_or_never().expect("one is free");
        let mut waiting: Vec<_> =
            [&busy, &busy, &busy, &quiet].into_iter().map(|who| Box::pin(permits.acquire(who))).collect();
        assert!(waiting.iter_mut().all(|permit| permit.as_mut().now_or_never().is_none()));
        drop(held);
        let first = waiting[0].as_mut().now_or_never().expect("its turn");
        drop(first);
        assert!(waiting[1].as_mut().now_or_never().is_none());
        let second = waiting[3].as_mut().now_or_never().expect("the other connector's turn");
        drop(second);
        assert!(waiting[1].as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_waiter_that_gives_up_loses_no_permit() {
        let permits = Permits::new(1);
        let who = name("who");
        let held = permits.acquire(&who).now_or_never().expect("one is free");
        let mut gone = Box::pin(permits.acquire(&who));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(held);
        drop(gone);
        assert_eq!(permits.free(), 1);
    }
}
