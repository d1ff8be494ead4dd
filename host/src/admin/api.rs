//! `/api/v1`: what the command line asks of a running host.
//!
//! Handlers read and change the ledger and nothing else; who may call them is decided in [`super::access`]. Bodies are
//! bounded. Dead letters and secrets have files of their own.

pub mod dead;
pub mod secrets;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::Admin;
use super::problem::Problem;
use crate::delivery::connector::Connector;
use crate::id;
use crate::ledger::{AppendError, QueueReport};
use crate::message::{Draft, Header};
use crate::metrics::Held;

/// Bytes of one request: some thousands of usual messages, or one of the largest.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Seconds after which a sender may try again when a queue or the disk is full.
const FULL_RETRY_SECONDS: u64 = 1;

/// The routes.
pub fn router() -> Router<Admin> {
    Router::new()
        .route("/queues", get(queues))
        .route("/queues/{name}/messages", post(send))
        .route("/dead", get(dead::list))
        .route("/dead/retry", post(dead::retry_many))
        .route("/dead/drop", post(dead::drop_many))
        .route("/dead/{id}", get(dead::show).delete(dead::drop_one))
        .route("/dead/{id}/retry", post(dead::retry_one))
        .route("/connectors/{name}/pause", post(pause))
        .route("/connectors/{name}/resume", post(resume))
        .route("/secrets", get(secrets::list))
        .route("/secrets/{name}", put(secrets::set).delete(secrets::remove))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
}

/// One message as JSON: `body` is text, `body_base64` is bytes; one of them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incoming {
    /// Given by the sender; the host makes one where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What to order it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Names are made lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// The payload, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The payload, as bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// The ids of what was accepted, in order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// One for each message; a repeat answers the first one's.
    pub ids: Vec<String>,
}

impl Incoming {
    /// A message with this payload.
    #[must_use]
    pub fn from_bytes(body: Vec<u8>) -> Self {
        match String::from_utf8(body) {
            Ok(text) => Self { body: Some(text), ..Self::default() },
            Err(error) => {
                let encoded = data_encoding::BASE64.encode(error.as_bytes());
                Self { body_base64: Some(encoded), ..Self::default() }
            }
        }
    }

    /// As the ledger takes it.
    ///
    /// # Errors
    /// Both bodies, or base64 that is none.
    pub fn into_draft(self) -> Result<Draft, String> {
        let body = match (self.body, self.body_base64) {
            (Some(_), Some(_)) => return Err("give `body` or `body_base64`, not both".to_owned()),
            (text, None) => text.unwrap_or_default().into_bytes(),
            (None, Some(encoded)) => data_encoding::BASE64
                .decode(encoded.as_bytes())
                .map_err(|error| format!("`body_base64` is not base64: {error}"))?,
        };
        let headers = self.headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        Ok(Draft { id: self.id.unwrap_or_else(id::random), key: self.key, headers, body, ..Draft::default() })
    }
}

async fn queues(State(admin): State<Admin>) -> Result<Json<Vec<QueueReport>>, Problem> {
    Ok(Json(admin.queues()?))
}

async fn send(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Accepted>, Problem> {
    let Some(queue) = admin.directory.queue(&name) else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("no connector in the configuration names queue `{name}`"),
        ));
    };
    let is_lines =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-ndjson"));
    let bad = |error: String| Problem::new(StatusCode::BAD_REQUEST, error);
    let drafts = if is_lines { parse_lines(&body) } else { parse_one(&body) }.map_err(bad)?;
    let drafts = drafts.into_iter().map(|draft| (queue, draft)).collect();
    let accepted = admin.ledger.append(drafts).await.map_err(of_append)?;
    Ok(Json(Accepted { ids: accepted.into_iter().map(|message| message.id).collect() }))
}

fn parse_one(body: &[u8]) -> Result<Vec<Draft>, String> {
    let incoming: Incoming = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    Ok(vec![incoming.into_draft()?])
}

fn parse_lines(body: &[u8]) -> Result<Vec<Draft>, String> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let parse = |(number, line)| {
        let incoming: Incoming =
            serde_json::from_slice(line).map_err(|error| format!("line {}: {error}", number + 1))?;
        incoming.into_draft().map_err(|error| format!("line {}: {error}", number + 1))
    };
    lines.enumerate().map(parse).collect()
}

fn of_append(error: AppendError) -> Problem {
    match error {
        AppendError::Full { .. } | AppendError::Disk => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).retry_after(FULL_RETRY_SECONDS)
        }
        AppendError::TooLarge { .. } => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        AppendError::NoSuchQueue => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
        AppendError::Closed => Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        AppendError::Failed(_) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn pause(State(admin): State<Admin>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let connector = find(&admin, &name)?;
    admin.ledger.hold(connector.id, Held::Paused);
    admin.ledger.settled(connector.id).await.map_err(|error| Problem::from(anyhow::Error::new(error)))?;
    connector.hold.set(Held::Paused);
    tracing::info!(connector = name, "paused");
    Ok(StatusCode::NO_CONTENT)
}

async fn resume(State(admin): State<Admin>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let connector = find(&admin, &name)?;
    admin.ledger.release_holds(connector.id).await?;
    connector.brake.reset();
    connector.hold.clear(Held::Paused);
    connector.hold.clear(Held::Brake);
    tracing::info!(connector = name, "resumed");
    Ok(StatusCode::NO_CONTENT)
}

fn find<'a>(admin: &'a Admin, name: &str) -> Result<&'a Connector, Problem> {
    let found = admin.connectors.iter().find(|connector| connector.name.as_str() == name);
    found.map(AsRef::as_ref).ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("no connector `{name}` runs")))
}
