//! What a subscription knows of its unsettled messages, and which of them may be leased now.
//!
//! Pure: pages from the log, outcomes and the time come in, batches come out; reading, waiting and settling are done by
//! the parent. Messages without an order wait in one line; with `ordering = "key"` each key has a lane, whose front one
//! run at a time holds. Invariant: an unsettled message that was read is in exactly one place: the line, a lane, the
//! list of those whose contents are not in memory, the list of suspects, or leased.

mod lack;
mod prefetch;
mod settling;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::RandomState;

use crate::broker::local::lane::{Blocked, Item, Lane};
use crate::ledger::{Ordering, Position, Tail};
use crate::message::Message;
use crate::planted::{self, Bug};
use crate::settlement::{Delivery, Lack, Origin};

/// Messages whose contents a subscription keeps in memory, and their bytes: a few pages ahead of its workers.
const WINDOW_MESSAGES: usize = 2_048;
const WINDOW_BYTES: u64 = 2 << 20;

/// How a subscription hands its messages out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker::local) struct Rules {
    pub(in crate::broker::local) ordering: Ordering,
    pub(in crate::broker::local) keys: KeysInBatch,
    pub(in crate::broker::local) pending_max: usize,
}

/// How many messages of one key a batch may hold where the order of keys is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeysInBatch {
    /// Several, consecutive and in order: for calls that take one message each.
    #[default]
    Several,
    /// One: for a call that takes the whole batch.
    One,
}

/// What a worker gets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::broker::local) struct Taken {
    pub(in crate::broker::local) deliveries: Vec<Delivery>,
    pub(in crate::broker::local) is_alone: bool,
}

/// What is to be read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::broker::local) enum Want {
    /// Unfinished messages after this one.
    Pending { after: u64 },
    /// Redriven messages after this row.
    Parked { after: i64 },
    /// Messages whose contents are not in memory.
    Contents(Vec<Origin>),
    /// The log after this message.
    Log { after: u64 },
}

/// How a subscription stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Leased, or handed in and not on disk yet.
    pub in_flight: usize,
    /// Contents in memory, waiting for a worker.
    pub ready: usize,
    /// Unfinished: waiting for a due time, or behind such a message of their key.
    pub waiting: usize,
    /// Whether so much is unfinished that nothing more is read.
    pub is_held: bool,
}

/// The state.
#[derive(Debug)]
pub(in crate::broker::local) struct Leases {
    rules: Rules,
    hash: RandomState,
    position: Position,
    /// The log is read up to here.
    read_to: u64,
    /// Unfinished messages are read up to here; `None` when all are.
    pending_after: Option<u64>,
    parked_after: i64,
    /// The tail's count of redrives when the parked messages were read to their end.
    redriven_seen: Option<u64>,
    /// Deliverable, in order.
    line: VecDeque<Item>,
    window: Window,
    /// Outside lanes, contents not in memory.
    known: HashMap<Origin, Item>,
    due: BinaryHeap<Reverse<(u64, Due)>>,
    fetch: VecDeque<(Origin, Place)>,
    fetching: HashMap<Origin, Place>,
    lanes: HashMap<u64, Lane>,
    ready_lanes: VecDeque<u64>,
    /// Messages in lanes whose contents are not in memory.
    bare: usize,
    leased: HashMap<Origin, Leased>,
    suspects: HashSet<Origin>,
    lone: VecDeque<Lone>,
    alone: Option<Origin>,
    gone: HashSet<u64>,
    /// Messages that failed for want of room in a queue, and what they lacked.
    lacks: HashMap<Origin, Lack>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Message(Origin),
    Lane(u64),
}

/// Where a message whose contents are fetched waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Line,
    Lane(u64),
}

/// Contents in memory.
#[derive(Debug, Default)]
struct Window {
    messages: usize,
    bytes: u64,
}

impl Window {
    /// Contents of so many bytes came in, or none did.
    fn add(&mut self, bytes: Option<u64>) {
        self.messages += usize::from(bytes.is_some());
        self.bytes += bytes.unwrap_or(0);
    }

    /// Contents of so many bytes went out, or none did.
    fn take(&mut self, bytes: Option<u64>) {
        self.messages -= usize::from(bytes.is_some());
        self.bytes -= bytes.unwrap_or(0);
    }

    fn is_low(&self) -> bool {
        self.messages < WINDOW_MESSAGES / 2 && self.bytes < WINDOW_BYTES / 2
    }
}

#[derive(Debug)]
struct Leased {
    attempts: u32,
    key: Option<u64>,
    worker: u64,
    is_handed_in: bool,
}

/// A suspect whose contents are in memory.
#[derive(Debug)]
enum Lone {
    Item(Item),
    Lane(u64),
}

impl Leases {
    pub(in crate::broker::local) fn new(rules: Rules, position: Position, suspects: HashSet<Origin>) -> Self {
        Self {
            rules,
            hash: RandomState::new(),
            read_to: position.cursor,
            position,
            pending_after: Some(0),
            parked_after: 0,
            redriven_seen: None,
            line: VecDeque::new(),
            window: Window::default(),
            known: HashMap::new(),
            due: BinaryHeap::new(),
            fetch: VecDeque::new(),
            fetching: HashMap::new(),
            lanes: HashMap::new(),
            ready_lanes: VecDeque::new(),
            bare: 0,
            leased: HashMap::new(),
            suspects,
            lone: VecDeque::new(),
            alone: None,
            gone: HashSet::new(),
            lacks: HashMap::new(),
        }
    }

    /// Puts a message where it belongs.
    fn place(&mut self, item: Item, now_ms: u64) {
        match (item.key, item.origin) {
            (Some(key), Origin::Log(_)) => self.place_in_lane(key, item, now_ms),
            // A redriven message has left the order of its key; it only never runs beside others of it.
            _ => self.place_in_line(item, now_ms),
        }
    }

    fn place_in_line(&mut self, mut item: Item, now_ms: u64) {
        match &item.message {
            Some(_) if item.due_ms <= now_ms && self.suspects.contains(&item.origin) => {
                self.lone.push_back(Lone::Item(item));
            }
            Some(message) if item.due_ms <= now_ms => {
                self.window.add(Some(message.size_bytes()));
                self.line.push_back(item);
            }
            _ => {
                item.message = None;
                self.due.push(Reverse((item.due_ms, Due::Message(item.origin))));
                self.known.insert(item.origin, item);
            }
        }
    }

    fn place_in_lane(&mut self, key: u64, mut item: Item, now_ms: u64) {
        let lane = self.lanes.entry(key).or_default();
        if !lane.keeps_contents(now_ms) {
            item.message = None;
        }
        self.window.add(item.message.as_ref().map(Message::size_bytes));
        self.bare += usize::from(item.message.is_none());
        lane.insert(item);
        self.refresh(key, now_ms);
    }

    /// Finds out what a lane waits for.
    fn refresh(&mut self, key: u64, now_ms: u64) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        if lane.is_free() {
            for item in lane.parked.drain(..) {
                if self.suspects.contains(&item.origin) {
                    self.lone.push_back(Lone::Item(item));
                } else {
                    self.line.push_front(item);
                }
            }
        }
        match lane.blocked(now_ms) {
            Blocked::Empty => drop(self.lanes.remove(&key)),
            Blocked::Busy => {}
            Blocked::Until(due_ms) => {
                if lane.timer != Some(due_ms) {
                    lane.timer = Some(due_ms);
                    self.due.push(Reverse((due_ms, Due::Lane(key))));
                }
            }
            Blocked::Contents => {
                for origin in lane.ask() {
                    self.fetch.push_back((origin, Place::Lane(key)));
                }
            }
            Blocked::Not(front) => {
                lane.is_queued = true;
                if self.suspects.contains(&front) {
                    self.lone.push_back(Lone::Lane(key));
                } else {
                    self.ready_lanes.push_back(key);
                }
            }
        }
    }

    /// Moves what has become due.
    pub(in crate::broker::local) fn tick(&mut self, now_ms: u64) {
        while let Some(Reverse((due_ms, due))) = self.due.peek().copied()
            && due_ms <= now_ms
        {
            self.due.pop();
            match due {
                Due::Message(origin) => {
                    let is_due = self.known.get(&origin).is_some_and(|item| item.due_ms <= now_ms);
                    if is_due && !self.fetching.contains_key(&origin) {
                        self.fetch.push_back((origin, Place::Line));
                    }
                }
                Due::Lane(key) => {
                    if let Some(lane) = self.lanes.get_mut(&key) {
                        lane.timer = None;
                    }
                    self.refresh(key, now_ms);
                }
            }
        }
    }

    /// When something becomes due, if anything will.
    pub(in crate::broker::local) fn next_due_ms(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    /// Whether a worker would get something.
    pub(in crate::broker::local) fn has_ready(&self) -> bool {
        !self.line.is_empty() || !self.ready_lanes.is_empty()
    }

    /// Whether a suspect waits for its turn alone.
    pub(in crate::broker::local) fn has_lone(&self) -> bool {
        !self.lone.is_empty()
    }

    /// Leases a suspect, to run alone.
    pub(in crate::broker::local) fn take_lone(&mut self, worker: u64, now_ms: u64) -> Taken {
        let mut taken = Taken::default();
        while taken.deliveries.is_empty()
            && let Some(lone) = self.lone.pop_front()
        {
            let item = match lone {
                Lone::Item(item) => self.enter_lane(item),
                Lone::Lane(key) if self.dequeue(key) => self.pop_lane(key).or_else(|| {
                    self.refresh(key, now_ms);
                    None
                }),
                Lone::Lane(_) => None,
            };
            if let Some(item) = item {
                self.alone = Some(item.origin);
                self.hand_out(item, worker, &mut taken);
            }
        }
        taken.is_alone = !taken.deliveries.is_empty();
        if !taken.is_alone {
            self.alone = None;
        }
        taken
    }

    /// Leases up to `max` messages.
    pub(in crate::broker::local) fn take(&mut self, worker: u64, max: usize, now_ms: u64) -> Taken {
        let mut taken = Taken::default();
        while taken.deliveries.len() < max {
            let line = self.line.front().map(|item| item.origin);
            let lane = self.ready_lanes.front().and_then(|key| self.lanes.get(key)?.front());
            match (line, lane) {
                (Some(line), Some(lane)) if line > lane => self.take_lane(worker, max, now_ms, &mut taken),
                (Some(_), _) => self.take_line(worker, &mut taken),
                (None, _) if !self.ready_lanes.is_empty() => self.take_lane(worker, max, now_ms, &mut taken),
                (None, _) => break,
            }
        }
        taken
    }

    fn take_line(&mut self, worker: u64, taken: &mut Taken) {
        let Some(item) = self.line.pop_front().and_then(|item| self.enter_lane(item)) else { return };
        self.window.take(item.message.as_ref().map(Message::size_bytes));
        if planted::has(Bug::DoubleLease) && item.due_ms == 0 {
            self.place_in_line(Item { due_ms: 1, ..item.clone() }, 1);
        }
        self.hand_out(item, worker, taken);
    }

    /// Takes the key of a message outside the lanes; where a run holds it, the message waits until it is free.
    fn enter_lane(&mut self, item: Item) -> Option<Item> {
        let Some(key) = item.key else { return Some(item) };
        let lane = self.lanes.entry(key).or_default();
        if !lane.is_free() {
            lane.parked.push(item);
            return None;
        }
        lane.leased += 1;
        Some(item)
    }

    fn take_lane(&mut self, worker: u64, max: usize, now_ms: u64, taken: &mut Taken) {
        let Some(key) = self.ready_lanes.pop_front() else { return };
        if !self.dequeue(key) {
            return;
        }
        let before = taken.deliveries.len();
        let most = match self.rules.keys {
            KeysInBatch::Several => max,
            KeysInBatch::One => taken.deliveries.len() + 1,
        };
        while taken.deliveries.len() < most.min(max)
            && let Some(lane) = self.lanes.get(&key)
            && lane.is_deliverable(now_ms)
            && lane.front().is_none_or(|front| !self.suspects.contains(&front))
            && let Some(item) = self.pop_lane(key)
        {
            self.hand_out(item, worker, taken);
        }
        if taken.deliveries.len() == before {
            // Another message has come before the one that it was queued for: it waits for that one now.
            self.refresh(key, now_ms);
        }
    }

    /// Takes a lane from those that may be taken from; whether it may, now that its turn has come.
    fn dequeue(&mut self, key: u64) -> bool {
        let Some(lane) = self.lanes.get_mut(&key) else { return false };
        lane.is_queued = false;
        // A redriven message of the key may have been leased meanwhile: the lane goes on when that is settled.
        lane.is_free()
    }

    fn pop_lane(&mut self, key: u64) -> Option<Item> {
        let lane = self.lanes.get_mut(&key)?;
        let item = lane.items.pop_front_if(|front| front.message.is_some())?;
        lane.leased += 1;
        self.window.take(item.message.as_ref().map(Message::size_bytes));
        Some(item)
    }

    fn hand_out(&mut self, item: Item, worker: u64, taken: &mut Taken) {
        let Item { origin, attempts, key, message, .. } = item;
        let Some(message) = message else { return };
        self.leased.insert(origin, Leased { attempts, key, worker, is_handed_in: false });
        taken.deliveries.push(Delivery { origin, attempt: attempts + 1, message });
    }

    /// Whether a suspect is running alone.
    pub(in crate::broker::local) fn is_alone_leased(&self) -> bool {
        self.alone.is_some()
    }

    /// The figures.
    pub(in crate::broker::local) fn counts(&self, tail: Tail) -> Counts {
        Counts {
            in_flight: self.leased.len(),
            ready: self.window.messages,
            waiting: self.known.len() + self.bare,
            is_held: tail.seq > self.read_to && self.is_laden(),
        }
    }

    /// Whether nothing is deliverable, in flight, or due until `until_ms`.
    pub(in crate::broker::local) fn is_quiet(&self, tail: Tail, until_ms: u64) -> bool {
        let is_read = self.pending_after.is_none() && self.redriven_seen == Some(tail.redriven);
        let is_empty = !self.has_ready() && !self.has_lone() && self.leased.is_empty();
        let is_fetched = self.fetch.is_empty() && self.fetching.is_empty();
        let is_later = self.next_due_ms().is_none_or(|due_ms| due_ms > until_ms);
        is_read && is_empty && is_fetched && is_later && tail.seq <= self.read_to
    }
}
