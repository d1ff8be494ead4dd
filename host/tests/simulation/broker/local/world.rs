//! A host in memory: connectors, and a heap of what happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use bulkhead_host::capability::breaker::Place;
use bulkhead_host::clock::Now;
use bulkhead_host::delivery::outcome::{of_failure, without_run};
use bulkhead_host::ledger::Returned;
use bulkhead_host::message::Message;
use bulkhead_host::runtime::failure::Failure;
use bulkhead_host::settlement::{Delivery, Origin, Outcome};

use super::chance::Chance;
use super::connector::{Connector, Decided, Run, key_of, outcomes_of, seq_of};

/// A world that does more than this does not end.
const STEPS_MAX: u64 = 2_000_000;

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) steps: u64,
    calls: u64,
    retries: u64,
    dead: u64,
    expired: u64,
    held: u64,
    conflicts: u64,
    broken: u64,
    routed: u64,
}

impl Figures {
    pub(crate) fn add(&mut self, other: Self) {
        let pairs = [
            (&mut self.steps, other.steps),
            (&mut self.calls, other.calls),
            (&mut self.retries, other.retries),
            (&mut self.dead, other.dead),
            (&mut self.expired, other.expired),
            (&mut self.held, other.held),
            (&mut self.conflicts, other.conflicts),
            (&mut self.broken, other.broken),
            (&mut self.routed, other.routed),
        ];
        pairs.into_iter().for_each(|(own, other)| *own += other);
    }

    /// Whether everything happened that may.
    pub(crate) fn is_varied(&self) -> bool {
        let all = [self.retries, self.dead, self.expired, self.held, self.conflicts, self.broken, self.routed];
        all.iter().all(|figure| *figure > 0)
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// So many messages reach a queue from outside.
    Arrive(usize, u64),
    /// A delayed message takes its place.
    Due(usize, u64),
    /// Somebody looks whether there is work.
    Look(usize),
    /// A worker goes on with its run.
    Begin(usize, usize),
    /// A call has its token and comes to its request, or its answer is there.
    Call(usize, usize),
    /// What a worker handed in is on disk.
    Commit(usize, u64),
}

struct World {
    chance: Chance,
    now: u64,
    began: Instant,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    connectors: Vec<Connector>,
    delayed: Vec<Message>,
    figures: Figures,
}

/// Lets a world run until nothing happens any more.
pub(crate) fn run(seed: u64) -> Result<Figures, String> {
    let mut world = World::new(seed);
    while let Some(Reverse((at, _, event))) = world.events.pop() {
        world.now = at;
        world.figures.steps += 1;
        if world.figures.steps > STEPS_MAX {
            return Err("it does not end".to_owned());
        }
        world.happen(event)?;
    }
    world.connectors.iter().try_for_each(|connector| connector.judge.end())?;
    Ok(world.figures)
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let count = usize::try_from(chance.between(1, 5)).unwrap();
        let connectors = (0..count).map(|number| Connector::new(number, count - 1, &mut chance)).collect();
        let mut world = Self {
            chance,
            now: 0,
            began: Instant::now(),
            events: BinaryHeap::new(),
            order: 0,
            connectors,
            delayed: Vec::new(),
            figures: Figures::default(),
        };
        for _ in 0..world.chance.between(1, 60) {
            let at = world.chance.between(0, 120_000);
            let to = usize::try_from(world.chance.between(0, count as u64)).unwrap();
            let messages = world.chance.between(1, 40);
            world.plan(at, Event::Arrive(to, messages));
        }
        world
    }

    /// Of what happens at one time, what was planned first comes first.
    fn plan(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }

    fn instant(&self) -> Instant {
        self.began + Duration::from_millis(self.now)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrive(to, messages) => {
                (0..messages).for_each(|_| self.arrive(to));
                self.look(to)
            }
            Event::Due(to, place) => {
                let message = self.delayed[usize::try_from(place).unwrap()].clone();
                self.append(to, message);
                self.look(to)
            }
            Event::Look(of) => {
                self.connectors[of].look_at = None;
                self.look(of)
            }
            Event::Begin(of, worker) => self.begin(of, worker),
            Event::Call(of, worker) => self.call(of, worker),
            Event::Commit(of, ticket) => self.commit(of, ticket),
        }
    }

    fn arrive(&mut self, to: usize) {
        let chance = &mut self.chance;
        let message = Message {
            key: chance.percent(70).then(|| chance.between(0, 5).to_string()),
            enqueued_at_ms: self.now,
            expires_at_ms: chance.percent(10).then(|| self.now + chance.between(1, 60_000)),
            ..Message::default()
        };
        if self.chance.percent(10) {
            let at = self.now + self.chance.between(1, 60_000);
            self.plan(at, Event::Due(to, self.delayed.len() as u64));
            self.delayed.push(message);
        } else {
            self.append(to, message);
        }
    }

    fn append(&mut self, to: usize, message: Message) {
        let connector = &mut self.connectors[to];
        connector.judge.accepted(key_of(&message), message.expires_at_ms);
        connector.log.push(message);
    }

    /// Gives idle workers what there is.
    fn look(&mut self, of: usize) -> Result<(), String> {
        let (now, instant) = (self.now, self.instant());
        let connector = &mut self.connectors[of];
        connector.leases.tick(now);
        connector.read(now);
        for worker in 0..connector.runs.len() {
            if connector.runs[worker].is_some() || connector.breakers.pause(instant).is_some() {
                continue;
            }
            let taken = connector.leases.take(connector.numbers[worker], connector.batch, now);
            connector.read(now);
            if taken.deliveries.is_empty() {
                continue;
            }
            let seqs: Vec<u64> = taken.deliveries.iter().map(|delivery| seq_of(delivery.origin)).collect();
            for (place, delivery) in taken.deliveries.iter().enumerate() {
                connector.judge.leased(seqs[place], delivery.attempt, &seqs[..place], now)?;
                let is_same = *connector.message(seqs[place]) == delivery.message;
                is_same.then_some(()).ok_or("another message")?;
            }
            let waiting = taken.deliveries.into_iter().rev().collect();
            connector.runs[worker] = Some(Run::new(waiting, connector.promise.is_by_key));
            self.order += 1;
            self.events.push(Reverse((now, self.order, Event::Begin(of, worker))));
        }
        self.look_later(of);
        Ok(())
    }

    /// When there may be something that nobody says: a due time, or the end of a breaker's time.
    fn look_later(&mut self, of: usize) {
        let instant = self.instant();
        let connector = &mut self.connectors[of];
        let pause =
            connector.breakers.pause(instant).map(|left| self.now + 1 + u64::try_from(left.as_millis()).unwrap());
        let Some(at) = pause.or(connector.leases.next_due_ms()).map(|at| at.max(self.now + 1)) else { return };
        if connector.look_at.is_none_or(|known| at < known) {
            connector.look_at = Some(at);
            self.plan(at, Event::Look(of));
        }
    }

    /// The next call of a run, or its end.
    fn begin(&mut self, of: usize, worker: usize) -> Result<(), String> {
        let (now, instant) = (self.now, self.instant());
        let connector = &mut self.connectors[of];
        let run = connector.runs[worker].as_mut().unwrap();
        while let Some(delivery) = run.waiting.pop() {
            if run.failed_keys.hold_back(&delivery) {
                run.back.push(delivery);
                continue;
            }
            if let Some(outcome) = without_run(&delivery.message, Now { due_ms: now, settled_ms: now }) {
                self.figures.expired += 1;
                run.decided.push(Decided { origin: delivery.origin, outcome, is_final: false, at_ms: now });
                continue;
            }
            let wait = connector.bucket.as_ref().map_or(Duration::ZERO, |bucket| bucket.reserve(instant));
            run.current = Some((delivery, None, false));
            // To the millisecond after it: no token is used before it is there.
            let wait_ms = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap();
            self.figures.calls += 1;
            self.plan(now + wait_ms, Event::Call(of, worker));
            return Ok(());
        }
        self.hand_in(of, worker);
        self.look(of)
    }

    /// A call comes to its request, or its answer is there.
    fn call(&mut self, of: usize, worker: usize) -> Result<(), String> {
        let (now, instant) = (self.now, self.instant());
        let connector = &mut self.connectors[of];
        let run = connector.runs[worker].as_mut().unwrap();
        let (delivery, passage, probes) = run.current.take().unwrap();
        let Some(passage) = passage else {
            let place = Place { authority: "receiver:443".to_owned(), pattern: "receiver".to_owned() };
            match connector.breakers.pass(connector.settings, place, instant) {
                Ok(passage) => {
                    let was_probing = connector.judge.is_probing();
                    connector.judge.begun(seq_of(delivery.origin), &run.ended(), now)?;
                    let probes = connector.judge.is_probing() && !was_probing;
                    run.current = Some((delivery, Some(passage), probes));
                    let at = now + self.chance.between(1, 200);
                    self.plan(at, Event::Call(of, worker));
                }
                Err(open) => {
                    self.figures.held += 1;
                    let failure = Failure::Held { reason: "held".to_owned(), delay: open.left, lack: None };
                    self.decide(of, worker, &delivery, Some(failure));
                    self.plan(now, Event::Begin(of, worker));
                }
            }
            return Ok(());
        };
        let is_down = connector.outage.is_some_and(|(from, to)| (from..to).contains(&now));
        let fails = is_down || self.chance.percent(connector.failing_percent);
        if fails {
            passage.fail(instant)
        } else {
            passage.succeed()
        }
        connector.judge.ended(fails, probes, now);
        let failure = match (fails, self.chance.between(0, 10)) {
            (false, _) => None,
            (true, 0) => Some(Failure::Reject { reason: "no".to_owned() }),
            (true, 1) => Some(Failure::Trap { reason: "broken".to_owned() }),
            (true, _) => Some(Failure::Retry { reason: "again".to_owned(), after: None }),
        };
        self.decide(of, worker, &delivery, failure);
        self.plan(now, Event::Begin(of, worker));
        Ok(())
    }

    fn decide(&mut self, of: usize, worker: usize, delivery: &Delivery, failure: Option<Failure>) {
        let random = self.chance.fraction();
        let connector = &mut self.connectors[of];
        let is_final = matches!(failure, Some(Failure::Reject { .. }));
        let outcome = failure.map_or(Outcome::Done, |failure| {
            of_failure(&connector.promise.policy, delivery, failure, self.now, random)
        });
        let run = connector.runs[worker].as_mut().unwrap();
        if outcome != Outcome::Done {
            run.failed_keys.note(delivery);
        }
        match &outcome {
            Outcome::Retry { .. } => self.figures.retries += 1,
            Outcome::Dead { .. } => self.figures.dead += 1,
            _ => {}
        }
        run.decided.push(Decided { origin: delivery.origin, outcome, is_final, at_ms: self.now });
    }

    /// A run is over: what was decided goes to the ledger, the rest back. Sometimes the worker breaks before.
    fn hand_in(&mut self, of: usize, worker: usize) {
        let breaks = self.chance.percent(1);
        let now = self.now;
        let connector = &mut self.connectors[of];
        let run = connector.runs[worker].take().unwrap();
        let back: Vec<Origin> = run.back.iter().map(|delivery| delivery.origin).collect();
        back.iter().for_each(|origin| connector.judge.released(seq_of(*origin)));
        if breaks {
            self.figures.broken += 1;
            run.decided.iter().for_each(|decided| connector.judge.released(seq_of(decided.origin)));
            connector.leases.abandon(connector.numbers[worker], now);
            self.order += 1;
            connector.numbers[worker] = self.order + connector.runs.len() as u64;
            return;
        }
        connector.leases.release(run.back, now);
        connector.leases.hand_in(&outcomes_of(&run.decided));
        self.order += 1;
        let ticket = self.order;
        connector.handed_in.insert(ticket, run.decided);
        let at = now + self.chance.between(0, 8);
        self.plan(at, Event::Commit(of, ticket));
    }

    /// A settlement is on disk, or its state had changed and all of it goes back to be run again.
    fn commit(&mut self, of: usize, ticket: u64) -> Result<(), String> {
        let (now, conflicts) = (self.now, self.chance.percent(2));
        let connector = &mut self.connectors[of];
        let decided = connector.handed_in.remove(&ticket).unwrap();
        let outcomes = outcomes_of(&decided);
        if conflicts {
            self.figures.conflicts += 1;
            connector.leases.returned(Returned::Conflicted(outcomes), now);
            let mut again = Vec::new();
            for origin in decided.iter().map(|decided| decided.origin) {
                connector.judge.released(seq_of(origin));
                again.push(Delivery { origin, attempt: 1, message: connector.message(seq_of(origin)).clone() });
            }
            connector.leases.release(again, now);
            return self.look(of);
        }
        for Decided { origin, outcome, is_final, at_ms } in &decided {
            connector.judge.settled(seq_of(*origin), outcome, *is_final, *at_ms)?;
        }
        connector.leases.returned(Returned::Committed(outcomes), now);
        let to = connector.to;
        let is_done = |decided: &&Decided| decided.outcome == Outcome::Done;
        let done = decided.iter().filter(is_done).map(|decided| connector.message(seq_of(decided.origin)).clone());
        let done: Vec<Message> = done.collect();
        if let Some(to) = to {
            self.figures.routed += done.len() as u64;
            for message in done {
                self.append(to, Message { enqueued_at_ms: now, expires_at_ms: None, ..message });
            }
            self.look(to)?;
        }
        self.look(of)
    }
}
