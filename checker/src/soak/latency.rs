//! How long messages took, from the producer's and the sink's own ledgers, apart for times around faults.
//!
//! A time begins before the producer notes what it is about to send, so that one write of its own to the disk is in it.
//! Messages that the sink lets fail do not count.

use std::collections::HashMap;

use serde::Serialize;

use super::load::ASKS;
use super::strike::Around;
use crate::record::{Receiving, Sending, Sent};
use crate::workload::{BULK, EVENTS, ORDERS, PARCELS, RECEIVERS, Rule, STEPS};

/// What is measured: a queue, and how it is called.
const WAYS: [(&str, &str); 5] = [
    (EVENTS, "webhook → queue → plugin → sink"),
    (ORDERS, "send → full queue → plugin → sink"),
    (STEPS, "send → full queue in the order of keys → plugin → sink"),
    (PARCELS, "send → full queue → plugin of ours → sink"),
    (BULK, "send of 64 KiB → queue of 48 MiB → plugin → sink"),
];
const ASKED: &str = "webhook → plugin → answer";

/// Times in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Spread {
    pub(super) count: usize,
    pub(super) median_us: u64,
    pub(super) p99_us: u64,
    pub(super) most_us: u64,
}

/// How long messages of a kind took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Latency {
    pub(super) what: &'static str,
    pub(super) quiet: Spread,
    /// Those that were sent or delivered around a fault.
    pub(super) around_faults: Spread,
}

/// By queue and name.
type Begun<'s> = HashMap<(&'s str, &'s str), u64>;

/// Reads them from the ledgers.
pub(super) fn read(seed: u64, sendings: &[Sending], receivings: &[Receiving], around: &[Around]) -> Vec<Latency> {
    let (begun, answered) = begun(sendings);
    let arrived = arrived(seed, receivings);
    let mut latencies = Vec::new();
    for (queue, what) in WAYS {
        let ends = arrived.iter().filter(|((found, _), _)| *found == queue);
        let times = ends.filter_map(|(place, end_us)| Some((*begun.get(place)?, *end_us)));
        latencies.push(latency(what, times.collect(), around));
    }
    latencies.push(latency(ASKED, answered, around));
    latencies
}

/// When each message was sent first that may have been accepted then, and from when to when those took that a plugin answers.
fn begun(sendings: &[Sending]) -> (Begun<'_>, Vec<(u64, u64)>) {
    let mut intents = HashMap::new();
    let (mut begun, mut answered) = (HashMap::new(), Vec::new());
    for sending in sendings {
        match sending {
            Sending::Intent { at_us, send, queue, items, .. } => {
                intents.insert(*send, (*at_us, queue.as_str(), items));
            }
            Sending::Outcome { at_us, send, sent, .. } => {
                let Some((begun_us, queue, items)) = intents.remove(send) else { continue };
                if *sent == Sent::Accepted && queue == ASKS {
                    answered.push((begun_us, *at_us));
                }
                for item in items.iter().filter(|_| sent.may_be_there()) {
                    begun.entry((queue, item.id.as_str())).or_insert(begun_us);
                }
            }
        }
    }
    (begun, answered)
}

/// When each message came first that the sink takes at once, by its queue and name.
fn arrived(seed: u64, receivings: &[Receiving]) -> Begun<'_> {
    let mut arrived = HashMap::new();
    for receiving in receivings {
        let Receiving::Arrival(arrival) = receiving else { continue };
        let receiver = RECEIVERS.iter().find(|receiver| receiver.name == arrival.receiver);
        let Some(receiver) = receiver else { continue };
        if Rule::of(seed, receiver.name, &arrival.name) == Rule::Takes {
            arrived.entry((receiver.queue, arrival.name.as_str())).or_insert(arrival.at_us);
        }
    }
    arrived
}

fn latency(what: &'static str, times: Vec<(u64, u64)>, around: &[Around]) -> Latency {
    let touches = |(from_us, to_us): &(u64, u64)| around.iter().any(|(first, last)| from_us <= last && to_us >= first);
    let (around_faults, quiet): (Vec<_>, Vec<_>) = times.into_iter().partition(touches);
    Latency { what, quiet: spread(&quiet), around_faults: spread(&around_faults) }
}

fn spread(times: &[(u64, u64)]) -> Spread {
    let mut took: Vec<u64> = times.iter().map(|(from_us, to_us)| to_us.saturating_sub(*from_us)).collect();
    took.sort_unstable();
    let at =
        |share: usize| took.get((took.len() * share / 100).min(took.len().saturating_sub(1))).copied().unwrap_or(0);
    Spread { count: took.len(), median_us: at(50), p99_us: at(99), most_us: at(100) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Arrival, Item};

    #[test]
    fn a_time_is_that_from_the_first_send_that_may_have_been_accepted_to_the_first_arrival() {
        let names = (0..100).map(|nth| format!("e{nth}"));
        let names: Vec<String> = names.filter(|name| Rule::of(1, "event", name) == Rule::Takes).take(2).collect();
        let sending = |at_us, send, name: &String, sent| {
            let items = vec![Item { id: name.clone(), key: None, body: String::new() }];
            let intent = Sending::Intent { at_us, send, queue: EVENTS.to_owned(), items, synced: None };
            [intent, Sending::Outcome { at_us: at_us + 1, send, sent, synced: None }]
        };
        let came = |at_us, name: &String| {
            let (receiver, name) = ("event".to_owned(), name.clone());
            Receiving::Arrival(Arrival { at_us, receiver, name, ..Arrival::default() })
        };
        let sendings = [
            sending(100, 1, &names[0], Sent::Refused),
            sending(200, 2, &names[0], Sent::Unanswered),
            sending(300, 3, &names[0], Sent::Accepted),
            sending(1_000, 4, &names[1], Sent::Accepted),
        ];
        let received = [came(450, &names[0]), came(500, &names[0]), came(1_020, &names[1])];
        let found = read(1, &sendings.concat(), &received, &[(1_015, 1_500)]);
        let one = |us| Spread { count: 1, median_us: us, p99_us: us, most_us: us };
        assert_eq!((found[0].quiet, found[0].around_faults), (one(250), one(20)));
    }
}
