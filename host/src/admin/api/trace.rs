//! The tree of a message: what it was made from, where it lies, how far its deliveries are, and what was made of it.
//!
//! Put together from what the ledger keeps; what every connector has settled is removed from its queue, and shown as no
//! longer known where something else still names it. Invariant: an answer that may lack something says so.

use std::collections::{HashMap, HashSet};
use std::slice::from_ref;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dead::Attempt;
use super::query::{Asked, Nothing};
use super::{Problem, looked};
use crate::admin::Admin;
use crate::clock::rfc3339;
use crate::ledger::{By, FailedAttempt, Ledger, Place, Progress, Search, Sighting, Standing};
use crate::limit::HOPS_MAX;
use crate::settlement::attempt::{self, Effect};

/// Generations before a message, and after it: there are more only where something was delivered again. A tree is
/// read by parsers that go only so deep.
const GENERATIONS_MAX: usize = HOPS_MAX as usize + 1;
/// What is true of every answer.
const NOTE: &str = "a message that every connector has settled is removed from its queue, and no longer known but by its history (`host.history`)";

/// The tree of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tree {
    /// What it was made from, the oldest first, without what else was made of these.
    pub ancestors: Vec<Node>,
    /// The message, with all that was made of it.
    pub message: Node,
    /// Whether all was looked through; a large ledger, or a large tree, is not.
    pub is_complete: bool,
    /// What such a tree cannot show.
    pub note: String,
}

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "MessageNode")]
pub struct Node {
    /// Its id.
    pub message_id: String,
    /// The id of the message that it was made from.
    pub parent: Option<String>,
    /// Where it lies; nowhere where it is no longer known.
    pub copies: Vec<Copy>,
    /// The attempts at it that are in the history, the oldest first.
    pub attempts: Vec<Ended>,
    /// What was made of it.
    pub children: Vec<Node>,
}

/// An attempt that is in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Attempt")]
pub struct Ended {
    /// The connector's name.
    pub connector: String,
    /// The queue that the message came from.
    pub queue: String,
    /// Counted from 1.
    pub attempt: u32,
    /// When it began, as RFC 3339.
    pub started_at: String,
    /// When it ended.
    pub ended_at: String,
    /// `done`, `retry` or `dead`; `held` where it was put off at no charge, `cancelled` where a later tick took its place,
    /// `failed` where a sender was told that it failed.
    pub outcome: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it did to the world.
    pub effects: Vec<Effect>,
}

/// A message where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "MessageCopy")]
pub struct Copy {
    /// `queue`, `delayed`, `redriven` or `dead`.
    pub place: String,
    /// The queue that it came into.
    pub queue: String,
    /// When it was accepted there, as RFC 3339.
    pub accepted_at: String,
    /// When it takes its place in the queue, where it is delayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    /// The id of the dead letter that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<String>,
    /// How far its deliveries are.
    pub deliveries: Vec<Delivery>,
}

/// How far the delivery to one connector is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Standing")]
pub struct Delivery {
    /// The connector's name.
    pub connector: String,
    /// `waiting`, `retrying`, `settled` or `dead`.
    pub state: String,
    /// Attempts charged so far.
    pub attempts: u32,
    /// When it is tried again, or died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Every charged attempt that failed.
    pub history: Vec<Attempt>,
}

/// Puts the tree of a message together.
///
/// # Errors
/// Nothing is known of this id, or the ledger cannot be read.
pub fn tree(ledger: &Ledger, message_id: &str) -> Result<Tree, Problem> {
    let mut search = Search::default();
    let own = ledger.sightings(By::Id, &[message_id.to_owned()], &mut search)?;
    let mut message = Node::of(ledger, message_id, &own)?;
    let children = descend(ledger, message_id, &mut search)?;
    message.children = children.below(ledger, message_id)?;
    if message.copies.is_empty() && message.attempts.is_empty() && message.children.is_empty() {
        return Err(unknown(message_id, &search));
    }
    let ancestors = ascend(ledger, &message, &mut search)?;
    Ok(Tree { ancestors, message, is_complete: !search.is_cut, note: NOTE.to_owned() })
}

fn unknown(message_id: &str, search: &Search) -> Problem {
    let part = if search.is_cut { " (not all was looked through: there may be)" } else { "" };
    let detail = format!("there is no message `{message_id}`, and nothing that was made of it{part}: {NOTE}");
    Problem::new(StatusCode::NOT_FOUND, detail)
}

/// From parent to parent, as far as they are known; the oldest first.
fn ascend(ledger: &Ledger, message: &Node, search: &mut Search) -> Result<Vec<Node>, Problem> {
    let mut ancestors: Vec<Node> = Vec::new();
    let mut next = message.parent.clone();
    while let Some(id) = next.take() {
        if ancestors.iter().any(|known| known.message_id == id) {
            break;
        }
        if ancestors.len() == GENERATIONS_MAX {
            search.is_cut = true;
            break;
        }
        let node = Node::of(ledger, &id, &ledger.sightings(By::Id, from_ref(&id), search)?)?;
        next.clone_from(&node.parent);
        ancestors.push(node);
    }
    ancestors.reverse();
    Ok(ancestors)
}

/// All that was made of a message.
#[derive(Default)]
struct Descendants {
    of: HashMap<String, Vec<String>>,
    sightings: HashMap<String, Vec<Sighting>>,
}

/// Level by level; whether there is one more is seen, and said.
fn descend(ledger: &Ledger, message_id: &str, search: &mut Search) -> Result<Descendants, Problem> {
    let mut all = Descendants::default();
    let mut seen = HashSet::from([message_id.to_owned()]);
    let mut level = vec![message_id.to_owned()];
    for generation in 0..=GENERATIONS_MAX {
        let mut next = Vec::new();
        let found = ledger.sightings(By::Parent, &level, search)?;
        if generation == GENERATIONS_MAX {
            search.is_cut |= found.iter().any(|found| !seen.contains(&found.message_id));
            break;
        }
        for found in found {
            if seen.insert(found.message_id.clone()) {
                all.of.entry(found.parent.clone().unwrap_or_default()).or_default().push(found.message_id.clone());
                next.push(found.message_id.clone());
            }
            all.sightings.entry(found.message_id.clone()).or_default().push(found);
        }
        if next.is_empty() {
            break;
        }
        level = next;
    }
    Ok(all)
}

impl Descendants {
    /// Every id stands below one parent only: it ends.
    fn below(&self, ledger: &Ledger, message_id: &str) -> Result<Vec<Node>, Problem> {
        let ids = self.of.get(message_id).map(Vec::as_slice).unwrap_or_default();
        let node = |id: &String| {
            let sightings = self.sightings.get(id).map(Vec::as_slice).unwrap_or_default();
            Ok(Node { children: self.below(ledger, id)?, ..Node::of(ledger, id, sightings)? })
        };
        ids.iter().map(node).collect()
    }
}

impl Node {
    fn of(ledger: &Ledger, message_id: &str, sightings: &[Sighting]) -> Result<Self, Problem> {
        let kept = ledger.attempts_of(message_id, None)?;
        let of_history = kept.iter().find_map(|attempt| attempt.parent.clone());
        let there = sightings.iter().filter(|found| found.place != Place::Gone);
        Ok(Self {
            message_id: message_id.to_owned(),
            parent: sightings.iter().find_map(|found| found.parent.clone()).or(of_history),
            copies: there.map(Copy::of).collect(),
            attempts: kept.into_iter().map(|attempt| Ended::of(ledger, attempt)).collect::<Result<_, _>>()?,
            children: Vec::new(),
        })
    }
}

impl Ended {
    /// With the connector's name.
    pub(super) fn of(ledger: &Ledger, attempt: attempt::Attempt) -> Result<Self, Problem> {
        Ok(Self {
            connector: ledger.connector_name(attempt.connector)?.unwrap_or_default(),
            queue: attempt.queue,
            attempt: attempt.number,
            started_at: rfc3339(attempt.started_ms),
            ended_at: rfc3339(attempt.ended_ms),
            outcome: attempt.outcome,
            reason: attempt.reason,
            effects: attempt.effects,
        })
    }
}

impl Copy {
    fn of(found: &Sighting) -> Self {
        let (place, due_ms, letter) = match found.place {
            Place::Queue => ("queue", None, None),
            Place::Gone => ("gone", None, None),
            Place::Delayed(due_ms) => ("delayed", Some(due_ms), None),
            Place::Redriven => ("redriven", None, None),
            Place::Dead(id) => ("dead", None, Some(id.to_string())),
        };
        Self {
            place: place.to_owned(),
            queue: found.queue.clone(),
            accepted_at: rfc3339(found.accepted_ms),
            due_at: due_ms.map(rfc3339),
            letter,
            deliveries: found.deliveries.iter().map(Delivery::of).collect(),
        }
    }
}

impl Delivery {
    fn of(standing: &Standing) -> Self {
        let (state, at_ms) = match standing.progress {
            Progress::Waiting => ("waiting", None),
            Progress::Retrying(due_ms) => ("retrying", Some(due_ms)),
            Progress::Settled => ("settled", None),
            Progress::Dead(died_ms) => ("dead", Some(died_ms)),
        };
        let attempt = |(place, attempt): (usize, &FailedAttempt)| Attempt::of(place, attempt, "", &[]);
        Self {
            connector: standing.connector.clone(),
            state: state.to_owned(),
            attempts: standing.attempts,
            at: at_ms.map(rfc3339),
            history: standing.history.iter().enumerate().map(attempt).collect(),
        }
    }
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    Asked(_): Asked<Nothing>,
) -> Result<Json<Tree>, Problem> {
    looked(admin, move |ledger| tree(ledger, &id)).await
}
