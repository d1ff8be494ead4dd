//! The messages of a queue over the API, a page at a time: a look, which takes nothing and moves nothing.
//!
//! First what lies in the log, in its order; then what lies beside it. Invariant: a page is small, whatever the messages
//! are; the whole of a large body is asked for by its message's place.

use axum::Json;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::query::{Asked, PageSize};
use super::shown::{Contents, Part, shown};
use super::{Problem, looked, malformed, not_found, unknown_queue};
use crate::admin::Admin;
use crate::clock::rfc3339;
use crate::ledger::{Directory, Ledger, Lying, Stored};
use crate::mask::Masks;
use crate::settlement::Origin;

/// `?after=CURSOR&limit=N`, or `?whole=POSITION`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// What a page gave as its `next`.
    after: Option<String>,
    /// Messages of a page.
    #[serde(default)]
    limit: Option<PageSize>,
    /// The one message at this `position`, with the whole of its body.
    whole: Option<String>,
}

/// Some messages of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "MessagePage")]
pub struct Page {
    /// The oldest first.
    pub messages: Vec<Entry>,
    /// What `after` is for the next page; none where there are no more.
    pub next: Option<String>,
}

/// One message where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "StoredMessage")]
pub struct Entry {
    /// Where it lies.
    pub position: String,
    /// Its id; empty where the message is damaged.
    pub id: String,
    /// What it is ordered by.
    pub key: Option<String>,
    /// Headers and body.
    #[serde(flatten)]
    pub contents: Contents,
    /// When it was accepted, as RFC 3339.
    pub accepted_at: String,
    /// Where it is delayed, or delivered again: not before this.
    pub due_at: Option<String>,
    /// Where it was a dead letter: the connector that it is delivered to again.
    pub redriven_to: Option<String>,
    /// The id of the message that it was made from.
    pub parent: Option<String>,
    /// How many connectors it has passed through.
    pub hops: u32,
    /// Whether it is not what was stored: then nothing of it is shown.
    pub is_damaged: bool,
}

impl Entry {
    fn of(stored: Stored, masks: &Masks, part: Part) -> Self {
        let (due_ms, redriven_to) = match stored.lying {
            Lying::Logged => (None, None),
            Lying::Delayed(due_ms) => (Some(due_ms), None),
            Lying::Redriven { connector, due_ms } => (Some(due_ms), Some(connector)),
        };
        let is_damaged = stored.message.is_none();
        let message = stored.message.unwrap_or_default();
        let repeats = masks.repeats([(&message.headers[..], &message.body[..])]);
        Self {
            position: position(stored.origin),
            id: message.id,
            key: message.key.map(|key| repeats.hide(&key).into_owned()),
            contents: shown(masks, message.headers, message.body, part),
            accepted_at: rfc3339(message.enqueued_at_ms),
            due_at: due_ms.map(rfc3339),
            redriven_to,
            parent: message.parent,
            hops: message.hops,
            is_damaged,
        }
    }
}

pub(super) async fn list(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    Asked(wish): Asked<Wish>,
) -> Result<Json<Page>, Problem> {
    let (directory, masks) = (admin.directory.clone(), admin.masks.clone());
    looked(admin, move |ledger| page(ledger, &directory, &masks, &name, &wish)).await
}

fn page(ledger: &Ledger, directory: &Directory, masks: &Masks, queue: &str, wish: &Wish) -> Result<Page, Problem> {
    if directory.queue(queue).is_none() && ledger.queue_report(queue)?.is_none() {
        return Err(unknown_queue(directory, queue));
    }
    if let Some(text) = &wish.whole {
        if wish.after.is_some() || wish.limit.is_some() {
            return Err(malformed("`whole` is for one message: leave out `after` and `limit`".to_owned()));
        }
        let found = ledger.look_at(queue, parse("whole", text)?)?;
        let gone = || not_found(format!("no message of queue `{queue}` lies at `{text}` any more"));
        return Ok(Page { messages: vec![Entry::of(found.ok_or_else(gone)?, masks, Part::Whole)], next: None });
    }
    let after = wish.after.as_deref().map_or(Ok(Origin::Log(0)), |text| parse("after", text))?;
    let found = ledger.browse(queue, after, wish.limit.unwrap_or_default().get())?;
    let next = found.last().map(|last| position(last.origin));
    let messages = found.into_iter().map(|stored| Entry::of(stored, masks, Part::Beginning)).collect();
    Ok(Page { messages, next })
}

fn position(origin: Origin) -> String {
    match origin {
        Origin::Log(seq) => format!("log.{seq}"),
        Origin::Parked(id) => format!("beside.{id}"),
    }
}

fn parse(key: &str, text: &str) -> Result<Origin, Problem> {
    let origin = match text.split_once('.') {
        Some(("log", seq)) => seq.parse().ok().map(Origin::Log),
        Some(("beside", id)) => id.parse().ok().map(Origin::Parked),
        _ => None,
    };
    origin.ok_or_else(|| malformed(format!("`{key}` is what a page gives as `next` or `position`, not `{text}`")))
}
