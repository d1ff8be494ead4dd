//! The listeners of a host: bound before anything starts, answering once everything has.
//!
//! Owns the sockets and who may ask the admin's; what is answered is [`crate::admin`]'s and the webhooks'. Invariant: an
//! address that cannot be had, or a token that cannot be read, is found out before a connector runs.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Host, InUse};
use crate::admin::access::Access;
use crate::admin::api::schedules;
use crate::admin::{self, Admin, Live};
use crate::config::Config;
use crate::listener::Listener;
use crate::secret_store::token;

/// Bound listeners that do not answer yet.
pub struct Front {
    desk: Desk,
    /// For webhooks, where a connector has one.
    door: Option<Listener>,
}

/// Whether the listener for webhooks is needed.
pub(super) fn takes_webhooks(config: &Config) -> bool {
    config.connectors.iter().any(|connector| connector.enabled && connector.webhook.is_some())
}

/// Binds the listener for webhooks.
///
/// # Errors
/// The address is taken or not this machine's.
pub(super) async fn bind_door(config: &Config) -> anyhow::Result<Listener> {
    let bound = Listener::bind(config.host.listen).await;
    bound.context("cannot start the listener for webhooks: see `host.listen`")
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
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let host = &config.host;
        let token = token::load_or_make(&host.data_dir)?;
        let listener = Listener::bind(host.admin).await.context("cannot start the admin listener: see `host.admin`")?;
        let access = Access::new(token, listener.address(), &host.admin_hosts, host.metrics_open);
        let desk = Desk { listener, access: Arc::new(access) };
        let door = if takes_webhooks(config) { Some(bind_door(config).await?) } else { None };
        Ok(Self { desk, door })
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
    pub(super) fn access(&self) -> Arc<Access> {
        self.access.clone()
    }

    /// Answers for what `live` shows of the host until `closing` turns true.
    pub(super) fn start(
        self,
        live: watch::Receiver<Admin>,
        mut closing: watch::Receiver<bool>,
    ) -> JoinSet<anyhow::Result<()>> {
        let stop = async move {
            let _ = closing.wait_for(|closing| *closing).await;
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            self.listener.serve(admin::router(Live(live)), stop).await;
            Ok(())
        });
        tasks
    }
}

impl Host {
    /// What the admin listener knows of the host as it is configured now; from `stopping` on it says that the host is not
    /// ready.
    pub(super) fn admin(&self, access: &Arc<Access>, stopping: &watch::Receiver<bool>) -> Admin {
        let config = self.reloader.present();
        Admin {
            ledger: self.ledger.clone(),
            directory: self.directory.clone(),
            metrics: self.metrics.clone(),
            audit: self.audit.clone(),
            feed: self.feed.clone(),
            series: self.series.clone(),
            in_use: InUse::new(config.clone()),
            started_ms: self.started_ms,
            connectors: self.roster.subscribe(),
            schedules: Arc::new(schedules::of_config(config.config(), &self.directory)),
            sealed: self.sealed.clone(),
            masks: config.config().host.masks.clone(),
            backing_up: self.backing_up.clone(),
            reloader: self.reloader.clone(),
            access: access.clone(),
            stopping: stopping.clone(),
        }
    }
}
