//! Queues over the API: how they stand, and what the configuration says of one.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::Serialize;

use super::query::{Asked, Nothing};
use super::{Problem, unknown_queue};
use crate::admin::{Admin, fill_in_flight};
use crate::ledger::{Ordering, QueuePolicy, QueueReport};

/// One queue with its policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "QueueInFull")]
pub struct InFull {
    /// What the list shows.
    #[serde(flatten)]
    pub report: QueueReport,
    /// How its messages are kept; none where the configuration does not name it any more.
    pub policy: Option<Policy>,
}

/// How the messages of a queue are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "QueuePolicy")]
pub struct Policy {
    /// `none` or `key`.
    pub ordering: String,
    /// How long a message stays where nobody subscribes, or for a connector that has left the configuration.
    pub retention_seconds: u64,
    /// How long a message stays although it is settled.
    pub keep_seconds: Option<u64>,
    /// The age at which a message is removed although it is not settled.
    pub expires_seconds: Option<u64>,
    /// The window in which a second message with the same id is dropped.
    pub dedup_seconds: Option<u64>,
    /// Bytes that it holds at most.
    pub max_bytes: u64,
    /// The largest message that it takes.
    pub message_bytes: u64,
}

impl Policy {
    fn of(policy: &QueuePolicy) -> Self {
        let seconds = |duration: Option<Duration>| duration.map(|it| it.as_secs());
        Self {
            ordering: match policy.ordering {
                Ordering::None => "none".to_owned(),
                Ordering::Key => "key".to_owned(),
            },
            retention_seconds: policy.retention.as_secs(),
            keep_seconds: seconds(policy.keep),
            expires_seconds: seconds(policy.expires),
            dedup_seconds: seconds(policy.dedup.or(policy.marks)),
            max_bytes: policy.max_bytes,
            message_bytes: policy.message_bytes,
        }
    }
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Asked(_): Asked<Nothing>,
) -> Result<Json<Vec<QueueReport>>, Problem> {
    Ok(Json(admin.queues()?))
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Asked(_): Asked<Nothing>,
) -> Result<Json<InFull>, Problem> {
    let report = admin.ledger.queue_report(&name)?;
    let mut report = report.ok_or_else(|| unknown_queue(&admin.directory, &name))?;
    fill_in_flight(&admin.connectors.borrow(), &mut report);
    let policy = admin.directory.queue(&name).map(|queue| Policy::of(&admin.ledger.policy(queue)));
    Ok(Json(InFull { report, policy }))
}
