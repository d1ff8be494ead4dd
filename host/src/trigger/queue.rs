//! The queue trigger: leases batches of one subscription and gives them to a lane.
//!
//! One loop per worker, on the guests' threads. Nothing is leased while the connector is held, while a queue that it may
//! publish to or the disk is full, or after the stop has begun: that is the whole back-pressure.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::task::TaskTracker;

use crate::broker::{Batch, Subscription};
use crate::delivery::connector::{Connector, Entry};
use crate::delivery::lane::{Lane, Place};
use crate::id::Name;
use crate::ledger::Ledger;
use crate::metrics::Held;
use crate::runtime::Engine;
use crate::runtime::failure::panic_text;
use crate::settlement::{QueueId, SettleError, SubscriptionId};

/// A worker waits for so long after a panic.
const PANIC_PAUSE: Duration = Duration::from_millis(100);

/// One queue that a connector consumes.
pub struct Consumption {
    /// The queue.
    pub queue: Name,
    /// The subscription's number in the ledger.
    pub subscription_id: SubscriptionId,
    /// Where deliveries are leased.
    pub subscription: Subscription,
    /// How the plugin is called.
    pub entry: Entry,
    /// Whether the order of keys is kept.
    pub is_ordered: bool,
    /// Deliveries of a run.
    pub batch: usize,
    /// How long a run waits to fill its batch.
    pub batch_wait: Duration,
    /// Runs at once.
    pub concurrency: usize,
    /// Queues that the connector may publish to, without the one that it consumes.
    pub publishes_to: Vec<QueueId>,
}

impl Consumption {
    /// Starts its workers on the guests' threads; each ends when `stop` has turned true and all that it handed in is committed.
    /// `work` counts them. The answer cuts them off.
    pub fn start(
        &self,
        connector: &Arc<Connector>,
        engine: &Engine,
        stop: &watch::Receiver<bool>,
        work: &TaskTracker,
        tasks: &mut JoinSet<Result<(), SettleError>>,
    ) -> Vec<AbortHandle> {
        let mut start = || {
            let place = Place { subscription: self.subscription_id, is_ordered: self.is_ordered };
            let worker = self.subscription.worker();
            let lane = Lane::new(connector.clone(), self.entry.clone(), place, worker, stop.clone());
            let loop_ = Loop {
                lane,
                subscription: self.subscription.clone(),
                batch: self.batch,
                batch_wait: self.batch_wait,
                publishes_to: self.publishes_to.clone(),
                ledger: connector.ledger.clone(),
                stop: stop.clone(),
            };
            engine.spawn_into(tasks, work.track_future(loop_.run()))
        };
        (0..self.concurrency).map(|_| start()).collect()
    }
}

/// One worker.
struct Loop {
    lane: Lane,
    subscription: Subscription,
    batch: usize,
    batch_wait: Duration,
    publishes_to: Vec<QueueId>,
    ledger: Ledger,
    stop: watch::Receiver<bool>,
}

impl Loop {
    /// A panic of host code costs what was under way, not the worker.
    async fn run(mut self) -> Result<(), SettleError> {
        loop {
            match AssertUnwindSafe(self.work()).catch_unwind().await {
                Ok(worked) => {
                    worked?;
                    return self.lane.drain().await;
                }
                Err(panic) => {
                    self.lane.recover(self.subscription.worker(), panic_text(&*panic)).await?;
                    // Whatever breaks again and again must not take a core for it.
                    tokio::time::sleep(PANIC_PAUSE).await;
                }
            }
        }
    }

    /// Leases and delivers until the stop.
    async fn work(&mut self) -> Result<(), SettleError> {
        let mut stop = self.stop.clone();
        loop {
            let batch = tokio::select! {
                biased;
                _ = stop.wait_for(|stopped| *stopped) => return Ok(()),
                batch = self.lease() => batch?,
            };
            self.lane.deliver(batch).await?;
        }
    }

    /// A batch that may run now.
    async fn lease(&mut self) -> Result<Batch, SettleError> {
        loop {
            let connector = self.lane.connector().clone();
            released(&connector, &self.publishes_to, &self.ledger).await;
            let batch = self.lane.lease(self.batch, self.batch_wait).await?;
            // A hold may have come while there was nothing to do, a breaker have opened, or the disk or a queue be full.
            if connector.hold.is_stopped() || connector.pause().is_some() || self.is_out_of_room() {
                self.lane.release(batch);
                continue;
            }
            return Ok(batch);
        }
    }

    fn is_out_of_room(&self) -> bool {
        self.ledger.disk().borrow().stops(&self.publishes_to)
            || self.publishes_to.iter().any(|queue| self.ledger.is_full(*queue))
    }
}

/// Waits until nothing holds the connector back. Who shows that the disk does is the host, for all connectors.
async fn released(connector: &Connector, publishes_to: &[QueueId], ledger: &Ledger) {
    // The sender lives as long as the ledger: waiting cannot fail.
    let _ = ledger.disk().wait_for(|disk| !disk.stops(publishes_to)).await;
    for queue in publishes_to {
        if ledger.is_full(*queue) {
            let _waiting = connector.hold.wait(Held::Full);
            ledger.room(*queue).await;
        }
    }
    while let Some(left) = connector.pause() {
        let _waiting = connector.hold.wait(Held::Breaker);
        tokio::time::sleep(left).await;
    }
    connector.hold.released().await;
}
