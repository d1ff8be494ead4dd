//! The writer's queue: what is to be committed, in the order in which it was handed in.
//!
//! Bounded by those who hand in: settlements by the runs under way, appends by a share of bytes that they hold until they
//! are answered. How threads meet at it is the line's part (`line`). Invariant: only settlements have tickets.

use std::ops::Deref;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::account::Reservation;
use super::line::Line;
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

/// The queue.
#[derive(Default)]
pub(super) struct Intake(Line<Job>);

impl Deref for Intake {
    type Target = Line<Job>;

    fn deref(&self) -> &Line<Job> {
        &self.0
    }
}

impl Intake {
    /// Hands in a settlement, giving it the next ticket. `Err` gives it back: the ledger is closed.
    pub(super) fn settle(&self, settle: Box<Settle>) -> Result<(), Box<Settle>> {
        let of = settle.settlement.connector.0 as usize;
        let number = |job: &mut Job, ticket| {
            if let Job::Settle(settle) = job {
                settle.ticket = ticket;
            }
        };
        match self.0.hand_in(of, Job::Settle(settle), number) {
            Err(Job::Settle(settle)) => Err(settle),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The last ticket of a connector; 0 when it handed in nothing.
    pub(super) fn last_ticket(&self, connector: ConnectorId) -> u64 {
        self.0.last_ticket(connector.0 as usize)
    }

    /// The first task or append, past settlements that wait for room.
    pub(super) fn next_aside(&self) -> Option<Job> {
        self.0.take_first(|job| !matches!(job, Job::Settle(_)))
    }
}
