//! The audit record over the API, the newest first. Whether it is whole, `bulkhead audit verify` says.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::query::{Asked, PageSize};
use super::{Problem, malformed};
use crate::admin::Admin;
use crate::audit::{self, Kind, Record, Sought};

/// `?after=CURSOR&limit=N&kind=KIND&connector=NAME`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// What a page gave as its `next`.
    after: Option<String>,
    /// Records of a page.
    #[serde(default)]
    limit: Option<PageSize>,
    /// Of this kind.
    kind: Option<Kind>,
    /// Of this connector.
    connector: Option<String>,
}

/// Some records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "AuditPage")]
pub struct Page {
    /// The newest first; fewer than were asked for where many others lie between.
    pub records: Vec<Record>,
    /// What `after` is for the next page; none where there are no more.
    pub next: Option<String>,
}

pub(super) async fn list(State(admin): State<Admin>, Asked(wish): Asked<Wish>) -> Result<Json<Page>, Problem> {
    let Wish { after, limit, kind, connector } = wish;
    let before = after.as_deref().map(|text| text.parse()).transpose();
    let before = before.map_err(|_| malformed("`after` is what a page gives as its `next`".to_owned()))?;
    let (data_dir, sought) = (admin.in_use.config().host.data_dir.clone(), Sought { kind, connector });
    // It reads files of some megabytes.
    let count = limit.unwrap_or_default().get();
    let read = tokio::task::spawn_blocking(move || audit::Page::read(&data_dir, &sought, before, count));
    let page = read.await.map_err(anyhow::Error::from)??;
    Ok(Json(Page { records: page.records, next: page.before.map(|before| before.to_string()) }))
}
