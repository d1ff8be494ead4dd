//! What was sent against what came of it: nothing accepted is lost, nothing is there that nobody sent, payloads are equal.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Evidence, Histories, Violation};
use crate::chance::digest;
use crate::record::{Item, Sent};
use crate::workload::{COUNTED, COUNTS, EVENTS, LATER, PARCEL, RECEIPTS, RECEIVERS, Receiver};

/// By queue and name.
type Known<'e> = HashMap<(&'e str, &'e str), (&'e Item, bool)>;

pub(super) fn check(evidence: &Evidence) -> Vec<Violation> {
    let (known, histories) = (evidence.known(), evidence.histories());
    let ends = Ends::of(evidence, &histories);
    let mut violations = lost(&known, &ends);
    violations.extend(arrived(evidence, &known));
    violations.extend(left(evidence, &known));
    violations.extend(torn(evidence, &ends));
    violations.extend(receipts(&histories, &ends));
    violations.extend(unsynced(evidence));
    violations
}

/// Where messages have ended.
struct Ends<'e> {
    /// Delivered, by receiver and name.
    delivered: HashSet<(&'e str, &'e str)>,
    /// Dead, by connector and name.
    dead: HashSet<(&'e str, &'e str)>,
    /// Counted and copied.
    counted: BTreeSet<String>,
    /// Events that lie in their queue, which keeps them.
    events: HashSet<&'e str>,
}

impl<'e> Ends<'e> {
    fn of(evidence: &'e Evidence, histories: &Histories<'e>) -> Self {
        let is_delivered = |requests: &[&super::Request]| requests.iter().any(|request| request.is_success());
        let delivered = histories.iter().filter(|(_, requests)| is_delivered(requests)).map(|(place, _)| *place);
        let dead = evidence.left.dead.iter().map(|letter| {
            let name = Receiver::named(&letter.connector)
                .map_or(letter.id.as_str(), |receiver| Evidence::name_of(receiver, &letter.id, &letter.text));
            (letter.connector.as_str(), name)
        });
        let counted = evidence.left.queue(COUNTED).iter().map(|kept| first_word(&kept.body));
        let events = evidence.left.queue(EVENTS).iter().map(|kept| kept.id.as_str()).collect();
        Self { delivered: delivered.collect(), dead: dead.collect(), counted: counted.collect(), events }
    }

    fn has(&self, queue: &str, name: &str) -> bool {
        if queue == COUNTS {
            return self.counted.contains(name) || self.dead.contains(&(crate::workload::TALLY, name));
        }
        if queue == EVENTS && !self.events.contains(name) {
            return false;
        }
        RECEIVERS.iter().filter(|receiver| receiver.queue == queue).any(|receiver| {
            self.delivered.contains(&(receiver.name, name)) || self.dead.contains(&(receiver.name, name))
        })
    }
}

/// The name in front of every payload.
pub(crate) fn first_word(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn lost(known: &Known<'_>, ends: &Ends<'_>) -> Vec<Violation> {
    let lost = known.iter().filter(|((queue, name), (_, is_accepted))| *is_accepted && !ends.has(queue, name));
    lost.map(|((queue, name), _)| Violation::Lost { queue: (*queue).to_owned(), name: (*name).to_owned() }).collect()
}

/// What came to the sink is what was sent.
fn arrived(evidence: &Evidence, known: &Known<'_>) -> Vec<Violation> {
    let arrivals = evidence.requests.iter().map(|request| &request.arrival);
    let told = arrivals.filter_map(|arrival| {
        let (place, name) = (arrival.receiver.clone(), arrival.name.clone());
        let Some(receiver) = Receiver::named(&arrival.receiver) else {
            return Some(Violation::Unknown { place, name });
        };
        if receiver.queue == LATER {
            return None;
        }
        match known.get(&(receiver.queue, arrival.name.as_str())) {
            None => Some(Violation::Unknown { place, name }),
            Some((item, _)) if item.body != arrival.body => Some(Violation::Altered { place, name }),
            Some((item, _)) if receiver.is_ordered && item.key != arrival.key => {
                Some(Violation::Altered { place, name })
            }
            Some(_) => None,
        }
    });
    told.collect()
}

/// So is what lies in the ledger.
fn left(evidence: &Evidence, known: &Known<'_>) -> Vec<Violation> {
    let counted = evidence.left.queue(COUNTED).iter().map(|kept| (COUNTED, COUNTS, first_word(&kept.body), &kept.body));
    let events = evidence.left.queue(EVENTS).iter().map(|kept| (EVENTS, EVENTS, kept.id.clone(), &kept.body));
    let kept = counted.chain(events).map(|(place, queue, name, body)| (place.to_owned(), queue, name, digest(body)));
    let letters = evidence.left.dead.iter().filter_map(|letter| {
        let queue = Receiver::named(&letter.connector).map_or(COUNTS, |receiver| receiver.queue);
        let place = format!("dead letters of {}", letter.connector);
        (queue != LATER).then(|| (place, queue, letter.id.clone(), letter.body.clone()))
    });
    let told = kept.chain(letters).filter_map(|(place, queue, name, body)| match known.get(&(queue, name.as_str())) {
        None => Some(Violation::Unknown { place, name }),
        Some((item, _)) if item.body != body => Some(Violation::Altered { place, name }),
        Some(_) => None,
    });
    told.collect()
}

/// Of a send that was not answered all is there, or nothing.
fn torn(evidence: &Evidence, ends: &Ends<'_>) -> Vec<Violation> {
    let unanswered = evidence.sends.iter().filter(|send| send.sent == Sent::Unanswered && send.queue == COUNTS);
    let told = unanswered.filter_map(|send| {
        let there = send.items.iter().filter(|item| ends.has(COUNTS, &item.id));
        let there: Vec<String> = there.map(|item| item.id.clone()).collect();
        let is_whole = there.is_empty() || there.len() == send.items.len();
        (!is_whole).then_some(Violation::Torn { send: send.number, there })
    });
    told.collect()
}

/// What a call published is there as a whole if the call is settled, and not at all otherwise.
fn receipts(histories: &Histories<'_>, ends: &Ends<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (_, name) in ends.delivered.iter().filter(|(receiver, _)| *receiver == PARCEL) {
        let is_settled = !ends.dead.contains(&(PARCEL, *name));
        for nth in 0..RECEIPTS {
            let effect = format!("{name} {nth}");
            let has_come = histories.contains_key(&(LATER, effect.as_str()));
            let has_ended = ends.has(LATER, &effect);
            if (is_settled && !has_ended) || (!is_settled && (has_come || has_ended)) {
                violations.push(Violation::HalfDone { name: (*name).to_owned(), effect });
            }
        }
    }
    for ((_, name), _) in histories.iter().filter(|((receiver, _), _)| *receiver == LATER) {
        let (parcel, nth) = name.split_once(' ').unwrap_or((name, ""));
        let is_one = nth.parse().is_ok_and(|nth: u32| nth < RECEIPTS) && ends.delivered.contains(&(PARCEL, parcel));
        if !is_one {
            violations.push(Violation::Unknown { place: LATER.to_owned(), name: (*name).to_owned() });
        }
    }
    violations
}

/// Of repeats nothing has to be written: only messages that were never sent before count.
fn unsynced(evidence: &Evidence) -> Vec<Violation> {
    let mut before = HashSet::new();
    let mut violations = Vec::new();
    for send in evidence.sends.iter().filter(|send| send.sent.may_be_there()) {
        let is_new = send.items.iter().all(|item| before.insert((&send.queue, &item.id)));
        if is_new && send.sent == Sent::Accepted && send.is_unsynced {
            violations.push(Violation::Unsynced { send: send.number });
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::sample::{evidence, name, request, send};
    use super::*;
    use crate::chance::payload;
    use crate::left::{Kept, Letter};
    use crate::workload::{Answer, ORDERS, PARCELS, Rule};

    fn taken(receiver: &str, prefix: &str) -> String {
        name(receiver, prefix, |rule| rule == Rule::Takes)
    }

    fn counted(evidence: &mut Evidence, names: &[&str]) {
        let kept = |name: &&str| Kept { id: String::new(), body: payload(evidence.seed, name).into_bytes() };
        let kept = names.iter().map(kept).collect();
        evidence.left.queues.insert(COUNTED.to_owned(), kept);
    }

    #[test]
    fn what_was_accepted_and_delivered_is_fine_and_what_was_not_delivered_is_lost() {
        let order = taken("deliver", "o");
        let sends = vec![send(1, ORDERS, &[&order], Sent::Accepted)];
        assert_eq!(check(&evidence(sends.clone(), vec![request(10, "deliver", &order, 1)], Vec::new())), []);
        let lost = Violation::Lost { queue: ORDERS.to_owned(), name: order.clone() };
        assert_eq!(check(&evidence(sends.clone(), Vec::new(), Vec::new())), std::slice::from_ref(&lost));
        // Nor does a request help that was not taken.
        let mut failed = request(10, "deliver", &order, 1);
        failed.answer = Some((11, Answer { status: 503, traps: false }));
        assert_eq!(check(&evidence(sends.clone(), vec![failed], Vec::new())), [lost]);
        // A dead letter is an end too.
        let mut dead = evidence(sends, Vec::new(), Vec::new());
        let body = super::super::sample::item(&order).body;
        dead.left.dead.push(Letter { connector: "deliver".to_owned(), id: order, body, ..Letter::default() });
        assert_eq!(check(&dead), []);
    }

    #[test]
    fn what_nobody_sent_is_unknown_also_where_nobody_listened() {
        let order = taken("deliver", "o");
        let unknown = Violation::Unknown { place: "deliver".to_owned(), name: order.clone() };
        let came = vec![request(10, "deliver", &order, 1)];
        assert_eq!(check(&evidence(Vec::new(), came.clone(), Vec::new())), std::slice::from_ref(&unknown));
        let not_sent = vec![send(1, ORDERS, &[&order], Sent::Unheard)];
        assert_eq!(check(&evidence(not_sent, came.clone(), Vec::new())), [unknown]);
        let unanswered = vec![send(1, ORDERS, &[&order], Sent::Unanswered)];
        assert_eq!(check(&evidence(unanswered, came, Vec::new())), []);
    }

    /// Its queue keeps it for a day.
    #[test]
    fn an_event_that_was_delivered_and_is_not_there_any_more_is_lost() {
        let event = taken("event", "e");
        let mut evidence = evidence(
            vec![send(1, EVENTS, &[&event], Sent::Accepted)],
            vec![request(10, "event", &event, 1)],
            Vec::new(),
        );
        assert_eq!(check(&evidence), [Violation::Lost { queue: EVENTS.to_owned(), name: event.clone() }]);
        let body = payload(evidence.seed, &event).into_bytes();
        evidence.left.queues.insert(EVENTS.to_owned(), vec![Kept { id: event, body }]);
        assert_eq!(check(&evidence), []);
    }

    #[test]
    fn another_payload_is_seen() {
        let order = taken("deliver", "o");
        let mut came = request(10, "deliver", &order, 1);
        came.arrival.body = "another".to_owned();
        let altered = Violation::Altered { place: "deliver".to_owned(), name: order.clone() };
        assert_eq!(
            check(&evidence(vec![send(1, ORDERS, &[&order], Sent::Accepted)], vec![came], Vec::new())),
            [altered]
        );
    }

    #[test]
    fn a_send_without_an_answer_is_there_as_a_whole_or_not_at_all() {
        let sends = vec![send(1, COUNTS, &["c1", "c2"], Sent::Unanswered)];
        let check_with = |names: &[&str]| {
            let mut evidence = evidence(sends.clone(), Vec::new(), Vec::new());
            counted(&mut evidence, names);
            check(&evidence)
        };
        assert_eq!(check_with(&[]), []);
        assert_eq!(check_with(&["c1", "c2"]), []);
        assert_eq!(check_with(&["c2"]), [Violation::Torn { send: 1, there: vec!["c2".to_owned()] }]);
    }

    #[test]
    fn receipts_are_there_exactly_if_their_parcel_is_settled() {
        let parcel = taken(PARCEL, "p");
        let effects: Vec<String> = (0..RECEIPTS).map(|nth| format!("{parcel} {nth}")).collect();
        let sends = vec![send(1, PARCELS, &[&parcel], Sent::Accepted)];
        let came = |names: &[&String]| {
            let mut requests = vec![request(10, PARCEL, &parcel, 1)];
            for name in names {
                let answer = Some((21, Answer { status: 200, traps: false }));
                requests.push(super::super::Request { answer, ..request(20, LATER, name, 1) });
            }
            check(&evidence(sends.clone(), requests, Vec::new()))
        };
        assert_eq!(came(&[&effects[0], &effects[1]]), []);
        let half = Violation::HalfDone { name: parcel.clone(), effect: effects[1].clone() };
        assert_eq!(came(&[&effects[0]]), [half]);
        let foreign = format!("{parcel} 7");
        let unknown = Violation::Unknown { place: LATER.to_owned(), name: foreign.clone() };
        assert_eq!(came(&[&effects[0], &effects[1], &foreign]), [unknown]);
    }

    #[test]
    fn an_acceptance_before_anything_was_synchronised_is_seen_but_for_repeats() {
        let order = taken("deliver", "o");
        let unsynced =
            |number| super::super::Send { is_unsynced: true, ..send(number, ORDERS, &[&order], Sent::Accepted) };
        let came = vec![request(10, "deliver", &order, 1)];
        assert_eq!(check(&evidence(vec![unsynced(1)], came.clone(), Vec::new())), [Violation::Unsynced { send: 1 }]);
        let sends = vec![send(1, ORDERS, &[&order], Sent::Accepted), unsynced(2)];
        assert_eq!(check(&evidence(sends, came, Vec::new())), []);
    }
}
