//! A line of jobs that many hand in and one thread takes out, with tickets for those that somebody waits for.
//!
//! It knows nothing of what stands in it, nor of the ledger, and takes its locks from `sync`: a test takes it through the
//! orders in which threads may meet. Invariant: tickets are given in the order of the line, so "everything before ticket n
//! is committed" is one number; and what is handed in is taken out or refused, also while the line is closed.

use std::collections::VecDeque;
use std::time::Duration;

use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What whoever takes out gets.
pub(super) enum Next<Job> {
    Job(Job),
    /// Nothing came in the time given.
    Idle,
    /// Nothing is left and nothing will come.
    Closed,
}

/// The line.
pub(super) struct Line<Job> {
    state: Mutex<State<Job>>,
    wake: Condvar,
}

struct State<Job> {
    jobs: VecDeque<Job>,
    is_closed: bool,
    ticket: u64,
    /// The last ticket of each who has any.
    last: Vec<u64>,
}

impl<Job> Default for Line<Job> {
    fn default() -> Self {
        let state = State { jobs: VecDeque::new(), is_closed: false, ticket: 0, last: Vec::new() };
        Self { state: Mutex::new(state), wake: Condvar::new() }
    }
}

impl<Job> Line<Job> {
    /// Hands in a job with the next ticket, which is one of `of`'s and written into it by `number`.
    ///
    /// # Errors
    /// The line is closed: the job comes back.
    pub(super) fn hand_in(&self, of: usize, mut job: Job, number: impl FnOnce(&mut Job, u64)) -> Result<(), Job> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(job);
        }
        state.ticket += 1;
        number(&mut job, state.ticket);
        if state.last.len() <= of {
            state.last.resize(of + 1, 0);
        }
        state.last[of] = state.ticket;
        state.jobs.push_back(job);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Hands in what has no ticket; `false` when the line is closed.
    pub(super) fn push(&self, job: Job) -> bool {
        let mut state = self.lock();
        if state.is_closed {
            return false;
        }
        state.jobs.push_back(job);
        drop(state);
        self.wake.notify_one();
        true
    }

    /// The last ticket of one; 0 who handed in nothing.
    pub(super) fn last_ticket(&self, of: usize) -> u64 {
        self.lock().last.get(of).copied().unwrap_or(0)
    }

    /// The next job, waiting no longer than `wait`.
    pub(super) fn next(&self, wait: Duration) -> Next<Job> {
        let state = self.lock();
        let (mut state, _) = self
            .wake
            .wait_timeout_while(state, wait, |state| state.jobs.is_empty() && !state.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        match state.jobs.pop_front() {
            Some(job) => Next::Job(job),
            None if state.is_closed => Next::Closed,
            None => Next::Idle,
        }
    }

    /// The next job, if one is there.
    pub(super) fn try_next(&self) -> Option<Job> {
        self.lock().jobs.pop_front()
    }

    /// The first job of a kind, past the others.
    pub(super) fn take_first(&self, is_wanted: impl Fn(&Job) -> bool) -> Option<Job> {
        let mut state = self.lock();
        let place = state.jobs.iter().position(is_wanted)?;
        state.jobs.remove(place)
    }

    /// Whether nothing new is taken any more.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Takes nothing new; what is there is still worked off.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_one();
    }

    /// Takes nothing new and gives up what is there: whoever waits learns that the line is closed.
    pub(super) fn abandon(&self) {
        let abandoned = {
            let mut state = self.lock();
            state.is_closed = true;
            std::mem::take(&mut state.jobs)
        };
        drop(abandoned);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State<Job>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
