//! Whether the host is well, for the service manager that ends one that is not.
//!
//! A process that is there proves little: here the ledger has to answer, and a thread of the guests has to take work,
//! each time anew. Invariant: nothing is said that was not tried since the last time.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::Host;
use crate::ledger::Ledger;
use crate::telemetry::supervisor::Supervisor;

impl Host {
    /// Looks twice in the time that the service manager waits, as long as what it answers is kept.
    pub(super) fn keep_watch(&self, supervisor: &Supervisor) -> JoinSet<()> {
        let mut watch = JoinSet::new();
        if let Some(patience) = supervisor.watchdog() {
            let (ledger, guests) = (self.ledger.clone(), self.engine.guests().clone());
            watch.spawn(keep(supervisor.clone(), patience / 2, ledger, guests));
        }
        watch
    }
}

async fn keep(supervisor: Supervisor, period: Duration, ledger: Ledger, guests: Handle) {
    let mut looks = tokio::time::interval(period);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let well = async { ledger.answers().await && guests.spawn(async {}).await.is_ok() };
        match tokio::time::timeout(period, well).await {
            Ok(true) => supervisor.is_well(),
            Ok(false) | Err(_) => {
                tracing::error!(
                    "the ledger or the sandboxes do not answer: the service manager is not told that all is well"
                );
            }
        }
    }
}
