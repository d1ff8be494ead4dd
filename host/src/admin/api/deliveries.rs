//! Deliveries over the API: those that are not settled, and those that the history knows.
//!
//! A delivery is a message for a connector, so its id is made of the names of both. What waits for its first attempt is
//! counted in `queues` and listed nowhere; what was settled is known as long as the history has an attempt at it.
//! Invariant: no answer holds a body, a header, or the query of a URL.

mod page;

use std::cmp::Reverse;
use std::slice::from_ref;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dead::{self, filter};
use super::query::{Asked, Nothing};
use super::trace::Ended;
use super::{Problem, looked};
use crate::admin::Admin;
use crate::clock::rfc3339;
use crate::ledger::{By, Ledger, Place, Progress, Search, Sighting, Standing};
use crate::settlement::attempt::Attempt;
pub use page::{Page, Wish};

/// One delivery in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Delivery")]
pub struct Entry {
    /// `CONNECTOR:QUEUE:MESSAGE_ID`.
    pub id: String,
    /// To which connector.
    pub connector: String,
    /// From which queue.
    pub queue: String,
    /// The message's id.
    pub message_id: String,
    /// How far it is: see [`Stage`].
    pub state: Stage,
    /// Attempts charged so far; where it is settled, the number of the last one that the history has.
    pub attempts: u32,
    /// When the message was accepted, as RFC 3339; where nothing but the history knows of it, as it was then.
    pub accepted_at: String,
    /// When it is attempted again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    /// When the last attempt ended that the history has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Why the last attempt failed that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Not attempted yet, or not put off by itself: passed by.
    Waiting,
    /// It was put off.
    Retrying,
    /// It is a dead letter.
    Dead,
    /// Its last attempt succeeded.
    Done,
    /// Nothing more will be done. It failed as far as the history knows: it has succeeded since, or was dropped.
    Settled,
    /// A tick whose place a later one has taken.
    Cancelled,
    /// A request whose sender was told that it failed.
    Failed,
}

/// One delivery with its attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DeliveryInFull")]
pub struct Shown {
    /// What the list shows.
    #[serde(flatten)]
    pub entry: Entry,
    /// The id of the dead letter that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<String>,
    /// Every charged attempt that failed, as long as it is not settled.
    pub failures: Vec<dead::Attempt>,
    /// The attempts that are in the history, the oldest first.
    pub history: Vec<Ended>,
    /// Whether all was looked through; a large ledger is not.
    pub is_complete: bool,
}

/// The names that an id is made of.
#[derive(Clone, Copy)]
struct Parts<'i> {
    connector: &'i str,
    queue: &'i str,
    message_id: &'i str,
}

impl<'i> Parts<'i> {
    /// Names of connectors and queues have no colon.
    fn of(id: &'i str) -> Option<Self> {
        let (connector, rest) = id.split_once(':')?;
        let (queue, message_id) = rest.split_once(':')?;
        Some(Self { connector, queue, message_id })
    }

    fn id(self) -> String {
        format!("{}:{}:{}", self.connector, self.queue, self.message_id)
    }
}

/// One delivery.
///
/// # Errors
/// Nothing is known of this id, or the ledger cannot be read.
pub fn delivery(ledger: &Ledger, id: &str) -> Result<Shown, Problem> {
    let parts = Parts::of(id).ok_or_else(|| none(id, &Search::default()))?;
    let connector = ledger.dead_connector(parts.connector)?.ok_or_else(|| none(id, &Search::default()))?;
    let mut kept = ledger.attempts_of(parts.message_id, Some(connector))?;
    kept.retain(|attempt| attempt.queue == parts.queue);
    let mut search = Search::default();
    let sightings = ledger.sightings(By::Id, from_ref(&parts.message_id.to_owned()), &mut search)?;
    let standing = standing(parts, &sightings);
    let entry = match (standing, kept.last()) {
        (Some((found, standing)), last) => Entry::standing(parts, found, standing, last),
        (None, Some(last)) => Entry::ended(parts, last, stage(last, false)),
        (None, None) => return Err(none(id, &search)),
    };
    let failed = standing.map(|(_, standing)| standing.history.iter()).into_iter().flatten().enumerate();
    Ok(Shown {
        entry,
        letter: standing.and_then(|(found, _)| letter(found)),
        failures: failed.map(|(place, failed)| dead::Attempt::of(place, failed, parts.queue, &kept)).collect(),
        history: kept.into_iter().map(|attempt| Ended::of(ledger, attempt)).collect::<Result<_, _>>()?,
        is_complete: !search.is_cut,
    })
}

/// Of all copies of the message, the one at which there is most to do.
fn standing<'s>(parts: Parts<'_>, sightings: &'s [Sighting]) -> Option<(&'s Sighting, &'s Standing)> {
    let in_queue = sightings.iter().filter(|found| found.queue == parts.queue);
    let standings = in_queue.flat_map(|found| found.deliveries.iter().map(move |standing| (found, standing)));
    let own = standings.filter(|(_, standing)| standing.connector == parts.connector);
    own.min_by_key(|(_, standing)| match standing.progress {
        Progress::Retrying(_) | Progress::Waiting => (0, Reverse(0)),
        Progress::Dead(died_ms) => (1, Reverse(died_ms)),
        Progress::Settled => (2, Reverse(0)),
    })
}

fn letter(found: &Sighting) -> Option<String> {
    match found.place {
        Place::Dead(id) => Some(id.to_string()),
        Place::Queue | Place::Delayed(_) | Place::Redriven | Place::Gone => None,
    }
}

/// How far a delivery is that has nothing more to wait for, by its last attempt.
fn stage(last: &Attempt, is_dead: bool) -> Stage {
    match last.outcome.as_str() {
        _ if is_dead => Stage::Dead,
        "done" => Stage::Done,
        "cancelled" => Stage::Cancelled,
        "failed" => Stage::Failed,
        _ => Stage::Settled,
    }
}

impl Entry {
    fn of(parts: Parts<'_>, state: Stage, attempts: u32, accepted_ms: u64) -> Self {
        Self {
            id: parts.id(),
            connector: parts.connector.to_owned(),
            queue: parts.queue.to_owned(),
            message_id: parts.message_id.to_owned(),
            state,
            attempts,
            accepted_at: rfc3339(accepted_ms),
            due_at: None,
            ended_at: None,
            reason: None,
        }
    }

    fn ended(parts: Parts<'_>, last: &Attempt, state: Stage) -> Self {
        Self {
            ended_at: Some(rfc3339(last.ended_ms)),
            reason: last.reason.clone(),
            ..Self::of(parts, state, last.number, last.accepted_ms)
        }
    }

    fn standing(parts: Parts<'_>, found: &Sighting, standing: &Standing, last: Option<&Attempt>) -> Self {
        let (state, due_ms) = match standing.progress {
            Progress::Waiting => (Stage::Waiting, None),
            Progress::Retrying(due_ms) => (Stage::Retrying, Some(due_ms)),
            Progress::Settled => (last.map_or(Stage::Settled, |last| stage(last, false)), None),
            Progress::Dead(_) => (Stage::Dead, None),
        };
        let failed = standing.history.last().map(|failed| failed.reason.clone());
        Self {
            due_at: due_ms.map(rfc3339),
            ended_at: last.map(|last| rfc3339(last.ended_ms)),
            reason: failed.or_else(|| last.and_then(|last| last.reason.clone())),
            ..Self::of(parts, state, standing.attempts, found.accepted_ms)
        }
    }
}

fn none(id: &str, search: &Search) -> Problem {
    let part = if search.is_cut { " (not all was looked through: there may be)" } else { "" };
    let detail = format!(
        "there is no delivery `{id}`{part}: its id is CONNECTOR:QUEUE:MESSAGE_ID, and one that is settled is known by its history alone (`host.history`)"
    );
    Problem::new(StatusCode::NOT_FOUND, detail)
}

pub(super) async fn list(State(admin): State<Admin>, Asked(wish): Asked<Wish>) -> Result<Json<Page>, Problem> {
    looked(admin, move |ledger| page::page(ledger, &wish)).await
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    Asked(_): Asked<Nothing>,
) -> Result<Json<Shown>, Problem> {
    looked(admin, move |ledger| delivery(ledger, &id)).await
}
