//! `/api/v1`: what the command line asks of a running host.
//!
//! Handlers read and change the ledger and nothing else; who may call them is decided in [`super::access`]. Bodies are
//! bounded. Dead letters, schedules and secrets have files of their own.

mod backup;
pub mod connectors;
pub mod dead;
pub mod deliveries;
mod graph;
mod query;
pub mod reload;
pub mod schedules;
pub mod secrets;
pub mod series;
pub mod shown;
pub mod status;
pub mod subscription;
pub mod trace;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{MethodFilter, MethodRouter};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::{Admin, Live};
use crate::audit::Event;
use crate::config::closest;
use crate::delivery::connector::Connector;
use crate::id;
use crate::ledger::{AppendError, Directory, Ledger, QueueReport};
use crate::message::{self, Draft, Header};
use crate::metrics::Held;
use crate::settlement::{ConnectorId, QueueId};

/// Bytes of one request: some thousands of usual messages, or one of the largest.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Seconds after which a sender may try again when a queue or the disk is full.
const FULL_RETRY_SECONDS: u64 = 1;

/// Makes the router and the list of its routes from one table, so that no route is in one of them only.
macro_rules! routes {
    ($($path:literal => $($method:ident $handler:path),+;)+) => {
        /// Method and path of every route, below `/api/v1`.
        pub const ROUTES: &[(&str, &str)] = &[$($((stringify!($method), $path)),+),+];

        /// The routes.
        pub fn router() -> Router<Live> {
            Router::new()
                $(.route($path, MethodRouter::new()$(.on(MethodFilter::$method, $handler))+))+
                .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        }
    };
}

routes! {
    "/status" => GET status::show;
    "/connectors" => GET connectors::list;
    "/connectors/{name}" => GET connectors::show;
    "/graph" => GET graph::show;
    "/series" => GET series::show;
    "/queues" => GET queues;
    "/queues/{name}/messages" => POST send;
    "/queues/{name}/subscriptions/{connector}" => DELETE subscription::drop_one;
    "/dead" => GET dead::list;
    "/dead/groups" => GET dead::list_groups;
    "/dead/retry" => POST dead::retry_many;
    "/dead/drop" => POST dead::drop_many;
    "/dead/{id}" => GET dead::show, DELETE dead::drop_one;
    "/dead/{id}/retry" => POST dead::retry_one;
    "/deliveries" => GET deliveries::list;
    "/deliveries/{id}" => GET deliveries::show;
    "/messages/{id}" => GET trace::show;
    "/connectors/{name}/pause" => POST pause;
    "/connectors/{name}/resume" => POST resume;
    "/reload" => POST reload::reload;
    "/check" => POST reload::check;
    "/schedules" => GET schedules::list_all;
    "/schedules/{connector}/fire" => POST schedules::fire_one;
    "/backup" => POST backup::make;
    "/secrets" => GET secrets::list;
    "/secrets/{name}" => PUT secrets::set, DELETE secrets::remove;
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
    /// Both bodies, base64 that is none, or a malformed id, key or header.
    pub fn into_draft(self) -> Result<Draft, String> {
        let body = match (self.body, self.body_base64) {
            (Some(_), Some(_)) => return Err("give `body` or `body_base64`, not both".to_owned()),
            (text, None) => text.unwrap_or_default().into_bytes(),
            (None, Some(encoded)) => data_encoding::BASE64
                .decode(encoded.as_bytes())
                .map_err(|error| format!("`body_base64` is not base64: {error}"))?,
        };
        let headers = self.headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        let draft = Draft { id: self.id.unwrap_or_else(id::random), key: self.key, headers, body, ..Draft::default() };
        message::check(&draft.id, draft.key.as_deref(), &draft.headers)
            .map_err(|what| format!("the message is not accepted: {what}"))?;
        Ok(draft)
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
    admin.takes_work()?;
    // An inbox is private: its connector's triggers alone put messages there.
    let queue = admin.directory.queue(&name).filter(|_| !name.starts_with('@'));
    let queue = queue.ok_or_else(|| unknown_queue(&admin.directory, &name))?;
    let is_lines =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-ndjson"));
    let drafts = if is_lines { parse_lines(&body) } else { parse_one(&body) }.map_err(malformed)?;
    Ok(Json(append(&admin.ledger, queue, drafts).await?))
}

/// Accepts messages into a queue; they are on disk when it answers.
///
/// # Errors
/// One of them is too large, the queue or the disk is full, or the ledger cannot be changed.
pub async fn append(ledger: &Ledger, queue: QueueId, drafts: Vec<Draft>) -> Result<Accepted, Problem> {
    let drafts = drafts.into_iter().map(|draft| (queue, draft)).collect();
    let accepted = ledger.append(drafts).await.map_err(of_append)?;
    Ok(Accepted { ids: accepted.into_iter().map(|message| message.id).collect() })
}

/// The refusal of a message that is not well-formed.
#[must_use]
pub fn malformed(what: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, what)
}

fn parse_one(body: &[u8]) -> Result<Vec<Draft>, String> {
    Ok(vec![parse(body)?])
}

fn parse_lines(body: &[u8]) -> Result<Vec<Draft>, String> {
    let lines = body.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    lines.map(|(index, line)| parse(line).map_err(|error| format!("line {}: {error}", index + 1))).collect()
}

fn parse(text: &[u8]) -> Result<Draft, String> {
    // A list would pass for an object with its fields in order.
    if !text.trim_ascii_start().starts_with(b"{") {
        let help = "send many as application/x-ndjson, one a line";
        return Err(format!("a message is a JSON object, as in {{\"body\": \"text\"}}; {help}"));
    }
    let incoming: Incoming = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    incoming.into_draft()
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
    admin.ledger.hold(number(&admin, &name)?, Held::Paused).await?;
    if let Some(connector) = running(&admin, &name) {
        connector.hold.set(Held::Paused);
    }
    admin.audit.note(Event::action("pause", "").of(&name));
    tracing::info!(connector = name, "paused");
    Ok(StatusCode::NO_CONTENT)
}

async fn resume(State(admin): State<Admin>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    admin.ledger.release_holds(number(&admin, &name)?).await?;
    if let Some(connector) = running(&admin, &name) {
        connector.brake.reset();
        connector.hold.clear(Held::Paused);
        connector.hold.clear(Held::Brake);
    }
    admin.audit.note(Event::action("resume", "").of(&name));
    tracing::info!(connector = name, "resumed");
    Ok(StatusCode::NO_CONTENT)
}

fn number(admin: &Admin, name: &str) -> Result<ConnectorId, Problem> {
    admin.directory.connector(name).ok_or_else(|| unknown_connector(&admin.directory, name))
}

/// The connector as it runs at this moment, unless it is not enabled. Whoever changes what is stored about it asks
/// afterwards: one that takes its place in between reads it.
fn running(admin: &Admin, name: &str) -> Option<Arc<Connector>> {
    let roster = admin.connectors.borrow();
    roster.iter().find(|running| running.connector.name.as_str() == name).map(|running| running.connector.clone())
}

/// The refusal of a queue that nobody names.
#[must_use]
pub fn unknown_queue(directory: &Directory, name: &str) -> Problem {
    let known = directory.queues().map(|(queue, _)| queue.as_str()).filter(|queue| !queue.starts_with('@'));
    unknown(&format!("no connector in the configuration names queue `{name}`"), name, known)
}

/// The refusal of a connector that is not configured.
#[must_use]
pub fn unknown_connector(directory: &Directory, name: &str) -> Problem {
    unknown(&format!("there is no connector `{name}`"), name, directory.connectors().map(AsRef::as_ref))
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let known: BTreeSet<&str> = known.collect();
    let meant = closest(name, known).map(|name| format!(": did you mean `{name}`?")).unwrap_or_default();
    Problem::new(StatusCode::NOT_FOUND, format!("{what}{meant}"))
}
