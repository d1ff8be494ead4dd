//! The thread that writes: many events with one sync, and once a second a look at what is folded and at what
//! verbs have noted.
//!
//! Whoever hands in waits for nothing, but for a start: where the disk is too slow, events are dropped and counted.
//! Invariant: an event that was taken is on disk before [`Clerk::close`] returns, or an error was logged and the loss is
//! recorded later.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use schemars::JsonSchema;
use serde::Serialize;

use super::chain::{Bounds, Chain};
use super::event::{Event, Kind};
use super::fold::Folds;
use super::{lock, note, told};
use crate::feed::{self, Feed};

/// Events that wait for the disk: refusals are folded before, so they come a few at a time.
const QUEUE_MAX: usize = 1_024;
/// Events of one sync.
const BATCH_MAX: usize = 256;
/// Notes that are taken at once; the others wait for the next look.
const NOTES_MAX: usize = 64;
/// How often windows are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Where events are handed in.
pub(super) struct Clerk {
    slips: SyncSender<Slip>,
    lost: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What is handed in.
enum Slip {
    Event(Event),
    /// The end of the record: what comes after it is not taken.
    Last(Event),
}

impl Clerk {
    /// Opens the record and starts the thread, which looks after `folds` too and tells `feed` what it has written.
    pub(super) fn start(folder: &Path, folds: Arc<Mutex<Folds>>, feed: Feed) -> anyhow::Result<Self> {
        let chain = Chain::open(folder, Bounds::default())?;
        let (slips, handed_in) = sync_channel(QUEUE_MAX);
        let lost = Arc::<AtomicU64>::default();
        let folder = folder.to_owned();
        let mut desk = Desk { folder, chain, folds, feed, lost: lost.clone(), stuck: Vec::new(), is_failing: false };
        let work = move || desk.work(&handed_in);
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(work).context("cannot start the audit")?;
        Ok(Self { slips, lost, thread: Mutex::new(Some(thread)) })
    }

    /// Takes an event, or counts it as lost.
    pub(super) fn hand_in(&self, event: Event) {
        if self.slips.try_send(Slip::Event(event)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes an event when there is room for it.
    pub(super) fn hand_in_in_turn(&self, event: Event) {
        if self.slips.send(Slip::Event(event)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes no more, and waits until what was taken, what is folded and `last` are on disk, in this order.
    pub(super) fn close(&self, last: Event) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It waits for room. A panic of the thread, after which nobody takes anything, was printed where it happened.
            let _ = self.slips.send(Slip::Last(last));
            let _ = thread.join();
        }
    }
}

/// A record as it is told: without the hash of the line before, which nobody can check from here.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditEvent")]
pub struct Written {
    /// From 1, without gaps.
    pub sequence: u64,
    /// What it records.
    #[serde(flatten)]
    pub event: Event,
}

/// The thread's side.
struct Desk {
    folder: PathBuf,
    chain: Chain,
    folds: Arc<Mutex<Folds>>,
    feed: Feed,
    lost: Arc<AtomicU64>,
    /// Notes that could not be read, or that are in the record and could not be removed.
    stuck: Vec<PathBuf>,
    /// The last events could not be written, which was logged.
    is_failing: bool,
}

impl Desk {
    fn work(&mut self, slips: &Receiver<Slip>) {
        let mut looked = Instant::now();
        loop {
            let first = match slips.recv_timeout(TICK.saturating_sub(looked.elapsed())) {
                Ok(slip) => Some(slip),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let (mut batch, mut last) = (Vec::new(), None);
            for slip in first.into_iter().chain(slips.try_iter().take(BATCH_MAX - 1)) {
                match slip {
                    Slip::Event(event) => batch.push(event),
                    Slip::Last(event) => last = Some(event),
                }
            }
            if let Some(last) = last {
                self.take_notes();
                let rest = lock(&self.folds).take_all();
                batch.extend(rest.into_iter().map(told));
                batch.push(last);
                return self.write(batch);
            }
            if looked.elapsed() >= TICK {
                looked = Instant::now();
                self.take_notes();
                let due = lock(&self.folds).take_due(looked);
                batch.extend(due.into_iter().map(told));
            }
            self.write(batch);
        }
    }

    /// What could not be written waits for the next look; what cannot be read is not in the way of the others.
    fn take_notes(&mut self) {
        let paths = note::paths(&self.folder).unwrap_or_default();
        let new: Vec<PathBuf> = paths.into_iter().filter(|path| !self.stuck.contains(path)).take(NOTES_MAX).collect();
        for path in new {
            let problem = match note::read(&path) {
                Err(error) => format!("cannot be read, so it is not in the audit record: {error}"),
                Ok(events) => match self.chain.append(&events) {
                    Err(error) => return self.tell_failure(events.len() as u64, &error),
                    Ok(()) => match fs::remove_file(&path) {
                        Ok(()) => {
                            self.tell(&events);
                            continue;
                        }
                        Err(error) => format!("is in the audit record, but cannot be removed: {error}"),
                    },
                },
            };
            tracing::error!("{} {problem}", path.display());
            self.stuck.push(path);
        }
    }

    fn write(&mut self, mut batch: Vec<Event>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = "these could not be written: the disk was full, broken or too slow";
            batch.insert(0, Event { count: lost, ..Event::new(Kind::Lost, "", text) });
        }
        if batch.is_empty() {
            return;
        }
        match self.chain.append(&batch) {
            Ok(()) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::warn!(lost, "the audit record is written again");
                }
                self.tell(&batch);
            }
            Err(error) => {
                let events = batch.iter().map(|event| if event.kind == Kind::Lost { event.count } else { 1 }).sum();
                self.lost.fetch_add(events, Ordering::Relaxed);
                self.tell_failure(events, &error);
            }
        }
    }

    /// These are on disk, the last of the record.
    fn tell(&self, written: &[Event]) {
        let first = self.chain.sequence() + 1 - written.len() as u64;
        for (sequence, event) in (first..).zip(written) {
            let connector = event.connector.as_deref();
            self.feed.tell(feed::Kind::Audit, connector, || Written { sequence, event: event.clone() });
        }
    }

    /// Once: it is tried again every second.
    fn tell_failure(&mut self, events: u64, error: &anyhow::Error) {
        if !self.is_failing {
            tracing::error!(events, "the audit record cannot be written, deliveries go on: {error:#}");
        }
        self.is_failing = true;
    }
}
