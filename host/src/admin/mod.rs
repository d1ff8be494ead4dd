//! The admin listener: health, metrics, the API that the command line uses, and the web page that asks it.
//!
//! Everything but `/healthz`, `/readyz` and the page's own files needs the bearer token that lies in `DATA_DIR/admin.token`. Which requests are
//! let in is decided in [`access`], before any handler runs; handlers are in [`api`].

pub mod access;
pub mod api;
pub mod problem;
pub mod ui;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use tokio::sync::{Mutex, watch};

use crate::audit::Audit;
use crate::feed::Feed;
use crate::host::series::Series;
use crate::host::{InUse, Reloader, Roster};
use crate::id::Name;
use crate::ledger::{Directory, Ledger, QueueReport};
use crate::mask::Masks;
use crate::metrics::{Backlog, Metrics};
use crate::secret_store::sealed::SealedStore;

use api::schedules::Scheduled;
use problem::Problem;

/// Seconds after which a host that stops may have been started again.
const STOPPING_RETRY_SECONDS: u64 = 5;

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
    /// What happens from now on.
    pub feed: Feed,
    /// What happened in the last hour.
    pub series: Series,
    /// The configuration.
    pub in_use: InUse,
    /// When the host was built, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// The connectors that run, at every moment.
    pub connectors: watch::Receiver<Arc<Roster>>,
    /// Their schedules, and those of the connectors that are not enabled.
    pub schedules: Arc<Vec<Scheduled>>,
    /// Values that are written and never read.
    pub sealed: Arc<SealedStore>,
    /// What of messages is never shown.
    pub masks: Masks,
    /// Held while a backup is made.
    pub backing_up: Arc<Mutex<()>>,
    /// Reads the configuration again.
    pub reloader: Reloader,
    /// Who is let in.
    pub access: Arc<access::Access>,
    /// Turns true when the host begins to stop.
    pub stopping: watch::Receiver<bool>,
}

/// Where a request finds the host as it is configured when the request comes. Cheap to clone.
#[derive(Clone)]
pub struct Live(pub watch::Receiver<Admin>);

impl FromRef<Live> for Admin {
    fn from_ref(live: &Live) -> Self {
        live.0.borrow().clone()
    }
}

impl Admin {
    /// How all queues stand now.
    fn queues(&self) -> anyhow::Result<Vec<QueueReport>> {
        let (mut reports, roster) = (self.ledger.queues()?, self.connectors.borrow().clone());
        reports.iter_mut().for_each(|report| fill_in_flight(&roster, report));
        Ok(reports)
    }

    /// Whether new work is taken.
    fn takes_work(&self) -> Result<(), Problem> {
        if *self.stopping.borrow() {
            let detail = "the host is stopping: nothing new is taken";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(STOPPING_RETRY_SECONDS));
        }
        Ok(())
    }

    /// Brings the gauges up to date.
    fn refresh(&self) -> anyhow::Result<()> {
        let mut backlogs = Vec::new();
        for QueueReport { queue, subscriptions, .. } in self.ledger.queues()? {
            backlogs.extend(subscriptions.into_iter().map(|subscription| Backlog {
                queue: Name::stored(&queue),
                connector: Name::stored(&subscription.connector),
                messages: subscription.backlog,
                oldest_seconds: Duration::from_secs(subscription.oldest_seconds.unwrap_or(0)).as_secs_f64(),
            }));
        }
        self.metrics.standing(&backlogs, &self.ledger.dead_counts()?);
        Ok(())
    }
}

/// Says of each subscription of a queue how many deliveries are with a run: only the running host knows.
fn fill_in_flight(roster: &Roster, report: &mut QueueReport) {
    for subscription in &mut report.subscriptions {
        subscription.in_flight = in_flight(roster, &report.queue, &subscription.connector);
    }
}

fn in_flight(roster: &Roster, queue: &str, connector: &str) -> u64 {
    // They are in the order of their names.
    let place = roster.binary_search_by(|running| running.connector.name.as_str().cmp(connector)).ok();
    let running = place.and_then(|place| roster.get(place));
    let found = running.and_then(|running| running.subscriptions().find(|(name, _)| name.as_str() == queue));
    found.map_or(0, |(_, subscription)| subscription.counts().in_flight as u64)
}

/// All routes.
pub fn router(live: Live) -> Router {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .nest("/api/v1", api::router())
        .merge(ui::router())
        .fallback(problem::not_found)
        .layer(middleware::map_response(problem::document))
        .layer(middleware::from_fn_with_state(live.clone(), access::check))
        .layer(middleware::map_response(kept_close))
        .with_state(live)
}

/// Answers are for whoever asked: no copy of one stays, no page of another site gets it, and none is taken for something
/// that it is not. The page's own files say more.
async fn kept_close(mut response: Response) -> Response {
    let said = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in said {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

async fn healthy() -> &'static str {
    "ok\n"
}

/// The listener starts when everything else has: a host that answers is ready until it begins to stop.
async fn ready(State(admin): State<Admin>) -> Result<&'static str, Problem> {
    admin.takes_work()?;
    Ok("ok\n")
}

/// OpenMetrics for whoever asks for it, as Prometheus does; everybody else, `curl | promtool` too, gets the older text.
async fn metrics(State(admin): State<Admin>, asked: HeaderMap) -> Result<impl IntoResponse, Problem> {
    admin.refresh()?;
    let accepts = asked.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let (media_type, text) = if accepts.into_iter().any(|accept| accept.contains("application/openmetrics-text")) {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", admin.metrics.text())
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", admin.metrics.plain_text())
    };
    Ok(([(header::CONTENT_TYPE, media_type), (header::VARY, "accept")], text))
}
