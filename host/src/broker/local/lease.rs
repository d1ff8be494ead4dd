//! What a subscription knows of its unsettled messages, and which of them may be leased now.
//!
//! Pure: pages from the log, outcomes and the time come in, batches come out; reading, waiting and settling are done by
//! the parent. Messages without an order wait in one line; with `ordering = "key"` each key has a lane, whose front one
//! run at a time holds. Invariant: an unsettled message that was read is in exactly one place: the line, a lane, the
//! list of those whose contents are not in memory, the list of suspects, or leased.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use super::lane::{Blocked, Item, Lane};
use crate::ledger::{Known, LogPage, Ordering, PAGE_KNOWN, Position, Returned, Tail};
use crate::limit::HOPS_MAX;
use crate::message::Message;
use crate::settlement::{Delivery, Origin, Outcome};

/// Messages whose contents a subscription keeps in memory, and their bytes: a few pages ahead of its workers.
const WINDOW_MESSAGES: usize = 2_048;
const WINDOW_BYTES: u64 = 2 << 20;
/// Messages fetched one by one in one turn of the reader.
const FETCH_MAX: usize = 64;

/// How a subscription hands its messages out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) ordering: Ordering,
    pub(super) keys: KeysInBatch,
    pub(super) pending_max: usize,
    pub(super) message_bytes_max: u64,
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

/// What a worker gets, and what must be settled without a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) is_alone: bool,
    /// Expired, or never to be run.
    pub(super) ended: Vec<(Origin, Outcome)>,
}

/// What is to be read next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
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
pub(super) struct Leases {
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
    pub(super) fn new(rules: Rules, position: Position, suspects: HashSet<Origin>) -> Self {
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
        }
    }

    // What is read.

    /// Whether something is to be read.
    pub(super) fn wants(&self, tail: Tail) -> bool {
        let is_behind = tail.seq > self.read_to && !self.is_laden();
        self.pending_after.is_some()
            || (self.redriven_seen != Some(tail.redriven) && !self.is_laden())
            || (self.window.is_low() && (!self.fetch.is_empty() || is_behind))
    }

    /// What to read next, if anything.
    pub(super) fn want(&mut self, tail: Tail) -> Option<Want> {
        if let Some(after) = self.pending_after {
            return Some(Want::Pending { after });
        }
        if self.redriven_seen != Some(tail.redriven) && !self.is_laden() {
            return Some(Want::Parked { after: self.parked_after });
        }
        if !self.window.is_low() {
            return None;
        }
        if !self.fetch.is_empty() {
            let next: Vec<_> = self.fetch.drain(..self.fetch.len().min(FETCH_MAX)).collect();
            self.fetching.extend(next.iter().copied());
            return Some(Want::Contents(next.into_iter().map(|(origin, _)| origin).collect()));
        }
        (tail.seq > self.read_to && !self.is_laden()).then_some(Want::Log { after: self.read_to })
    }

    /// Takes in a page of unfinished messages.
    pub(super) fn pending(&mut self, page: Vec<Known>, now_ms: u64) {
        self.pending_after = match page.last() {
            Some(Known { origin: Origin::Log(seq), .. }) if page.len() >= PAGE_KNOWN => Some(*seq),
            _ => None,
        };
        page.into_iter().for_each(|known| self.know(known, now_ms));
    }

    /// Takes in a page of redriven messages; `redriven` is the tail's count before it was read.
    pub(super) fn parked(&mut self, page: Vec<Known>, redriven: u64, now_ms: u64) {
        if let Some(Known { origin: Origin::Parked(row), .. }) = page.last() {
            self.parked_after = *row;
        }
        if page.len() < PAGE_KNOWN {
            self.redriven_seen = Some(redriven);
        }
        page.into_iter().for_each(|known| self.know(known, now_ms));
    }

    fn know(&mut self, known: Known, now_ms: u64) {
        let key = self.key(known.key.as_deref());
        let Known { origin, due_ms, attempts, .. } = known;
        self.place(Item { origin, due_ms, attempts, key, message: None }, now_ms);
    }

    /// Takes in a page of the log; where it ends before `tail_seq`, nothing lies between.
    pub(super) fn logged(&mut self, page: LogPage, tail_seq: u64, now_ms: u64) {
        for (seq, message) in page.messages {
            self.read_to = seq;
            if !self.position.is_settled_ahead(seq) {
                let key = self.key(message.key.as_deref());
                let origin = Origin::Log(seq);
                self.place(Item { origin, due_ms: 0, attempts: 0, key, message: Some(message) }, now_ms);
            }
        }
        if page.is_last {
            self.read_to = self.read_to.max(tail_seq);
        }
        self.position.drop_through(self.read_to);
    }

    /// Takes in the contents of a message; `None` where it is gone.
    pub(super) fn contents(&mut self, origin: Origin, message: Option<Message>, now_ms: u64) {
        match self.fetching.remove(&origin) {
            Some(Place::Line) => {
                let item = self.known.remove(&origin);
                if let (Some(item), Some(message)) = (item, message) {
                    self.place(Item { message: Some(message), due_ms: 0, ..item }, now_ms);
                }
            }
            Some(Place::Lane(key)) => {
                if let Some(lane) = self.lanes.get_mut(&key) {
                    let bytes = message.as_ref().map(Message::size_bytes);
                    if lane.fill(origin, message) {
                        self.bare -= 1;
                        self.window.add(bytes);
                    }
                }
                self.refresh(key, now_ms);
            }
            None => {}
        }
    }

    fn key(&self, key: Option<&str>) -> Option<u64> {
        match self.rules.ordering {
            // Two keys that meet in one number only wait for each other.
            Ordering::Key => key.map(|key| self.hash.hash_one(key)),
            Ordering::None => None,
        }
    }

    /// Whether so much is unfinished that nothing more is read.
    fn is_laden(&self) -> bool {
        self.known.len() + self.bare >= self.rules.pending_max
    }

    // Where messages wait.

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
                self.line.push_front(item);
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
    pub(super) fn tick(&mut self, now_ms: u64) {
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
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    // What is handed out.

    /// Whether a worker would get something.
    pub(super) fn has_ready(&self) -> bool {
        !self.line.is_empty() || !self.ready_lanes.is_empty()
    }

    /// Whether a suspect waits for its turn alone.
    pub(super) fn has_lone(&self) -> bool {
        !self.lone.is_empty()
    }

    /// Leases a suspect, to run alone.
    pub(super) fn take_lone(&mut self, worker: u64, now_ms: u64) -> Taken {
        let mut taken = Taken::default();
        while taken.deliveries.is_empty()
            && let Some(lone) = self.lone.pop_front()
        {
            let item = match lone {
                Lone::Item(item) => Some(item),
                Lone::Lane(key) if self.dequeue(key) => self.pop_lane(key),
                Lone::Lane(_) => None,
            };
            if let Some(item) = item {
                self.alone = Some(item.origin);
                self.hand_out(item, worker, now_ms, &mut taken);
            }
        }
        taken.is_alone = !taken.deliveries.is_empty();
        if !taken.is_alone {
            self.alone = None;
        }
        taken
    }

    /// Leases up to `max` messages.
    pub(super) fn take(&mut self, worker: u64, max: usize, now_ms: u64) -> Taken {
        let mut taken = Taken::default();
        while taken.deliveries.len() < max {
            let line = self.line.front().map(|item| item.origin);
            let lane = self.ready_lanes.front().and_then(|key| self.lanes.get(key)?.front());
            match (line, lane) {
                (Some(line), Some(lane)) if line > lane => self.take_lane(worker, max, now_ms, &mut taken),
                (Some(_), _) => self.take_line(worker, now_ms, &mut taken),
                (None, _) if !self.ready_lanes.is_empty() => self.take_lane(worker, max, now_ms, &mut taken),
                (None, _) => break,
            }
        }
        taken
    }

    fn take_line(&mut self, worker: u64, now_ms: u64, taken: &mut Taken) {
        let Some(item) = self.line.pop_front() else { return };
        if let Some(key) = item.key {
            let lane = self.lanes.entry(key).or_default();
            if !lane.is_free() {
                lane.parked.push(item);
                return;
            }
            lane.leased += 1;
        }
        self.window.take(item.message.as_ref().map(Message::size_bytes));
        self.hand_out(item, worker, now_ms, taken);
    }

    fn take_lane(&mut self, worker: u64, max: usize, now_ms: u64, taken: &mut Taken) {
        let Some(key) = self.ready_lanes.pop_front() else { return };
        if !self.dequeue(key) {
            return;
        }
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
            self.hand_out(item, worker, now_ms, taken);
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

    fn hand_out(&mut self, item: Item, worker: u64, now_ms: u64, taken: &mut Taken) {
        let Item { origin, attempts, key, message, .. } = item;
        let Some(message) = message else { return };
        let end = self.end(&message, now_ms);
        self.leased.insert(origin, Leased { attempts, key, worker, is_handed_in: end.is_some() });
        match end {
            Some(outcome) => taken.ended.push((origin, outcome)),
            None => taken.deliveries.push(Delivery { origin, attempt: attempts + 1, message }),
        }
    }

    /// Why a message is settled without a run, if it is.
    fn end(&self, message: &Message, now_ms: u64) -> Option<Outcome> {
        let (size, size_max) = (message.size_bytes(), self.rules.message_bytes_max);
        if message.expires_at_ms.is_some_and(|expires_ms| expires_ms <= now_ms) {
            Some(Outcome::Expired)
        } else if message.hops > HOPS_MAX {
            let reason =
                format!("passed through {} connectors: {HOPS_MAX} is the limit, look for a loop", message.hops);
            Some(Outcome::Dead { reason })
        } else if size > size_max {
            Some(Outcome::Dead { reason: format!("has {size} bytes, more than `limits.message` ({size_max}) allows") })
        } else {
            None
        }
    }

    // What comes back.

    /// Notes that a worker has decided about messages.
    pub(super) fn hand_in(&mut self, outcomes: &[(Origin, Outcome)]) {
        for (origin, _) in outcomes {
            if let Some(leased) = self.leased.get_mut(origin) {
                leased.is_handed_in = true;
            }
        }
    }

    /// Takes in what became of a settlement.
    pub(super) fn returned(&mut self, returned: Returned, now_ms: u64) {
        match returned {
            Returned::Committed(outcomes) => {
                for (origin, outcome) in outcomes {
                    self.suspects.remove(&origin);
                    self.settled(origin, &outcome, now_ms);
                }
            }
            Returned::Conflicted(outcomes) => {
                for (origin, _) in outcomes {
                    let Some(leased) = self.leased.get_mut(&origin) else { continue };
                    leased.is_handed_in = false;
                    if self.gone.contains(&leased.worker) {
                        self.bring_back(origin, None, now_ms);
                    }
                }
            }
        }
    }

    fn settled(&mut self, origin: Origin, outcome: &Outcome, now_ms: u64) {
        let Some(leased) = self.unlease(origin) else { return };
        if let Outcome::Retry { due_ms, charged, .. } = outcome {
            let attempts = leased.attempts + u32::from(*charged);
            self.place(Item { origin, due_ms: *due_ms, attempts, key: leased.key, message: None }, now_ms);
        }
        if let Some(key) = leased.key {
            self.refresh(key, now_ms);
        }
    }

    /// Takes messages back untouched.
    pub(super) fn release(&mut self, deliveries: Vec<Delivery>, now_ms: u64) {
        for delivery in deliveries.into_iter().rev() {
            self.bring_back(delivery.origin, Some(delivery.message), now_ms);
        }
    }

    /// A worker has gone: what it held and did not hand in is delivered again.
    pub(super) fn abandon(&mut self, worker: u64, now_ms: u64) {
        let held = self.leased.iter().filter(|(_, leased)| leased.worker == worker);
        let (handed_in, held): (Vec<_>, Vec<_>) =
            held.map(|(origin, leased)| (*origin, leased.is_handed_in)).partition(|(_, is_handed_in)| *is_handed_in);
        if !handed_in.is_empty() {
            self.gone.insert(worker);
        }
        held.into_iter().for_each(|(origin, _)| self.bring_back(origin, None, now_ms));
    }

    fn bring_back(&mut self, origin: Origin, message: Option<Message>, now_ms: u64) {
        let Some(leased) = self.unlease(origin) else { return };
        let item = Item { origin, due_ms: 0, attempts: leased.attempts, key: leased.key, message };
        let goes_first = matches!((&item.key, &item.message), (None, Some(_))) && !self.suspects.contains(&origin);
        if goes_first {
            self.window.add(item.message.as_ref().map(Message::size_bytes));
            self.line.push_front(item);
        } else {
            self.place(item, now_ms);
        }
        if let Some(key) = leased.key {
            self.refresh(key, now_ms);
        }
    }

    fn unlease(&mut self, origin: Origin) -> Option<Leased> {
        let leased = self.leased.remove(&origin)?;
        if self.alone == Some(origin) {
            self.alone = None;
        }
        if let Some(lane) = leased.key.and_then(|key| self.lanes.get_mut(&key)) {
            lane.leased -= 1;
        }
        Some(leased)
    }

    // How it stands.

    /// Whether a suspect is running alone.
    pub(super) fn is_alone_leased(&self) -> bool {
        self.alone.is_some()
    }

    /// The figures.
    pub(super) fn counts(&self, tail: Tail) -> Counts {
        Counts {
            in_flight: self.leased.len(),
            ready: self.window.messages,
            waiting: self.known.len() + self.bare,
            is_held: tail.seq > self.read_to && self.is_laden(),
        }
    }

    /// Whether nothing is deliverable, in flight, or due until `until_ms`.
    pub(super) fn is_quiet(&self, tail: Tail, until_ms: u64) -> bool {
        let is_read = self.pending_after.is_none() && self.redriven_seen == Some(tail.redriven);
        let is_empty = !self.has_ready() && !self.has_lone() && self.leased.is_empty();
        let is_fetched = self.fetch.is_empty() && self.fetching.is_empty();
        let is_later = self.next_due_ms().is_none_or(|due_ms| due_ms > until_ms);
        is_read && is_empty && is_fetched && is_later && tail.seq <= self.read_to
    }
}
