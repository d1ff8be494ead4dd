//! Bounds that no delivery checks, or tells of: of dead letters, of unfinished messages, and of log lines.
//!
//! Looked at now and then; a connector at the bound of its dead letters is held, one with too much unfinished is shown, and
//! of one that logs too much it is said how much of it was dropped.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Host;
use super::running::{Roster, Running};
use crate::ledger::Ledger;
use crate::metrics::Held;

/// How often they are looked at.
const PERIOD: Duration = Duration::from_secs(1);

impl Host {
    /// Keeps the bounds of what runs until `stop` turns true; a first time before it returns.
    pub(super) fn keep_bounds(&self, stop: watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<> {
        let (roster, ledger) = (self.roster.subscribe(), self.ledger.clone());
        let all = roster.borrow().clone();
        all.iter().for_each(|running| look(running, &ledger));
        keep(roster, ledger, stop)
    }

    /// What nobody was told of since the last look.
    pub(super) fn tell_dropped_lines(&self) {
        self.roster.borrow().iter().for_each(|running| running.connector.plugin.grants().tell_dropped());
    }
}

async fn keep(roster: watch::Receiver<Arc<Roster>>, ledger: Ledger, mut stop: watch::Receiver<bool>) {
    let mut looks = tokio::time::interval(PERIOD);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => return,
            _ = looks.tick() => {
                let all = roster.borrow().clone();
                all.iter().filter(|running| !running.is_stopped()).for_each(|running| look(running, &ledger));
            }
        }
    }
}

pub(super) fn look(running: &Running, ledger: &Ledger) {
    let connector = &running.connector;
    match ledger.dead_bytes(connector.id) {
        Ok(bytes) => connector.hold.show(Held::DeadLetters, bytes >= running.dead_max_bytes),
        Err(error) => tracing::warn!(connector = %connector.name, %error, "cannot read the ledger"),
    }
    let is_pending = running.subscriptions().any(|(_, subscription)| subscription.counts().is_held);
    connector.hold.show(Held::Pending, is_pending);
    connector.plugin.grants().tell_dropped();
}
