//! The thread that writes: many events with one sync, and a look at what is folded once a second.
//!
//! Whoever hands in waits for nothing: where the disk is too slow, events are dropped and counted. Invariant: an event
//! that was taken is on disk before [`Clerk::close`] returns, or an error was logged and the loss is recorded later.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::chain::{Bounds, Chain};
use super::event::{Event, Kind};

/// Events that wait for the disk: refusals are folded before, so they come a few at a time.
const QUEUE_MAX: usize = 1_024;
/// Events of one sync.
const BATCH_MAX: usize = 256;
/// How often windows are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Where events are handed in.
pub(super) struct Clerk {
    queue: Mutex<Option<SyncSender<Event>>>,
    lost: Arc<AtomicU64>,
    tick: Arc<OnceLock<Tick>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What has become due.
type Tick = Box<dyn Fn() -> Vec<Event> + Send + Sync>;

impl Clerk {
    /// Opens the record and starts the thread.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let chain = Chain::open(folder, Bounds::default())?;
        let (queue, events) = sync_channel(QUEUE_MAX);
        let (lost, tick) = (Arc::<AtomicU64>::default(), Arc::<OnceLock<Tick>>::default());
        let mut desk = Desk { chain, lost: lost.clone(), tick: tick.clone() };
        let work = move || desk.work(&events);
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(work).context("cannot start the audit")?;
        Ok(Self { queue: Mutex::new(Some(queue)), lost, tick, thread: Mutex::new(Some(thread)) })
    }

    /// What to ask for once a second; the first one counts.
    pub(super) fn on_tick(&self, tick: Tick) {
        // It is set once, right after the start.
        let _ = self.tick.set(tick);
    }

    /// Takes an event, or counts it as lost.
    pub(super) fn hand_in(&self, event: Event) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.as_ref().is_none_or(|queue| queue.try_send(event).is_err()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes no more, and waits until what was taken is on disk.
    pub(super) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread was printed where it happened.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Desk {
    chain: Chain,
    lost: Arc<AtomicU64>,
    tick: Arc<OnceLock<Tick>>,
}

impl Desk {
    fn work(&mut self, events: &Receiver<Event>) {
        let mut looked = Instant::now();
        loop {
            let mut batch = Vec::new();
            let is_closed = match events.recv_timeout(TICK.saturating_sub(looked.elapsed())) {
                Ok(event) => {
                    batch.push(event);
                    batch.extend(events.try_iter().take(BATCH_MAX - 1));
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if looked.elapsed() >= TICK {
                looked = Instant::now();
                batch.extend(self.tick.get().map(|tick| tick()).unwrap_or_default());
            }
            self.write(batch);
            if is_closed {
                return;
            }
        }
    }

    fn write(&mut self, mut batch: Vec<Event>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let text = "these could not be written: the disk was full, broken or too slow";
            batch.push(Event { count: lost, ..Event::new(Kind::Lost, "", text) });
        }
        if batch.is_empty() {
            return;
        }
        if let Err(error) = self.chain.append(&batch) {
            let events = batch.iter().map(|event| if event.kind == Kind::Lost { event.count } else { 1 }).sum();
            self.lost.fetch_add(events, Ordering::Relaxed);
            tracing::error!(events, "the audit record cannot be written, deliveries go on: {error:#}");
        }
    }
}
