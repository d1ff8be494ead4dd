//! Showing, for every connector, that it is held back for want of disk.
//!
//! What waits are the triggers; this is what an operator sees of it, also of connectors that have nothing to do just now.

use std::sync::Arc;

use tokio::sync::watch;

use super::Host;
use super::running::Roster;
use crate::ledger::Disk;
use crate::metrics::Held;

impl Host {
    /// Keeps the hold of every connector that runs true until `stop` turns true.
    pub(super) fn show_disk(&self, stop: watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
        show(self.roster.subscribe(), self.ledger.disk(), stop)
    }
}

async fn show(
    mut roster: watch::Receiver<Arc<Roster>>,
    mut disk: watch::Receiver<Disk>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let (now, all) = (*disk.borrow_and_update(), roster.borrow_and_update().clone());
        for running in all.iter().filter(|running| !running.is_stopped()) {
            let queues = running.consumptions.iter().flat_map(|consumption| consumption.publishes_to.iter().copied());
            running.connector.hold.show(Held::Disk, now.stops(&queues.collect::<Vec<_>>()));
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => return,
            changed = roster.changed() => if changed.is_err() { return },
            changed = disk.changed() => if changed.is_err() { return },
        }
    }
}
