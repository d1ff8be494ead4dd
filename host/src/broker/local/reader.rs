//! The thread that reads ahead for every subscription of the host.
//!
//! A subscription is in its queue at most once, and has one page read at a turn, so one with a long backlog does not
//! keep the others waiting. A panic of the thread ends the host: nothing would be delivered any more, and nobody would
//! say so. Invariant: nothing is read while a subscription's state is locked.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Shared;
use super::lease::Want;
use crate::ledger::{Ledger, Tail};

/// A page of the log.
const PAGE_MESSAGES: usize = 512;
const PAGE_BYTES: u64 = 1 << 20;

/// How long the reader rests when the file cannot be read.
const PAUSE: Duration = Duration::from_secs(1);

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Reader {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Where subscriptions ask. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Handle(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    subscriptions: VecDeque<Arc<Shared>>,
    is_closed: bool,
}

impl Handle {
    /// Puts a subscription into the queue.
    pub(super) fn ask(&self, subscription: Arc<Shared>) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.subscriptions.push_back(subscription);
        drop(waiting);
        self.0.wake.notify_one();
    }

    fn next(&self) -> Option<Arc<Shared>> {
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = self
            .0
            .wake
            .wait_while(waiting, |waiting| waiting.subscriptions.is_empty() && !waiting.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        if waiting.is_closed { None } else { waiting.subscriptions.pop_front() }
    }

    fn close(&self) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_closed = true;
        waiting.subscriptions.clear();
        drop(waiting);
        self.0.wake.notify_one();
    }
}

/// Ends the ledger if the thread ends by a panic.
struct Alarm(Ledger);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.give_up("the thread that reads ahead panicked: nothing can be delivered any more");
        }
    }
}

impl Reader {
    /// Starts the thread.
    pub(super) fn start(ledger: Ledger) -> std::io::Result<Self> {
        let handle = Handle::default();
        let asked = handle.clone();
        let thread = std::thread::Builder::new().name("read-ahead".to_owned()).spawn(move || {
            let _alarm = Alarm(ledger);
            while let Some(subscription) = asked.next() {
                turn(&asked, subscription);
            }
        })?;
        Ok(Self { handle, thread: Some(thread) })
    }

    /// Where to ask.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed where it happened.
            let _ = thread.join();
        }
    }
}

/// Reads one page for a subscription, and queues it again where more is wanted.
fn turn(handle: &Handle, subscription: Arc<Shared>) {
    let tail = *subscription.tail.borrow();
    let want = {
        let mut state = subscription.lock();
        let want = state.leases.want(tail);
        state.is_reading = want.is_some();
        want
    };
    let Some(want) = want else { return };
    let result = read(&subscription, want, tail);
    let mut state = subscription.lock();
    if let Err(error) = result {
        state.leases.unread();
        drop(state);
        if subscription.ledger.is_given_up_for(&error) {
            return;
        }
        tracing::error!(%error, "cannot read the ledger: trying again");
        #[expect(clippy::disallowed_methods, reason = "the reader's own thread has nothing else to do")]
        std::thread::sleep(PAUSE);
        state = subscription.lock();
    }
    let wants_more = state.leases.wants(*subscription.tail.borrow());
    state.is_reading = wants_more;
    drop(state);
    subscription.wake.notify_one();
    if wants_more {
        handle.ask(subscription);
    }
}

fn read(subscription: &Shared, want: Want, tail: Tail) -> anyhow::Result<()> {
    let (ledger, settings) = (&subscription.ledger, &subscription.settings);
    let now_ms = ledger.clock().now_ms();
    match want {
        Want::Pending { after } => {
            let page = ledger.read_pending(settings.subscription, after)?;
            subscription.lock().leases.pending(page, now_ms);
        }
        Want::Parked { after } => {
            let page = ledger.read_parked(settings.subscription, after)?;
            subscription.lock().leases.parked(page, tail.redriven, now_ms);
        }
        Want::Log { after } => {
            let page = ledger.read_log(settings.queue, after, PAGE_MESSAGES, PAGE_BYTES)?;
            subscription.lock().leases.logged(page, tail.seq, now_ms);
        }
        Want::Contents(origins) => {
            for origin in origins {
                let message = ledger.read_message(settings.queue, origin)?;
                subscription.lock().leases.contents(origin, message, now_ms);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::ledger::Settings;
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn a_panic_of_the_thread_is_fatal_for_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let ledger =
            Ledger::open(Settings::new(folder.path().join("data")), Clock::default(), Metrics::default()).unwrap();
        let alarm = Alarm(ledger.clone());
        let thread = std::thread::Builder::new().spawn(move || {
            let _alarm = alarm;
            panic!("a page that cannot be");
        });
        assert!(thread.unwrap().join().is_err());
        assert!(ledger.fatal().await.to_string().contains("reads ahead panicked"));
    }
}
