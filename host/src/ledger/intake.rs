//! The writer's queue: what is to be committed, in the order in which it was handed in.
//!
//! Bounded by those who hand in: settlements by the runs under way, appends by a share of bytes that they hold until they
//! are answered. Invariant: tickets are given in the order of the queue, so "everything before ticket n is committed" is
//! one number.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::account::Reservation;
use super::settled::Returns;
use super::write::Write;
use super::{AppendError, Appended};
use crate::message::Draft;
use crate::settlement::{ConnectorId, Mark, QueueId, SettleError, Settlement};

/// Something for the writer to do.
pub(super) enum Job {
    Settle(Box<Settle>),
    Append(Append),
    Task(Task),
}

/// A settlement on its way.
pub(super) struct Settle {
    pub(super) ticket: u64,
    pub(super) settlement: Settlement,
    pub(super) bytes: u64,
    /// Room for what it publishes.
    pub(super) room: Reservation,
    pub(super) reply: oneshot::Sender<Result<(), SettleError>>,
    /// Where its outcomes go once they are on disk.
    pub(super) returns: Option<Returns>,
}

/// Messages from outside on their way.
pub(super) struct Append {
    pub(super) drafts: Vec<(QueueId, Draft)>,
    /// Of a webhook's request, which is alone then.
    pub(super) mark: Option<Mark>,
    pub(super) bytes: u64,
    pub(super) room: Reservation,
    pub(super) reply: oneshot::Sender<Result<Vec<Appended>, AppendError>>,
    pub(super) share: Option<OwnedSemaphorePermit>,
}

/// A rare change that has no path of its own.
pub(super) struct Task {
    /// May be run again when its group is rolled back.
    pub(super) run: Run,
    /// Whether it is tried again until there is room.
    pub(super) waits_for_room: bool,
    /// Called once, when the change is on disk or failed for good.
    pub(super) answer: Done,
}

/// The change itself.
pub(super) type Run = Box<dyn FnMut(&mut Write<'_>) -> rusqlite::Result<()> + Send>;
/// Who waits for it.
pub(super) type Done = Box<dyn FnOnce(rusqlite::Result<()>) + Send>;

impl Job {
    /// Whether it is carried out within a savepoint of its own.
    pub(super) fn has_savepoint(&self) -> bool {
        !matches!(self, Self::Append(_))
    }

    /// How much it writes, about.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Settle(settle) => settle.bytes,
            Self::Append(append) => append.bytes,
            Self::Task(_) => 0,
        }
    }
}

/// What the writer gets when it asks for work.
pub(super) enum Next {
    Job(Job),
    /// Nothing came in the time given.
    Idle,
    /// Nothing is left and nothing will come.
    Closed,
}

/// The queue.
#[derive(Default)]
pub(super) struct Intake {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
    ticket: u64,
    /// The last ticket of each connector.
    last: Vec<u64>,
}

impl Intake {
    /// Hands in a settlement, giving it the next ticket. `Err` gives it back: the ledger is closed.
    pub(super) fn settle(&self, mut settle: Box<Settle>) -> Result<(), Box<Settle>> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(settle);
        }
        state.ticket += 1;
        settle.ticket = state.ticket;
        let index = settle.settlement.connector.0 as usize;
        if state.last.len() <= index {
            state.last.resize(index + 1, 0);
        }
        state.last[index] = settle.ticket;
        state.jobs.push_back(Job::Settle(settle));
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Hands in anything else; `false` when the ledger is closed.
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

    /// The last ticket of a connector; 0 when it handed in nothing.
    pub(super) fn last_ticket(&self, connector: ConnectorId) -> u64 {
        self.lock().last.get(connector.0 as usize).copied().unwrap_or(0)
    }

    /// The next job, waiting no longer than `wait`.
    pub(super) fn next(&self, wait: Duration) -> Next {
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

    /// The first task or append, past settlements that wait for room.
    pub(super) fn next_aside(&self) -> Option<Job> {
        let mut state = self.lock();
        let place = state.jobs.iter().position(|job| !matches!(job, Job::Settle(_)))?;
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

    /// Takes nothing new and gives up what is there: whoever waits learns that the ledger is closed.
    pub(super) fn abandon(&self) {
        let abandoned = {
            let mut state = self.lock();
            state.is_closed = true;
            std::mem::take(&mut state.jobs)
        };
        drop(abandoned);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
