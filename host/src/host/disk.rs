//! Showing, for every connector, that it is held back for want of disk.
//!
//! What waits are the triggers; this is what an operator sees of it, also of connectors that have nothing to do just now.

use std::sync::Arc;

use tokio::sync::watch;

use super::Host;
use crate::delivery::connector::Connector;
use crate::ledger::Disk;
use crate::metrics::Held;
use crate::settlement::QueueId;

impl Host {
    /// Keeps every connector's hold true until `stop` turns true.
    pub(super) fn show_disk(&self, stop: watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
        let of = |running: &super::Running| {
            let queues = running.consumptions.iter().flat_map(|consumption| consumption.publishes_to.clone());
            (running.connector.clone(), queues.collect())
        };
        show(self.connectors.iter().map(of).collect(), self.ledger.disk(), stop)
    }
}

async fn show(
    connectors: Vec<(Arc<Connector>, Vec<QueueId>)>,
    mut disk: watch::Receiver<Disk>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let now = *disk.borrow_and_update();
        for (connector, publishes_to) in &connectors {
            connector.hold.show(Held::Disk, now.stops(publishes_to));
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => return,
            changed = disk.changed() => if changed.is_err() { return },
        }
    }
}
