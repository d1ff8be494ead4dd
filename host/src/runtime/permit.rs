//! Permits to run: at most so many sandboxes at once, and so much memory of all together, fair between connectors.
//!
//! A permit is taken before a slot of the engine's pool, so the pool is never full; and it reserves all the memory that
//! its sandbox may come to use, so that what was admitted fits. Connectors that wait take turns: one with a thousand
//! waiting runs delays another by one run, not by a thousand. Invariant: nobody overtakes a run that waits for memory,
//! or a large one would wait for ever.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;

use crate::id::Name;

/// What all sandboxes together may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Sandboxes at once (`host.runs`).
    pub runs: usize,
    /// Their memory (`host.memory`).
    pub memory_bytes: u64,
}

impl Budget {
    fn at_least_one(self) -> Self {
        Self { runs: self.runs.max(1), memory_bytes: self.memory_bytes.max(1) }
    }
}

/// The permits of one process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Permits(Arc<Mutex<State>>);

/// The right to one sandbox and its memory; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    state: Arc<Mutex<State>>,
    memory_bytes: u64,
}

#[derive(Debug)]
struct State {
    whole: Budget,
    taken: Budget,
    reserved: Gauge,
    /// Connectors with waiting runs, the next to be served in front.
    turns: VecDeque<Turn>,
}

#[derive(Debug)]
struct Turn {
    connector: Name,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    memory_bytes: u64,
    sender: oneshot::Sender<Permit>,
}

impl Permits {
    /// So much at once; `reserved` shows the memory that is taken.
    #[must_use]
    pub fn new(budget: Budget, reserved: Gauge) -> Self {
        let (whole, taken) = (budget.at_least_one(), Budget { runs: 0, memory_bytes: 0 });
        Self(Arc::new(Mutex::new(State { whole, taken, reserved, turns: VecDeque::new() })))
    }

    /// So much at once from now on; runs under way keep what they have.
    pub fn resize(&self, budget: Budget) {
        lock(&self.0).whole = budget.at_least_one();
        serve(&self.0);
    }

    /// Waits for a permit for a sandbox of this size; one that is larger than the budget runs alone. Cancel-safe.
    pub async fn acquire(&self, connector: &Name, memory_bytes: u64) -> Permit {
        let mut waiting = match self.take_or_wait(connector, memory_bytes) {
            Ok(permit) => return permit,
            Err(waiting) => waiting,
        };
        loop {
            if let Ok(permit) = waiting.await {
                return permit;
            }
            // Unreachable while `self` lives: a waiting sender is only dropped by sending. Asking again is right anyway.
            waiting = match self.take_or_wait(connector, memory_bytes) {
                Ok(permit) => return permit,
                Err(waiting) => waiting,
            };
        }
    }

    /// Permits that nobody holds.
    #[must_use]
    pub fn free(&self) -> usize {
        let state = lock(&self.0);
        state.whole.runs.saturating_sub(state.taken.runs)
    }

    fn take_or_wait(&self, connector: &Name, memory_bytes: u64) -> Result<Permit, oneshot::Receiver<Permit>> {
        let mut state = lock(&self.0);
        state.forget_gone();
        if state.turns.is_empty() && state.take(memory_bytes) {
            return Ok(Permit { state: self.0.clone(), memory_bytes });
        }
        let (sender, receiver) = oneshot::channel();
        let waiting = Waiting { memory_bytes, sender };
        match state.turns.iter_mut().find(|turn| turn.connector == *connector) {
            Some(turn) => turn.waiting.push_back(waiting),
            None => state.turns.push_back(Turn { connector: connector.clone(), waiting: VecDeque::from([waiting]) }),
        }
        Err(receiver)
    }
}

impl State {
    /// The next waiting run, if there is room for it: its connector goes to the end of the line.
    fn next(&mut self) -> Option<Waiting> {
        self.forget_gone();
        let memory_bytes = self.turns.front()?.waiting.front()?.memory_bytes;
        if !self.take(memory_bytes) {
            return None;
        }
        let mut turn = self.turns.pop_front()?;
        let next = turn.waiting.pop_front();
        if !turn.waiting.is_empty() {
            self.turns.push_back(turn);
        }
        next
    }

    fn forget_gone(&mut self) {
        for turn in &mut self.turns {
            turn.waiting.retain(|waiting| !waiting.sender.is_closed());
        }
        self.turns.retain(|turn| !turn.waiting.is_empty());
    }

    fn take(&mut self, memory_bytes: u64) -> bool {
        let memory_after = self.taken.memory_bytes.saturating_add(memory_bytes);
        // One that is larger than the whole is admitted where nobody else has any.
        let fits = memory_after <= self.whole.memory_bytes || self.taken.runs == 0;
        let has_room = self.taken.runs < self.whole.runs && fits;
        if has_room {
            self.taken = Budget { runs: self.taken.runs + 1, memory_bytes: memory_after };
            self.show();
        }
        has_room
    }

    fn give_back(&mut self, memory_bytes: u64) {
        self.taken.runs -= 1;
        self.taken.memory_bytes -= memory_bytes;
        self.show();
    }

    fn show(&self) {
        let reserved = self.taken.memory_bytes.min(self.whole.memory_bytes);
        self.reserved.set(i64::try_from(reserved).unwrap_or(i64::MAX));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.state).give_back(self.memory_bytes);
        serve(&self.state);
    }
}

/// Gives what is free to those that wait.
fn serve(state: &Arc<Mutex<State>>) {
    loop {
        // Not under the lock: a waiter that has just gone drops the permit that it is sent, and so passes it on.
        let next = lock(state).next();
        let Some(Waiting { memory_bytes, sender }) = next else { return };
        drop(sender.send(Permit { state: state.clone(), memory_bytes }));
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn permits(runs: usize, memory_bytes: u64) -> Permits {
        Permits::new(Budget { runs, memory_bytes }, Gauge::default())
    }

    #[test]
    fn memory_is_reserved_and_nobody_overtakes_who_waits_for_it() {
        let permits = permits(10, 100);
        let (large, small) = (name("large"), name("small"));
        let held = permits.acquire(&small, 60).now_or_never().expect("there is room");
        let mut waiting = Box::pin(permits.acquire(&large, 50));
        assert!(waiting.as_mut().now_or_never().is_none());
        let mut behind = Box::pin(permits.acquire(&small, 10));
        assert!(behind.as_mut().now_or_never().is_none());
        drop(held);
        let first = waiting.as_mut().now_or_never().expect("its turn");
        let second = behind.as_mut().now_or_never().expect("there is room for both");
        assert_eq!(lock(&permits.0).reserved.get(), 60);
        drop((first, second));
        assert_eq!((permits.free(), lock(&permits.0).reserved.get()), (10, 0));
    }

    #[test]
    fn who_needs_more_than_all_runs_alone() {
        let permits = permits(10, 100);
        let who = name("who");
        let held = permits.acquire(&who, 1_000).now_or_never().expect("it is alone");
        let mut other = Box::pin(permits.acquire(&who, 1));
        assert!(other.as_mut().now_or_never().is_none());
        drop(held);
        assert!(other.as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_budget_that_grows_lets_in_who_waits_and_one_that_shrinks_takes_nothing_away() {
        let permits = permits(2, 100);
        let who = name("who");
        let held = permits.acquire(&who, 60).now_or_never().expect("there is room");
        let mut waiting = Box::pin(permits.acquire(&who, 60));
        assert!(waiting.as_mut().now_or_never().is_none());
        permits.resize(Budget { runs: 2, memory_bytes: 120 });
        let second = waiting.as_mut().now_or_never().expect("there is room by now");
        permits.resize(Budget { runs: 1, memory_bytes: 50 });
        drop(held);
        assert!(permits.acquire(&who, 1).now_or_never().is_none());
        drop(second);
        assert!(permits.acquire(&who, 60).now_or_never().is_some(), "alone");
    }

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    #[test]
    fn waiting_connectors_take_turns() {
        let permits = permits(1, 10);
        let (busy, quiet) = (name("busy"), name("quiet"));
        let held = permits.acquire(&busy, 1).now_or_never().expect("one is free");
        let mut waiting: Vec<_> =
            [&busy, &busy, &busy, &quiet].into_iter().map(|who| Box::pin(permits.acquire(who, 1))).collect();
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
        let permits = permits(1, 10);
        let who = name("who");
        let held = permits.acquire(&who, 1).now_or_never().expect("one is free");
        let mut gone = Box::pin(permits.acquire(&who, 1));
        assert!(gone.as_mut().now_or_never().is_none());
        drop(held);
        drop(gone);
        assert_eq!(permits.free(), 1);
    }
}
