//! The admin listener of a host: bound before anything starts, answering once everything has.
//!
//! Owns the socket and who may ask; what is answered is [`crate::admin`]'s. Invariant: an address that cannot be had, or
//! a token that cannot be read, is found out before a connector runs.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Host;
use crate::admin::access::Access;
use crate::admin::api::schedules;
use crate::admin::{self, Admin};
use crate::broker::Subscription;
use crate::config;
use crate::id::Name;
use crate::listener::Listener;
use crate::secret_store::token;

/// A bound admin listener that does not answer yet.
pub struct Front {
    listener: Listener,
    access: Arc<Access>,
}

impl Front {
    /// Binds the listener, and reads its token or makes it at the first start.
    ///
    /// # Errors
    /// The address is taken or not this machine's, or the token cannot be read or written.
    pub async fn bind(host: &config::Host) -> anyhow::Result<Self> {
        let token = token::load_or_make(&host.data_dir)?;
        let listener = Listener::bind(host.admin).await.context("cannot start the admin listener: see `host.admin`")?;
        let access = Access::new(token, listener.address(), &host.admin_hosts, host.metrics_open);
        Ok(Self { listener, access: Arc::new(access) })
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Answers for a host until `closing` turns true; from `stopping` on it says that the host is not ready.
    pub(super) fn start(
        self,
        host: &Host,
        stopping: watch::Receiver<bool>,
        mut closing: watch::Receiver<bool>,
    ) -> JoinSet<anyhow::Result<()>> {
        let connectors = host.connectors.iter().map(|running| running.connector.clone()).collect();
        let admin = Admin {
            ledger: host.ledger.clone(),
            directory: host.directory.clone(),
            metrics: host.metrics.clone(),
            audit: host.audit.clone(),
            connectors: Arc::new(connectors),
            schedules: Arc::new(schedules::of_config(&host.config, &host.directory)),
            in_flight: in_flight(host),
            sealed: host.sealed.clone(),
            access: self.access,
            stopping,
        };
        let stop = async move {
            let _ = closing.wait_for(|closing| *closing).await;
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(self.listener.serve(admin::router(admin), stop));
        tasks
    }
}

/// How many deliveries each subscription holds, for reports.
fn in_flight(host: &Host) -> admin::InFlight {
    let of_connector = host.connectors.iter().flat_map(|running| {
        let connector = &running.connector.name;
        running.subscriptions().map(move |(queue, it)| (queue.clone(), connector.clone(), it.clone()))
    });
    let subscriptions: Vec<(Name, Name, Subscription)> = of_connector.collect();
    Arc::new(move |queue, connector| {
        let is_it = |(of, by, _): &&(Name, Name, Subscription)| of.as_str() == queue && by.as_str() == connector;
        subscriptions.iter().find(is_it).map_or(0, |(_, _, subscription)| subscription.counts().in_flight as u64)
    })
}
