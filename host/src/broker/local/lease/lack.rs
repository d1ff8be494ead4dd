//! Whether everything that is left waits for room in a queue: then waiting for it to be delivered is of no use.
//!
//! Such messages come back again and again, at no attempt. Invariant: a message that waits for anything else, or runs for
//! another reason, is never taken for one of these.

use std::cmp::Reverse;

use super::{Due, Leases, Place};
use crate::ledger::Tail;
use crate::settlement::{Lack, Origin, QueueId};

impl Leases {
    /// Notes for what room a message waits that has failed; `None` where it waits for something else.
    pub(in crate::broker::local) fn lacks(&mut self, origin: Origin, lack: Option<Lack>) {
        match lack {
            Some(lack) => drop(self.lacks.insert(origin, lack)),
            None => drop(self.lacks.remove(&origin)),
        }
    }

    /// A queue for whose room something waits, where all that is deliverable, in flight or due until `until_ms` waits for
    /// room that is not there, or stands behind such a message of its key.
    pub(in crate::broker::local) fn lacking(
        &self,
        tail: Tail,
        until_ms: u64,
        has_room: impl Fn(&Lack) -> bool,
    ) -> Option<QueueId> {
        let queue = self.lacks.values().find(|lack| !has_room(lack))?.queue;
        let is_read = self.pending_after.is_none() && self.redriven_seen == Some(tail.redriven);
        let is_read_to_end = tail.seq <= self.read_to || self.is_laden();
        let lacks = |origin: &Origin| self.lacks.get(origin).is_some_and(|lack| !has_room(lack));
        let line = self.line.iter().all(|item| lacks(&item.origin));
        let lanes = self.ready_lanes.iter().all(|key| self.is_lane_lacking(*key, lacks));
        let leased = self.leased.keys().all(lacks);
        let waits = |origin: &Origin, place: Place| match place {
            Place::Line => lacks(origin),
            Place::Lane(key) => self.is_lane_lacking(key, lacks),
        };
        let fetched = self.fetch.iter().all(|(origin, place)| waits(origin, *place));
        let fetching = self.fetching.iter().all(|(origin, place)| waits(origin, *place));
        let is_over = |Reverse((due_ms, due)): &Reverse<(u64, Due)>| {
            *due_ms > until_ms
                || match due {
                    // What is not known any more has been settled, or is counted where it is now.
                    Due::Message(origin) => !self.known.contains_key(origin) || lacks(origin),
                    Due::Lane(key) => self.is_lane_lacking(*key, lacks),
                }
        };
        let due = self.due.iter().all(is_over);
        let is_all = is_read && is_read_to_end && line && lanes && leased && fetched && fetching && due;
        (is_all && !self.has_lone()).then_some(queue)
    }

    /// Whether what a lane waits for is the room that its front lacks; where a run holds its key, that is looked at as
    /// what is leased.
    fn is_lane_lacking(&self, key: u64, lacks: impl Fn(&Origin) -> bool) -> bool {
        self.lanes.get(&key).is_none_or(|lane| !lane.is_free() || lane.front().is_none_or(|front| lacks(&front)))
    }
}
