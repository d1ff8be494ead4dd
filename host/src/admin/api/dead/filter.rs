//! Which dead letters are meant.
//!
//! A filter is read once, into `Wanted`; letters are looked through in pages, and never held all at once: there may be
//! a million. Invariant: all that a filter says is true of a letter that it means.

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{group, no_letter};
use crate::admin::api::query::PageSize;
use crate::admin::api::{Problem, malformed, not_found};
use crate::ledger::{DeadSummary, Ledger};
use crate::settlement::ConnectorId;

/// Dead letters of one page.
pub(super) const PAGE: usize = 1_000;
/// Dead letters named by their ids at once: each is looked up alone.
const IDS_MAX: usize = 10_000;

/// What letters have in common.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Died in this connector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    /// Came from this queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The reason of the last attempt contains this text, in upper or lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reason of the last attempt is this one without its numbers and ids, as `reason` of a group is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Died at this time or later, as RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Have one of these ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
}

/// `?connector=NAME&queue=NAME&reason=TEXT&group=REASON&since=TIME&after=ID&limit=N`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin::api) struct Wish {
    /// Died in this connector.
    connector: Option<String>,
    /// Came from this queue.
    queue: Option<String>,
    /// The reason of the last attempt contains this text, in upper or lower case.
    reason: Option<String>,
    /// The reason of the last attempt is this one without its numbers and ids, as `reason` of a group is.
    group: Option<String>,
    /// Died at this time or later, as RFC 3339.
    since: Option<String>,
    /// The id of the last letter of the page before.
    pub(super) after: Option<String>,
    /// Letters of a page; 1,000 where it is left out.
    #[serde(default = "PageSize::largest")]
    pub(super) limit: PageSize,
}

/// `?connector=NAME&queue=NAME&reason=TEXT&group=REASON&since=TIME`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::admin::api) struct Which {
    /// Died in this connector.
    connector: Option<String>,
    /// Came from this queue.
    queue: Option<String>,
    /// The reason of the last attempt contains this text, in upper or lower case.
    reason: Option<String>,
    /// The reason of the last attempt is this one without its numbers and ids, as `reason` of a group is.
    group: Option<String>,
    /// Died at this time or later, as RFC 3339.
    since: Option<String>,
}

impl Filter {
    /// As the query of a request, all but the ids.
    #[must_use]
    pub fn query(&self) -> String {
        let Self { connector, queue, reason, group, since, ids: _ } = self;
        let pairs =
            [("connector", connector), ("queue", queue), ("reason", reason), ("group", group), ("since", since)];
        let given = pairs.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish()
    }
}

impl Wish {
    pub(super) fn filter(self) -> Filter {
        let Self { connector, queue, reason, group, since, after: _, limit: _ } = self;
        Filter { connector, queue, reason, group, since, ids: None }
    }
}

impl Which {
    pub(super) fn filter(self) -> Filter {
        let Self { connector, queue, reason, group, since } = self;
        Filter { connector, queue, reason, group, since, ids: None }
    }
}

/// A filter that was read.
pub(super) struct Wanted<'f> {
    connector: Option<ConnectorId>,
    connector_name: Option<&'f str>,
    queue: Option<&'f str>,
    /// In lower case.
    reason: Option<String>,
    group: Option<&'f str>,
    since_ms: u64,
}

impl<'f> Wanted<'f> {
    /// # Errors
    /// There is no such connector, or `since` is no time.
    pub(super) fn of(ledger: &Ledger, filter: &'f Filter) -> Result<Self, Problem> {
        let connector = filter.connector.as_deref().map(|name| number(ledger, name)).transpose()?;
        Ok(Self {
            connector,
            connector_name: filter.connector.as_deref(),
            queue: filter.queue.as_deref(),
            reason: filter.reason.as_ref().map(|text| text.to_lowercase()),
            group: filter.group.as_deref(),
            since_ms: filter.since.as_deref().map_or(Ok(0), since_ms)?,
        })
    }

    fn means(&self, letter: &DeadSummary) -> bool {
        letter.died_ms >= self.since_ms
            && self.connector_name.is_none_or(|name| letter.connector == name)
            && self.queue.is_none_or(|name| letter.queue == name)
            && self.reason.as_ref().is_none_or(|text| letter.reason.to_lowercase().contains(text))
            && self.group.is_none_or(|common| group::common(&letter.reason) == common)
    }

    /// The next ones after letter `after`, `count` at most; none where there are no more.
    pub(super) fn page(&self, ledger: &Ledger, after: i64, count: usize) -> Result<Vec<DeadSummary>, Problem> {
        let (mut meant, mut after) = (Vec::new(), after);
        while meant.len() < count {
            let looked_at = ledger.dead_list(self.connector, after, PAGE)?;
            let is_last = looked_at.len() < PAGE;
            after = looked_at.last().map_or(after, |letter| letter.id);
            meant.extend(looked_at.into_iter().filter(|letter| self.means(letter)));
            if is_last {
                break;
            }
        }
        meant.truncate(count);
        Ok(meant)
    }

    /// Shows all of them to `look`, until it refuses one.
    pub(super) fn each(
        &self,
        ledger: &Ledger,
        mut look: impl FnMut(&DeadSummary) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let mut after = 0;
        loop {
            let page = self.page(ledger, after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id;
            page.iter().try_for_each(&mut look)?;
        }
    }
}

/// The letters that a filter means, each once; one that `check` refuses refuses them all. Only their numbers are kept.
pub(super) fn select(
    ledger: &Ledger,
    filter: &Filter,
    check: impl Fn(&DeadSummary) -> Result<(), Problem>,
) -> Result<Vec<i64>, Problem> {
    let wanted = Wanted::of(ledger, filter)?;
    let mut all = Vec::new();
    let mut keep = |letter: &DeadSummary| {
        check(letter)?;
        all.push(letter.id);
        Ok(())
    };
    match &filter.ids {
        Some(ids) if ids.len() > IDS_MAX => {
            return Err(malformed(format!("`ids` are {IDS_MAX} at most, not {}: ask several times", ids.len())));
        }
        Some(ids) => {
            let mut seen = BTreeSet::new();
            let once = ids.iter().filter(|id| seen.insert(id.parse::<i64>().ok()));
            once.into_iter().try_for_each(|id| keep(&named(ledger, id, &wanted)?))?;
        }
        None => wanted.each(ledger, keep)?,
    }
    Ok(all)
}

/// A letter by its id, of which all else must be true too.
fn named(ledger: &Ledger, id: &str, wanted: &Wanted<'_>) -> Result<DeadSummary, Problem> {
    let number: i64 = id.parse().map_err(|_| no_letter(id))?;
    let mut found = ledger.dead_list(None, number.saturating_sub(1), 1)?;
    found.pop().filter(|letter| letter.id == number && wanted.means(letter)).ok_or_else(|| no_letter(id))
}

/// A time in a query, in milliseconds since the Unix epoch.
pub(in crate::admin::api) fn since_ms(text: &str) -> Result<u64, Problem> {
    let since: Result<Timestamp, _> = text.parse();
    let since =
        since.map_err(|_| malformed(format!("`since` is a time such as 2026-03-01T09:00:00Z, not `{text}`")))?;
    Ok(u64::try_from(since.as_millisecond()).unwrap_or(0))
}

/// A connector's number, also of one that has left the configuration.
pub(in crate::admin::api) fn number(ledger: &Ledger, connector: &str) -> Result<ConnectorId, Problem> {
    ledger.dead_connector(connector)?.ok_or_else(|| not_found(format!("there is no connector `{connector}`")))
}
