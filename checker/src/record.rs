//! What is written down while the host is under attack, and when: the entries of the three ledgers.
//!
//! Times are microseconds since the Unix epoch by a clock that is read once and then only runs forwards, so that entries of
//! different ledgers can be put in order.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// The one clock of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// What the wall clock was ahead of the monotonic one.
    ahead_us: u64,
}

impl Clock {
    /// Reads the wall clock, once.
    #[expect(clippy::disallowed_methods, reason = "planned times of schedules are times of the wall clock")]
    pub(crate) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { ahead_us: micros(since).saturating_sub(now_us()) }
    }

    /// Microseconds since the Unix epoch.
    pub(crate) fn now_us(&self) -> u64 {
        self.at_us(now_us())
    }

    /// The same of a time that the system's monotonic clock has shown, in microseconds, in whatever process.
    pub(crate) fn at_us(&self, monotonic_us: u64) -> u64 {
        self.ahead_us + monotonic_us
    }

    /// What the system's monotonic clock has shown at a time of this one.
    pub(crate) fn monotonic_us(&self, at_us: u64) -> u64 {
        at_us.saturating_sub(self.ahead_us)
    }
}

fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000 + nanos.unwrap_or(0) / 1_000
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A message as its producer knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    /// Its id, which no other message of its queue has.
    pub(crate) id: String,
    /// What it is ordered by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// The digest of its payload.
    pub(crate) body: String,
}

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sent {
    /// The host has said that all of it is on disk.
    Accepted,
    /// No answer, or one that promises nothing: all of it may be there, or none.
    Unanswered,
    /// The host has no room or is asked too often, and said so: nothing of it is there.
    Refused,
    /// Nobody listened, or the host did not look at it.
    Unheard,
}

impl Sent {
    /// Whether something of it may be there.
    pub(crate) const fn may_be_there(self) -> bool {
        match self {
            Self::Accepted | Self::Unanswered => true,
            Self::Refused | Self::Unheard => false,
        }
    }
}

/// The producer's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sending {
    /// Written before anything is sent.
    Intent {
        at_us: u64,
        /// The number of the send.
        send: u64,
        queue: String,
        items: Vec<Item>,
        /// Writes of the ledger's files that the host had synchronised by then; `None` where nobody counts.
        synced: Option<u64>,
    },
    /// Written when it is known what became of it.
    Outcome { at_us: u64, send: u64, sent: Sent, synced: Option<u64> },
}

/// The sink's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Receiving {
    /// Written before it is answered.
    Arrival(Arrival),
    /// Written when the answer has left.
    Answer {
        /// Just before it left.
        at_us: u64,
        /// The number of the arrival.
        nth: u64,
        status: u16,
        /// Whether it asks the plugin to break.
        traps: bool,
    },
}

/// A request that reached the sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub(crate) at_us: u64,
    /// Its number.
    pub(crate) nth: u64,
    /// For which receiver.
    pub(crate) receiver: String,
    /// The message's id, as the host knows it.
    pub(crate) id: String,
    /// By what its producer knows it: the id, or for a receipt, whose id the host has made, its text.
    pub(crate) name: String,
    pub(crate) key: Option<String>,
    pub(crate) attempt: u32,
    /// The digest of the payload.
    pub(crate) body: String,
}

/// The ledger of faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// Just before it was done.
    pub(crate) at_us: u64,
    /// When all that the host had begun by then has ended, seen from outside.
    pub(crate) ended_us: u64,
    pub(crate) kind: FaultKind,
}

/// What was done to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FaultKind {
    /// SIGKILL while it worked.
    Kill,
    /// SIGKILL while it started.
    KillAtStart,
    /// SIGTERM; it ended with 0.
    Stop,
    /// SIGSTOP, and SIGCONT later.
    Freeze,
    /// The disk refused something, and it ended, by itself or cut off.
    Refusal,
    /// The disk refused something for a while, and it lived on.
    Held,
    /// The machine lost its power, and with it what was not on disk.
    PowerCut,
    /// Everything after a backup was lost, and another host began with what was in it.
    Restored,
}

impl FaultKind {
    /// Whether the host ended with work under way, and may charge an attempt for it.
    pub(crate) const fn is_death(self) -> bool {
        match self {
            Self::Kill | Self::KillAtStart | Self::Refusal => true,
            Self::Stop | Self::Freeze | Self::Held | Self::PowerCut | Self::Restored => false,
        }
    }

    /// Whether the host ended with work under way, which comes again. After a power failure, or in a
    /// copy, nobody knows what it was.
    pub(crate) fn is_cut_off(self) -> bool {
        self.is_death() || matches!(self, Self::PowerCut | Self::Restored)
    }
}
