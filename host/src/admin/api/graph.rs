//! How data flows, over the API: what `bulkhead graph --json` prints.

use axum::Json;
use axum::extract::State;

use super::query::{Asked, Nothing};
use crate::admin::Admin;
use crate::config::Flow;

pub(super) async fn show(State(admin): State<Admin>, Asked(_): Asked<Nothing>) -> Json<Flow> {
    Json(Flow::of(admin.in_use.config()))
}
