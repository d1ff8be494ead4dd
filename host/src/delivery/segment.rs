//! A segment: the part of a run that is committed in one transaction.
//!
//! Collects outcomes and what their calls staged, and says when it must end. Invariant: what a failed call staged never
//! enters a segment.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::tracing::Told;
use crate::feed::Delivered;
use crate::ledger::Reservation;
use crate::settlement::attempt::Attempt;
use crate::settlement::{
    ConnectorId, Delivery, Origin, Outcome, Publish, Settlement, StateChanges, SubscriptionId, TickEnd,
};

/// A segment ends this long after its first call, so that a slow run does not keep finished work from the disk.
const AGE_MAX: Duration = Duration::from_millis(50);

/// What calls have decided since the last commit.
#[derive(Debug)]
pub struct Segment {
    subscription: SubscriptionId,
    connector: ConnectorId,
    started: Option<Instant>,
    outcomes: Vec<(Origin, Outcome)>,
    publishes: Vec<Publish>,
    /// The room of the publishes; given back once the settlement is handed in, which takes its own.
    reservation: Reservation,
    state: StateChanges,
    tick: Option<TickEnd>,
    deliveries: Vec<Delivery>,
    attempts: Vec<Attempt>,
    told: Vec<Told>,
    ended: Vec<Delivered>,
}

/// A segment that is closed: what to commit, and what to run again if state had changed.
#[derive(Debug)]
pub struct Closed {
    /// For the ledger.
    pub settlement: Settlement,
    /// When each delivery that ended in success was accepted, in milliseconds since the Unix epoch.
    pub accepted_ms: Vec<u64>,
    /// To be kept once it is committed.
    pub attempts: Vec<Attempt>,
    /// To be told once it is committed.
    pub ended: Vec<Delivered>,
    /// The same for whoever collects traces.
    pub told: Vec<Told>,
    /// The deliveries of a segment that touched state; empty otherwise.
    pub deliveries: Vec<Delivery>,
    /// To be dropped once the settlement is handed in.
    pub reservation: Reservation,
}

impl Segment {
    /// An empty one.
    #[must_use]
    pub fn new(subscription: SubscriptionId, connector: ConnectorId) -> Self {
        Self {
            subscription,
            connector,
            started: None,
            outcomes: Vec::new(),
            publishes: Vec::new(),
            reservation: Reservation::default(),
            state: StateChanges::default(),
            tick: None,
            deliveries: Vec::new(),
            attempts: Vec::new(),
            told: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Whose deliveries are settled in it.
    #[must_use]
    pub fn subscription(&self) -> SubscriptionId {
        self.subscription
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// Whether it is time to end it.
    #[must_use]
    pub fn is_old(&self, now: Instant) -> bool {
        self.started.is_some_and(|started| now.saturating_duration_since(started) >= AGE_MAX)
    }

    /// Notes that a call begins.
    pub fn begin(&mut self, now: Instant) {
        self.started.get_or_insert(now);
    }

    /// Adds a delivery's outcome.
    pub fn settle(&mut self, origin: Origin, outcome: Outcome) {
        self.outcomes.push((origin, outcome));
    }

    /// Adds what a successful call staged.
    pub fn stage(&mut self, mut publishes: Vec<Publish>, reservation: Reservation, state: StateChanges) {
        self.publishes.append(&mut publishes);
        self.reservation.absorb(reservation);
        merge(&mut self.state, state);
    }

    /// Keeps a delivery that ended in success: it must run again if the state conflicts.
    pub fn keep(&mut self, delivery: Delivery) {
        self.deliveries.push(delivery);
    }

    /// Notes an attempt whose outcome this segment holds, for the history.
    pub fn note(&mut self, attempt: Option<Attempt>) {
        self.attempts.extend(attempt);
    }

    /// Notes what is told of a delivery whose outcome this segment holds.
    pub fn tell(&mut self, ended: Option<Delivered>) {
        self.ended.extend(ended);
    }

    /// The same for whoever collects traces.
    pub fn trace(&mut self, told: Option<Told>) {
        let place = self.deliveries.len();
        self.told.extend(told.map(|told| told.at(place)));
    }

    /// Notes what the attempt at a tick came to whose outcome this segment holds.
    pub fn tick(&mut self, end: Option<TickEnd>) {
        self.tick = end.or(self.tick.take());
    }

    /// Ends it, leaving an empty one; `None` where there is nothing to commit.
    pub fn close(&mut self) -> Option<Closed> {
        let fresh = Self::new(self.subscription, self.connector);
        let ended = std::mem::replace(self, fresh);
        if ended.outcomes.is_empty() {
            return None;
        }
        let accepted_ms = ended.deliveries.iter().map(|delivery| delivery.message.enqueued_at_ms).collect();
        let deliveries = if ended.state.is_empty() { Vec::new() } else { ended.deliveries };
        let settlement = Settlement {
            subscription: ended.subscription,
            connector: ended.connector,
            outcomes: ended.outcomes,
            publishes: ended.publishes,
            state: ended.state,
            tick: ended.tick,
            mark: None,
        };
        let (attempts, reservation, told, ended) = (ended.attempts, ended.reservation, ended.told, ended.ended);
        Some(Closed { settlement, accepted_ms, attempts, ended, told, deliveries, reservation })
    }
}

/// Joins what a later call saw and wrote: the version at first touch stays, the last write wins.
fn merge(all: &mut StateChanges, later: StateChanges) {
    if all.is_empty() {
        *all = later;
        return;
    }
    for (key, version) in later.seen {
        if !all.seen.iter().any(|(seen, _)| *seen == key) {
            all.seen.push((key, version));
        }
    }
    all.listed = all.listed.or(later.listed);
    let mut places: HashMap<String, usize> =
        all.writes.iter().enumerate().map(|(place, (key, _))| (key.clone(), place)).collect();
    for (key, value) in later.writes {
        if let Some(place) = places.get(&key) {
            all.writes[*place].1 = value;
        } else {
            places.insert(key.clone(), all.writes.len());
            all.writes.push((key, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(key: &str, version: u64, value: &str) -> StateChanges {
        StateChanges {
            seen: vec![(key.to_owned(), version)],
            listed: None,
            writes: vec![(key.to_owned(), Some(value.as_bytes().to_vec()))],
        }
    }

    #[test]
    fn the_first_version_and_the_last_write_win() {
        let mut segment = Segment::new(SubscriptionId(1), ConnectorId(1));
        segment.settle(Origin::Log(1), Outcome::Done);
        segment.stage(Vec::new(), Reservation::default(), changes("a", 1, "x"));
        segment.stage(Vec::new(), Reservation::default(), changes("a", 7, "y"));
        let closed = segment.close().expect("it holds an outcome");
        assert_eq!(closed.settlement.state, changes("a", 1, "y"));
        assert!(segment.is_empty() && segment.close().is_none());
    }

    #[test]
    fn ends_fifty_milliseconds_after_its_first_call() {
        let start = Instant::now();
        let mut segment = Segment::new(SubscriptionId(1), ConnectorId(1));
        assert!(!segment.is_old(start + AGE_MAX));
        segment.begin(start);
        segment.begin(start + AGE_MAX);
        assert!(segment.is_old(start + AGE_MAX));
    }
}
