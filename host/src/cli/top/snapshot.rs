//! What the host says about itself at one moment.
//!
//! The shapes are those of the admin API, read leniently: a field that is not there counts as nothing, so that the view
//! works with the host of another version.

use serde::Deserialize;

use crate::admin::api::dead::group::Group;
use crate::egress::own_admin::OwnAdmin;
use crate::ledger::QueueReport;

/// What there is to see.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) status: Status,
    pub(super) connectors: Vec<Connector>,
    pub(super) queues: Vec<QueueReport>,
    pub(super) dead: Vec<Group>,
}

/// `GET status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) started_at: Option<jiff::Timestamp>,
    pub(super) now: Option<jiff::Timestamp>,
    pub(super) ready: bool,
    pub(super) connectors: u64,
    pub(super) held: u64,
    pub(super) dead: u64,
    pub(super) backlog: u64,
    pub(super) wal_bytes: Option<u64>,
    pub(super) disk_free_bytes: Option<u64>,
}

/// One of `GET connectors`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connector {
    pub(super) name: String,
    pub(super) enabled: bool,
    pub(super) held: Vec<String>,
    pub(super) running: u64,
    pub(super) backlog: u64,
    pub(super) oldest_seconds: Option<u64>,
    pub(super) dead: u64,
    pub(super) rate_per_second: f64,
    pub(super) error_ratio: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) last_failure: Option<LastFailure>,
}

/// Why a delivery of a connector did not succeed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LastFailure {
    pub(super) at: Option<jiff::Timestamp>,
    pub(super) reason: String,
}

impl Snapshot {
    /// Asks for it.
    ///
    /// # Errors
    /// The host does not answer, or not so.
    pub(super) async fn take(admin: &OwnAdmin) -> anyhow::Result<Self> {
        let (status, connectors, queues, dead) = tokio::try_join!(
            admin.get("status"),
            admin.get("connectors"),
            admin.get("queues"),
            admin.get("dead/groups?"),
        )?;
        Ok(Self { status, connectors, queues, dead })
    }
}
