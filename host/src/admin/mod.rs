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

use crate::audit::Audit;
use crate::delivery::connector::Connector;
use crate::id::Name;
use crate::ledger::{Directory, Ledger, QueueReport};
use crate::metrics::Metrics;
use crate::secret_store::sealed::SealedStore;

use problem::Problem;

/// How many deliveries of a queue's subscription, by the names of both, are with a run.
pub type InFlight = Arc<dyn Fn(&str, &str) -> u64 + Send + Sync>;

/// What the handlers need of the running host.
#[derive(Clone)]
pub struct Admin {
    /// Queues, messages and dead letters.
    pub ledger: Ledger,
    /// Names in the configuration to numbers in the ledger.
    pub directory: Arc<Directory>,
    /// What `/metrics` prints.
    pub metrics: Metrics,
    /// Where changes are recorded.
    pub audit: Audit,
    /// The connectors that run.
    pub connectors: Arc<Vec<Arc<Connector>>>,
    /// What only the running host knows of its queues.
    pub in_flight: InFlight,
    /// Values that are written and never read.
    pub sealed: Arc<SealedStore>,
    /// Who is let in.
    pub access: Arc<access::Access>,
}

impl Admin {
    /// How all queues stand now.
    fn queues(&self) -> anyhow::Result<Vec<QueueReport>> {
        let mut reports = self.ledger.queues()?;
        for report in &mut reports {
            for subscription in &mut report.subscriptions {
                subscription.in_flight = (self.in_flight)(&report.queue, &subscription.connector);
            }
        }
        Ok(reports)
    }

    /// Brings the gauges up to date.
    fn refresh(&self) -> anyhow::Result<()> {
        let mut dead = std::collections::BTreeMap::<String, u64>::new();
        for report in self.queues()? {
            let queue = Name::stored(&report.queue);
            for subscription in report.subscriptions {
                let connector = Name::stored(&subscription.connector);
                let oldest_seconds = std::time::Duration::from_secs(subscription.oldest_seconds.unwrap_or(0));
                self.metrics.queue_backlog(&queue, &connector, subscription.backlog, oldest_seconds.as_secs_f64());
                *dead.entry(subscription.connector).or_default() += subscription.dead;
            }
        }
        for (connector, letters) in dead {
            self.metrics.dead_letters(&Name::stored(&connector), letters);
        }
        Ok(())
    }
}

/// All routes.
pub fn router(admin: Admin) -> Router {
    let access = admin.access.clone();
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(healthy))
        .route("/metrics", get(metrics))
        .nest("/api/v1", api::router())
        .fallback(problem::not_found)
        .layer(middleware::map_response(problem::document))
        .layer(middleware::from_fn_with_state(access, access::check))
        .with_state(admin)
}

/// The listener starts when everything else has: a host that answers is ready.
async fn healthy() -> &'static str {
    "ok\n"
}

async fn metrics(State(admin): State<Admin>) -> Result<impl IntoResponse, Problem> {
    admin.refresh()?;
    let headers = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    Ok((StatusCode::OK, headers, admin.metrics.text()))
}
