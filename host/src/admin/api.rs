//! `/api/v1`: what the command line and the web page ask of a running host.
//!
//! The table of all routes; most have their handlers in files of their own. Who may call them is decided in
//! [`super::access`], how they are described in [`openapi`]. Bodies are bounded.

pub mod audit;
mod backup;
pub mod connectors;
pub mod dead;
pub mod deliveries;
mod events;
mod graph;
pub mod logs;
pub mod messages;
pub mod openapi;
mod query;
pub mod queues;
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
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{MethodFilter, MethodRouter};
use axum::{Json, Router};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use openapi::{Operation, op};
use subscription::Forgotten;

use super::problem::Problem;
use super::{Admin, Live};
use crate::audit::Event;
use crate::config::{Flow, closest};
use crate::delivery::connector::Connector;
use crate::host::Change;
use crate::id;
use crate::ledger::{AppendError, Directory, Ledger, QueueReport};
use crate::message::{self, Draft, Header};
use crate::metrics::Held;
use crate::settlement::{ConnectorId, QueueId};

/// Bytes of one request: some thousands of usual messages, or one of the largest.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Seconds after which a sender may try again when a queue or the disk is full.
const FULL_RETRY_SECONDS: u64 = 1;

/// Looks through the ledger at once: each may take a processor and read the disk.
const LOOKS_MAX: usize = 4;
/// How long one waits for another.
const LOOK_WAIT: Duration = Duration::from_secs(10);

/// Makes the router, the list of its routes and what each takes and answers from one table, so that no route is in one of
/// them only.
macro_rules! routes {
    ($($path:literal => $($method:ident $handler:path = $operation:expr),+;)+) => {
        /// Method and path of every route, below `/api/v1`.
        pub const ROUTES: &[(&str, &str)] = &[$($((stringify!($method), $path)),+),+];

        /// What each takes and answers, in the same order.
        fn operations() -> Vec<Operation> {
            vec![$($($operation),+),+]
        }

        /// The routes.
        pub fn router() -> Router<Live> {
            Router::new()
                $(.route($path, MethodRouter::new()$(.on(MethodFilter::$method, $handler))+))+
                .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        }
    };
}

routes! {
    "/status" => GET status::show = op("How the host is").answers::<status::Status>();
    "/connectors" => GET connectors::list = op("All connectors, by their names").answers::<Vec<connectors::Entry>>();
    "/connectors/{name}" => GET connectors::show = op("One connector, with all that it may do")
        .answers::<connectors::InFull>();
    "/connectors/{name}/logs" => GET logs::list = op("The last log lines of a connector")
        .query::<logs::Wish>().answers::<logs::Page>();
    "/connectors/{name}/pause" => POST pause = op("Pause a connector until it is resumed");
    "/connectors/{name}/resume" => POST resume = op("Resume a connector that was paused, also by its brake");
    "/graph" => GET graph::show = op("How data flows, as `bulkhead graph` draws it").answers::<Flow>();
    "/series" => GET series::show = op("The figures of the last hour, step by step")
        .query::<series::Wish>().answers::<series::Series>();
    "/queues" => GET queues::list = op("All queues, with their subscriptions").answers::<Vec<QueueReport>>();
    "/queues/{name}" => GET queues::show = op("One queue, with its policy").answers::<queues::InFull>();
    "/queues/{name}/messages" =>
        GET messages::list = op("Look at the messages of a queue").query::<messages::Wish>().answers::<messages::Page>(),
        POST send = op("Accept messages into a queue").takes::<Incoming>().or_lines().answers::<Accepted>();
    "/queues/{name}/subscriptions/{connector}" => DELETE subscription::drop_one =
        op("Drop what a queue keeps for a connector that has left the configuration").answers::<Forgotten>();
    "/dead" => GET dead::list = op("Dead letters, the oldest first").query::<dead::Wish>().answers::<Vec<dead::Entry>>();
    "/dead/groups" => GET dead::list_groups = op("Dead letters together by reason")
        .query::<dead::Which>().answers::<Vec<dead::group::Group>>();
    "/dead/retry" => POST dead::retry_many = op("Deliver dead letters again")
        .takes::<dead::Selection>().answers::<dead::Count>();
    "/dead/drop" => POST dead::drop_many = op("Drop dead letters for ever")
        .takes::<dead::Selection>().answers::<dead::Count>();
    "/dead/{id}" =>
        GET dead::show = op("One dead letter with its message").answers::<dead::Letter>(),
        DELETE dead::drop_one = op("Drop a dead letter for ever").answers::<dead::Count>();
    "/dead/{id}/retry" => POST dead::retry_one = op("Deliver a dead letter again").answers::<dead::Count>();
    "/deliveries" => GET deliveries::list = op("Deliveries that are not settled, and those of the history")
        .query::<deliveries::Wish>().answers::<deliveries::Page>();
    "/deliveries/{id}" => GET deliveries::show = op("One delivery with its attempts").answers::<deliveries::Shown>();
    "/messages/{id}" => GET trace::show = op("The tree of a message: what it was made from, and what was made of it")
        .answers::<trace::Tree>();
    "/schedules" => GET schedules::list_all = op("How every schedule stands")
        .query::<schedules::Wanted>().answers::<Vec<schedules::Entry>>();
    "/schedules/{connector}/fire" => POST schedules::fire_one = op("Fire a schedule by hand")
        .takes::<schedules::Fire>().answers::<schedules::Fired>();
    "/reload" => POST reload::reload = op("Read the configuration again").answers::<Change>();
    "/check" => POST reload::check = op("What reading the configuration again would change").answers::<Change>();
    "/audit" => GET audit::list = op("The audit record, the newest first").query::<audit::Wish>().answers::<audit::Page>();
    "/events" => GET events::follow = op("What happens, as it happens").query::<events::Wish>().answers_events();
    "/backup" => POST backup::make = op("Make a backup, and send it").answers_bytes("application/vnd.sqlite3");
    "/secrets" => GET secrets::list = op("The names of the sealed secrets").answers::<Vec<String>>();
    "/secrets/{name}" =>
        PUT secrets::set = op("Seal a secret").takes::<secrets::NewValue>(),
        DELETE secrets::remove = op("Remove a sealed secret");
    "/openapi.json" => GET openapi::show = op("This document").answers_bytes("application/json");
}

/// One message as JSON: `body` is text, `body_base64` is bytes; one of them.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewMessage")]
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
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
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

/// The refusal of what is not there.
fn not_found(detail: String) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, detail)
}

/// A look into the ledger that may go through many rows: on a thread of its own, for webhooks share the others, and with
/// few at once.
async fn looked<T: Send + 'static>(
    admin: Admin,
    look: impl FnOnce(&Ledger) -> Result<T, Problem> + Send + 'static,
) -> Result<Json<T>, Problem> {
    static LOOKS: Semaphore = Semaphore::const_new(LOOKS_MAX);
    // It is never closed.
    let Ok(Ok(place)) = timeout(LOOK_WAIT, LOOKS.acquire()).await else {
        let detail = format!("{LOOKS_MAX} others look through the ledger: try again");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(FULL_RETRY_SECONDS));
    };
    let looked = tokio::task::spawn_blocking(move || {
        // Whoever asked may go; the look ends all the same.
        let _place = place;
        look(&admin.ledger)
    });
    looked.await.map_err(|error| Problem::from(anyhow::Error::from(error)))?.map(Json)
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let known: BTreeSet<&str> = known.collect();
    let meant = closest(name, known).map(|name| format!(": did you mean `{name}`?")).unwrap_or_default();
    Problem::new(StatusCode::NOT_FOUND, format!("{what}{meant}"))
}
