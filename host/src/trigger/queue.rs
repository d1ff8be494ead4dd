//! The queue trigger: leases batches of one subscription and gives them to a lane.
//!
//! One loop per worker. Nothing is leased while the connector is held, while a queue that it may publish to is full, or
//! after the stop has begun: that is the whole back-pressure.

use std::time::Duration;

use tokio::sync::watch;

use crate::delivery::lane::Lane;
use crate::ledger::Ledger;
use crate::metrics::Held;
use crate::settlement::{QueueId, SettleError};

/// `consume`, as far as it concerns a worker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Deliveries of a run.
    pub batch: usize,
    /// How long a run waits to fill its batch.
    pub batch_wait: Duration,
    /// Queues that the connector may publish to, without the one it consumes.
    pub publishes_to: Vec<QueueId>,
}

/// Leases and delivers until `stop` turns true, then waits until all that was handed in is committed.
///
/// # Errors
/// The ledger has stopped.
pub async fn run(
    mut lane: Lane,
    settings: Settings,
    ledger: Ledger,
    mut stop: watch::Receiver<bool>,
) -> Result<(), SettleError> {
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => break,
            () = released(&lane, &settings, &ledger) => {}
        }
        let batch = tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => break,
            batch = lane.worker().lease(settings.batch, settings.batch_wait) => batch?,
        };
        lane.deliver(batch).await?;
    }
    lane.drain().await
}

/// Waits until nothing holds the connector back.
async fn released(lane: &Lane, settings: &Settings, ledger: &Ledger) {
    let hold = lane.hold();
    for queue in &settings.publishes_to {
        if ledger.is_full(*queue) {
            hold.set(Held::Full);
            ledger.room(*queue).await;
        }
    }
    hold.clear(Held::Full);
    hold.released().await;
}
