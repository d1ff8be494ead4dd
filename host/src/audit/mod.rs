//! The audit record: what was refused, which secrets were used, what people changed; one JSON object a line, chained.
//!
//! Owns what is recorded, and the thread that writes it; who may do what is decided elsewhere. What repeats is folded, for
//! the log and the record alike, so that a loop fills neither. Invariant: nobody but a start waits for the disk, and
//! what could not be written is counted and said.

mod chain;
mod clerk;
mod copy;
mod event;
mod fold;
mod note;
mod page;
mod verify;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::feed::Feed;
use crate::id::Name;
use crate::ledger::Ledger;

pub use copy::{bytes, each_file, is_file};
pub use event::{Event, Kind};
pub use page::{Page, Sought};
pub use verify::{Fault, Verified, verify};

pub use chain::Record;
pub use clerk::Written;

use chain::{Bounds, Chain};
use clerk::Clerk;
use fold::{Folded, Folds, Subject, Windows};

/// The folder below the data directory.
const FOLDER: &str = "audit";
/// Refusals that are alike: soon at first, and so seldom in the end that a plugin which goes on for weeks leaves room.
const REFUSAL_WINDOWS: Windows = Windows { first: Duration::from_secs(10), longest: Duration::from_secs(600) };
/// Uses of a secret, which are no trouble.
const SECRET_WINDOWS: Windows = Windows { first: Duration::from_secs(3600), longest: Duration::from_secs(3600) };
/// Bytes of a text; a plugin has its hand in some of them.
const TEXT_BYTES_MAX: usize = 1024;

/// Where audited things are reported. Cheap to clone; the default one keeps no record, for looking at a plugin.
#[derive(Clone, Default)]
pub struct Audit(Arc<Shared>);

#[derive(Default)]
struct Shared {
    folds: Arc<Mutex<Folds>>,
    clerk: Option<Clerk>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Audit").field("is_kept", &self.0.clerk.is_some()).finish()
    }
}

/// Something that the gate did not let through, or a limit that bit.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// [`Kind::Refusal`], [`Kind::Limit`] or [`Kind::Unusable`].
    pub kind: Kind,
    /// Whose it is.
    pub connector: &'a Name,
    /// The effect or the limit, as the metric has it.
    pub subject: &'static str,
    /// Why, as the metric has it.
    pub reason: &'static str,
    /// The TOML key that an operator would change.
    pub key: &'a str,
    /// For people.
    pub text: &'a str,
}

/// Somebody who was not let in at the admin listener.
#[derive(Clone, Copy, Debug)]
pub struct KeptOut {
    /// Why, in a fixed word.
    pub reason: &'static str,
    /// The TOML key that an operator would change; empty where there is none.
    pub key: &'static str,
    /// For people: what was wrong with the request.
    pub text: &'static str,
}

impl Audit {
    /// Goes on with the record of a data directory, which this process has locked; what is in it is told to `feed`.
    ///
    /// # Errors
    /// The record cannot be read or written.
    pub fn open(data_dir: &Path, feed: Feed) -> anyhow::Result<Self> {
        let folds = Arc::<Mutex<Folds>>::default();
        let clerk = Clerk::start(&data_dir.join(FOLDER), folds.clone(), feed)?;
        Ok(Self(Arc::new(Shared { folds, clerk: Some(clerk) })))
    }

    /// Goes on with the record where that is possible; without it work goes on, and the log says so.
    #[must_use]
    pub fn open_or_warn(data_dir: &Path, feed: Feed) -> Self {
        Self::open(data_dir, feed).unwrap_or_else(|error| {
            tracing::error!("nothing is audited until the next start: {error:#}");
            Self::default()
        })
    }

    /// Records what a verb did while it alone worked on a data directory.
    pub fn note_alone(data_dir: &Path, event: Event) {
        add(data_dir, &[event]);
    }

    /// Records what a verb did that asks no host, for the one that runs to take it in.
    pub fn note_beside(data_dir: &Path, events: &[Event]) {
        let Ok(_lock) = Ledger::lock(data_dir) else {
            let left = note::leave(&data_dir.join(FOLDER), events);
            return left.unwrap_or_else(|error| complain(&error));
        };
        add(data_dir, events);
    }

    /// Records one thing.
    pub fn note(&self, event: Event) {
        if let Some(clerk) = &self.0.clerk {
            clerk.hand_in(event);
        }
    }

    /// The same, and waits for room: a start has more to say than may wait for the disk.
    pub fn note_in_turn(&self, event: Event) {
        if let Some(clerk) = &self.0.clerk {
            clerk.hand_in_in_turn(event);
        }
    }

    /// Logs and records a refusal; one that repeats is folded.
    pub fn refused(&self, refused: &Refused<'_>) {
        let Refused { kind, connector, subject, reason, key, text } = *refused;
        self.tell(&Subject { kind, connector: Some(connector), subject, reason, key }, text);
    }

    /// Logs and records a request that the admin listener has refused; one that repeats is folded.
    pub fn kept_out(&self, KeptOut { reason, key, text }: KeptOut) {
        let of = Subject { kind: Kind::Refusal, connector: None, subject: "admin", reason, key };
        self.tell(&of, &format!("the admin listener has refused a request: {text}"));
    }

    fn tell(&self, of: &Subject<'_>, text: &str) {
        let at = Instant::now();
        if self.0.clerk.is_none() {
            // Nobody else looks at the windows: the log tells what has repeated when the next one comes.
            let due = lock(&self.0.folds).take_due(at);
            due.into_iter().for_each(|folded| drop(told(folded)));
        }
        if lock(&self.0.folds).add(of, text, REFUSAL_WINDOWS, at) {
            log(of, None, text);
            self.note(Event::refused(of, text));
        }
    }

    /// Records that a connector's request carried a secret, by its name; one use an hour, and how many there were.
    pub fn secret_used(&self, connector: &Name, secret: &str, key: &str) {
        let of = Subject { kind: Kind::Secret, connector: Some(connector), subject: "", reason: "used", key: secret };
        if lock(&self.0.folds).add(&of, key, SECRET_WINDOWS, Instant::now()) {
            self.note(Event::secret_used(Some(connector), secret, key));
        }
    }

    /// Writes what is folded and then `last`, and waits until all is on disk. Blocks meanwhile; nothing is recorded
    /// afterwards.
    pub fn close(&self, last: Event) {
        if let Some(clerk) = &self.0.clerk {
            clerk.close(last);
        }
    }
}

/// For a process that has locked the data directory.
fn add(data_dir: &Path, events: &[Event]) {
    let chain = Chain::open(&data_dir.join(FOLDER), Bounds::default());
    chain.and_then(|mut chain| chain.append(events)).unwrap_or_else(|error| complain(&error));
}

/// What was done is done.
fn complain(error: &anyhow::Error) {
    tracing::error!("this is not in the audit record: {error:#}");
}

fn lock(folds: &Mutex<Folds>) -> MutexGuard<'_, Folds> {
    folds.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logs what something came to; the event that records it.
fn told(folded: Folded) -> Event {
    let Folded { text, count, .. } = &folded;
    log(&folded.subject(), Some(*count), &format!("{count} more like: {text}"));
    Event::folded(folded)
}

fn log(of: &Subject<'_>, count: Option<u64>, text: &str) {
    let Subject { kind, connector, subject, reason, key } = *of;
    let connector = connector.map(tracing::field::display);
    match kind {
        Kind::Limit => tracing::warn!(connector, limit = subject, key, count, "{text}"),
        Kind::Refusal => tracing::warn!(connector, effect = subject, reason, key, count, "{text}"),
        Kind::Unusable => tracing::error!(connector, effect = subject, reason, key, count, "{text}"),
        // The use of a secret is no news.
        Kind::Secret => {}
        // These are not folded.
        Kind::Start
        | Kind::Reload
        | Kind::Stop
        | Kind::Grants
        | Kind::Action
        | Kind::Rotation
        | Kind::Repair
        | Kind::Lost => {}
    }
}

/// A text of bounded length.
fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_start_with_more_to_say_than_may_wait_loses_nothing() {
        let data = tempfile::tempdir().unwrap();
        let audit = Audit::open(data.path(), Feed::default()).unwrap();
        (0..5_000).for_each(|_| audit.note_in_turn(Event::new(Kind::Grants, "", "may do nothing")));
        audit.close(Event::new(Kind::Stop, "", ""));
        assert_eq!(verify(data.path()).unwrap().unwrap().records, 5_001);
    }
}
