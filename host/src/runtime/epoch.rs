//! The epoch ticker: an operating system thread that moves the engine's epoch on, so that running guests look at their
//! limits.
//!
//! Ticks come every millisecond while any call runs; after a while without one the thread sleeps until the next call.
//! Invariant: a call that has begun never runs without ticks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::Engine;

/// How often running guests look at their limits: about 2 % of their time, and well under the 100 ms within which a
/// limit has to bite.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a call before the thread sleeps: an idle host shall not wake up a thousand times a second.
const IDLE_TICKS_MAX: u32 = 100;

/// The ticker of one engine; stops when dropped.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicUsize,
    is_asleep: AtomicBool,
    is_stopped: AtomicBool,
}

/// Keeps the ticks coming while it lives.
#[derive(Debug)]
pub(super) struct Ticking<'a>(&'a Shared);

impl Ticker {
    pub(super) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread =
            thread::Builder::new().name("bulkhead-epoch".to_owned()).spawn(move || tick(&engine, &of_thread))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A call begins.
    pub(super) fn ticking(&self) -> Ticking<'_> {
        self.shared.calls.fetch_add(1, SeqCst);
        if self.shared.is_asleep.load(SeqCst) {
            self.wake();
        }
        Ticking(&self.shared)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It ends within a tick and cannot panic.
            let _ = thread.join();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this thread does nothing but sleep between ticks")]
fn tick(engine: &Engine, shared: &Shared) {
    let mut idle_ticks = 0;
    while !shared.is_stopped.load(SeqCst) {
        thread::sleep(TICK);
        engine.increment_epoch();
        idle_ticks = if shared.calls.load(SeqCst) == 0 { idle_ticks + 1 } else { 0 };
        if idle_ticks >= IDLE_TICKS_MAX {
            sleep_until_called(shared);
            idle_ticks = 0;
        }
    }
}

/// A call that begins between the two looks at `calls` sees `is_asleep` and unparks, so that no wake-up is lost.
fn sleep_until_called(shared: &Shared) {
    shared.is_asleep.store(true, SeqCst);
    while shared.calls.load(SeqCst) == 0 && !shared.is_stopped.load(SeqCst) {
        thread::park();
    }
    shared.is_asleep.store(false, SeqCst);
}
