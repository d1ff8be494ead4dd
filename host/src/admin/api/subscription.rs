//! Subscriptions over the API: dropping what is kept for a connector that has left the configuration.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problem;
use crate::admin::Admin;
use crate::audit::Event;
use crate::id::Name;
use crate::ledger::{Directory, Ledger};

/// What was dropped with a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forgotten {
    /// Messages that it had not settled.
    pub messages: u64,
}

impl Forgotten {
    /// For the audit record.
    #[must_use]
    pub fn event(self, queue: &str, connector: &str) -> Event {
        let text = format!("{} messages of queue `{queue}` were dropped", self.messages);
        Event::action("queues forget", &text).of(connector)
    }
}

/// Drops what a queue keeps for a connector; its dead letters stay.
///
/// # Errors
/// The connector is configured, or never read the queue; or the ledger cannot be changed.
pub async fn forget(
    ledger: &Ledger,
    directory: &Directory,
    queue: &str,
    connector: &str,
) -> Result<Forgotten, Problem> {
    if directory.subscription(queue, connector).is_some() {
        let detail = format!(
            "connector `{connector}` reads `{queue}` in the configuration, so its messages stay: take it out first (and `bulkhead reload` where a host runs)"
        );
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let dropped = ledger.forget(queue, connector).await?;
    let messages = dropped.ok_or_else(|| {
        let detail = format!(
            "queue `{queue}` keeps nothing for a connector `{connector}`: `bulkhead queues` lists who reads it"
        );
        Problem::new(StatusCode::NOT_FOUND, detail)
    })?;
    tracing::info!(
        queue,
        connector,
        messages,
        "an operator dropped the messages of a connector that left the configuration"
    );
    Ok(Forgotten { messages })
}

pub(super) async fn drop_one(
    State(admin): State<Admin>,
    Path((queue, connector)): Path<(String, String)>,
) -> Result<Json<Forgotten>, Problem> {
    let forgotten = forget(&admin.ledger, &admin.directory, &queue, &connector).await?;
    admin.audit.note(forgotten.event(&queue, &connector));
    admin.metrics.orphaned(&Name::stored(&queue), &Name::stored(&connector), 0);
    Ok(Json(forgotten))
}
