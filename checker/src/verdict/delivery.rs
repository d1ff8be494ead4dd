//! The requests of each message in their order: repeats, attempts, due times, and the order of keys.
//!
//! Invariant of the host that most of this follows from: a worker begins a request that changes something only when what
//! it did before is on disk.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Evidence, Request, Violation};
use crate::record::FaultKind;
use crate::workload::{DELAY_MS, LATER, PARCEL, Receiver};

/// Clocks that are read in whole milliseconds.
const SLACK_US: u64 = 5_000;

pub(super) fn check(evidence: &Evidence) -> Vec<Violation> {
    let histories = evidence.histories();
    let mut violations = Vec::new();
    let mut repeats = Repeats::default();
    for ((receiver, name), requests) in &histories {
        let Some(receiver) = Receiver::named(receiver) else { continue };
        violations.extend(attempts(evidence, receiver, name, requests));
        for pair in requests.windows(2) {
            let [before, then] = pair else { continue };
            let step = Step { evidence, receiver, name, before, then };
            violations.extend(step.unreasonable());
            violations.extend(step.early());
            repeats.note(&step);
        }
    }
    violations.extend(repeats.too_many());
    violations.extend(receipts_early(evidence));
    violations.extend(order(evidence));
    violations.extend(ids(evidence));
    violations
}

fn attempts(evidence: &Evidence, receiver: &Receiver, name: &str, requests: &[&Request]) -> Vec<Violation> {
    let most = requests.iter().map(|request| request.arrival.attempt).max().unwrap_or(0);
    let mut violations = Vec::new();
    let (receiver_name, name) = (receiver.name.to_owned(), name.to_owned());
    if most > receiver.attempts {
        let (receiver, name) = (receiver_name.clone(), name.clone());
        violations.push(Violation::TooManyAttempts { receiver, name, attempts: most });
    }
    // One that is charged before anything came was running when the host died.
    let first = requests.first().map(|request| &request.arrival);
    if let Some(first) = first.filter(|first| first.attempt > 1 && !evidence.was_killed(0, first.at_us)) {
        violations.push(Violation::Repeated { receiver: receiver_name, name, attempts: (0, first.attempt) });
    }
    violations
}

/// Two requests of a message, one after the other.
struct Step<'e> {
    evidence: &'e Evidence,
    receiver: &'static Receiver,
    name: &'e str,
    before: &'e Request,
    then: &'e Request,
}

impl Step<'_> {
    fn was_killed(&self) -> bool {
        self.evidence.was_killed(self.before.arrival.at_us, self.then.arrival.at_us)
    }

    fn was_cut_off(&self) -> bool {
        self.evidence.was_cut_off(self.before.arrival.at_us, self.then.arrival.at_us)
    }

    /// Whether the call of the first one may have found no room for what it publishes afterwards: it runs again, at no
    /// attempt. One that publishes nothing is done with its request, whatever the disk refuses.
    fn was_held(&self) -> bool {
        let begun_us = self.before.arrival.at_us;
        self.receiver.name == PARCEL && self.evidence.was_held(begun_us, begun_us + self.receiver.wall_ms * 1_000)
    }

    /// Whether the host may have given the first one up, because its time was over.
    fn was_given_up(&self) -> bool {
        self.then.arrival.at_us - self.before.arrival.at_us >= self.receiver.wall_ms * 1_000 / 2
    }

    /// Whether the host knows that the first one failed.
    fn has_failed(&self) -> bool {
        self.before.answer.is_some_and(|(_, answer)| !answer.is_success())
    }

    /// A repeat at the same attempt follows a kill, a power failure, or a publish that was refused; one at a later attempt a
    /// failure, a kill or a deadline.
    fn unreasonable(&self) -> Option<Violation> {
        let attempts = (self.before.arrival.attempt, self.then.arrival.attempt);
        let is_reasonable = match attempts.1.checked_sub(attempts.0) {
            None => false,
            Some(0) => self.was_cut_off() || self.was_held(),
            Some(1) => self.was_killed() || self.has_failed() || self.was_given_up(),
            Some(_) => self.was_killed(),
        };
        let (receiver, name) = (self.receiver.name.to_owned(), self.name.to_owned());
        (!is_reasonable).then_some(Violation::Repeated { receiver, name, attempts })
    }

    /// After a failure the next attempt waits, unless it is made up for a crash.
    fn early(&self) -> Option<Violation> {
        let (answered_us, _) = self.before.answer.filter(|_| self.has_failed() && !self.was_cut_off())?;
        let due_us = answered_us + Receiver::delay_ms(self.before.arrival.attempt) * 1_000;
        early(self.receiver.name, self.name, due_us, self.then.arrival.at_us)
    }
}

fn early(receiver: &str, name: &str, due_us: u64, at_us: u64) -> Option<Violation> {
    let by_us = due_us.saturating_sub(at_us);
    let (receiver, name) = (receiver.to_owned(), name.to_owned());
    (by_us > SLACK_US).then_some(Violation::Early { receiver, name, by_us })
}

/// Messages that were delivered again after they were, by the fault that came between, and the receiver.
#[derive(Default)]
struct Repeats<'e> {
    after: BTreeMap<(u64, &'e str), HashSet<&'e str>>,
    settled: Vec<Violation>,
    workers: HashMap<&'e str, usize>,
}

impl<'e> Repeats<'e> {
    fn note(&mut self, step: &Step<'e>) {
        let Some((answered_us, answer)) = step.before.answer else { return };
        if !answer.is_success() || step.was_given_up() || step.was_held() {
            return;
        }
        let mut ends =
            step.evidence.faults.iter().filter(|fault| fault.kind.is_cut_off() || fault.kind == FaultKind::Stop);
        // Where none came between, it is unreasonable.
        let Some(fault) = ends.find(|fault| fault.ended_us >= answered_us) else { return };
        let (receiver, name) = (step.receiver.name, step.name);
        if fault.kind == FaultKind::Stop {
            let (receiver, name) = (receiver.to_owned(), name.to_owned());
            self.settled.push(Violation::RepeatedSettled { receiver, name });
        } else {
            self.after.entry((fault.at_us, receiver)).or_default().insert(name);
            self.workers.insert(receiver, step.receiver.workers);
        }
    }

    /// Each worker has one request under way at most, and nothing before it that is not on disk.
    fn too_many(self) -> Vec<Violation> {
        let Self { after, settled, workers } = self;
        let many = after.into_iter().filter(|((_, receiver), names)| names.len() > workers[receiver]);
        let many = many.map(|((fault_us, receiver), names)| {
            let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            names.sort();
            Violation::RepeatedMany { receiver: receiver.to_owned(), fault_us, names }
        });
        settled.into_iter().chain(many).collect()
    }
}

/// A receipt is due so long after the request of the call that published it.
fn receipts_early(evidence: &Evidence) -> Vec<Violation> {
    let histories = evidence.histories();
    let mut violations = Vec::new();
    for ((_, name), requests) in histories.iter().filter(|((receiver, _), _)| *receiver == LATER) {
        let Some(first_us) = requests.first().map(|request| request.arrival.at_us) else { continue };
        let parcel = name.split(' ').next().unwrap_or_default();
        let posted = histories.get(&(PARCEL, parcel)).into_iter().flatten().filter(|request| request.is_success());
        let posted_us = posted.map(|request| request.arrival.at_us).take_while(|at_us| *at_us < first_us).last();
        violations.extend(posted_us.and_then(|us| early(LATER, name, us + DELAY_MS * 1_000, first_us)));
    }
    violations
}

/// Within a key a message comes after the one before it was settled: from then on nothing earlier comes any more.
fn order(evidence: &Evidence) -> Vec<Violation> {
    let mut reached: HashMap<(&str, &str), u64> = HashMap::new();
    let dead: HashSet<&str> = evidence.left.dead.iter().map(|letter| letter.id.as_str()).collect();
    let mut violations = Vec::new();
    for arrival in evidence.requests.iter().map(|request| &request.arrival) {
        let is_ordered = Receiver::named(&arrival.receiver).is_some_and(|receiver| receiver.is_ordered);
        let step = arrival.name.rsplit_once('-').and_then(|(_, step)| step.parse::<u64>().ok());
        let (Some(key), Some(step), true) = (&arrival.key, step, is_ordered) else { continue };
        let last = reached.entry((&arrival.receiver, key)).or_default();
        let skipped = (*last + 1..step).map(|step| format!("{key}-{step}")).find(|name| !dead.contains(name.as_str()));
        let before = if step < *last { Some(arrival.name.clone()) } else { skipped };
        if let Some(before) = before {
            let name = if step < *last { format!("{key}-{last}") } else { arrival.name.clone() };
            violations.push(Violation::Reordered { key: key.clone(), before, name });
        }
        *last = step.max(*last);
    }
    violations
}

/// Every message has an id of its own, the same in every attempt.
fn ids(evidence: &Evidence) -> Vec<Violation> {
    let mut names: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    let mut ids: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    let mut violations = Vec::new();
    for arrival in evidence.requests.iter().map(|request| &request.arrival) {
        let receiver = arrival.receiver.as_str();
        let known = names.entry((receiver, &arrival.id)).or_default();
        if !known.contains(&arrival.name) {
            known.push(arrival.name.clone());
        }
        let first = ids.entry((receiver, &arrival.name)).or_insert(&arrival.id);
        if *first != arrival.id {
            let (receiver, id) = (receiver.to_owned(), format!("{first}, {}", arrival.id));
            violations.push(Violation::SharedId { receiver, id, names: vec![arrival.name.clone()] });
        }
    }
    let shared = names.into_iter().filter(|(_, names)| names.len() > 1);
    violations.extend(shared.map(|((receiver, id), names)| {
        let (receiver, id) = (receiver.to_owned(), id.to_owned());
        Violation::SharedId { receiver, id, names }
    }));
    violations
}

#[cfg(test)]
mod tests {
    use super::super::sample::{evidence, fault, name, request};
    use super::*;
    use crate::record::Fault;
    use crate::workload::{Answer, Rule};

    const SECOND: u64 = 1_000_000;

    fn taken() -> String {
        name("deliver", "o", |rule| rule == Rule::Takes)
    }

    fn judged(requests: Vec<Request>, faults: Vec<Fault>) -> Vec<Violation> {
        check(&evidence(Vec::new(), requests, faults))
    }

    fn repeated(name: &str, attempts: (u32, u32)) -> Violation {
        Violation::Repeated { receiver: "deliver".to_owned(), name: name.to_owned(), attempts }
    }

    /// The same message twice, the second time at this attempt.
    fn twice(attempt: u32) -> Vec<Request> {
        vec![request(0, "deliver", &taken(), 1), request(SECOND, "deliver", &taken(), attempt)]
    }

    #[test]
    fn a_repeat_is_fine_after_a_kill_and_after_nothing_else() {
        let order = taken();
        assert_eq!(judged(twice(1), vec![fault(2_000, FaultKind::Kill)]), []);
        assert_eq!(judged(twice(2), vec![fault(2_000, FaultKind::KillAtStart)]), []);
        assert_eq!(judged(twice(1), Vec::new()), [repeated(&order, (1, 1))]);
        assert_eq!(judged(twice(2), Vec::new()), [repeated(&order, (1, 2))]);
        // A kill that came before, or after.
        assert_eq!(judged(twice(1), vec![fault(2 * SECOND, FaultKind::Kill)])[0], repeated(&order, (1, 1)));
        // Standing still is no excuse either.
        assert_eq!(judged(twice(1), vec![fault(2_000, FaultKind::Freeze)]), [repeated(&order, (1, 1))]);
    }

    /// The file of what was running is of another boot then.
    #[test]
    fn a_power_failure_repeats_what_was_under_way_and_charges_nobody() {
        assert_eq!(judged(twice(1), vec![fault(2_000, FaultKind::PowerCut)]), []);
        assert_eq!(judged(twice(2), vec![fault(2_000, FaultKind::PowerCut)]), [repeated(&taken(), (1, 2))]);
    }

    #[test]
    fn what_was_settled_before_a_clean_stop_never_comes_again() {
        let (receiver, name) = ("deliver".to_owned(), taken());
        let again = Violation::RepeatedSettled { receiver, name: name.clone() };
        // Also if the host was killed later.
        let faults = vec![fault(2_000, FaultKind::Stop), fault(4_000, FaultKind::Kill)];
        assert_eq!(judged(twice(1), faults), [again]);
    }

    #[test]
    fn what_the_disk_refuses_repeats_nothing_that_was_taken() {
        let order = taken();
        let again = Violation::RepeatedSettled { receiver: "deliver".to_owned(), name: order.clone() };
        assert_eq!(judged(twice(1), vec![fault(500, FaultKind::Held)]), [repeated(&order, (1, 1))]);
        assert_eq!(judged(twice(2), vec![fault(500, FaultKind::Held)]), [repeated(&order, (1, 2))]);
        // Nor does it make up for a clean stop, with a kill after it or without one.
        let stopped = vec![fault(500, FaultKind::Held), fault(4_000, FaultKind::Stop)];
        assert_eq!(judged(twice(1), stopped.clone()), [repeated(&order, (1, 1)), again.clone()]);
        assert_eq!(judged(twice(1), [stopped, vec![fault(6_000, FaultKind::Kill)]].concat()), [again]);
        // The host has ended for its sake: what was under way may come again, but not before it has ended.
        assert_eq!(judged(twice(1), vec![fault(500, FaultKind::Refusal)]), []);
        let lives_on = Fault { ended_us: 2 * SECOND, ..fault(500, FaultKind::Refusal) };
        assert_eq!(judged(twice(1), vec![lives_on])[0], repeated(&order, (1, 1)));
    }

    #[test]
    fn a_call_whose_publish_was_refused_runs_again_at_no_attempt() {
        let parcel = name(PARCEL, "p", |rule| rule == Rule::Takes);
        let judged = |attempt, held_us| {
            let twice = [request(0, PARCEL, &parcel, 1), request(SECOND, PARCEL, &parcel, attempt)];
            judged(twice.to_vec(), vec![fault(held_us, FaultKind::Held)]).len()
        };
        assert_eq!(judged(1, 500), 0);
        // It was charged; nothing was refused while the call could have published.
        assert_eq!((judged(2, 500), judged(1, 60 * SECOND)), (1, 1));
    }

    #[test]
    fn a_kill_repeats_no_more_than_each_worker_has_under_way() {
        let names: Vec<String> =
            (1..500).map(|nth| format!("o{nth}")).filter(|name| Rule::of(1, "deliver", name) == Rule::Takes).collect();
        let check_with = |count: usize| {
            let all = names.iter().take(count);
            let first = all.clone().zip(0..).map(|(name, nth)| request(nth, "deliver", name, 1));
            let again = all.zip(0..).map(|(name, nth)| request(SECOND + nth, "deliver", name, 1));
            judged(first.chain(again).collect(), vec![fault(2_000, FaultKind::Kill)])
        };
        assert_eq!(check_with(2), []);
        let found = check_with(3);
        assert!(matches!(&found[..], [Violation::RepeatedMany { names, .. }] if names.len() == 3), "{found:?}");
    }

    #[test]
    fn attempts_grow_by_one_up_to_the_policy_and_wait_for_their_time() {
        let order = name("deliver", "o", |rule| rule == Rule::Never);
        let at = |at_us, attempt| request(at_us, "deliver", &order, attempt);
        assert_eq!(judged(vec![at(0, 1), at(30_000, 2), at(80_000, 3)], Vec::new()), []);
        let early = |by_us| Violation::Early { receiver: "deliver".to_owned(), name: order.clone(), by_us };
        assert_eq!(judged(vec![at(0, 1), at(15_000, 2)], Vec::new()), [early(6_000)]);
        assert_eq!(judged(vec![at(0, 1), at(SECOND, 3)], Vec::new()), [repeated(&order, (1, 3))]);
        let falls = vec![at(SECOND, 2), at(2 * SECOND, 1)];
        assert_eq!(judged(falls, vec![fault(0, FaultKind::Kill)]), [repeated(&order, (2, 1))]);
        assert_eq!(judged(vec![at(0, 2)], Vec::new()), [repeated(&order, (0, 2))]);
        let many = Violation::TooManyAttempts { receiver: "deliver".to_owned(), name: order.clone(), attempts: 6 };
        assert_eq!(judged(vec![at(SECOND, 6)], vec![fault(0, FaultKind::Kill)]), [many]);
    }

    #[test]
    fn a_deadline_is_a_reason_where_it_may_have_passed() {
        let parcel = name(PARCEL, "p", |rule| rule == Rule::Takes);
        let twice = |later_us| vec![request(0, PARCEL, &parcel, 1), request(later_us, PARCEL, &parcel, 2)];
        assert_eq!(judged(twice(4 * SECOND), Vec::new()), []);
        assert_eq!(judged(twice(SECOND), Vec::new()).len(), 1);
    }

    fn step(at_us: u64, key: &str, step: u64) -> Request {
        let mut came = request(at_us, "step", &format!("{key}-{step}"), 1);
        came.arrival.key = Some(key.to_owned());
        came.answer = Some((at_us + 1, Answer { status: 200, traps: false }));
        came
    }

    #[test]
    fn within_a_key_nothing_is_overtaken_or_left_out() {
        assert_eq!(judged(vec![step(0, "k1", 1), step(10, "k2", 1), step(20, "k1", 2)], Vec::new()), []);
        let overtaken = vec![step(0, "k1", 1), step(20, "k1", 2), step(300, "k1", 1)];
        let kill = vec![fault(25, FaultKind::Kill)];
        let reordered = |before: &str, name: &str| Violation::Reordered {
            key: "k1".into(),
            before: before.into(),
            name: name.into(),
        };
        assert_eq!(judged(overtaken, kill.clone()), [reordered("k1-1", "k1-2")]);
        assert_eq!(judged(vec![step(0, "k1", 2)], kill.clone()), [reordered("k1-1", "k1-2")]);
        // The one that was being handled when the host died may be.
        assert_eq!(judged(vec![step(0, "k1", 1), step(SECOND, "k1", 1), step(2 * SECOND, "k1", 2)], kill), []);
    }

    #[test]
    fn a_receipt_comes_after_its_time() {
        let parcel = name(PARCEL, "p", |rule| rule == Rule::Takes);
        let receipt = format!("{parcel} 0");
        let came = |at_us| vec![request(0, PARCEL, &parcel, 1), request(at_us, LATER, &receipt, 1)];
        assert_eq!(judged(came(DELAY_MS * 1_000), Vec::new()), []);
        assert!(matches!(judged(came(DELAY_MS * 900), Vec::new())[..], [Violation::Early { by_us: 25_000, .. }]));
    }

    #[test]
    fn an_id_is_that_of_one_message_and_a_message_has_one_id() {
        let came = |at_us, name: &str, id: &str| {
            let mut came = request(at_us, LATER, name, 1);
            came.arrival.id = id.to_owned();
            came
        };
        assert_eq!(judged(vec![came(0, "p1 0", "a"), came(1, "p1 1", "b")], Vec::new()), []);
        let shared = |id: &str, names: &[&str]| Violation::SharedId {
            receiver: LATER.to_owned(),
            id: id.to_owned(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let found = judged(vec![came(0, "p1 0", "a"), came(1, "p1 1", "a")], Vec::new());
        assert_eq!(found, [shared("a", &["p1 0", "p1 1"])]);
        let found = judged(vec![came(0, "p1 0", "a"), came(SECOND, "p1 0", "b")], vec![fault(500, FaultKind::Kill)]);
        assert!(found.contains(&shared("a, b", &["p1 0"])), "{found:?}");
    }
}
