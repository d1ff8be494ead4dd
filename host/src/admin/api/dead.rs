//! Dead letters over the API: list, show, deliver again, drop.
//!
//! The command line shows what these answers hold, so their shapes are the ones of `bulkhead dead --json`.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Problem, malformed, unknown_connector};
use crate::admin::Admin;
use crate::audit::Event;
use crate::clock::rfc3339;
use crate::ledger::{DeadLetter, DeadSummary, Directory, FailedAttempt, Ledger};
use crate::message::Header;
use crate::settlement::{ConnectorId, SubscriptionId};

/// Dead letters of one page.
const PAGE: usize = 1_000;

/// One dead letter in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Names the letter.
    pub id: String,
    /// In which connector the message died.
    pub connector: String,
    /// From which queue.
    pub queue: String,
    /// The message's id.
    pub message_id: String,
    /// Attempts made.
    pub attempts: u32,
    /// Why the last one failed.
    pub reason: String,
    /// When, as RFC 3339.
    pub died_at: String,
}

/// A dead letter with its message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Letter {
    /// What the list shows.
    #[serde(flatten)]
    pub entry: Entry,
    /// What the message was ordered by.
    pub key: Option<String>,
    /// The message's headers.
    pub headers: Vec<Header>,
    /// The payload, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The payload in base64, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// The id of the message that it was made from.
    pub parent: Option<String>,
    /// How many connectors it had passed through.
    pub hops: u32,
    /// When the message was accepted, as RFC 3339.
    pub enqueued_at: String,
    /// Every charged attempt.
    pub history: Vec<Attempt>,
}

/// One failed attempt.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// When, as RFC 3339.
    pub at: String,
    /// Why.
    pub reason: String,
}

/// Which letters, and where to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Only these.
    #[serde(default)]
    pub filter: Filter,
    /// Deliver to this connector instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Only count.
    #[serde(default)]
    pub dry_run: bool,
}

/// What letters have in common.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Died in this connector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    /// Have one of these ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
}

/// How many letters were meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// So many.
    pub count: usize,
}

/// `?connector=NAME&after=ID`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Page {
    connector: Option<String>,
    after: Option<String>,
}

impl Selection {
    /// What was done to so many letters, for the audit record; nothing was where they were only counted.
    #[must_use]
    pub fn event(&self, what: &str, Count { count }: Count) -> Option<Event> {
        let text = |json| format!("{count} dead letters, by {json}");
        let json = serde_json::to_string(self).ok().filter(|_| !self.dry_run);
        json.map(|json| Event::action(what, &text(json)))
    }
}

impl Entry {
    fn of(summary: &DeadSummary) -> Self {
        Self {
            id: summary.id.to_string(),
            connector: summary.connector.clone(),
            queue: summary.queue.clone(),
            message_id: summary.message_id.clone(),
            attempts: summary.attempts,
            reason: summary.reason.clone(),
            died_at: rfc3339(summary.died_ms),
        }
    }
}

impl Letter {
    fn of(letter: DeadLetter) -> Self {
        let attempt = |attempt: FailedAttempt| Attempt { at: rfc3339(attempt.at_ms), reason: attempt.reason };
        let (body, body_base64) = match String::from_utf8(letter.message.body) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(data_encoding::BASE64.encode(error.as_bytes()))),
        };
        Self {
            entry: Entry::of(&letter.summary),
            key: letter.message.key,
            headers: letter.message.headers,
            body,
            body_base64,
            parent: letter.message.parent,
            hops: letter.message.hops,
            enqueued_at: rfc3339(letter.message.enqueued_at_ms),
            history: letter.history.into_iter().map(attempt).collect(),
        }
    }
}

/// A page of letters after letter `after`, oldest first; also of a connector that has left the configuration.
///
/// # Errors
/// No such connector, `after` is no id, or the ledger cannot be read.
pub fn page(ledger: &Ledger, connector: Option<&str>, after: &str) -> Result<Vec<Entry>, Problem> {
    let connector = connector.map(|name| number(ledger, name)).transpose()?;
    let after = match after {
        "" => 0,
        id => id.parse().map_err(|_| malformed(format!("`after` is the id of a dead letter, not `{id}`")))?,
    };
    Ok(ledger.dead_list(connector, after, PAGE)?.iter().map(Entry::of).collect())
}

/// One letter.
///
/// # Errors
/// There is none of this id, or the ledger cannot be read.
pub fn letter(ledger: &Ledger, id: &str) -> Result<Letter, Problem> {
    let letter = id.parse().ok().map(|id| ledger.dead_show(id)).transpose()?.flatten();
    letter.map(Letter::of).ok_or_else(|| no_letter(id))
}

/// Delivers letters again, where they died or in `to`.
///
/// # Errors
/// A letter does not exist, `to` consumes nothing, no connector of the configuration reads the queue where a letter died
/// (nothing is delivered then), or the ledger cannot be changed.
pub async fn retry(ledger: &Ledger, directory: &Directory, selection: &Selection) -> Result<Count, Problem> {
    let to = selection.to.as_deref().map(|name| target(ledger, directory, name)).transpose()?;
    let ids = select(ledger, &selection.filter, |letter| match to {
        Some(_) => Ok(()),
        None => check_home(directory, letter),
    })?;
    let count = if selection.dry_run { ids.len() } else { ledger.dead_retry(&ids, to).await? };
    Ok(Count { count })
}

/// Removes letters for ever.
///
/// # Errors
/// A letter does not exist, or the ledger cannot be changed.
pub async fn remove(ledger: &Ledger, selection: &Selection) -> Result<Count, Problem> {
    let ids = select(ledger, &selection.filter, |_| Ok(()))?;
    let count = if selection.dry_run { ids.len() } else { ledger.dead_drop(&ids).await? };
    Ok(Count { count })
}

/// A letter is delivered again where it died, so somebody must read there.
fn check_home(directory: &Directory, letter: &DeadSummary) -> Result<(), Problem> {
    let DeadSummary { id, connector, queue, .. } = letter;
    if directory.subscription(queue, connector).is_some() {
        return Ok(());
    }
    let detail = format!(
        "dead letter `{id}` died in `{connector}`, which does not read `{queue}` in the configuration any more: name another connector with `--to`, or leave it out"
    );
    Err(Problem::new(StatusCode::CONFLICT, detail))
}

/// The letters that have all in common what the filter says; one that `check` refuses refuses them all. Only their numbers
/// are kept: there may be a million.
fn select(
    ledger: &Ledger,
    filter: &Filter,
    check: impl Fn(&DeadSummary) -> Result<(), Problem>,
) -> Result<Vec<i64>, Problem> {
    let connector = filter.connector.as_deref();
    let mut all = Vec::new();
    if let Some(ids) = &filter.ids {
        for id in ids {
            let letter = named(ledger, id, connector)?;
            check(&letter)?;
            all.push(letter.id);
        }
        return Ok(all);
    }
    let connector = connector.map(|name| number(ledger, name)).transpose()?;
    loop {
        let page = ledger.dead_list(connector, all.last().copied().unwrap_or(0), PAGE)?;
        page.iter().try_for_each(&check)?;
        all.extend(page.iter().map(|letter| letter.id));
        if page.len() < PAGE {
            return Ok(all);
        }
    }
}

/// A letter by its id; it must have died in `connector`, where one is named.
fn named(ledger: &Ledger, id: &str, connector: Option<&str>) -> Result<DeadSummary, Problem> {
    let number: i64 = id.parse().map_err(|_| no_letter(id))?;
    let mut found = ledger.dead_list(None, number.saturating_sub(1), 1)?;
    let is_meant = |letter: &DeadSummary| letter.id == number && connector.is_none_or(|name| letter.connector == name);
    found.pop().filter(is_meant).ok_or_else(|| no_letter(id))
}

/// A connector's number, also of one that has left the configuration.
fn number(ledger: &Ledger, connector: &str) -> Result<ConnectorId, Problem> {
    ledger.dead_connector(connector)?.ok_or_else(|| not_found(format!("there is no connector `{connector}`")))
}

/// The one subscription of a connector.
fn target(ledger: &Ledger, directory: &Directory, connector: &str) -> Result<SubscriptionId, Problem> {
    if directory.connector(connector).is_none() {
        return Err(unknown_connector(directory, connector));
    }
    let queues = ledger.queues()?;
    let consumed = queues.iter().filter(|report| !report.queue.starts_with('@'));
    consumed
        .filter_map(|report| directory.subscription(&report.queue, connector))
        .next()
        .ok_or_else(|| Problem::new(StatusCode::CONFLICT, format!("connector `{connector}` consumes no queue")))
}

pub(super) async fn list(State(admin): State<Admin>, Query(query): Query<Page>) -> Result<Json<Vec<Entry>>, Problem> {
    let after = query.after.unwrap_or_default();
    Ok(Json(page(&admin.ledger, query.connector.as_deref(), &after)?))
}

pub(super) async fn show(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<Letter>, Problem> {
    Ok(Json(letter(&admin.ledger, &id)?))
}

pub(super) async fn drop_one(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<Count>, Problem> {
    drop_many(State(admin), Json(of_one(id))).await
}

pub(super) async fn retry_one(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Json<Count>, Problem> {
    retry_many(State(admin), Json(of_one(id))).await
}

pub(super) async fn drop_many(
    State(admin): State<Admin>,
    Json(selection): Json<Selection>,
) -> Result<Json<Count>, Problem> {
    let removed = remove(&admin.ledger, &selection).await?;
    selection.event("dead drop", removed).into_iter().for_each(|event| admin.audit.note(event));
    Ok(Json(removed))
}

pub(super) async fn retry_many(
    State(admin): State<Admin>,
    Json(selection): Json<Selection>,
) -> Result<Json<Count>, Problem> {
    let retried = retry(&admin.ledger, &admin.directory, &selection).await?;
    selection.event("dead retry", retried).into_iter().for_each(|event| admin.audit.note(event));
    Ok(Json(retried))
}

fn of_one(id: String) -> Selection {
    Selection { filter: Filter { ids: Some(vec![id]), ..Filter::default() }, ..Selection::default() }
}

fn no_letter(id: &str) -> Problem {
    not_found(format!("there is no dead letter `{id}`: `bulkhead dead list` prints those there are"))
}

fn not_found(detail: String) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, detail)
}
