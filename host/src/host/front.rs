//! The listeners of a host: bound before anything starts, answering once everything has.
//!
//! Owns the sockets and who may ask the admin's; what is answered is [`crate::admin`]'s and the webhooks'. Invariant: an
//! address that cannot be had, or a token that cannot be read, is found out before a connector runs.

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

/// Bound listeners that do not answer yet.
pub struct Front {
    desk: Desk,
    /// For webhooks, where a connector has one.
    door: Option<Listener>,
}

/// The admin listener.
pub(super) struct Desk {
    listener: Listener,
    access: Arc<Access>,
}

impl Front {
    /// Binds the listeners, and reads the admin's token or makes it at the first start.
    ///
    /// # Errors
    /// An address is taken or not this machine's, or the token cannot be read or written.
    pub async fn bind(config: &config::Config) -> anyhow::Result<Self> {
        let host = &config.host;
        let token = token::load_or_make(&host.data_dir)?;
        let listener = Listener::bind(host.admin).await.context("cannot start the admin listener: see `host.admin`")?;
        let access = Access::new(token, listener.address(), &host.admin_hosts, host.metrics_open);
        let desk = Desk { listener, access: Arc::new(access) };
        let is_wanted = config.connectors.iter().any(|connector| connector.enabled && connector.webhook.is_some());
        if !is_wanted {
            return Ok(Self { desk, door: None });
        }
        let door =
            Listener::bind(host.listen).await.context("cannot start the listener for webhooks: see `host.listen`")?;
        Ok(Self { desk, door: Some(door) })
    }

    /// Where the admin listens, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.desk.listener.address()
    }

    /// Where webhooks come in, with the real port.
    #[must_use]
    pub fn webhooks(&self) -> Option<SocketAddr> {
        self.door.as_ref().map(Listener::address)
    }

    pub(super) fn split(self) -> (Desk, Option<Listener>) {
        (self.desk, self.door)
    }
}

impl Desk {
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
            backing_up: Arc::default(),
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
