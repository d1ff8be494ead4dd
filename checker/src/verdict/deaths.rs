//! Dead letters: those that the policy makes, and no others.

use std::collections::HashSet;

use super::{Evidence, Violation};
use crate::left::Letter;
use crate::record::Sent;
use crate::workload::{LATER, RECEIVERS, Receiver, Rule};

/// What the host writes of an attempt that it died in.
const CRASH: &str = "the process ended while this message was running alone";

pub(super) fn check(evidence: &Evidence) -> Vec<Violation> {
    let mut dead = HashSet::new();
    let mut violations = Vec::new();
    for letter in &evidence.left.dead {
        let receiver = Receiver::named(&letter.connector);
        let name =
            receiver.map_or(letter.id.as_str(), |receiver| Evidence::name_of(receiver, &letter.id, &letter.text));
        if !dead.insert((letter.connector.as_str(), name)) {
            let place = format!("dead letters of {}", letter.connector);
            violations.push(Violation::Doubled { place, name: name.to_owned() });
        }
        violations.extend(wrong(evidence, receiver, letter, name));
    }
    violations.extend(missing(evidence, &dead));
    violations
}

/// A letter that dies otherwise than the policy says.
fn wrong(evidence: &Evidence, receiver: Option<&Receiver>, letter: &Letter, name: &str) -> Option<Violation> {
    let kills = evidence.faults.iter().filter(|fault| fault.kind.is_death());
    let crashes = letter.reasons.iter().filter(|reason| reason.contains(CRASH)).count();
    let reason = letter.reasons.last().cloned().unwrap_or_default();
    let wrongly =
        |reason| Violation::WronglyDead { connector: letter.connector.clone(), name: name.to_owned(), reason };
    if crashes > kills.count() {
        return Some(wrongly(format!("charged for {crashes} crashes")));
    }
    // A connector without a receiver succeeds whenever it is let.
    let Some(receiver) = receiver else { return (!reason.contains(CRASH)).then(|| wrongly(reason)) };
    let (receiver_name, attempts) = (receiver.name.to_owned(), letter.attempts);
    if attempts > receiver.attempts {
        return Some(Violation::TooManyAttempts { receiver: receiver_name, name: name.to_owned(), attempts });
    }
    let is_by_time = receiver.wall_ms < 60_000 && reason.contains("wall");
    let is_by_attempts = attempts == receiver.attempts;
    let is_right = match Rule::of(evidence.seed, receiver.name, name) {
        Rule::Refuses => !reason.contains(CRASH) || is_by_attempts,
        Rule::Never => is_by_attempts,
        Rule::Takes | Rule::Fails(_) | Rule::Traps(_) => is_by_attempts && (reason.contains(CRASH) || is_by_time),
    };
    (!is_right).then(|| wrongly(reason))
}

/// What should have died, and did not.
fn missing(evidence: &Evidence, dead: &HashSet<(&str, &str)>) -> Vec<Violation> {
    let accepted = evidence.sends.iter().filter(|send| send.sent == Sent::Accepted);
    let sent = accepted.flat_map(|send| send.items.iter().map(|item| (send.queue.as_str(), item.id.as_str())));
    let received = sent.flat_map(|(queue, name)| {
        RECEIVERS.iter().filter(move |receiver| receiver.queue == queue).map(move |receiver| (receiver.name, name))
    });
    let receipts = evidence.histories().into_keys().filter(|(receiver, _)| *receiver == LATER);
    let all: HashSet<(&str, &str)> = received.chain(receipts).collect();
    let missing = all.into_iter().filter(|(receiver, name)| {
        Rule::of(evidence.seed, receiver, name).is_deadly() && !dead.contains(&(*receiver, *name))
    });
    missing
        .map(|(receiver, name)| Violation::NotDead { receiver: receiver.to_owned(), name: name.to_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{evidence, fault, name, send};
    use super::*;
    use crate::record::FaultKind;
    use crate::workload::ORDERS;

    fn letter(name: &str, reasons: &[&str]) -> Letter {
        let reasons: Vec<String> = reasons.iter().map(|reason| (*reason).to_owned()).collect();
        let (connector, attempts) = ("deliver".to_owned(), u32::try_from(reasons.len()).expect("a few"));
        Letter { connector, id: name.to_owned(), attempts, reasons, ..Letter::default() }
    }

    /// What is said of an order that ended as these letters, after so many kills.
    fn judged(name: &str, letters: &[Letter], kills: u64) -> Vec<Violation> {
        let faults = (0..kills).map(|nth| fault(nth, FaultKind::Kill)).collect();
        let mut evidence = evidence(vec![send(1, ORDERS, &[name], Sent::Accepted)], Vec::new(), faults);
        evidence.left.dead = letters.to_vec();
        check(&evidence)
    }

    fn order(is_it: impl Fn(Rule) -> bool) -> String {
        name("deliver", "o", is_it)
    }

    #[test]
    fn what_is_refused_dies_at_once_and_what_always_fails_after_its_attempts() {
        let refused = order(|rule| rule == Rule::Refuses);
        assert_eq!(judged(&refused, &[letter(&refused, &["status 422"])], 0), []);
        let never = order(|rule| rule == Rule::Never);
        assert_eq!(judged(&never, &[letter(&never, &["status 503"; 5])], 0), []);
        let early = judged(&never, &[letter(&never, &["status 503"; 4])], 0);
        assert!(matches!(early[..], [Violation::WronglyDead { .. }]), "{early:?}");
        let late = judged(&never, &[letter(&never, &["status 503"; 6])], 0);
        assert!(matches!(late[..], [Violation::TooManyAttempts { attempts: 6, .. }]), "{late:?}");
        for name in [refused, never] {
            let missing = Violation::NotDead { receiver: "deliver".to_owned(), name: name.clone() };
            assert_eq!(judged(&name, &[], 0), [missing]);
        }
    }

    #[test]
    fn nothing_else_dies_but_of_crashes_that_have_happened() {
        let taken = order(|rule| rule == Rule::Takes);
        assert_eq!(judged(&taken, &[], 0), []);
        assert_eq!(judged(&taken, &[letter(&taken, &[CRASH; 5])], 5), []);
        for (reasons, kills) in [(&[CRASH; 5][..], 4), (&[CRASH; 4], 5), (&["status 500"; 5], 5)] {
            let found = judged(&taken, &[letter(&taken, reasons)], kills);
            assert!(matches!(found[..], [Violation::WronglyDead { .. }]), "{found:?}");
        }
    }

    #[test]
    fn nothing_dies_twice() {
        let refused = order(|rule| rule == Rule::Refuses);
        let twice = [letter(&refused, &["status 422"]), letter(&refused, &["status 422"])];
        assert!(matches!(judged(&refused, &twice, 0)[..], [Violation::Doubled { .. }]));
    }
}
