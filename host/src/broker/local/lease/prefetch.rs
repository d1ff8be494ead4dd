//! What is read ahead, and where it goes: the other half of "which messages wait".

use std::hash::BuildHasher;

use super::{Leases, Place, Want};
use crate::broker::local::lane::Item;
use crate::ledger::{Known, LogPage, Ordering, PAGE_KNOWN, Tail};
use crate::message::Message;
use crate::settlement::Origin;

/// Messages fetched one by one in one turn of the reader.
const FETCH_MAX: usize = 64;

/// No delivery is put off for longer than this.
const DUE_AHEAD_MS_MAX: u64 = 24 * 3_600_000;

impl Leases {
    /// Whether something is to be read.
    pub(in crate::broker::local) fn wants(&self, tail: Tail) -> bool {
        let is_behind = tail.seq > self.read_to && !self.is_laden();
        self.pending_after.is_some()
            || (self.redriven_seen != Some(tail.redriven) && !self.is_laden())
            || (self.window.is_low() && (!self.fetch.is_empty() || is_behind))
    }

    /// What to read next, if anything.
    pub(in crate::broker::local) fn want(&mut self, tail: Tail) -> Option<Want> {
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
    pub(in crate::broker::local) fn pending(&mut self, page: Vec<Known>, now_ms: u64) {
        self.pending_after = match page.last() {
            Some(Known { origin: Origin::Log(seq), .. }) if page.len() >= PAGE_KNOWN => Some(*seq),
            _ => None,
        };
        page.into_iter().for_each(|known| self.know(known, now_ms));
    }

    /// Takes in a page of redriven messages; `redriven` is the tail's count before it was read.
    pub(in crate::broker::local) fn parked(&mut self, page: Vec<Known>, redriven: u64, now_ms: u64) {
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
        // Stored under a clock that was wrong: nothing was ever put off for longer.
        let due_ms = due_ms.min(now_ms + DUE_AHEAD_MS_MAX);
        self.place(Item { origin, due_ms, attempts, key, message: None }, now_ms);
    }

    /// Takes in a page of the log; where it ends before `tail_seq`, nothing lies between.
    pub(in crate::broker::local) fn logged(&mut self, page: LogPage, tail_seq: u64, now_ms: u64) {
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
    pub(in crate::broker::local) fn contents(&mut self, origin: Origin, message: Option<Message>, now_ms: u64) {
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

    /// Contents that could not be read are asked for again.
    pub(in crate::broker::local) fn unread(&mut self) {
        self.fetch.extend(self.fetching.drain());
    }

    fn key(&self, key: Option<&str>) -> Option<u64> {
        match self.rules.ordering {
            // Two keys that meet in one number only wait for each other.
            Ordering::Key => key.map(|key| self.hash.hash_one(key)),
            Ordering::None => None,
        }
    }

    /// Whether so much is unfinished that nothing more is read.
    pub(super) fn is_laden(&self) -> bool {
        self.known.len() + self.bare >= self.rules.pending_max
    }
}
