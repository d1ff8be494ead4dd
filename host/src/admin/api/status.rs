//! The host at a glance.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use super::Problem;
use super::query::{Asked, Nothing};
use crate::admin::Admin;
use crate::clock::{rfc3339, wall_ms};
use crate::ledger::Room;

/// How the host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Status {
    /// The version of the binary.
    pub version: String,
    /// When the host started, as RFC 3339.
    pub started_at: String,
    /// When it was asked, as RFC 3339.
    pub now: String,
    /// Whether new work is taken: not once it has begun to stop.
    pub ready: bool,
    /// The hash of the configuration's files, in hexadecimal.
    pub config_sha256: String,
    /// Connectors of the configuration.
    pub connectors: usize,
    /// Those of them that are held back, for whatever reason.
    pub held: usize,
    /// Dead letters kept.
    pub dead: u64,
    /// Messages that subscriptions have not settled.
    pub backlog: u64,
    /// The size of the ledger's write-ahead log.
    pub wal_bytes: u64,
    /// What is free on the disk of the data directory; none where the system does not say.
    pub disk_free_bytes: Option<u64>,
}

pub(super) async fn show(State(admin): State<Admin>, Asked(_): Asked<Nothing>) -> Result<Json<Status>, Problem> {
    let roster = admin.connectors.borrow().clone();
    let held = roster.iter().filter(|running| !running.connector.hold.reasons().is_empty()).count();
    let config = admin.in_use.config();
    let reports = admin.queues()?;
    let subscriptions = reports.iter().flat_map(|report| &report.subscriptions);
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: rfc3339(admin.started_ms),
        now: rfc3339(wall_ms()),
        ready: !*admin.stopping.borrow(),
        config_sha256: config.origin.sha256.clone(),
        connectors: config.connectors.len(),
        held,
        dead: admin.ledger.dead_counts()?.iter().map(|(_, count)| count).sum(),
        backlog: subscriptions.map(|subscription| subscription.backlog).sum(),
        wal_bytes: admin.metrics.ledger_wal_bytes(),
        disk_free_bytes: Room::of(&config.host.data_dir, None).map(|room| room.free_bytes),
    }))
}
