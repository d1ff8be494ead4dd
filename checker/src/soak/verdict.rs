//! What only a soak has: what a plugin answered to webhooks, and what became of plugins that mean harm.

use std::collections::{HashMap, HashSet};

use super::config::{HARM_ATTEMPTS, HARMFUL};
use crate::chance::digest;
use crate::left::{Kept, Letter};
use crate::record::Sent;
use crate::verdict::{Send, Violation, first_word};

/// What the plugin says that finds a way out.
const HOLE: &str = "the sandbox has a hole";

/// What a plugin published is there once for each request that it answered, and for no request that was refused.
pub(super) fn asked(sends: &[Send], answered: &[Kept]) -> Vec<Violation> {
    let mut known: HashMap<&str, (&str, bool)> = HashMap::new();
    for send in sends.iter().filter(|send| send.sent.may_be_there()) {
        for item in &send.items {
            known.entry(&item.id).or_insert((&item.body, false)).1 |= send.sent == Sent::Accepted;
        }
    }
    let (mut seen, mut violations) = (HashSet::new(), Vec::new());
    for kept in answered {
        let (place, name) = ("answers".to_owned(), first_word(&kept.body));
        match known.get(name.as_str()) {
            None => violations.push(Violation::Unknown { place, name }),
            Some((body, _)) if *body != digest(&kept.body) => violations.push(Violation::Altered { place, name }),
            Some(_) if !seen.insert(name.clone()) => violations.push(Violation::Doubled { place, name }),
            Some(_) => {}
        }
    }
    let lost = known.iter().filter(|(name, (_, is_accepted))| *is_accepted && !seen.contains(**name));
    let lost = lost.map(|(name, _)| Violation::Lost { queue: "answers".to_owned(), name: (*name).to_owned() });
    violations.extend(lost);
    violations
}

/// Takes the dead letters of plugins that mean harm out of all; what is wrong with them.
pub(super) fn harm(dead: &mut Vec<Letter>) -> (Vec<Letter>, Vec<Violation>) {
    let (harm, others) =
        std::mem::take(dead).into_iter().partition(|letter: &Letter| letter.connector.starts_with(HARMFUL));
    *dead = others;
    let mut violations = Vec::new();
    for Letter { connector, id, attempts, reasons, .. } in &harm {
        let (connector, name) = (connector.clone(), id.clone());
        if let Some(hole) = reasons.iter().find(|reason| reason.contains(HOLE)) {
            violations.push(Violation::WronglyDead { connector, name, reason: hole.clone() });
        } else if *attempts > HARM_ATTEMPTS {
            violations.push(Violation::TooManyAttempts { receiver: connector, name, attempts: *attempts });
        }
    }
    (harm, violations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Item;

    fn send(id: &str, sent: Sent) -> Send {
        let items = vec![Item { id: id.to_owned(), key: None, body: digest(format!("{id} text").as_bytes()) }];
        Send { number: 1, queue: String::new(), items, sent, is_unsynced: false }
    }

    fn judged(sends: &[Send], bodies: &[&str]) -> Vec<Violation> {
        let kept = bodies.iter().map(|body| Kept { id: String::new(), body: body.as_bytes().to_vec() });
        asked(sends, &kept.collect::<Vec<_>>())
    }

    #[test]
    fn what_was_answered_is_there_once_and_what_was_refused_is_not() {
        let (place, name) = ("answers".to_owned(), "a1".to_owned());
        assert_eq!(judged(&[send("a1", Sent::Accepted)], &["a1 text"]), []);
        assert_eq!(judged(&[send("a1", Sent::Unanswered)], &[]), []);
        let lost = Violation::Lost { queue: place.clone(), name: name.clone() };
        assert_eq!(judged(&[send("a1", Sent::Unanswered), send("a1", Sent::Accepted)], &[]), [lost]);
        let doubled = Violation::Doubled { place: place.clone(), name: name.clone() };
        assert_eq!(judged(&[send("a1", Sent::Accepted)], &["a1 text", "a1 text"]), [doubled]);
        let unknown = Violation::Unknown { place: place.clone(), name: name.clone() };
        assert_eq!(judged(&[send("a1", Sent::Refused)], &["a1 text"]), [unknown]);
        let altered = Violation::Altered { place, name };
        assert_eq!(judged(&[send("a1", Sent::Unanswered)], &["a1 other"]), [altered]);
    }

    #[test]
    fn a_way_out_of_the_sandbox_is_seen_and_others_letters_stay() {
        let letter = |connector: &str, reason: &str| Letter {
            connector: connector.to_owned(),
            reasons: vec![reason.to_owned()],
            attempts: 1,
            ..Letter::default()
        };
        let mut dead = vec![letter("deliver", "422"), letter("hostile", "cpu"), letter("hostile", HOLE)];
        let (harm, violations) = harm(&mut dead);
        assert_eq!((dead.len(), harm.len()), (1, 2));
        assert!(matches!(violations[..], [Violation::WronglyDead { .. }]), "{violations:?}");
    }
}
