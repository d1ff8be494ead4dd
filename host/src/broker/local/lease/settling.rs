//! What comes back: outcomes that are on disk, deliveries given back, workers that have gone.

use super::{Leased, Leases};
use crate::broker::local::lane::Item;
use crate::ledger::Returned;
use crate::message::Message;
use crate::settlement::{Delivery, Origin, Outcome};

impl Leases {
    /// Notes that a worker has decided about messages.
    pub(in crate::broker::local) fn hand_in(&mut self, outcomes: &[(Origin, Outcome)]) {
        for (origin, _) in outcomes {
            if let Some(leased) = self.leased.get_mut(origin) {
                leased.is_handed_in = true;
            }
        }
    }

    /// Takes in what became of a settlement.
    pub(in crate::broker::local) fn returned(&mut self, returned: Returned, now_ms: u64) {
        match returned {
            Returned::Committed(outcomes) => {
                for (origin, outcome) in outcomes {
                    self.suspects.remove(&origin);
                    self.settled(origin, &outcome, now_ms);
                }
            }
            Returned::Conflicted(outcomes) => {
                for (origin, _) in outcomes {
                    let Some(leased) = self.leased.get_mut(&origin) else { continue };
                    leased.is_handed_in = false;
                    if self.gone.contains(&leased.worker) {
                        self.bring_back(origin, None, now_ms);
                    }
                }
            }
        }
    }

    fn settled(&mut self, origin: Origin, outcome: &Outcome, now_ms: u64) {
        let Some(leased) = self.unlease(origin) else { return };
        if let Outcome::Retry { due_ms, charged, .. } = outcome {
            let attempts = leased.attempts + u32::from(*charged);
            self.place(Item { origin, due_ms: *due_ms, attempts, key: leased.key, message: None }, now_ms);
        } else if !self.lacks.is_empty() {
            self.lacks.remove(&origin);
        }
        if let Some(key) = leased.key {
            self.refresh(key, now_ms);
        }
    }

    /// Takes messages back untouched.
    pub(in crate::broker::local) fn release(&mut self, deliveries: Vec<Delivery>, now_ms: u64) {
        for delivery in deliveries.into_iter().rev() {
            self.bring_back(delivery.origin, Some(delivery.message), now_ms);
        }
    }

    /// Makes suspects of what a worker holds and has not handed in; answers them with the attempts charged so far.
    pub(in crate::broker::local) fn suspect(&mut self, worker: u64) -> Vec<(Origin, u32)> {
        let held = self.leased.iter().filter(|(_, leased)| leased.worker == worker && !leased.is_handed_in);
        let held: Vec<_> = held.map(|(origin, leased)| (*origin, leased.attempts)).collect();
        self.suspects.extend(held.iter().map(|(origin, _)| *origin));
        held
    }

    /// A worker has gone: what it held and did not hand in is delivered again.
    pub(in crate::broker::local) fn abandon(&mut self, worker: u64, now_ms: u64) {
        let held = self.leased.iter().filter(|(_, leased)| leased.worker == worker);
        let (handed_in, held): (Vec<_>, Vec<_>) =
            held.map(|(origin, leased)| (*origin, leased.is_handed_in)).partition(|(_, is_handed_in)| *is_handed_in);
        if !handed_in.is_empty() {
            self.gone.insert(worker);
        }
        held.into_iter().for_each(|(origin, _)| self.bring_back(origin, None, now_ms));
    }

    fn bring_back(&mut self, origin: Origin, message: Option<Message>, now_ms: u64) {
        let Some(leased) = self.unlease(origin) else { return };
        let item = Item { origin, due_ms: 0, attempts: leased.attempts, key: leased.key, message };
        let goes_first = matches!((&item.key, &item.message), (None, Some(_))) && !self.suspects.contains(&origin);
        if goes_first {
            self.window.add(item.message.as_ref().map(Message::size_bytes));
            self.line.push_front(item);
        } else {
            self.place(item, now_ms);
        }
        if let Some(key) = leased.key {
            self.refresh(key, now_ms);
        }
    }

    fn unlease(&mut self, origin: Origin) -> Option<Leased> {
        let leased = self.leased.remove(&origin)?;
        if self.alone == Some(origin) {
            self.alone = None;
        }
        if let Some(lane) = leased.key.and_then(|key| self.lanes.get_mut(&key)) {
            lane.leased -= 1;
        }
        Some(leased)
    }
}
