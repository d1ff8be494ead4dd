//! Bounds that no delivery checks: of dead letters, and of unfinished messages.
//!
//! Looked at now and then; a connector at the bound of its dead letters is held, one with too much unfinished is shown.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Host;
use crate::broker::Subscription;
use crate::delivery::connector::Connector;
use crate::ledger::Ledger;
use crate::metrics::Held;

/// How often they are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// One connector's.
struct Bounded {
    connector: Arc<Connector>,
    dead_max_bytes: u64,
    subscriptions: Vec<Subscription>,
}

impl Host {
    /// Keeps the bounds until `stop` turns true; a first time before it returns.
    pub(super) fn keep_bounds(&self, stop: watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
        let of = |running: &super::Running| Bounded {
            connector: running.connector.clone(),
            dead_max_bytes: running.dead_max_bytes,
            subscriptions: running.subscriptions().map(|(_, subscription)| subscription.clone()).collect(),
        };
        let all: Vec<Bounded> = self.connectors.iter().map(of).collect();
        all.iter().for_each(|bounded| bounded.look(&self.ledger));
        keep(all, self.ledger.clone(), stop)
    }
}

async fn keep(all: Vec<Bounded>, ledger: Ledger, mut stop: watch::Receiver<bool>) {
    let mut looks = tokio::time::interval(PERIOD);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => return,
            _ = looks.tick() => all.iter().for_each(|bounded| bounded.look(&ledger)),
        }
    }
}

impl Bounded {
    fn look(&self, ledger: &Ledger) {
        let Self { connector, dead_max_bytes, subscriptions } = self;
        match ledger.dead_bytes(connector.id) {
            Ok(bytes) => connector.hold.show(Held::DeadLetters, bytes >= *dead_max_bytes),
            Err(error) => tracing::warn!(connector = %connector.name, %error, "cannot read the ledger"),
        }
        let is_pending = subscriptions.iter().any(|subscription| subscription.counts().is_held);
        connector.hold.show(Held::Pending, is_pending);
    }
}
