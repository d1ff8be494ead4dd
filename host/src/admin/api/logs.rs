//! The last log lines of a connector over the API: what is kept of them in memory.

use axum::Json;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::query::{Asked, PageSize};
use super::{Problem, number};
use crate::admin::Admin;
use crate::feed::Line;

/// `?after=SEQ&limit=N`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// Only lines after this one, the oldest first; the last ones where it is left out.
    after: Option<u64>,
    /// Lines of a page.
    #[serde(default)]
    limit: Option<PageSize>,
}

/// Some lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "LogPage")]
pub struct Page {
    /// In their order.
    pub lines: Vec<Line>,
    /// What `after` is for what comes next.
    pub next: u64,
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Asked(wish): Asked<Wish>,
) -> Result<Json<Page>, Problem> {
    number(&admin, &name)?;
    let (lines, next) = admin.feed.lines(&name, wish.after, wish.limit.unwrap_or_default().get());
    Ok(Json(Page { lines: lines.iter().map(|line| Line::clone(line)).collect(), next }))
}
