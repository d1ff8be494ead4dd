//! The ledger clock: wall time at start, then monotonic, following jumps of the wall clock by rule.
//!
//! Due times follow a jump forwards at once. Retention and dedup (`settled_ms`) follow it only after the new time has
//! held for ten minutes; a jump backwards is followed slowly. Invariant: neither reading ever goes backwards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a jump forwards must hold before retention believes it.
const TRUST_AFTER: Duration = Duration::from_secs(600);
/// A difference below this is drift, not a jump, and is followed at once.
const DRIFT: Duration = Duration::from_secs(5);

/// A time in milliseconds since the Unix epoch, as RFC 3339.
#[must_use]
pub fn rfc3339(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

/// Two readings of the ledger's time, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For due times.
    pub due_ms: u64,
    /// For what deletes: retention, dedup, expiry of dead letters.
    pub settled_ms: u64,
}

/// The clock of one process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

/// Moves a clock that stands still otherwise.
#[derive(Debug)]
pub struct Hand(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// The machine's clocks.
    Machine(Mutex<State>),
    /// A hand: milliseconds since the Unix epoch.
    Hand(AtomicU64),
}

#[derive(Debug)]
struct State {
    started: Instant,
    due: Track,
    settled: Track,
    jump_since: Option<Duration>,
    last_read: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Track {
    /// Added to the monotonic time.
    offset: Duration,
    last_ms: u64,
}

impl Track {
    fn read(&mut self, monotonic: Duration) -> u64 {
        self.last_ms = self.last_ms.max(millis(self.offset + monotonic));
        self.last_ms
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::start(Instant::now(), since_epoch())
    }
}

impl Clock {
    fn start(started: Instant, wall: Duration) -> Self {
        let track = Track { offset: wall, last_ms: 0 };
        Self(Arc::new(Source::Machine(Mutex::new(State {
            started,
            due: track,
            settled: track,
            jump_since: None,
            last_read: Duration::ZERO,
        }))))
    }

    /// A clock that stands at a time, in milliseconds since the Unix epoch, until its hand moves it: for who simulates.
    #[must_use]
    pub fn by_hand(at_ms: u64) -> (Self, Hand) {
        let source = Arc::new(Source::Hand(AtomicU64::new(at_ms)));
        (Self(source.clone()), Hand(source))
    }

    /// Both readings, now.
    #[must_use]
    pub fn now(&self) -> Now {
        match &*self.0 {
            Source::Machine(state) => read(state, Instant::now(), since_epoch()),
            Source::Hand(at_ms) => {
                let at_ms = at_ms.load(Ordering::Acquire);
                Now { due_ms: at_ms, settled_ms: at_ms }
            }
        }
    }

    /// The time for due times, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now().due_ms
    }
}

impl Hand {
    /// Moves the clock forwards.
    pub fn advance(&self, by: Duration) {
        if let Source::Hand(at_ms) = &*self.0 {
            at_ms.fetch_add(millis(by), Ordering::AcqRel);
        }
    }
}

fn read(state: &Mutex<State>, instant: Instant, wall: Duration) -> Now {
    let mut state = state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let monotonic = instant.saturating_duration_since(state.started);
    state.follow(monotonic, wall);
    Now { due_ms: state.due.read(monotonic), settled_ms: state.settled.read(monotonic) }
}

impl State {
    fn follow(&mut self, monotonic: Duration, wall: Duration) {
        let offset = wall.saturating_sub(monotonic);
        // Backwards, time goes on at half speed until the wall clock has caught up.
        let slowed = monotonic.saturating_sub(self.last_read) / 2;
        self.last_read = self.last_read.max(monotonic);
        self.due.offset = offset.max(self.due.offset.saturating_sub(slowed));
        self.settled.offset = self.settled.offset.saturating_sub(slowed).max(offset.min(self.settled.offset));
        let ahead = offset.saturating_sub(self.settled.offset);
        if ahead <= DRIFT {
            self.jump_since = None;
            self.settled.offset = self.settled.offset.max(offset);
        } else {
            let since = *self.jump_since.get_or_insert(monotonic);
            if monotonic.saturating_sub(since) >= TRUST_AFTER {
                self.settled.offset = offset;
                self.jump_since = None;
            }
        }
    }
}

/// The wall clock as it stands: only to compare with what others say of theirs, never to measure time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock that the rule points to")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// The same in milliseconds since the Unix epoch: for showing when something happened.
#[must_use]
pub fn wall_ms() -> u64 {
    let since = wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether something keeps the machine's clock in time, as the kernel knows it; `None` where it says nothing.
#[must_use]
#[expect(unsafe_code, reason = "the library has no safe way to ask")]
pub fn is_synchronised() -> Option<bool> {
    // SAFETY: all of it is numbers, for which zeroes are valid; with no mode set, nothing is changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: it is a whole structure of this process's own.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    (answer >= 0).then_some(answer != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}

fn since_epoch() -> Duration {
    wall().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(clock: &Clock, start: Instant, monotonic: u64, wall: Duration) -> Now {
        let Source::Machine(state) = &*clock.0 else { panic!("it is none that is moved by hand") };
        read(state, start + Duration::from_secs(monotonic), wall)
    }

    #[test]
    fn a_jump_forwards_moves_due_times_at_once_and_retention_after_ten_minutes() {
        let start = Instant::now();
        let clock = Clock::start(start, DAY);
        let jumped = |seconds| DAY + DAY + Duration::from_secs(seconds);
        let now = at(&clock, start, 1, jumped(1));
        assert_eq!(now.due_ms, millis(jumped(1)));
        assert_eq!(now.settled_ms, millis(DAY + Duration::from_secs(1)));
        let now = at(&clock, start, 602, jumped(602));
        assert_eq!(now.settled_ms, millis(jumped(602)));
    }

    #[test]
    fn a_clock_by_hand_goes_only_where_it_is_moved() {
        let (clock, hand) = Clock::by_hand(5);
        assert_eq!(clock.now_ms(), 5);
        hand.advance(DAY);
        assert_eq!(clock.now(), Now { due_ms: 86_400_005, settled_ms: 86_400_005 });
    }

    #[test]
    fn a_jump_backwards_never_turns_time_back() {
        let start = Instant::now();
        let clock = Clock::start(start, DAY);
        let before = at(&clock, start, 10, DAY + Duration::from_secs(10));
        let after = at(&clock, start, 20, Duration::from_secs(20));
        assert_eq!(after.due_ms, before.due_ms + 5_000);
        assert_eq!(after.settled_ms, before.settled_ms + 5_000);
        let caught_up = at(&clock, start, 400_000, Duration::from_secs(400_000));
        assert_eq!(caught_up.due_ms, 400_000_000);
    }
}
