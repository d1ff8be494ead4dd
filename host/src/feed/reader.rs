//! One who follows what happens: what waits for them, and what they want.
//!
//! Bounded by events and by bytes. Invariant: events come in the order in which they were told, and where some are missing
//! there stands how many.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::event::Lost;
use super::{Feed, Kind, lock};

/// Events that wait for one reader: seconds of a busy host.
pub(super) const EVENTS_MAX: usize = 1_024;
/// Their bytes: a log line has 8 KiB.
pub(super) const BYTES_MAX: usize = 1 << 20;

/// What a reader wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// These kinds; all of them where there are none.
    pub kinds: Vec<Kind>,
    /// What is about this connector alone.
    pub connector: Option<String>,
}

/// An event as it is sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// Its name.
    pub kind: &'static str,
    /// One JSON object, on one line.
    pub json: String,
}

/// Where events wait for a reader.
#[derive(Debug)]
pub(super) struct Seat {
    filter: Filter,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Entry>,
    bytes: usize,
    is_closed: bool,
}

#[derive(Debug)]
enum Entry {
    Told(Arc<Told>),
    Lost(u64),
}

/// Follows what happens until it is dropped.
#[derive(Debug)]
pub struct Reader {
    feed: Feed,
    seat: Arc<Seat>,
}

impl Seat {
    pub(super) fn new(filter: Filter) -> Self {
        Self { filter, waiting: Mutex::default(), arrived: Notify::new() }
    }

    pub(super) fn wants(&self, kind: Kind, connector: Option<&str>) -> bool {
        let Filter { kinds, connector: own } = &self.filter;
        (kinds.is_empty() || kinds.contains(&kind)) && own.as_deref().is_none_or(|own| connector == Some(own))
    }

    /// The kinds that it wants, one bit each.
    pub(super) fn wanted(&self) -> u8 {
        let kinds = if self.filter.kinds.is_empty() { &Kind::ALL[..] } else { &self.filter.kinds };
        kinds.iter().fold(0, |bits, kind| bits | kind.bit())
    }

    pub(super) fn push(&self, told: &Arc<Told>) {
        let mut waiting = lock(&self.waiting);
        let has_room = waiting.events.len() < EVENTS_MAX && waiting.bytes + told.json.len() <= BYTES_MAX;
        if has_room {
            waiting.bytes += told.json.len();
            waiting.events.push_back(Entry::Told(told.clone()));
        } else if let Some(Entry::Lost(count)) = waiting.events.back_mut() {
            *count += 1;
        } else {
            waiting.events.push_back(Entry::Lost(1));
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    pub(super) fn close(&self) {
        lock(&self.waiting).is_closed = true;
        self.arrived.notify_one();
    }
}

impl Reader {
    pub(super) fn new(feed: Feed, seat: Arc<Seat>) -> Self {
        Self { feed, seat }
    }

    /// The next event; `None` when nothing more will happen. Cancel-safe.
    pub async fn next(&self) -> Option<Arc<Told>> {
        loop {
            if let Some(told) = self.take() {
                return Some(told);
            }
            if lock(&self.seat.waiting).is_closed {
                return None;
            }
            // What arrived since the look has left its permit.
            self.seat.arrived.notified().await;
        }
    }

    /// The next event that waits, if one does.
    pub(super) fn take(&self) -> Option<Arc<Told>> {
        let mut waiting = lock(&self.seat.waiting);
        match waiting.events.pop_front()? {
            Entry::Told(told) => {
                waiting.bytes -= told.json.len();
                Some(told)
            }
            Entry::Lost(count) => {
                let json = serde_json::to_string(&Lost { count }).unwrap_or_default();
                Some(Arc::new(Told { kind: "lost", json }))
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.feed.leave(&self.seat);
    }
}
