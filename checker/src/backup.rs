//! A backup under load: its host is killed, and another one works on with what was restored.
//!
//! Both are judged as after any other fault. Where in its time a backup looked at the ledger is not known from outside, so
//! the story of the restored host is told with what may have happened by then: [`as_backed_up`] leaves out what the copy
//! shows not to know. Invariant: what was accepted, or delivered, before the backup began is never left out.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::{self, DirBuilder};
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::faults::{Moment, Striker};
use crate::host::{self, Addresses, Host, pause};
use crate::ledger::Ledger;
use crate::left::Left;
use crate::pulse::Pulse;
use crate::record::{Arrival, Clock, FaultKind, Receiving, Sending, Sent};
use crate::report::Report;
use crate::sink::Sink;
use crate::story::Story;
use crate::verdict::{self, Evidence};
use crate::workload::{self, LATER, PARCEL, Places, RECEIPTS, Receiver};
use crate::{Beside, CONFIG, SINK, Settings, Tickets, World, conclude};

/// Sends that are accepted before the backup begins.
const SENDS_BEFORE: u64 = 6;
/// Between two looks whether more can be sent while it is made.
const ASK_EACH: Duration = Duration::from_millis(3);
const FILE: &str = "backup";
/// The folder of the restored host.
const RESTORED: &str = "restored";

/// What came of it.
#[derive(Debug)]
pub struct BackedUp {
    /// Of the host that was copied, killed, and started again.
    pub original: Report,
    /// Of the one that was restored.
    pub restored: Report,
    /// Messages and events that were accepted while the backup was made.
    pub accepted_meanwhile: usize,
}

impl BackedUp {
    /// Whether both kept every promise.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.original.is_clean() && self.restored.is_clean()
    }
}

impl fmt::Display for BackedUp {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "the host, {} sends accepted meanwhile\n{}", self.accepted_meanwhile, self.original)?;
        write!(to, "what was restored\n{}", self.restored)
    }
}

/// Makes a backup under load, kills the host, restores, and judges.
///
/// # Errors
/// The checker itself cannot work, or the backup cannot be made. What the hosts do wrong is a [`crate::Violation`].
pub fn backup(settings: &Settings) -> anyhow::Result<BackedUp> {
    let started = Instant::now();
    let world = World::open(settings, Beside::Nobody)?;
    let (clock, mut moment_us) = (world.clock, 0..0);
    let attacked = world.attack(|striker, tickets| {
        moment_us = make(striker, tickets, clock)?;
        Ok(())
    });
    let original = conclude(settings, world, attacked, started)?;
    let whole = Story::read(&settings.folder)?;
    let accepted_meanwhile = whole.acceptances_us().iter().filter(|at_us| moment_us.contains(at_us)).count();
    let restored = restore(settings, clock, &whole, &moment_us)?;
    Ok(BackedUp { original, restored, accepted_meanwhile })
}

/// Makes it in a life that ends with a kill; in what time.
fn make(striker: &Striker<'_>, tickets: &Tickets, clock: Clock) -> anyhow::Result<Range<u64>> {
    let life = striker.start()?;
    let is_made = AtomicBool::new(false);
    let made = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_made.load(Ordering::SeqCst) {
                tickets.ask(1);
                pause(ASK_EACH);
            }
        });
        Moment::Accepted(SENDS_BEFORE).wait(striker.pulse);
        let from_us = clock.now_us();
        let made = striker.host.verb(&["backup", FILE]);
        let moment_us = from_us..clock.now_us();
        is_made.store(true, Ordering::SeqCst);
        made.map(|()| moment_us)
    });
    striker.end(FaultKind::Kill, || life.kill())?;
    made
}

/// Lets a host work on with what was restored, and judges it.
fn restore(settings: &Settings, clock: Clock, whole: &Story, moment_us: &Range<u64>) -> anyhow::Result<Report> {
    let started = Instant::now();
    let folder = settings.folder.join(RESTORED);
    fs::create_dir_all(&folder)?;
    let sink = Sink::start(settings.seed, clock, Arc::new(Pulse::default()), Ledger::create(&folder.join(SINK))?)?;
    let Addresses { admin, hooks } = host::free_addresses(1)?[0];
    let (tally, parcel) = (settings.tally.as_path(), settings.parcel.as_path());
    let places = Places { admin, hooks, sink: sink.address(), tally, parcel, ticks_end_s: None };
    fs::write(folder.join(CONFIG), workload::toml(&places))?;
    let host =
        Host { binary: settings.host.clone(), folder: folder.clone(), fault: settings.fault.clone(), preload: None };
    host.verb(&["restore", &format!("../{FILE}")])?;
    lend_compiled(&settings.folder.join("data"), &folder.join("data"))?;
    let began_us = clock.now_us();
    let ran = host.run_until_idle();
    sink.settle()?;
    drop(sink);
    let receivings: Vec<Receiving> = Ledger::read(&folder.join(SINK))?;
    let own = Settings { folder: folder.clone(), cycles: 0, ..settings.clone() };
    let story = |left: &Left| {
        as_backed_up(whole, moment_us, &receivings, left).and_then(
            FaultKind::Restored,
            moment_us.end,
            receivings.clone(),
        )
    };
    Ok(match ran {
        Ok(()) => {
            let left = Left::read(&folder.join("data"))?;
            let evidence = story(&left).evidence(settings.seed);
            let evidence = Evidence { left, last_life_us: began_us, ..evidence };
            let violations = verdict::judge(&evidence);
            Report::new(&own, &evidence, violations, started.elapsed())
        }
        Err(error) => {
            let evidence = story(&Left::default()).evidence(settings.seed);
            Report::new(&own, &evidence, vec![host.failed(&error)], started.elapsed())
        }
    })
}

/// Compiled plugins are in no backup, and compiling them is not what is looked at.
fn lend_compiled(from: &Path, to: &Path) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(to.join("compiled"))?;
    for file in fs::read_dir(from.join("compiled"))? {
        let file = file?;
        fs::copy(file.path(), to.join("compiled").join(file.file_name()))?;
    }
    fs::copy(from.join("compiled.key"), to.join("compiled.key"))?;
    Ok(())
}

/// Requests of the time in which a backup was made.
struct Meanwhile<'s> {
    arrivals: Vec<&'s Arrival>,
    /// Names of what was sent, by queue, and not accepted before.
    young: HashSet<(&'s str, &'s str)>,
}

/// The story of a host as a copy of it knows it that was made in that time; `after` is what a host did with the copy, and
/// `left` what it has at the end.
fn as_backed_up(whole: &Story, moment_us: &Range<u64>, after: &[Receiving], left: &Left) -> Story {
    let mut story = whole.as_of(moment_us);
    let then: Vec<&Arrival> = after.iter().filter_map(arrival).collect();
    let unknown: HashSet<u64> = {
        let meanwhile = Meanwhile {
            arrivals: story.receivings.iter().filter_map(arrival).filter(|it| it.at_us >= moment_us.start).collect(),
            young: young(&story),
        };
        let mut unknown = meanwhile.repeated(&then);
        unknown.extend(meanwhile.overtaken(&then));
        unknown.extend(meanwhile.unfinished(&story, left, &then));
        unknown.extend(meanwhile.without_receipts(&story, left, &then));
        unknown
    };
    story.receivings.retain(|entry| match entry {
        Receiving::Arrival(arrival) => !unknown.contains(&arrival.nth),
        Receiving::Answer { nth, .. } => !unknown.contains(nth),
    });
    story
}

fn arrival(entry: &Receiving) -> Option<&Arrival> {
    match entry {
        Receiving::Arrival(arrival) => Some(arrival),
        Receiving::Answer { .. } => None,
    }
}

/// What may be in the copy, and need not.
fn young(story: &Story) -> HashSet<(&str, &str)> {
    let accepted: HashSet<u64> = story
        .sendings
        .iter()
        .filter_map(|entry| match entry {
            Sending::Outcome { send, sent: Sent::Accepted, .. } => Some(*send),
            Sending::Outcome { .. } | Sending::Intent { .. } => None,
        })
        .collect();
    let named = |is_old: bool| {
        let of = story.sendings.iter().filter_map(move |entry| match entry {
            Sending::Intent { send, queue, items, .. } => Some((*send, queue, items)),
            Sending::Outcome { .. } => None,
        });
        let accepted = &accepted;
        of.filter(move |(send, ..)| accepted.contains(send) == is_old)
            .flat_map(|(_, queue, items)| items.iter().map(move |item| (queue.as_str(), item.id.as_str())))
            .collect::<HashSet<_>>()
    };
    // Who got no answer sends the same again.
    let old = named(true);
    named(false).into_iter().filter(|name| !old.contains(name)).collect()
}

impl<'s> Meanwhile<'s> {
    fn is_young(&self, arrival: &Arrival) -> bool {
        let queue = Receiver::named(&arrival.receiver).map_or("", |receiver| receiver.queue);
        self.young.contains(&(queue, arrival.name.as_str()))
    }

    /// Attempts that were made again: the copy knows none of them, nor any after it.
    fn repeated(&self, then: &[&Arrival]) -> HashSet<u64> {
        let mut first: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for arrival in then {
            let known = first.entry((&arrival.receiver, &arrival.name)).or_insert(u32::MAX);
            *known = arrival.attempt.min(*known);
        }
        let is_known = |arrival: &&&Arrival| {
            let first = first.get(&(arrival.receiver.as_str(), arrival.name.as_str()));
            first.is_some_and(|first| arrival.attempt >= *first)
        };
        self.arrivals.iter().filter(is_known).map(|arrival| arrival.nth).collect()
    }

    /// What came after a step of the same key that the copy has not settled.
    fn overtaken(&self, then: &[&Arrival]) -> HashSet<u64> {
        let place = |arrival: &Arrival| {
            let (key, step) = arrival.name.rsplit_once('-')?;
            let is_ordered = Receiver::named(&arrival.receiver)?.is_ordered;
            Some((key.to_owned(), step.parse::<u64>().ok()?)).filter(|_| is_ordered)
        };
        let mut first: BTreeMap<String, u64> = BTreeMap::new();
        for (key, step) in then.iter().filter_map(|arrival| place(arrival)) {
            let known = first.entry(key).or_insert(u64::MAX);
            *known = step.min(*known);
        }
        let is_overtaken = |arrival: &&&Arrival| {
            place(arrival).is_some_and(|(key, step)| first.get(&key).is_some_and(|first| step > *first))
        };
        self.arrivals.iter().filter(is_overtaken).map(|arrival| arrival.nth).collect()
    }

    /// Young messages that were not delivered by then: the copy would have to go on with them.
    fn unfinished(&self, story: &Story, left: &Left, then: &[&Arrival]) -> HashSet<u64> {
        let answered: HashSet<u64> = story
            .receivings
            .iter()
            .filter_map(|entry| match entry {
                Receiving::Answer { nth, status: 200, traps: false, .. } => Some(*nth),
                Receiving::Answer { .. } | Receiving::Arrival(_) => None,
            })
            .collect();
        let finished: HashSet<&str> = {
            let delivered = self.arrivals.iter().filter(|it| answered.contains(&it.nth)).map(|it| it.name.as_str());
            delivered.chain(then.iter().map(|it| it.name.as_str())).collect()
        };
        let is_dead = |arrival: &Arrival| left.dead.iter().any(|letter| letter.id == arrival.name);
        let is_unknown = |arrival: &&&Arrival| {
            self.is_young(arrival) && !finished.contains(arrival.name.as_str()) && !is_dead(arrival)
        };
        self.arrivals.iter().filter(is_unknown).map(|arrival| arrival.nth).collect()
    }

    /// Young parcels of whose receipts the copy has none, with those that were delivered.
    fn without_receipts(&self, story: &Story, left: &Left, then: &[&Arrival]) -> HashSet<u64> {
        let before = story.receivings.iter().filter_map(arrival).filter(|it| it.receiver == LATER);
        let delivered: HashSet<&str> = before.map(|it| it.name.as_str()).collect();
        let mut known: HashSet<&str> =
            then.iter().filter(|it| it.receiver == LATER).map(|it| it.name.as_str()).collect();
        known.extend(left.dead.iter().filter(|letter| letter.connector == LATER).map(|letter| letter.text.as_str()));
        let parcel_of = |arrival: &Arrival| arrival.name.split(' ').next().unwrap_or_default().to_owned();
        let is_unknown = |parcel: &str| {
            let receipts: Vec<String> = (0..RECEIPTS).map(|nth| format!("{parcel} {nth}")).collect();
            let is_settled = receipts.iter().all(|receipt| delivered.contains(receipt.as_str()));
            !is_settled && !receipts.iter().any(|receipt| known.contains(receipt.as_str()))
        };
        let parcels: HashSet<String> = self
            .arrivals
            .iter()
            .filter(|it| it.receiver == PARCEL && self.is_young(it) && is_unknown(&it.name))
            .map(|it| it.name.clone())
            .collect();
        let is_of_them =
            |it: &&&Arrival| (it.receiver == PARCEL || it.receiver == LATER) && parcels.contains(&parcel_of(it));
        self.arrivals.iter().filter(is_of_them).map(|arrival| arrival.nth).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Item;

    fn sent(send: u64, queue: &str, id: &str, at_us: Range<u64>) -> [Sending; 2] {
        let items = vec![Item { id: id.to_owned(), key: None, body: String::new() }];
        [
            Sending::Intent { at_us: at_us.start, send, queue: queue.to_owned(), items, synced: None },
            Sending::Outcome { at_us: at_us.end, send, sent: Sent::Accepted, synced: None },
        ]
    }

    fn came(at_us: u64, nth: u64, receiver: &str, name: &str, attempt: u32) -> [Receiving; 2] {
        let (receiver, name) = (receiver.to_owned(), name.to_owned());
        let arrival = Arrival { at_us, nth, receiver, id: name.clone(), name, attempt, ..Arrival::default() };
        [Receiving::Arrival(arrival), Receiving::Answer { at_us: at_us + 1, nth, status: 200, traps: false }]
    }

    /// The numbers of the requests that the copy knows, which is made from 100 to 200.
    fn known(sendings: &[[Sending; 2]], receivings: &[[Receiving; 2]], after: &[[Receiving; 2]]) -> Vec<u64> {
        let whole = Story { sendings: sendings.concat(), receivings: receivings.concat(), faults: Vec::new() };
        let story = as_backed_up(&whole, &(100..200), &after.concat(), &Left::default());
        story.receivings.iter().filter_map(arrival).map(|arrival| arrival.nth).collect()
    }

    #[test]
    fn what_is_done_again_was_not_known_and_what_is_not_was() {
        let old = [sent(0, "orders", "o1", 1..2), sent(1, "orders", "o2", 3..4)];
        let came_twice =
            [came(150, 0, "deliver", "o1", 1), came(160, 1, "deliver", "o1", 2), came(170, 2, "deliver", "o2", 1)];
        assert_eq!(known(&old, &came_twice, &[came(900, 0, "deliver", "o1", 2)]), [0, 2]);
        // Delivered before it began: that it comes again is for the verdict.
        let early = [came(50, 0, "deliver", "o1", 1)];
        assert_eq!(known(&old, &early, &[came(900, 0, "deliver", "o1", 1)]), [0]);
        // What came after it is of another future.
        assert_eq!(known(&old, &[came(201, 0, "deliver", "o1", 1)], &[]), Vec::<u64>::new());
    }

    #[test]
    fn what_follows_a_step_that_is_done_again_was_not_known() {
        let sendings = [sent(0, "steps", "k1-1", 1..2), sent(1, "steps", "k1-2", 110..120)];
        let receivings = [came(150, 0, "step", "k1-1", 1), came(160, 1, "step", "k1-2", 1)];
        assert_eq!(known(&sendings, &receivings, &[came(900, 0, "step", "k1-1", 1)]), Vec::<u64>::new());
        assert_eq!(known(&sendings, &receivings, &[]), [0, 1]);
    }

    #[test]
    fn a_young_parcel_whose_receipts_are_nowhere_was_not_known() {
        let sendings = [sent(0, "parcels", "p1", 110..120), sent(1, "parcels", "p2", 110..120)];
        let receivings = [came(130, 0, PARCEL, "p1", 1), came(140, 1, PARCEL, "p2", 1), came(190, 2, LATER, "p1 0", 1)];
        assert_eq!(known(&sendings, &receivings, &[came(900, 0, LATER, "p2 1", 1)]), [1]);
    }
}
