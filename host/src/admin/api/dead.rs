//! Dead letters over the API: list, show, deliver again, drop.
//!
//! The command line shows what these answers hold, so their shapes are the ones of `bulkhead dead --json`. Which letters
//! are meant is decided in [`filter`], what their reasons have in common in [`group`].

pub mod filter;
pub mod group;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::query::{Asked, Nothing};
use super::shown::{Contents, Part, shown};
use super::{Problem, looked, malformed, not_found, unknown_connector};
use crate::admin::Admin;
use crate::audit::Event;
use crate::clock::rfc3339;
use crate::config;
use crate::ledger::{DeadLetter, DeadSummary, Directory, FailedAttempt, Ledger, Redrive};
use crate::mask::{Masks, Repeats};
use crate::message::Header;
use crate::settlement::attempt::Effect;
use crate::settlement::{self, SubscriptionId};
pub use filter::Filter;
use filter::{PAGE, Wanted};
pub(super) use filter::{Which, Wish};
use group::Group;

/// From the end of an attempt until it is on disk, in milliseconds, also on a disk that was full for a while.
const SETTLED_WITHIN_MS: u64 = 600_000;
/// The last of many letters is delivered again no later than this: no due time of the ledger lies further ahead.
const SPREAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// One dead letter in a list.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DeadLetter")]
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
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DeadLetterInFull")]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "FailedAttempt")]
pub struct Attempt {
    /// When, as RFC 3339.
    pub at: String,
    /// Why.
    pub reason: String,
    /// When it began, where it is in the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// What it did to the world, as far as the history knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect>,
}

/// Which letters, and how they are delivered again.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Only these.
    #[serde(default)]
    pub filter: Filter,
    /// Deliver to this connector instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// No more than so many in a time, as in `100/s`; all at once where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Of one letter: another payload, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The same as bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Only count.
    #[serde(default)]
    pub dry_run: bool,
}

/// How many letters were meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// So many.
    pub count: usize,
}

/// Letters that were looked up.
struct Chosen<How> {
    ids: Vec<i64>,
    /// None where they are only counted.
    how: Option<How>,
}

impl Selection {
    /// What was done to so many letters, for the audit record; nothing was where they were only counted. Of an edited
    /// payload it says that there was one.
    #[must_use]
    pub fn event(&self, what: &str, Count { count }: Count) -> Option<Event> {
        let edited = if self.has_body() { " with another body" } else { "" };
        let shown = Self { body: None, body_base64: None, ..self.clone() };
        let text = |json| format!("{count} dead letters{edited}, by {json}");
        let json = serde_json::to_string(&shown).ok().filter(|_| !self.dry_run);
        json.map(|json| Event::action(what, &text(json)))
    }

    fn has_body(&self) -> bool {
        self.body.is_some() || self.body_base64.is_some()
    }

    /// The payload that takes the place of a letter's own, with its id.
    fn edited(&self) -> Result<Option<(&str, Vec<u8>)>, Problem> {
        let body = match (&self.body, &self.body_base64) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(malformed("give `body` or `body_base64`, not both".to_owned())),
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(encoded)) => data_encoding::BASE64
                .decode(encoded.as_bytes())
                .map_err(|error| malformed(format!("`body_base64` is not base64: {error}")))?,
        };
        match self.filter.ids.as_deref() {
            Some([id]) => Ok(Some((id, body))),
            Some(_) | None => Err(malformed("another body is for one dead letter, named by its id".to_owned())),
        }
    }

    /// From one letter to the next; so many must not take too long.
    fn spacing(&self, count: usize) -> Result<Duration, Problem> {
        let Some(rate) = &self.rate else { return Ok(Duration::ZERO) };
        let rate = config::rate(rate).map_err(|allowed| malformed(format!("`rate` is {allowed}")))?;
        let (step, count) = (rate.step(), u32::try_from(count).unwrap_or(u32::MAX));
        if step.saturating_mul(count) > SPREAD_MAX {
            let hours = SPREAD_MAX.as_secs() / 3600;
            let detail = format!(
                "at `{rate}` these {count} dead letters take more than {hours} hours: choose a higher rate or fewer letters"
            );
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
        Ok(step)
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

impl Attempt {
    /// A failed attempt with what the history has kept of it: the last one of its number that ended before, and not long.
    pub(super) fn of(place: usize, failed: &FailedAttempt, queue: &str, kept: &[settlement::attempt::Attempt]) -> Self {
        let settled_within = |ended_ms: u64| ended_ms <= failed.at_ms && failed.at_ms - ended_ms <= SETTLED_WITHIN_MS;
        let kept = kept
            .iter()
            .rev()
            .filter(|kept| kept.outcome != settlement::attempt::HELD)
            .find(|kept| kept.number as usize == place + 1 && kept.queue == queue && settled_within(kept.ended_ms));
        Self {
            at: rfc3339(failed.at_ms),
            reason: failed.reason.clone(),
            started_at: kept.map(|kept| rfc3339(kept.started_ms)),
            effects: kept.map(|kept| kept.effects.clone()).unwrap_or_default(),
        }
    }
}

impl Letter {
    /// As it is shown.
    fn of(letter: DeadLetter, kept: &[settlement::attempt::Attempt], masks: &Masks) -> Self {
        let repeats = masks.repeats([(&letter.message.headers[..], &letter.message.body[..])]);
        let history = letter.history.iter().enumerate();
        let history = history.map(|(place, failed)| Attempt::of(place, failed, &letter.summary.queue, kept)).collect();
        let Contents { headers, body, body_base64, .. } =
            shown(masks, letter.message.headers, letter.message.body, Part::Whole);
        let shown = Self {
            entry: Entry::of(&letter.summary),
            key: letter.message.key,
            headers,
            body,
            body_base64,
            parent: letter.message.parent,
            hops: letter.message.hops,
            enqueued_at: rfc3339(letter.message.enqueued_at_ms),
            history,
        };
        if repeats.is_empty() { shown } else { shown.without(&repeats) }
    }

    /// What was written down before anything was masked may repeat it.
    fn without(mut self, repeats: &Repeats) -> Self {
        let hide = |text: &mut String| *text = repeats.hide(text).into_owned();
        hide(&mut self.entry.reason);
        self.key.iter_mut().for_each(hide);
        for attempt in &mut self.history {
            hide(&mut attempt.reason);
            for effect in &mut attempt.effects {
                if let Effect::Request { url, .. } = effect {
                    hide(url);
                }
            }
        }
        self
    }
}

/// A page of the letters that a filter means after letter `after`, oldest first; also of a connector that has left the
/// configuration.
///
/// # Errors
/// No such connector, `after` is no id, `since` is no time, or the ledger cannot be read.
pub fn page(ledger: &Ledger, filter: &Filter, after: &str) -> Result<Vec<Entry>, Problem> {
    page_of(ledger, filter, after, PAGE)
}

fn page_of(ledger: &Ledger, filter: &Filter, after: &str, count: usize) -> Result<Vec<Entry>, Problem> {
    let after = match after {
        "" => 0,
        id => id.parse().map_err(|_| malformed(format!("`after` is the id of a dead letter, not `{id}`")))?,
    };
    Ok(Wanted::of(ledger, filter)?.page(ledger, after, count)?.iter().map(Entry::of).collect())
}

/// The letters that a filter means, together by what their reasons have in common; the largest group first.
///
/// # Errors
/// See [`page`].
pub fn groups(ledger: &Ledger, filter: &Filter) -> Result<Vec<Group>, Problem> {
    let mut groups = group::Groups::default();
    Wanted::of(ledger, filter)?.each(ledger, |letter| {
        groups.add(letter);
        Ok(())
    })?;
    Ok(groups.into_list())
}

/// One letter, without what is masked in it.
///
/// # Errors
/// There is none of this id, or the ledger cannot be read.
pub fn letter(ledger: &Ledger, masks: &Masks, id: &str) -> Result<Letter, Problem> {
    let letter = id.parse().ok().map(|id| ledger.dead_show(id)).transpose()?.flatten();
    let letter = letter.ok_or_else(|| no_letter(id))?;
    let connector = ledger.dead_connector(&letter.summary.connector)?;
    let kept = ledger.attempts_of(&letter.summary.message_id, connector)?;
    Ok(Letter::of(letter, &kept, masks))
}

/// Delivers letters again, where they died or in `to`.
///
/// # Errors
/// A letter does not exist, `to` consumes nothing, no connector of the configuration reads the queue where a letter died,
/// the body or the rate cannot be used (nothing is delivered then), or the ledger cannot be changed.
pub async fn retry(
    ledger: &Ledger,
    directory: &Directory,
    masks: &Masks,
    selection: &Selection,
) -> Result<Count, Problem> {
    deliver(ledger, retried(ledger, directory, masks, selection)?).await
}

/// The letters that are delivered again, and how.
fn retried(
    ledger: &Ledger,
    directory: &Directory,
    masks: &Masks,
    selection: &Selection,
) -> Result<Chosen<Redrive>, Problem> {
    let to = selection.to.as_deref().map(|name| target(ledger, directory, name)).transpose()?;
    let body = selection.edited()?.map(|(id, body)| whole(ledger, masks, id, body)).transpose()?;
    let ids = filter::select(ledger, &selection.filter, |letter| {
        let Some(subscription) = to.or_else(|| directory.subscription(&letter.queue, &letter.connector)) else {
            return Err(no_home(letter));
        };
        body.as_ref().map_or(Ok(()), |body| fits(ledger, letter.id, body, subscription))
    })?;
    let spacing = selection.spacing(ids.len())?;
    Ok(Chosen { ids, how: (!selection.dry_run).then_some(Redrive { to, spacing, body }) })
}

async fn deliver(ledger: &Ledger, chosen: Chosen<Redrive>) -> Result<Count, Problem> {
    let Chosen { ids, how } = chosen;
    let count = if let Some(how) = how { ledger.dead_retry(&ids, how).await? } else { ids.len() };
    Ok(Count { count })
}

/// Removes letters for ever.
///
/// # Errors
/// A letter does not exist, the selection says how to deliver, or the ledger cannot be changed.
pub async fn remove(ledger: &Ledger, selection: &Selection) -> Result<Count, Problem> {
    discard(ledger, removed(ledger, selection)?).await
}

/// The letters that are removed.
fn removed(ledger: &Ledger, selection: &Selection) -> Result<Chosen<()>, Problem> {
    if selection.to.is_some() || selection.rate.is_some() || selection.has_body() {
        return Err(malformed("`to`, `rate` and a body are for letters that are delivered again".to_owned()));
    }
    let ids = filter::select(ledger, &selection.filter, |_| Ok(()))?;
    Ok(Chosen { ids, how: (!selection.dry_run).then_some(()) })
}

async fn discard(ledger: &Ledger, chosen: Chosen<()>) -> Result<Count, Problem> {
    let Chosen { ids, how } = chosen;
    let count = if how.is_some() { ledger.dead_drop(&ids).await? } else { ids.len() };
    Ok(Count { count })
}

/// An edited payload with what was masked in it when it was shown.
fn whole(ledger: &Ledger, masks: &Masks, id: &str, edited: Vec<u8>) -> Result<Vec<u8>, Problem> {
    let letter = id.parse().ok().map(|id| ledger.dead_show(id)).transpose()?.flatten();
    let stored = letter.ok_or_else(|| no_letter(id))?.message.body;
    masks.restored(edited, &stored).map_err(malformed)
}

/// Whether the queue of a subscription takes a letter with another payload.
fn fits(ledger: &Ledger, id: i64, body: &[u8], subscription: SubscriptionId) -> Result<(), Problem> {
    let Some(letter) = ledger.dead_show(id)? else { return Err(no_letter(&id.to_string())) };
    let mut message = letter.message;
    message.body = body.to_vec();
    let (size, most) = (message.size_bytes(), ledger.message_bytes(subscription)?);
    if size <= most {
        return Ok(());
    }
    let detail = format!("with this body the message has {size} bytes, and its queue takes {most}");
    Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
}

/// The refusal of a letter where nobody reads any more.
fn no_home(letter: &DeadSummary) -> Problem {
    let DeadSummary { id, connector, queue, .. } = letter;
    let detail = format!(
        "dead letter `{id}` died in `{connector}`, which does not read `{queue}` in the configuration any more: name another connector with `--to`, or leave it out"
    );
    Problem::new(StatusCode::CONFLICT, detail)
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

pub(super) async fn list(
    State(admin): State<Admin>,
    Asked(mut wish): Asked<Wish>,
) -> Result<Json<Vec<Entry>>, Problem> {
    let (after, count) = (wish.after.take().unwrap_or_default(), wish.limit.get());
    let filter = wish.filter();
    looked(admin, move |ledger| page_of(ledger, &filter, &after, count)).await
}

pub(super) async fn list_groups(
    State(admin): State<Admin>,
    Asked(which): Asked<Which>,
) -> Result<Json<Vec<Group>>, Problem> {
    let filter = which.filter();
    looked(admin, move |ledger| groups(ledger, &filter)).await
}

pub(super) async fn show(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    Asked(_): Asked<Nothing>,
) -> Result<Json<Letter>, Problem> {
    let masks = admin.masks.clone();
    looked(admin, move |ledger| letter(ledger, &masks, &id)).await
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
    let selection = Arc::new(selection);
    let of_look = selection.clone();
    let Json(chosen) = looked(admin.clone(), move |ledger| removed(ledger, &of_look)).await?;
    let removed = discard(&admin.ledger, chosen).await?;
    selection.event("dead drop", removed).into_iter().for_each(|event| admin.audit.note(event));
    Ok(Json(removed))
}

pub(super) async fn retry_many(
    State(admin): State<Admin>,
    Json(selection): Json<Selection>,
) -> Result<Json<Count>, Problem> {
    let selection = Arc::new(selection);
    let (of_look, directory, masks) = (selection.clone(), admin.directory.clone(), admin.masks.clone());
    let look = move |ledger: &Ledger| retried(ledger, &directory, &masks, &of_look);
    let Json(chosen) = looked(admin.clone(), look).await?;
    let retried = deliver(&admin.ledger, chosen).await?;
    selection.event("dead retry", retried).into_iter().for_each(|event| admin.audit.note(event));
    Ok(Json(retried))
}

fn of_one(id: String) -> Selection {
    Selection { filter: Filter { ids: Some(vec![id]), ..Filter::default() }, ..Selection::default() }
}

fn no_letter(id: &str) -> Problem {
    not_found(format!("there is no dead letter `{id}`: `bulkhead dead list` prints those there are"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settlement::ConnectorId;
    use crate::settlement::attempt::HELD;

    /// The first attempt at a message from `in`, which asked for something.
    fn kept(outcome: &str, ended_ms: u64) -> settlement::attempt::Attempt {
        settlement::attempt::Attempt {
            connector: ConnectorId(1),
            queue: "in".to_owned(),
            message_id: "m".to_owned(),
            parent: None,
            accepted_ms: 0,
            number: 1,
            started_ms: 0,
            ended_ms,
            outcome: outcome.to_owned(),
            reason: None,
            effects: vec![Effect::State { keys: 1 }],
        }
    }

    fn effects(kept: &[settlement::attempt::Attempt]) -> usize {
        let failed = FailedAttempt { at_ms: 1_000, reason: "why".to_owned() };
        Attempt::of(0, &failed, "in", kept).effects.len()
    }

    /// It has the number of the attempt that was charged after it.
    #[test]
    fn an_attempt_at_no_charge_is_not_taken_for_the_one_that_failed() {
        assert_eq!(effects(&[kept("retry", 900)]), 1);
        assert_eq!(effects(&[kept(HELD, 900)]), 0);
        assert_eq!(effects(&[kept("retry", 1_001)]), 0);
    }
}
