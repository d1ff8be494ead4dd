//! From three ledgers and what is left to what is wrong: pure, and each check by itself.
//!
//! `acceptance` compares what was sent with what came of it, `delivery` looks at the requests of each message in their
//! order, `deaths` at the dead letters, `inside` at what the ledger holds. A repeat is judged by what was under way when the
//! host was killed, never by how long ago something was.

mod acceptance;
mod deaths;
mod delivery;
mod inside;
mod violation;

use std::collections::{BTreeMap, HashMap};

pub(crate) use acceptance::first_word;
pub use violation::Violation;

use crate::left::Left;
use crate::record::{Arrival, Fault, FaultKind, Item, Receiving, Sending, Sent};
use crate::workload::{Answer, Receiver};

/// All that is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) seed: u64,
    pub(crate) sends: Vec<Send>,
    /// In the order in which they came.
    pub(crate) requests: Vec<Request>,
    /// In the order in which they were done.
    pub(crate) faults: Vec<Fault>,
    pub(crate) left: Left,
    /// When the last life began, in microseconds since the Unix epoch.
    pub(crate) last_life_us: u64,
}

/// A send, and what became of it; without an outcome it was never answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Send {
    pub(crate) number: u64,
    pub(crate) queue: String,
    pub(crate) items: Vec<Item>,
    pub(crate) sent: Sent,
    /// Whether nothing was synchronised between its beginning and its end.
    pub(crate) is_unsynced: bool,
}

/// A request that came, and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) arrival: Arrival,
    /// The answer, and when it left; `None` where nobody took it any more.
    pub(crate) answer: Option<(u64, Answer)>,
}

impl Request {
    /// Whether the message was delivered with it, as far as the sink knows.
    fn is_success(&self) -> bool {
        self.answer.is_some_and(|(_, answer)| answer.is_success())
    }
}

/// The requests of each message, by receiver and name.
type Histories<'e> = BTreeMap<(&'e str, &'e str), Vec<&'e Request>>;

/// Everything that is wrong.
pub(crate) fn judge(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = acceptance::check(evidence);
    violations.extend(delivery::check(evidence));
    violations.extend(deaths::check(evidence));
    violations.extend(inside::check(evidence));
    violations
}

/// What was sent against what came of it, alone.
pub(crate) fn acceptance(evidence: &Evidence) -> Vec<Violation> {
    acceptance::check(evidence)
}

impl Evidence {
    /// Puts the entries of the ledgers together.
    pub(crate) fn new(seed: u64, sendings: Vec<Sending>, receivings: Vec<Receiving>, faults: Vec<Fault>) -> Self {
        Self { seed, sends: sends(sendings), requests: requests(receivings), faults, ..Self::default() }
    }

    fn histories(&self) -> Histories<'_> {
        let mut histories = Histories::new();
        for request in &self.requests {
            let Arrival { receiver, name, .. } = &request.arrival;
            histories.entry((receiver, name)).or_default().push(request);
        }
        histories
    }

    /// Whether a life of the host that may have seen the one was over, and not as it should be, before the other.
    fn was_killed(&self, from_us: u64, to_us: u64) -> bool {
        let mut deaths = self.faults.iter().filter(|fault| fault.kind.is_death());
        deaths.any(|fault| (from_us..=to_us).contains(&fault.ended_us))
    }

    /// The same, or whether its machine lost its power: then no attempt is charged.
    fn was_cut_off(&self, from_us: u64, to_us: u64) -> bool {
        let mut ends = self.faults.iter().filter(|fault| fault.kind.is_cut_off());
        ends.any(|fault| (from_us..=to_us).contains(&fault.ended_us))
    }

    /// Whether the disk refused something, and the host lived on, at some time between the two.
    fn was_held(&self, from_us: u64, to_us: u64) -> bool {
        let mut held = self.faults.iter().filter(|fault| fault.kind == FaultKind::Held);
        held.any(|fault| fault.ended_us >= from_us && fault.at_us <= to_us)
    }

    /// Everything that may be there: by queue and name, and whether it was accepted.
    fn known(&self) -> HashMap<(&str, &str), (&Item, bool)> {
        let mut known: HashMap<(&str, &str), (&Item, bool)> = HashMap::new();
        for send in self.sends.iter().filter(|send| send.sent.may_be_there()) {
            for item in &send.items {
                let entry = known.entry((&send.queue, &item.id)).or_insert((item, false));
                entry.1 |= send.sent == Sent::Accepted;
            }
        }
        known
    }

    /// What a dead letter's producer calls it.
    fn name_of<'e>(receiver: &Receiver, id: &'e str, text: &'e str) -> &'e str {
        if receiver.queue == crate::workload::LATER { text } else { id }
    }
}

fn sends(entries: Vec<Sending>) -> Vec<Send> {
    let mut begun: BTreeMap<u64, (Send, Option<u64>)> = BTreeMap::new();
    for entry in entries {
        match entry {
            Sending::Intent { send: number, queue, items, synced, .. } => {
                let send = Send { number, queue, items, sent: Sent::Unanswered, is_unsynced: false };
                begun.insert(number, (send, synced));
            }
            Sending::Outcome { send, sent, synced, .. } => {
                if let Some((send, before)) = begun.get_mut(&send) {
                    send.sent = sent;
                    send.is_unsynced = synced.is_some() && synced == *before;
                }
            }
        }
    }
    begun.into_values().map(|(send, _)| send).collect()
}

fn requests(entries: Vec<Receiving>) -> Vec<Request> {
    let mut requests: BTreeMap<u64, Request> = BTreeMap::new();
    for entry in entries {
        match entry {
            Receiving::Arrival(arrival) => {
                requests.insert(arrival.nth, Request { arrival, answer: None });
            }
            Receiving::Answer { at_us, nth, status, traps } => {
                if let Some(request) = requests.get_mut(&nth) {
                    request.answer = Some((at_us, Answer { status, traps }));
                }
            }
        }
    }
    let mut requests: Vec<Request> = requests.into_values().collect();
    requests.sort_by_key(|request| request.arrival.at_us);
    requests
}

/// Evidence that is made up for a test, small enough to be read.
#[cfg(test)]
pub(crate) mod sample {
    use super::*;
    use crate::chance::{digest, payload};
    use crate::workload::Rule;

    pub(crate) const SEED: u64 = 1;

    /// The first name that begins so and has this rule.
    pub(crate) fn name(receiver: &str, prefix: &str, is_it: impl Fn(Rule) -> bool) -> String {
        let mut names = (1..).map(|nth| format!("{prefix}{nth}"));
        names.find(|name| is_it(Rule::of(SEED, receiver, name))).expect("every rule is drawn")
    }

    pub(crate) fn item(id: &str) -> Item {
        Item { id: id.to_owned(), key: None, body: digest(payload(SEED, id).as_bytes()) }
    }

    pub(crate) fn send(number: u64, queue: &str, ids: &[&str], sent: Sent) -> Send {
        let items = ids.iter().map(|id| item(id)).collect();
        Send { number, queue: queue.to_owned(), items, sent, is_unsynced: false }
    }

    /// A request that came then, and was answered by the rule a millisecond later.
    pub(crate) fn request(at_us: u64, receiver: &str, name: &str, attempt: u32) -> Request {
        let answer = Rule::of(SEED, receiver, name).answer(attempt);
        let (receiver, id) = (receiver.to_owned(), name.to_owned());
        let body = item(name).body;
        let arrival = Arrival { at_us, receiver, id, name: name.to_owned(), attempt, body, ..Arrival::default() };
        Request { arrival, answer: Some((at_us + 1_000, answer)) }
    }

    pub(crate) fn fault(at_us: u64, kind: FaultKind) -> Fault {
        Fault { at_us, ended_us: at_us + 100, kind }
    }

    pub(crate) fn evidence(sends: Vec<Send>, requests: Vec<Request>, faults: Vec<Fault>) -> Evidence {
        let left = Left { integrity: "ok".to_owned(), ..Left::default() };
        Evidence { seed: SEED, sends, requests, faults, left, last_life_us: 0 }
    }
}
