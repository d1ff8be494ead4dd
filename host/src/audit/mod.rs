//! The audit record: what was refused, which secrets were used, what people changed; one JSON object a line, chained.
//!
//! Owns what is recorded, and the thread that writes it; who may do what is decided elsewhere. What repeats is folded, for
//! the log and the record alike, so that a loop fills neither. Invariant: whoever reports waits for no disk, and what
//! could not be written is counted and said.

mod chain;
mod clerk;
mod event;
mod fold;
mod verify;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::id::Name;

pub use event::{Event, Kind};
pub use verify::{Fault, Verified, verify};

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
    folds: Mutex<Folds>,
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
    /// [`Kind::Refusal`] or [`Kind::Limit`].
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

impl Audit {
    /// Goes on with the record of a data directory, which this process has locked.
    ///
    /// # Errors
    /// The record cannot be read or written.
    pub fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let clerk = Clerk::start(&data_dir.join(FOLDER))?;
        let audit = Self(Arc::new(Shared { folds: Mutex::default(), clerk: Some(clerk) }));
        let (weak, tick) = (Arc::downgrade(&audit.0), Shared::emit_due);
        if let Some(clerk) = &audit.0.clerk {
            clerk.on_tick(Box::new(move || weak.upgrade().map_or_else(Vec::new, |shared| tick(&shared))));
        }
        Ok(audit)
    }

    /// Goes on with the record where that is possible; without it work goes on, and the log says so.
    #[must_use]
    pub fn open_or_warn(data_dir: &Path) -> Self {
        Self::open(data_dir).unwrap_or_else(|error| {
            tracing::error!("nothing is audited until the next start: {error:#}");
            Self::default()
        })
    }

    /// Records what a verb did while it alone worked on a data directory.
    pub fn note_alone(data_dir: &Path, event: Event) {
        let audit = Self::open_or_warn(data_dir);
        audit.note(event);
        audit.close();
    }

    /// Records one thing.
    pub fn note(&self, event: Event) {
        if let Some(clerk) = &self.0.clerk {
            clerk.hand_in(event);
        }
    }

    /// Logs and records a refusal; one that repeats is folded.
    pub fn refused(&self, refused: &Refused<'_>) {
        let Refused { kind, connector, subject, reason, key, text } = *refused;
        let of = Subject { kind, connector, subject, reason, key };
        if self.0.clerk.is_none() {
            // Nobody else looks at the windows: the log tells what has repeated when the next one comes.
            drop(self.0.emit_due());
        }
        if !self.0.folds().add(&of, text, REFUSAL_WINDOWS, Instant::now()) {
            return;
        }
        if kind == Kind::Limit {
            tracing::warn!(%connector, limit = subject, key, "{text}");
        } else {
            tracing::warn!(%connector, effect = subject, reason, key, "{text}");
        }
        self.note(Event::refused(refused));
    }

    /// Records that a connector's request carried a secret, by its name; one use an hour, and how many there were.
    pub fn secret_used(&self, connector: &Name, secret: &str, key: &str) {
        let of = Subject { kind: Kind::Secret, connector, subject: "", reason: "used", key: secret };
        if self.0.folds().add(&of, key, SECRET_WINDOWS, Instant::now()) {
            self.note(Event::secret_used(connector, secret, key));
        }
    }

    /// Writes what is folded, and waits until all is on disk. Blocks meanwhile; nothing is recorded afterwards.
    pub fn close(&self) {
        let Some(clerk) = &self.0.clerk else { return };
        let rest = self.0.folds().take_all();
        rest.into_iter().filter_map(told).for_each(|event| clerk.hand_in(event));
        clerk.close();
    }
}

impl Shared {
    fn folds(&self) -> MutexGuard<'_, Folds> {
        self.folds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has repeated until its window ended, logged, and to be recorded.
    fn emit_due(&self) -> Vec<Event> {
        let due = self.folds().take_due(Instant::now());
        due.into_iter().filter_map(told).collect()
    }
}

/// Logs what a refusal came to; the event that records it.
fn told(folded: Folded) -> Option<Event> {
    if folded.count == 0 {
        return None;
    }
    let Folded { kind, connector, subject, reason, key, text, count, .. } = &folded;
    if *kind == Kind::Limit {
        tracing::warn!(%connector, limit = subject, key, count, "{count} more like: {text}");
    } else if *kind != Kind::Secret {
        tracing::warn!(%connector, effect = subject, reason, key, count, "{count} more like: {text}");
    }
    Some(Event::folded(folded))
}

/// A text of bounded length.
fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}
