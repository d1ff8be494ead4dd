//! Lists of deliveries, a page at a time: first what is not settled, by subscription and in the order of the queue; then
//! what the history knows, by its last attempt, the newest first.
//!
//! Invariant: a delivery is in one of the two parts. What is settled between two pages may be in both.

use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Entry, Parts, Stage, filter, stage};
use crate::admin::api::query::PageSize;
use crate::admin::api::{Problem, malformed};
use crate::clock::rfc3339;
use crate::ledger::{Ledger, Sought, Subscribed, Unfinished};
use crate::settlement::attempt::Attempt;
use crate::settlement::{ConnectorId, Origin, SubscriptionId};

/// `?connector=NAME&queue=NAME&state=STATE&since=TIME&after=CURSOR&limit=N`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DeliveryWish")]
pub struct Wish {
    /// To this connector.
    connector: Option<String>,
    /// From this queue.
    queue: Option<String>,
    /// As far as this: a word of `state`.
    state: Option<String>,
    /// Whose last attempt ended at this time or later, as RFC 3339.
    since: Option<String>,
    /// What a page gave as its `next`.
    after: Option<String>,
    /// Deliveries of a page; 1,000 where it is left out.
    #[serde(default = "PageSize::largest")]
    limit: PageSize,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DeliveryPage")]
pub struct Page {
    /// In the order of the list.
    pub deliveries: Vec<Entry>,
    /// What `after` is for the next page; none where there are no more.
    pub next: Option<String>,
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    /// After this delivery of a subscription.
    Unfinished(SubscriptionId, Origin),
    /// Before this row of the history.
    History(i64),
}

impl Cursor {
    const START: Self = Self::Unfinished(SubscriptionId(0), Origin::Log(0));
    const OF_HISTORY: Self = Self::History(i64::MAX);

    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        match parts[..] {
            ["log", of, seq] => {
                Some(Self::Unfinished(SubscriptionId(of.parse().ok()?), Origin::Log(seq.parse().ok()?)))
            }
            ["again", of, id] => {
                Some(Self::Unfinished(SubscriptionId(of.parse().ok()?), Origin::Parked(id.parse().ok()?)))
            }
            ["history", row] => Some(Self::History(row.parse().ok()?)),
            _ => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Unfinished(of, Origin::Log(seq)) => format!("log.{}.{seq}", of.0),
            Self::Unfinished(of, Origin::Parked(id)) => format!("again.{}.{id}", of.0),
            Self::History(row) => format!("history.{row}"),
        }
    }
}

/// A wish that was read.
struct Wanted<'w> {
    sought: Sought<'w>,
    state: Option<Stage>,
    /// In the order of their numbers.
    subscribed: Vec<Subscribed>,
    /// Deliveries of a page.
    count: usize,
}

/// A page of the deliveries that a wish means.
///
/// # Errors
/// No such connector, or a value of the wish is none; or the ledger cannot be read.
pub(super) fn page(ledger: &Ledger, wish: &Wish) -> Result<Page, Problem> {
    let wanted = Wanted::of(ledger, wish)?;
    let mut cursor = match wish.after.as_deref() {
        None | Some("") => Cursor::START,
        Some(text) => Cursor::parse(text)
            .ok_or_else(|| malformed(format!("`after` is what a page gives as its `next`, not `{text}`")))?,
    };
    let mut deliveries = Vec::new();
    while deliveries.len() < wanted.count {
        let next = match cursor {
            Cursor::Unfinished(of, after) => wanted.unfinished(ledger, of, after, &mut deliveries)?,
            Cursor::History(before) => wanted.ended(ledger, before, &mut deliveries)?,
        };
        let Some(next) = next else { return Ok(Page { deliveries, next: None }) };
        cursor = next;
    }
    Ok(Page { deliveries, next: Some(cursor.text()) })
}

impl<'w> Wanted<'w> {
    fn of(ledger: &Ledger, wish: &'w Wish) -> Result<Self, Problem> {
        let connector = wish.connector.as_deref();
        let mut subscribed = ledger.subscribed()?;
        subscribed.retain(|it| connector.is_none_or(|name| it.connector == name));
        subscribed.retain(|it| wish.queue.as_ref().is_none_or(|name| it.queue == *name));
        Ok(Self {
            sought: Sought {
                connector: connector.map(|name| filter::number(ledger, name)).transpose()?,
                queue: wish.queue.as_deref(),
                since_ms: wish.since.as_deref().map_or(Ok(0), filter::since_ms)?,
            },
            state: wish.state.as_deref().map(state).transpose()?,
            subscribed,
            count: wish.limit.get(),
        })
    }

    fn means(&self, state: Stage) -> bool {
        self.state.is_none_or(|wanted| wanted == state)
    }

    /// Adds what comes after a delivery of a subscription that is not settled; where to go on.
    fn unfinished(
        &self,
        ledger: &Ledger,
        of: SubscriptionId,
        after: Origin,
        page: &mut Vec<Entry>,
    ) -> Result<Option<Cursor>, Problem> {
        let is_wanted = self.means(Stage::Waiting) || self.means(Stage::Retrying);
        let Some(subscribed) = self.subscribed.iter().find(|it| is_wanted && it.id >= of) else {
            return Ok(Some(Cursor::OF_HISTORY));
        };
        let after = if subscribed.id == of { after } else { Origin::Log(0) };
        let found = ledger.unfinished(subscribed.id, after, self.count - page.len())?;
        let Some(last) = found.last() else {
            return Ok(Some(Cursor::Unfinished(SubscriptionId(subscribed.id.0 + 1), Origin::Log(0))));
        };
        let next = Cursor::Unfinished(subscribed.id, last.origin);
        page.extend(found.iter().map(|found| entry(subscribed, found)).filter(|entry| self.means(entry.state)));
        Ok(Some(next))
    }

    /// Adds what the history has before a row; where to go on, unless it ends there.
    fn ended(&self, ledger: &Ledger, before: i64, page: &mut Vec<Entry>) -> Result<Option<Cursor>, Problem> {
        if self.state.is_some_and(|state| matches!(state, Stage::Waiting | Stage::Retrying)) {
            return Ok(None);
        }
        let found = ledger.last_attempts(&self.sought, before, self.count - page.len())?;
        let Some((last, _)) = found.last() else { return Ok(None) };
        let next = Cursor::History(*last);
        let names = names(ledger, &found)?;
        let (unfinished, dead) = self.not_settled(ledger, &names, &found)?;
        for (row, attempt) in &found {
            let connector = names.get(&attempt.connector).map(String::as_str).unwrap_or_default();
            let parts = Parts { connector, queue: &attempt.queue, message_id: &attempt.message_id };
            let entry = Entry::ended(parts, attempt, stage(attempt, dead.contains(row)));
            page.extend(Some(entry).filter(|entry| !unfinished.contains(row) && self.means(entry.state)));
        }
        Ok(Some(next))
    }

    /// The rows of attempts whose deliveries are not settled, and of those that are dead letters; where others alone are
    /// wanted, nobody is asked.
    fn not_settled(
        &self,
        ledger: &Ledger,
        names: &BTreeMap<ConnectorId, String>,
        attempts: &[(i64, Attempt)],
    ) -> Result<(HashSet<i64>, HashSet<i64>), Problem> {
        let (mut unfinished, mut dead) = (HashSet::new(), HashSet::new());
        let may_be_wanted = self.means(Stage::Settled) || self.means(Stage::Dead);
        for of in self.subscribed.iter().filter(|_| may_be_wanted) {
            let is_own = |attempt: &Attempt| {
                stage(attempt, false) == Stage::Settled
                    && attempt.queue == of.queue
                    && names.get(&attempt.connector) == Some(&of.connector)
            };
            let own: Vec<&(i64, Attempt)> = attempts.iter().filter(|(_, attempt)| is_own(attempt)).collect();
            if own.is_empty() {
                continue;
            }
            let ids: Vec<&str> = own.iter().map(|(_, attempt)| attempt.message_id.as_str()).collect();
            let (waiting, died) = (ledger.unfinished_of(of.id, &ids)?, ledger.dead_of(of.id, &ids)?);
            let rows_of = |found: &HashSet<String>| -> Vec<i64> {
                own.iter().filter(|(_, attempt)| found.contains(&attempt.message_id)).map(|(row, _)| *row).collect()
            };
            unfinished.extend(rows_of(&waiting));
            dead.extend(rows_of(&died));
        }
        Ok((unfinished, dead))
    }
}

/// The names of the connectors of attempts.
fn names(ledger: &Ledger, attempts: &[(i64, Attempt)]) -> Result<BTreeMap<ConnectorId, String>, Problem> {
    let ids: HashSet<_> = attempts.iter().map(|(_, attempt)| attempt.connector).collect();
    let named = ids.into_iter().map(|id| Ok((id, ledger.connector_name(id)?.unwrap_or_default())));
    named.collect::<anyhow::Result<_>>().map_err(Problem::from)
}

fn entry(of: &Subscribed, found: &Unfinished) -> Entry {
    let parts = Parts { connector: &of.connector, queue: &of.queue, message_id: &found.message_id };
    let state = if found.reason.is_some() { Stage::Retrying } else { Stage::Waiting };
    Entry {
        due_at: found.reason.as_ref().map(|_| rfc3339(found.due_ms)),
        reason: found.reason.clone(),
        ..Entry::of(parts, state, found.attempts, found.accepted_ms)
    }
}

fn state(text: &str) -> Result<Stage, Problem> {
    serde_json::from_value(serde_json::Value::from(text)).map_err(|_| {
        let states = "`waiting`, `retrying`, `dead`, `done`, `settled`, `cancelled` and `failed`";
        malformed(format!("`state` is one of {states}, not `{text}`"))
    })
}
