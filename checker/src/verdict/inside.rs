//! What the ledger holds: nothing twice, nothing unfinished, a state that is the sum, and every tick.

use std::collections::HashSet;

use super::acceptance::first_word;
use super::{Evidence, Violation};
use crate::left::Left;
use crate::workload::{COUNT, COUNTED, EVENTS, KEPT, PERIOD_MS, TALLY, TICKS};

pub(super) fn check(evidence: &Evidence) -> Vec<Violation> {
    let left = &evidence.left;
    let mut violations = Vec::new();
    if left.integrity != "ok" {
        violations.push(Violation::Unsound { text: left.integrity.clone() });
    }
    violations.extend(unsettled(left));
    violations.extend(doubled(EVENTS, left.queue(EVENTS).iter().map(|kept| kept.id.clone())));
    violations.extend(doubled(COUNTED, left.queue(COUNTED).iter().map(|kept| first_word(&kept.body))));
    violations.extend(state(left));
    violations.extend(ticks(left, evidence.last_life_us / 1_000));
    violations
}

fn unsettled(left: &Left) -> Vec<Violation> {
    let waiting = usize::try_from(left.waiting).unwrap_or(usize::MAX);
    let queues = left.queues.iter().filter(|(name, _)| !KEPT.contains(&name.as_str()));
    let places = queues.map(|(name, kept)| (name.clone(), kept.len())).chain([("what waits".to_owned(), waiting)]);
    let found = places.filter(|(_, messages)| *messages > 0);
    found.map(|(place, messages)| Violation::Unsettled { place, messages }).collect()
}

fn doubled(place: &str, names: impl Iterator<Item = String>) -> Vec<Violation> {
    let mut seen = HashSet::new();
    let again = names.filter(|name| !seen.insert(name.clone()));
    again.map(|name| Violation::Doubled { place: place.to_owned(), name }).collect()
}

/// The count in the state is the number of copies that were published with it.
fn state(left: &Left) -> Option<Violation> {
    let settled = left.queue(COUNTED).len() as u64;
    let value = left.state.get(&(TALLY.to_owned(), COUNT.to_owned()));
    let found = value.map_or(Some(0), |value| String::from_utf8_lossy(value).parse().ok()).unwrap_or(u64::MAX);
    (found != settled).then(|| Violation::StateDrift { connector: TALLY.to_owned(), settled, found })
}

/// One tick for every planned time from the first on up to the last life. One that was running when the host was killed
/// runs alone, and later than others.
fn ticks(left: &Left, last_life_ms: u64) -> Vec<Violation> {
    let planned = left.queue(TICKS).iter();
    let mut planned: Vec<u64> = planned.map(|kept| String::from_utf8_lossy(&kept.body).parse().unwrap_or(0)).collect();
    planned.sort_unstable();
    let mut violations = Vec::new();
    for (nth, pair) in planned.windows(2).enumerate() {
        let [before, next] = pair else { continue };
        // The first one is made at the first start, whenever that is.
        let is_next = if nth == 0 { *next <= before + PERIOD_MS } else { *next == before + PERIOD_MS };
        if next == before {
            violations.push(Violation::TickDoubled { planned_ms: *next });
        } else if !is_next {
            violations.push(Violation::TickLost { after_ms: *before, next_ms: Some(*next) });
        }
    }
    let last = planned.last().copied().unwrap_or(0);
    if last_life_ms > 0 && last + PERIOD_MS < last_life_ms {
        violations.push(Violation::TickLost { after_ms: last, next_ms: None });
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::left::Kept;
    use crate::workload::ORDERS;

    /// What is said of a ledger with these bodies in a queue, whose ids are their first words.
    fn judged(queue: &str, bodies: &[&str], count: &str, last_life_us: u64) -> Vec<Violation> {
        let mut evidence = sample::evidence(Vec::new(), Vec::new(), Vec::new());
        let kept = |body: &&str| Kept { id: first_word(body.as_bytes()), body: body.as_bytes().to_vec() };
        evidence.left.queues.insert(queue.to_owned(), bodies.iter().map(kept).collect());
        evidence.left.state.insert((TALLY.to_owned(), COUNT.to_owned()), count.as_bytes().to_vec());
        evidence.last_life_us = last_life_us;
        check(&evidence)
    }

    #[test]
    fn an_event_or_a_copy_is_there_once() {
        assert_eq!(judged(EVENTS, &["e1 a", "e2 b"], "0", 0), []);
        let doubled = |place: &str, name: &str| Violation::Doubled { place: place.to_owned(), name: name.to_owned() };
        assert_eq!(judged(EVENTS, &["e1 a", "e2 b", "e1 a"], "0", 0), [doubled(EVENTS, "e1")]);
        assert_eq!(judged(COUNTED, &["c1 a", "c1 a"], "2", 0), [doubled(COUNTED, "c1")]);
    }

    #[test]
    fn the_state_is_the_sum() {
        assert_eq!(judged(COUNTED, &["c1", "c2"], "2", 0), []);
        for (count, found) in [("1", 1), ("3", 3), ("nonsense", u64::MAX)] {
            let drift = Violation::StateDrift { connector: TALLY.to_owned(), settled: 2, found };
            assert_eq!(judged(COUNTED, &["c1", "c2"], count, 0), [drift]);
        }
    }

    #[test]
    fn every_planned_time_has_one_tick() {
        let check = |times: &[u64], last_life_ms: u64| {
            let bodies: Vec<String> = times.iter().map(ToString::to_string).collect();
            judged(TICKS, &bodies.iter().map(String::as_str).collect::<Vec<_>>(), "0", last_life_ms * 1_000)
        };
        assert_eq!(check(&[950, 1_000, 1_200, 1_400], 1_500), []);
        assert_eq!(check(&[950, 1_000, 1_400], 0), [Violation::TickLost { after_ms: 1_000, next_ms: Some(1_400) }]);
        assert_eq!(check(&[950, 1_000, 1_200], 1_500), [Violation::TickLost { after_ms: 1_200, next_ms: None }]);
        assert_eq!(check(&[950, 1_000, 1_200, 1_200], 0), [Violation::TickDoubled { planned_ms: 1_200 }]);
        assert_eq!(check(&[950, 1_200, 1_000], 0), []);
    }

    #[test]
    fn nothing_is_left_over_and_the_file_is_sound() {
        let unsettled = Violation::Unsettled { place: ORDERS.to_owned(), messages: 1 };
        assert_eq!(judged(ORDERS, &["o1"], "0", 0), [unsettled]);
        let mut evidence = sample::evidence(Vec::new(), Vec::new(), Vec::new());
        (evidence.left.waiting, evidence.left.integrity) = (2, "a page is missing".to_owned());
        let unsound = Violation::Unsound { text: "a page is missing".to_owned() };
        let waiting = Violation::Unsettled { place: "what waits".to_owned(), messages: 2 };
        assert_eq!(check(&evidence), [unsound, waiting]);
    }
}
