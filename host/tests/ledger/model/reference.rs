//! The ledger as the rules of delivery describe it, in memory: maps and lists, no cursor, no page, no transaction.
//!
//! Written from what is promised and not from the code. It is told where the ledger has put a redriven message or a dead
//! letter (its row), and which messages a queue's `expires` has ended, since that happens within a time and not at one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bulkhead_host::message::{Draft, Message};
use bulkhead_host::settlement::{Delivery, Origin, Outcome, StateChanges};

pub(super) const IN: usize = 0;
pub(super) const OUT: usize = 1;
pub(super) const INBOX: usize = 2;

/// The subscriptions: connector and queue.
pub(super) const READERS: [(&str, usize); 3] = [("a", IN), ("b", IN), ("a", INBOX)];

/// A queue's `expires` ends a message no sooner than this after its time, for its consumer may be running it.
pub(super) const EXPIRED_LEFT_MS: u64 = 60_000;

/// What the configuration says, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) is_by_key: bool,
    pub(super) dedup: Option<u64>,
    pub(super) keep: Option<u64>,
    pub(super) expires: Option<u64>,
    pub(super) retention: u64,
    pub(super) dead_retention: u64,
    pub(super) marks: u64,
}

/// What has become of a message for one subscription that has not settled it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Unsettled {
    pub(super) attempts: u32,
    pub(super) due_ms: u64,
    pub(super) has_failed: bool,
}

#[derive(Debug)]
pub(super) struct Parked {
    pub(super) row: Option<i64>,
    pub(super) message: Message,
    pub(super) stands: Unsettled,
}

#[derive(Debug)]
pub(super) struct Letter {
    pub(super) id: Option<i64>,
    pub(super) reader: usize,
    pub(super) message: Message,
    pub(super) attempts: u32,
    pub(super) reason: String,
    pub(super) died_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Everything that was ever accepted, by its place from 1.
    pub(super) log: BTreeMap<u64, Message>,
    pub(super) delayed: Vec<(u64, Message)>,
    seen: HashMap<String, u64>,
}

#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) unsettled: BTreeMap<u64, Unsettled>,
    pub(super) parked: Vec<Parked>,
    pub(super) orphaned_ms: Option<u64>,
    pub(super) is_forgotten: bool,
    /// Ended by the queue's `expires` while this ran: a lease may still have them.
    pub(super) expired: BTreeSet<u64>,
}

/// What is known of the schedule.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pub(super) planned: BTreeSet<u64>,
    pub(super) last_planned: Option<u64>,
    pub(super) last_tick: Option<u64>,
    pub(super) success: Option<u64>,
    pub(super) outcome: Option<(u64, &'static str, u64)>,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) rules: Rules,
    pub(super) now: u64,
    pub(super) queues: [Queue; 3],
    pub(super) readers: [Reader; 3],
    pub(super) letters: Vec<Letter>,
    /// What runs hold, and whether it runs alone.
    pub(super) leased: BTreeMap<(usize, Origin), bool>,
    pub(super) suspects: BTreeSet<(usize, Origin)>,
    /// Of connector `a`.
    pub(super) state: BTreeMap<String, (u64, Vec<u8>)>,
    pub(super) state_version: u64,
    marks: HashMap<String, (String, u64)>,
    pub(super) schedule: Schedule,
    pub(super) is_paused: bool,
}

impl Model {
    pub(super) fn new(rules: Rules, now: u64) -> Self {
        Self {
            rules,
            now,
            queues: Default::default(),
            readers: Default::default(),
            letters: Vec::new(),
            leased: BTreeMap::new(),
            suspects: BTreeSet::new(),
            state: BTreeMap::new(),
            state_version: 0,
            marks: HashMap::new(),
            schedule: Schedule::default(),
            is_paused: false,
        }
    }

    /// Accepts a message; whether it was a repeat.
    pub(super) fn accept(&mut self, queue: usize, draft: &Draft) -> bool {
        let now = self.now;
        let window = if queue == INBOX { None } else { self.rules.dedup };
        let entry = &mut self.queues[queue];
        if let Some(window) = window {
            if entry.seen.get(&draft.id).is_some_and(|at| at + window > now) {
                return true;
            }
            entry.seen.insert(draft.id.clone(), now);
        }
        let of_queue = if queue == IN { self.rules.expires } else { None };
        let expires = [draft.expires_ms, of_queue].into_iter().flatten().min();
        let message = Message {
            id: draft.id.clone(),
            key: draft.key.clone(),
            headers: draft.headers.clone(),
            body: draft.body.clone(),
            enqueued_at_ms: now,
            expires_at_ms: expires.map(|expires| now + expires),
            parent: draft.parent.clone(),
            hops: draft.hops,
        };
        match draft.delay_ms.filter(|delay| *delay > 0) {
            Some(delay) => entry.delayed.push((now + delay, message)),
            None => self.append(queue, message),
        }
        false
    }

    fn append(&mut self, queue: usize, message: Message) {
        let seq = self.queues[queue].log.len() as u64 + 1;
        self.queues[queue].log.insert(seq, message);
        for (reader, _) in self.readers.iter_mut().zip(READERS).filter(|(_, (_, of))| *of == queue) {
            if !reader.is_forgotten {
                reader.unsettled.insert(seq, Unsettled::default());
            }
        }
    }

    /// Takes a webhook's request; the id of the first one with a key in common, where there was one. Such a repeat is
    /// dropped, and leaves nothing by which others would be known.
    pub(super) fn receive(&mut self, draft: &Draft, keys: &[String]) -> Option<String> {
        let first = keys.iter().find_map(|key| self.marked(key));
        if first.is_none() {
            let now = self.now;
            self.marks.extend(keys.iter().map(|key| (key.clone(), (draft.id.clone(), now))));
            self.accept(INBOX, draft);
        }
        first
    }

    fn marked(&self, key: &String) -> Option<String> {
        let known = self.marks.get(key).filter(|(_, at)| at + self.rules.marks > self.now);
        known.map(|(id, _)| id.clone())
    }

    /// The message under an origin, and how it stands; `None` where it is settled.
    pub(super) fn unsettled(&self, reader: usize, origin: Origin) -> Option<(&Message, &Unsettled)> {
        match origin {
            Origin::Log(seq) => {
                let stands = self.readers[reader].unsettled.get(&seq)?;
                Some((&self.queues[READERS[reader].1].log[&seq], stands))
            }
            Origin::Parked(row) => {
                let parked = self.readers[reader].parked.iter().find(|parked| parked.row == Some(row))?;
                Some((&parked.message, &parked.stands))
            }
        }
    }

    /// What a committed outcome changes: nothing where the message is settled already.
    pub(super) fn decide(&mut self, reader: usize, origin: Origin, outcome: &Outcome) {
        self.suspects.remove(&(reader, origin));
        self.leased.remove(&(reader, origin));
        let Some((message, stands)) = self.unsettled(reader, origin) else { return };
        let (message, mut stands, died_ms) = (message.clone(), stands.clone(), self.now);
        if let Outcome::Dead { reason } = outcome {
            let (attempts, reason) = (stands.attempts + 1, reason.clone());
            self.letters.push(Letter { id: None, reader, message, attempts, reason, died_ms });
        }
        let keeps = match outcome {
            Outcome::Retry { due_ms, charged, .. } => {
                stands =
                    Unsettled { attempts: stands.attempts + u32::from(*charged), due_ms: *due_ms, has_failed: true };
                Some(stands)
            }
            _ => None,
        };
        let of = &mut self.readers[reader];
        match (origin, keeps) {
            (Origin::Log(seq), Some(stands)) => drop(of.unsettled.insert(seq, stands)),
            (Origin::Log(seq), None) => drop(of.unsettled.remove(&seq)),
            (Origin::Parked(row), keeps) => {
                let place = of.parked.iter().position(|parked| parked.row == Some(row)).unwrap();
                match keeps {
                    Some(stands) => of.parked[place].stands = stands,
                    None => drop(of.parked.remove(place)),
                }
            }
        }
    }

    /// Whether state has changed since it was seen.
    pub(super) fn conflicts(&self, changes: &StateChanges) -> bool {
        let version = |key: &String| self.state.get(key).map_or(0, |(version, _)| *version);
        changes.seen.iter().any(|(key, seen)| version(key) != *seen)
            || changes.listed.is_some_and(|listed| listed != self.state_version)
    }

    pub(super) fn write(&mut self, changes: &StateChanges) {
        if changes.writes.is_empty() {
            return;
        }
        self.state_version += 1;
        for (key, value) in &changes.writes {
            match value {
                Some(value) => drop(self.state.insert(key.clone(), (self.state_version, value.clone()))),
                None => drop(self.state.remove(key)),
            }
        }
    }

    /// Delivers a letter again; whether there was somebody to deliver it to.
    pub(super) fn redrive(&mut self, id: i64, to: Option<usize>, body: Option<&[u8]>) -> bool {
        let Some(place) = self.letters.iter().position(|letter| letter.id == Some(id)) else { return false };
        let to = to.unwrap_or(self.letters[place].reader);
        if self.readers[to].is_forgotten {
            return false;
        }
        let mut message = self.letters.remove(place).message;
        (message.hops, message.expires_at_ms) = (0, None);
        if let Some(body) = body {
            message.body = body.to_vec();
        }
        self.readers[to].parked.push(Parked { row: None, message, stands: Unsettled::default() });
        true
    }

    /// Deals with a planned time of the schedule; whether it made a tick.
    pub(super) fn plan(&mut self, planned_ms: u64, draft: &Draft, is_by_hand: bool) -> bool {
        let is_new = self.schedule.planned.insert(planned_ms);
        if !is_by_hand {
            self.schedule.last_planned = Some(planned_ms);
        }
        if is_new {
            self.accept(INBOX, draft);
            if !is_by_hand {
                self.schedule.last_tick = Some(planned_ms);
            }
        }
        is_new
    }

    /// What time does.
    pub(super) fn look_after(&mut self) {
        let (now, rules) = (self.now, self.rules);
        for queue in 0..self.queues.len() {
            let (mut due, later): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.queues[queue].delayed).into_iter().partition(|(at, _)| *at <= now);
            self.queues[queue].delayed = later;
            // In the order of their times; of one time, in the order in which they were accepted.
            due.sort_by_key(|(at, _)| *at);
            due.into_iter().for_each(|(_, message)| self.append(queue, message));
        }
        for reader in &mut self.readers {
            if reader.orphaned_ms.is_some_and(|since| since + rules.retention <= now) && !reader.is_forgotten {
                *reader = Reader { is_forgotten: true, orphaned_ms: reader.orphaned_ms, ..Reader::default() };
            }
        }
        self.letters.retain(|letter| letter.died_ms + rules.dead_retention > now);
    }

    /// Those of which at least one can be leased now, if any can.
    pub(super) fn heads(&self, reader: usize) -> Vec<Origin> {
        let is_lone_busy = self.leased.values().any(|is_alone| *is_alone);
        // What has expired while it was known to a lease is handed out once more, and its key waits for that.
        let expired = self.readers[reader].expired.iter().filter(|_| self.is_by_key(reader));
        let mut keys: BTreeSet<String> = expired.filter_map(|seq| self.key_of(reader, Origin::Log(*seq))).collect();
        let mut heads = Vec::new();
        let mut consider = |origin: Origin, message: &Message, stands: &Unsettled, is_first: bool| {
            let is_leased = self.leased.contains_key(&(reader, origin));
            let waits_alone = is_lone_busy && self.suspects.contains(&(reader, origin));
            let is_held = self.holds_key(reader, message.key.as_deref());
            if is_first && !is_leased && !waits_alone && !is_held && stands.due_ms <= self.now {
                heads.push(origin);
            }
        };
        for (seq, stands) in &self.readers[reader].unsettled {
            let message = &self.queues[READERS[reader].1].log[seq];
            let key = message.key.clone().filter(|_| self.is_by_key(reader));
            let is_first = key.is_none_or(|key| keys.insert(key));
            consider(Origin::Log(*seq), message, stands, is_first);
        }
        for parked in &self.readers[reader].parked {
            consider(Origin::Parked(parked.row.unwrap()), &parked.message, &parked.stands, true);
        }
        heads
    }

    fn is_by_key(&self, reader: usize) -> bool {
        self.rules.is_by_key && READERS[reader].1 == IN
    }

    /// Whether a run holds a key whose order is kept.
    fn holds_key(&self, reader: usize, key: Option<&str>) -> bool {
        let Some(key) = key.filter(|_| self.is_by_key(reader)) else { return false };
        let mut held = self.leased.keys().filter(|(of, _)| *of == reader).map(|(_, origin)| *origin);
        held.any(|origin| self.key_of(reader, origin).as_deref() == Some(key))
    }

    /// Also of one that has expired while it was leased.
    fn key_of(&self, reader: usize, origin: Origin) -> Option<String> {
        match origin {
            Origin::Log(seq) => self.queues[READERS[reader].1].log[&seq].key.clone(),
            Origin::Parked(_) => self.unsettled(reader, origin).and_then(|(message, _)| message.key.clone()),
        }
    }

    /// Takes note of a lease; what is wrong with it, if anything is.
    pub(super) fn lease(&mut self, reader: usize, deliveries: &[Delivery], is_alone: bool) -> Result<(), String> {
        if is_alone && deliveries.len() != 1 {
            return Err("a suspect has company".to_owned());
        }
        let mut by_key: HashMap<String, Vec<Origin>> = HashMap::new();
        for delivery in deliveries {
            let origin = delivery.origin;
            let Some((message, stands)) = self.unsettled(reader, origin) else {
                return Err(format!("{origin:?} was settled"));
            };
            let is_suspect = self.suspects.contains(&(reader, origin));
            let is_twice = self.leased.contains_key(&(reader, origin));
            let checks = [
                (delivery.message == *message, "is another message"),
                (delivery.attempt == stands.attempts + 1, "has another attempt"),
                (stands.due_ms <= self.now, "comes too soon"),
                (!is_twice, "is leased twice"),
                (is_suspect == is_alone, "is a suspect that has company, or none that runs alone"),
                (!self.holds_key(reader, message.key.as_deref()), "comes while its key is held"),
            ];
            if let Some((_, wrong)) = checks.into_iter().find(|(is_right, _)| !is_right) {
                return Err(format!("{origin:?} {wrong}: {delivery:?}, {stands:?}"));
            }
            if let Some(key) = message.key.clone().filter(|_| self.is_by_key(reader)) {
                by_key.entry(key).or_default().push(origin);
            }
        }
        for (key, origins) in by_key {
            let is_alone_outside = matches!(origins[..], [Origin::Parked(_)]);
            let of_key = |seq: &&u64| self.queues[READERS[reader].1].log[seq].key.as_deref() == Some(key.as_str());
            let first = self.readers[reader].unsettled.keys().filter(of_key).map(|seq| Origin::Log(*seq));
            if !is_alone_outside && !first.take(origins.len()).eq(origins.iter().copied()) {
                return Err(format!("key {key} is out of order: {origins:?}"));
            }
        }
        self.leased.extend(deliveries.iter().map(|delivery| ((reader, delivery.origin), is_alone)));
        Ok(())
    }

    /// The process has died with these runs under way: what each names, and whether it ran alone.
    pub(super) fn crash(&mut self, runs: &[(usize, Vec<Origin>, bool)]) {
        self.leased.clear();
        self.suspects.clear();
        for (reader, named, was_alone) in runs {
            for origin in named {
                if self.unsettled(*reader, *origin).is_none() {
                    continue;
                }
                if *was_alone {
                    let again = Outcome::Retry { due_ms: self.now, charged: true, reason: String::new() };
                    self.decide(*reader, *origin, &again);
                }
                self.suspects.insert((*reader, *origin));
            }
        }
    }

    /// Whether a message must still be on disk.
    pub(super) fn is_needed(&self, queue: usize, seq: u64) -> bool {
        let accepted = self.queues[queue].log[&seq].enqueued_at_ms;
        let mut readers = self.readers_of(queue).peekable();
        let age = match (readers.peek().is_some(), queue) {
            (false, _) => self.rules.retention,
            (true, IN) => self.rules.keep.unwrap_or(0),
            (true, _) => 0,
        };
        readers.any(|reader| reader.unsettled.contains_key(&seq)) || accepted + age > self.now
    }

    /// Those that hold messages of a queue back.
    pub(super) fn readers_of(&self, queue: usize) -> impl Iterator<Item = &Reader> {
        let of_queue = self.readers.iter().zip(READERS).filter(move |(_, (_, of))| *of == queue);
        of_queue.map(|(reader, _)| reader).filter(|reader| !reader.is_forgotten)
    }
}
