//! The figures of the last hour: what every connector has done in each ten seconds, and how every subscription stood.
//!
//! Taken by one task from counters that are counted anyway, and from the ledger's own. Invariant: nobody who counts waits
//! for it.

mod book;
mod ring;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Host;
use super::running::{Roster, Running};
use crate::id::Name;
use crate::ledger::{Ledger, QueueReport};

pub use book::{Flow, Hour, Level, Observed, Recent, Scope, Totals};

use book::Book;

/// How long one step is: an hour of them is a graph of some hundred pixels.
pub const STEP: Duration = Duration::from_secs(10);

/// The last hour of a running host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Series(Arc<Mutex<Book>>);

impl Series {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Book::new(Instant::now()))))
    }

    /// The last hour of a scope, with the step under way as it is `observed` now.
    #[must_use]
    pub fn hour(&self, scope: &Scope, observed: &Observed) -> Hour {
        self.book().hour(scope, Instant::now(), observed)
    }

    /// What a connector has done lately, given what it has come to by now.
    #[must_use]
    pub fn recent(&self, connector: &Name, totals: &Totals) -> Recent {
        self.book().recent(connector, Instant::now(), totals)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Totals {
    /// Of a connector that runs.
    #[must_use]
    pub fn of_running(running: &Running) -> Self {
        Self::of(&running.connector.metrics)
    }
}

impl Observed {
    /// What is so now.
    #[must_use]
    pub fn now(roster: &Roster, reports: &[QueueReport]) -> Self {
        let connector = |running: &Arc<Running>| {
            let reads = running.subscriptions().map(|(queue, _)| queue.clone()).collect();
            (running.connector.name.clone(), (Totals::of_running(running), reads))
        };
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let levels = reports.iter().flat_map(|report| {
            let queue = Name::stored(&report.queue);
            report.subscriptions.iter().map(move |subscription| {
                let oldest_seconds = subscription.oldest_seconds.map(small);
                let level = Level { backlog: small(subscription.backlog), oldest_seconds };
                ((queue.clone(), Name::stored(&subscription.connector)), level)
            })
        });
        Self { connectors: roster.iter().map(connector).collect(), levels: levels.collect() }
    }
}

impl Host {
    /// Takes the figures of each step until `stop` turns true.
    pub(super) fn keep_series(&self, stop: watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
        keep(self.series.clone(), self.roster.subscribe(), self.ledger.clone(), stop)
    }
}

async fn keep(series: Series, roster: watch::Receiver<Arc<Roster>>, ledger: Ledger, mut stop: watch::Receiver<bool>) {
    let mut steps = tokio::time::interval_at(tokio::time::Instant::now() + STEP, STEP);
    steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The ledger is read for it, so it has a thread of its own: one that came and went would show in the count of threads.
    let (due, steps_due) = sync_channel(1);
    let taking = move || steps_due.iter().for_each(|()| take(&series, &roster, &ledger));
    let taker = match thread::Builder::new().name("series".to_owned()).spawn(taking) {
        Ok(taker) => taker,
        Err(error) => return tracing::warn!(%error, "no thread for the figures of the last hour: there are none"),
    };
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => break,
            _ = steps.tick() => {}
        }
        // One that is late takes the figures of two steps as one.
        let _ = due.try_send(());
    }
    drop(due);
    // At most one step is under way.
    let _ = taker.join();
}

fn take(series: &Series, roster: &watch::Receiver<Arc<Roster>>, ledger: &Ledger) {
    let roster = roster.borrow().clone();
    let step = || match ledger.queues() {
        Ok(reports) => series.book().step(Instant::now(), &Observed::now(&roster, &reports)),
        Err(error) => tracing::warn!(error = format!("{error:#}"), "the figures of a step are missing"),
    };
    // A panic was printed where it happened; the next step is another one.
    let _ = catch_unwind(AssertUnwindSafe(step));
}
