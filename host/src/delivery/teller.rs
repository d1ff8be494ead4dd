//! Telling what becomes of a connector's deliveries, for whoever watches; and how the last one failed.
//!
//! What an attempt came to follows its settlement to the disk and is told when it is there. Invariant: with nobody
//! watching nothing is made, and only a failure is noted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, rfc3339};
use crate::feed::{Delivered, Feed, Kind};
use crate::id::Name;
use crate::settlement::attempt::{CANCELLED, HELD};
use crate::settlement::{Delivery, Outcome};

/// What one connector tells.
#[derive(Debug)]
pub struct Teller {
    connector: Name,
    feed: Feed,
    clock: Clock,
    last_failure: Mutex<Option<LastFailure>>,
}

/// How a delivery failed last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastFailure {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Why.
    pub reason: String,
}

impl Teller {
    /// For a connector.
    #[must_use]
    pub fn new(connector: Name, feed: Feed, clock: Clock) -> Self {
        Self { connector, feed, clock, last_failure: Mutex::default() }
    }

    /// How a delivery failed last since the connector began to run.
    #[must_use]
    pub fn last_failure(&self) -> Option<LastFailure> {
        self.lock().clone()
    }

    /// A delivery has failed.
    pub(super) fn failed(&self, reason: &str) {
        let failure = LastFailure { at_ms: self.clock.now_ms(), reason: reason.to_owned() };
        *self.lock() = Some(failure);
    }

    /// An attempt that began at `started_ms`, to be told when its outcome is on disk.
    pub(super) fn ended(
        &self,
        queue: &str,
        delivery: &Delivery,
        started_ms: u64,
        outcome: &Outcome,
    ) -> Option<Delivered> {
        let (word, reason) = match outcome {
            Outcome::Done => ("done", None),
            Outcome::Retry { charged: true, reason, .. } => ("retry", Some(reason)),
            Outcome::Retry { charged: false, reason, .. } => (HELD, Some(reason)),
            Outcome::Dead { reason } => ("dead", Some(reason)),
            Outcome::Superseded => (CANCELLED, None),
            Outcome::Expired => ("expired", None),
        };
        self.ended_as(queue, delivery, started_ms, (word, reason.map(String::as_str)))
    }

    /// The same with the word for what it came to, and why.
    pub(super) fn ended_as(
        &self,
        queue: &str,
        delivery: &Delivery,
        started_ms: u64,
        (outcome, reason): (&'static str, Option<&str>),
    ) -> Option<Delivered> {
        if !self.feed.is_wanted(Kind::Delivery) {
            return None;
        }
        let (connector, message_id, now_ms) = (&self.connector, &delivery.message.id, self.clock.now_ms());
        Some(Delivered {
            at: rfc3339(now_ms),
            connector: connector.to_string(),
            queue: queue.to_owned(),
            delivery: format!("{connector}:{queue}:{message_id}"),
            message_id: message_id.clone(),
            outcome,
            attempt: delivery.attempt,
            seconds: Duration::from_millis(now_ms.saturating_sub(started_ms)).as_secs_f64(),
            reason: reason.map(str::to_owned),
        })
    }

    /// These are on disk.
    pub(super) fn tell(&self, ended: impl IntoIterator<Item = Delivered>) {
        ended.into_iter().for_each(|it| self.feed.tell(Kind::Delivery, Some(self.connector.as_str()), || it));
    }

    fn lock(&self) -> MutexGuard<'_, Option<LastFailure>> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
