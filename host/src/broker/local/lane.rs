//! The lane of one key: its unsettled messages in order, of which only the front may run.
//!
//! Pure. Invariant: items are in the order of the log, and while one is leased no other becomes deliverable.

use std::collections::{HashSet, VecDeque};

use crate::message::Message;
use crate::settlement::Origin;

/// Messages of a lane whose contents are kept or fetched together: more than a run takes is rarely of use.
const CONTENTS_MAX: usize = 64;

/// A message that waits.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) origin: Origin,
    /// Not before this time.
    pub(super) due_ms: u64,
    /// Charged so far.
    pub(super) attempts: u32,
    /// The key's number, where its order is kept.
    pub(super) key: Option<u64>,
    /// The contents, where they are in memory.
    pub(super) message: Option<Message>,
}

/// The messages of one key.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) items: VecDeque<Item>,
    /// Redriven messages of the key that wait until nothing of it is leased.
    pub(super) parked: Vec<Item>,
    /// Messages of the key that a run holds.
    pub(super) leased: usize,
    /// Whether the lane stands among those that may be taken from.
    pub(super) is_queued: bool,
    /// The due time that was asked for already.
    pub(super) timer: Option<u64>,
    /// Messages whose contents were asked for and have not come.
    asked: HashSet<Origin>,
}

/// What a lane waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// It holds nothing.
    Empty,
    /// A run holds its key, or it is queued already.
    Busy,
    /// Its front is not due.
    Until(u64),
    /// The contents of its front are not in memory.
    Contents,
    /// Nothing: this message may run.
    Not(Origin),
}

impl Lane {
    /// What it waits for.
    pub(super) fn blocked(&self, now_ms: u64) -> Blocked {
        let Some(front) = self.items.front() else {
            let is_done = self.leased == 0 && self.parked.is_empty();
            return if is_done { Blocked::Empty } else { Blocked::Busy };
        };
        if self.leased > 0 || self.is_queued {
            Blocked::Busy
        } else if front.due_ms > now_ms {
            Blocked::Until(front.due_ms)
        } else if front.message.is_none() {
            Blocked::Contents
        } else {
            Blocked::Not(front.origin)
        }
    }

    /// Whether no run holds its key.
    pub(super) fn is_free(&self) -> bool {
        self.leased == 0
    }

    /// Whether its front is due and in memory, whoever holds the key.
    pub(super) fn is_deliverable(&self, now_ms: u64) -> bool {
        self.items.front().is_some_and(|front| front.due_ms <= now_ms && front.message.is_some())
    }

    /// Its first message.
    pub(super) fn front(&self) -> Option<Origin> {
        self.items.front().map(|front| front.origin)
    }

    /// Whether the contents of one more message are worth their memory.
    pub(super) fn keeps_contents(&self, now_ms: u64) -> bool {
        let is_held_up = self.items.front().is_some_and(|front| front.due_ms > now_ms || front.message.is_none());
        !is_held_up && self.items.len() < CONTENTS_MAX
    }

    /// Adds a message at its place.
    pub(super) fn insert(&mut self, item: Item) {
        let place = self.items.partition_point(|other| other.origin < item.origin);
        self.items.insert(place, item);
    }

    /// The messages at the front whose contents are to be fetched, each named once.
    pub(super) fn ask(&mut self) -> Vec<Origin> {
        let front = self.items.iter().take(CONTENTS_MAX).filter(|item| item.message.is_none());
        let wanted: Vec<Origin> = front.map(|item| item.origin).filter(|origin| !self.asked.contains(origin)).collect();
        self.asked.extend(&wanted);
        wanted
    }

    /// Fills in fetched contents, or removes a message that is gone; whether it was there without contents.
    pub(super) fn fill(&mut self, origin: Origin, message: Option<Message>) -> bool {
        self.asked.remove(&origin);
        let Ok(place) = self.items.binary_search_by_key(&origin, |item| item.origin) else { return false };
        match message {
            Some(message) => self.items[place].message.replace(message).is_none(),
            None => self.items.remove(place).is_some_and(|item| item.message.is_none()),
        }
    }
}
