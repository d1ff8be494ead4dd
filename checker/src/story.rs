//! What is known of a host until a moment, from outside: what was sent and answered, what it has delivered, and its ends.

use std::ops::Range;
use std::path::Path;

use crate::ledger::Ledger;
use crate::record::{Arrival, Fault, FaultKind, Receiving, Sending, Sent};
use crate::verdict::Evidence;
use crate::{FAULTS, PRODUCER, SINK};

/// The entries of the three ledgers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    pub(crate) sendings: Vec<Sending>,
    pub(crate) receivings: Vec<Receiving>,
    pub(crate) faults: Vec<Fault>,
}

impl Story {
    /// The ledgers in a folder.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn read(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            sendings: Ledger::read(&folder.join(PRODUCER))?,
            receivings: Ledger::read(&folder.join(SINK))?,
            faults: Ledger::read(&folder.join(FAULTS))?,
        })
    }

    /// What had happened before that time. What was begun by then and not answered stays without an answer.
    pub(crate) fn until(&self, at_us: u64) -> Self {
        self.as_of(&(at_us..at_us))
    }

    /// What is known of a moment that lies somewhere in that time: all that may have happened before it. What was accepted
    /// only then may be there, and need not.
    pub(crate) fn as_of(&self, moment_us: &Range<u64>) -> Self {
        let Range { start: from_us, end: at_us } = *moment_us;
        let sent_us = |entry: &Sending| match entry {
            Sending::Intent { at_us, .. } => *at_us,
            // Nobody takes back that nothing was accepted.
            Sending::Outcome { at_us, sent: Sent::Accepted, .. } if *at_us >= from_us => u64::MAX,
            Sending::Outcome { at_us, .. } => *at_us,
        };
        let received_us = |entry: &Receiving| match entry {
            Receiving::Arrival(Arrival { at_us, .. }) | Receiving::Answer { at_us, .. } => *at_us,
        };
        // A stop that has not come to its end promises nothing.
        let done_us = |fault: &Fault| if fault.kind == FaultKind::Stop { fault.ended_us } else { fault.at_us };
        Self {
            sendings: self.sendings.iter().filter(|entry| sent_us(entry) < at_us).cloned().collect(),
            receivings: self.receivings.iter().filter(|entry| received_us(entry) < at_us).cloned().collect(),
            faults: self.faults.iter().filter(|fault| done_us(fault) < at_us).cloned().collect(),
        }
    }

    /// The same with an end of that kind, and what was delivered after it. A sink counts its arrivals from 0 on.
    pub(crate) fn and_then(mut self, kind: FaultKind, at_us: u64, receivings: Vec<Receiving>) -> Self {
        self.faults.push(Fault { at_us, ended_us: at_us, kind });
        let number = |entry: &Receiving| match entry {
            Receiving::Arrival(arrival) => arrival.nth + 1,
            Receiving::Answer { nth, .. } => nth + 1,
        };
        let first = self.receivings.iter().map(number).max().unwrap_or(0);
        self.receivings.extend(receivings.into_iter().map(|entry| match entry {
            Receiving::Arrival(arrival) => Receiving::Arrival(Arrival { nth: arrival.nth + first, ..arrival }),
            Receiving::Answer { at_us, nth, status, traps } => {
                Receiving::Answer { at_us, nth: nth + first, status, traps }
            }
        }));
        self
    }

    /// When sends were accepted.
    pub(crate) fn acceptances_us(&self) -> Vec<u64> {
        let accepted = self.sendings.iter().filter_map(|entry| match entry {
            Sending::Outcome { at_us, sent: Sent::Accepted, .. } => Some(*at_us),
            Sending::Outcome { .. } | Sending::Intent { .. } => None,
        });
        accepted.collect()
    }

    /// When something happened by which the host is judged.
    pub(crate) fn events_us(&self) -> Vec<u64> {
        let answered = self.receivings.iter().filter_map(|entry| match entry {
            Receiving::Answer { at_us, .. } => Some(*at_us),
            Receiving::Arrival(_) => None,
        });
        answered.chain(self.acceptances_us()).chain(self.faults.iter().map(|fault| fault.ended_us)).collect()
    }

    /// For the verdict.
    pub(crate) fn evidence(&self, seed: u64) -> Evidence {
        Evidence::new(seed, self.sendings.clone(), self.receivings.clone(), self.faults.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story() -> Story {
        let intent = |at_us, send| Sending::Intent { at_us, send, queue: "q".into(), items: Vec::new(), synced: None };
        let outcome = |at_us, send| Sending::Outcome { at_us, send, sent: Sent::Accepted, synced: None };
        let arrival = |at_us, nth| Receiving::Arrival(Arrival { at_us, nth, ..Arrival::default() });
        let fault = |at_us, kind| Fault { at_us, ended_us: at_us + 10, kind };
        Story {
            sendings: vec![intent(10, 0), outcome(20, 0), intent(30, 1), outcome(40, 1)],
            receivings: vec![arrival(15, 0), Receiving::Answer { at_us: 25, nth: 0, status: 200, traps: false }],
            faults: vec![fault(18, FaultKind::Kill), fault(28, FaultKind::Stop)],
        }
    }

    #[test]
    fn what_was_not_answered_by_then_has_no_answer_and_what_was_not_begun_is_not_there() {
        let until = |at_us| {
            let Story { sendings, receivings, faults } = story().until(at_us);
            (sendings.len(), receivings.len(), faults.len())
        };
        assert_eq!(until(20), (1, 1, 1));
        assert_eq!(until(21), (2, 1, 1));
        assert_eq!(until(35), (3, 2, 1));
        assert_eq!(until(u64::MAX), (4, 2, 2));
    }

    #[test]
    fn what_was_accepted_about_the_moment_may_be_there() {
        let as_of = |moment_us| story().as_of(&moment_us).sendings.len();
        assert_eq!((as_of(21..41), as_of(20..41), as_of(5..21), as_of(41..41)), (3, 2, 1, 4));
    }

    #[test]
    fn what_comes_after_a_power_failure_is_told_apart_from_what_came_before() {
        let after = vec![Receiving::Arrival(Arrival { at_us: 60, ..Arrival::default() })];
        let whole = story().and_then(FaultKind::PowerCut, 50, after);
        assert!(matches!(whole.receivings[2], Receiving::Arrival(Arrival { nth: 1, .. })), "{:?}", whole.receivings);
        assert_eq!(whole.faults.last().map(|fault| fault.kind), Some(FaultKind::PowerCut));
        assert_eq!(story().acceptances_us(), [20, 40]);
    }
}
