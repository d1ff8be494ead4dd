//! What happens in the host, for whoever watches at this moment; and the last log lines of each connector.
//!
//! Told by every layer, read by the admin listener alone. Nothing depends on it, so nobody who tells something waits: a
//! reader who is too slow loses events, and is told how many. Invariant: with no reader an event costs one load of an
//! atomic, and is never made.

mod event;
mod reader;
mod tail;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

pub use event::{Delivered, HeldChange, Kind, LogEvent, Lost, Reloaded};
pub use reader::{Filter, Reader, Told};
pub use tail::{Line, Said};

use reader::Seat;
use tail::Tails;

/// Readers at once: an operator's few screens. For each the host may come to keep 1 MiB.
pub const READERS_MAX: usize = 16;

/// Where things are told. Cheap to clone.
#[derive(Clone, Default)]
pub struct Feed(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// The kinds of events that somebody wants, one bit each.
    wanted: AtomicU8,
    seats: Mutex<Seats>,
    tails: Mutex<Tails>,
}

#[derive(Default)]
struct Seats {
    taken: Vec<Arc<Seat>>,
    is_closed: bool,
}

/// Why nobody more can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSeat {
    /// There are [`READERS_MAX`] already.
    #[error("{READERS_MAX} readers follow the events already: close one of them")]
    Taken,
    /// The host has stopped.
    #[error("the host is stopping: nothing more will happen")]
    Closed,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Feed").field("wanted", &self.0.wanted).finish_non_exhaustive()
    }
}

impl Feed {
    /// Whether anybody wants such events: what only they need can be left out otherwise.
    #[must_use]
    pub fn is_wanted(&self, kind: Kind) -> bool {
        self.0.wanted.load(Ordering::Relaxed) & kind.bit() != 0
    }

    /// Tells those who want it. `connector` is whose event it is, if it is one's.
    pub fn tell<Event: Serialize>(&self, kind: Kind, connector: Option<&str>, event: impl FnOnce() -> Event) {
        if !self.is_wanted(kind) {
            return;
        }
        let seats = lock(&self.0.seats);
        let mut wanting = seats.taken.iter().filter(|seat| seat.wants(kind, connector)).peekable();
        if wanting.peek().is_none() {
            return;
        }
        // Events hold texts and numbers alone: they always make JSON.
        let Ok(json) = serde_json::to_string(&event()) else { return };
        let told = Arc::new(Told { kind: kind.label(), json });
        wanting.for_each(|seat| seat.push(&told));
    }

    /// Follows what happens from now on.
    ///
    /// # Errors
    /// There are too many readers, or the host has stopped.
    pub fn follow(&self, filter: Filter) -> Result<Reader, NoSeat> {
        let mut seats = lock(&self.0.seats);
        if seats.is_closed {
            return Err(NoSeat::Closed);
        }
        if seats.taken.len() >= READERS_MAX {
            return Err(NoSeat::Taken);
        }
        let seat = Arc::new(Seat::new(filter));
        seats.taken.push(seat.clone());
        self.note_wanted(&seats);
        Ok(Reader::new(self.clone(), seat))
    }

    fn leave(&self, seat: &Arc<Seat>) {
        let mut seats = lock(&self.0.seats);
        seats.taken.retain(|taken| !Arc::ptr_eq(taken, seat));
        self.note_wanted(&seats);
    }

    /// The caller holds the seats: nobody comes or goes meanwhile.
    fn note_wanted(&self, seats: &Seats) {
        let wanted = seats.taken.iter().fold(0, |bits, seat| bits | seat.wanted());
        self.0.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Nothing more will happen: every reader comes to its end, and nobody begins.
    pub fn close(&self) {
        let mut seats = lock(&self.0.seats);
        seats.is_closed = true;
        seats.taken.iter().for_each(|seat| seat.close());
    }

    /// A plugin, or the host about it, has said something: kept among the connector's last lines, and told.
    pub fn say(&self, connector: &str, said: Said) {
        let line = lock(&self.0.tails).add(connector, said);
        self.tell(Kind::Log, Some(connector), || LogEvent::new(connector, &line));
    }

    /// The last lines of a connector after line `after`, `count` at most: without `after` the newest ones, with it the
    /// oldest that follow it; in their order. And the number of the last line that was looked at.
    #[must_use]
    pub fn lines(&self, connector: &str, after: Option<u64>, count: usize) -> (Vec<Arc<Line>>, u64) {
        lock(&self.0.tails).lines(connector, after, count)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(feed: &Feed, connector: &str, text: &str) {
        feed.tell(Kind::Audit, Some(connector), || serde_json::json!({ "text": text }));
    }

    fn take(reader: &Reader) -> Vec<String> {
        std::iter::from_fn(|| reader.take()).map(|told| format!("{} {}", told.kind, told.json)).collect()
    }

    #[test]
    fn a_reader_gets_what_it_wants_and_nothing_else() {
        let feed = Feed::default();
        feed.tell(Kind::Held, None, || -> String { unreachable!("nobody reads") });
        let filter = Filter { kinds: vec![Kind::Audit], connector: Some("a".to_owned()) };
        let reader = feed.follow(filter).expect("there is a seat");
        feed.tell(Kind::Held, Some("a"), || -> String { unreachable!("nobody wants it") });
        feed.tell(Kind::Audit, None, || -> String { unreachable!("it is nobody's") });
        tell(&feed, "b", "other");
        tell(&feed, "a", "own");
        assert_eq!(take(&reader), [r#"audit {"text":"own"}"#]);
        drop(reader);
        assert!(Kind::ALL.iter().all(|kind| !feed.is_wanted(*kind)));
    }

    #[test]
    fn who_is_too_slow_is_told_what_was_lost_where_it_was_lost() {
        let feed = Feed::default();
        let reader = feed.follow(Filter::default()).expect("there is a seat");
        let large = "x".repeat(reader::BYTES_MAX / 4);
        (0..6).for_each(|_| tell(&feed, "a", &large));
        let mut got = take(&reader);
        assert_eq!(got.len(), 4, "{}", got.len());
        assert_eq!(got.pop().as_deref(), Some(r#"lost {"count":3}"#));
        tell(&feed, "a", "again");
        assert_eq!(take(&reader), [r#"audit {"text":"again"}"#]);
        (0..reader::EVENTS_MAX + 7).for_each(|_| tell(&feed, "a", ""));
        let got = take(&reader);
        assert_eq!((got.len(), got.last().map(String::as_str)), (reader::EVENTS_MAX + 1, Some(r#"lost {"count":7}"#)));
    }

    #[test]
    fn seats_are_few_and_none_is_left_at_the_end() {
        let feed = Feed::default();
        let mut readers: Vec<Reader> =
            (0..READERS_MAX).map(|_| feed.follow(Filter::default()).expect("there is a seat")).collect();
        assert_eq!(feed.follow(Filter::default()).err(), Some(NoSeat::Taken));
        readers.pop();
        readers.push(feed.follow(Filter::default()).expect("one has left"));
        feed.close();
        assert_eq!(feed.follow(Filter::default()).err(), Some(NoSeat::Closed));
    }
}
