//! The admin listener: health, metrics and the API that the command line uses.
//!
//! Everything but `/healthz` and `/readyz` needs the bearer token that lies in `DATA_DIR/admin.token`. Which requests are
//! let in is decided in [`access`], before any handler runs; handlers are in [`api`].

pub mod access;
pub mod api;
pub mod problem;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, middleware};

use crate::ledger::{Directory, Ledger};
use crate::metrics::Metrics;

/// What the handlers need of the running host.
#[derive(Clone)]
pub struct Admin {
    /// Queues, messages and dead letters.
    pub ledger: Ledger,
    /// Names in the configuration to numbers in the ledger.
    pub directory: Arc<Directory>,
    /// What `/metrics` prints.
    pub metrics: Metrics,
    /// Brings gauges up to date before they are printed.
    pub refresh: Arc<dyn Fn() + Send + Sync>,
    /// Who is let in.
    pub access: Arc<access::Access>,
}

/// All routes.
#[must_use]
pub fn router(admin: Admin) -> Router {
    let access = admin.access.clone();
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(healthy))
        .route("/metrics", get(metrics))
        .nest("/api/v1", api::router())
        .fallback(problem::not_found)
        .layer(middleware::from_fn_with_state(access, access::check))
        .with_state(admin)
}

async fn healthy() -> &'static str {
    "ok\n"
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    (admin.refresh)();
    let headers = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    (StatusCode::OK, headers, admin.metrics.text())
}
