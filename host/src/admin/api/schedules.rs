//! Schedules over the API: when each fires next, what its last tick came to, and ticks that are fired by hand.
//!
//! Invariant: a planned time is one tick, whoever fires it and however often; its id says so.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::query::Asked;
use super::{Problem, malformed, of_append, unknown, unknown_connector};
use crate::admin::Admin;
use crate::audit::Event;
use crate::clock::rfc3339;
use crate::config::{self, Config};
use crate::id::Name;
use crate::ledger::{Directory, Ledger, ScheduleRow};
use crate::settlement::{ConnectorId, QueueId};
use crate::trigger::schedule::{MadeBy, Plan, Settings};

/// Times shown of each schedule, unless another number is asked for.
pub const NEXT: usize = 5;
/// The most of them.
pub const NEXT_MAX: usize = 1_000;

/// One schedule of the configuration, with where its ticks go.
#[derive(Clone, Debug)]
pub struct Scheduled {
    connector: Name,
    is_enabled: bool,
    id: ConnectorId,
    inbox: QueueId,
    lineage: String,
    settings: Settings,
    plan: Plan,
}

/// One schedule, as it stands.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Schedule")]
pub struct Entry {
    /// Whose it is.
    pub connector: String,
    /// Its name.
    pub schedule: String,
    /// The next planned times, as RFC 3339; none where the connector is not enabled.
    pub next: Vec<String>,
    /// What the tick that was attempted last came to.
    pub last: Option<Last>,
    /// How late the last tick was that the clock has made.
    pub lag_seconds: Option<f64>,
}

/// What a tick came to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "LastTick")]
pub struct Last {
    /// Its planned time, as RFC 3339.
    pub planned_at: String,
    /// `done`, `retry`, `dead` or `cancelled`.
    pub outcome: String,
    /// When the attempt was settled, as RFC 3339.
    pub ended_at: String,
}

/// Which schedule is fired, and for when.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fire {
    /// The schedule's name; may be left out where the connector has one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The planned time, as RFC 3339; now where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// A tick that was fired.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Fired {
    /// Its id.
    pub id: String,
    /// Of which schedule.
    pub schedule: String,
    /// Its planned time, as RFC 3339.
    pub planned_at: String,
    /// Whether there was a tick of this planned time already: then nothing was added.
    pub duplicate: bool,
}

/// `?next=N&from=TIME`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Planned times of each: 5 where it is left out, 1,000 at most.
    #[schemars(range(max = 1_000))]
    next: Option<usize>,
    /// After this time, as RFC 3339, and not after now.
    from: Option<String>,
}

impl Fired {
    /// For the audit record; nothing where nothing was added.
    #[must_use]
    pub fn event(&self, connector: &str) -> Option<Event> {
        let Self { id, schedule, planned_at, duplicate } = self;
        let text = format!("tick `{id}` of schedule `{schedule}`, planned at {planned_at}");
        (!duplicate).then(|| Event::action("schedules fire", &text).of(connector))
    }
}

/// Every schedule of a configuration.
#[must_use]
pub fn of_config(config: &Config, directory: &Directory) -> Vec<Scheduled> {
    let mut all = Vec::new();
    for connector in &config.connectors {
        let name = &connector.name;
        let Some((id, (inbox, _))) = directory.connector(name.as_str()).zip(directory.inbox(name)) else { continue };
        let lineage = directory.lineage(name.as_str()).unwrap_or(name.as_str()).to_owned();
        all.extend(connector.schedules.iter().map(|settings| Scheduled {
            connector: name.clone(),
            is_enabled: connector.enabled,
            id,
            inbox,
            lineage: lineage.clone(),
            settings: settings.clone(),
            plan: Plan::new(&lineage, settings),
        }));
    }
    all
}

/// How every schedule stands: `next` times after `from`, or after now.
///
/// # Errors
/// The ledger cannot be read.
pub fn list(
    ledger: &Ledger,
    schedules: &[Scheduled],
    next: usize,
    from: Option<Timestamp>,
) -> Result<Vec<Entry>, Problem> {
    let from_ms = from.map_or(ledger.clock().now_ms(), |from| u64::try_from(from.as_millisecond()).unwrap_or(0));
    let entry = |scheduled: &Scheduled| {
        let known = ledger.schedule(scheduled.id, &scheduled.settings.name)?;
        Ok(scheduled.entry(known, next.min(NEXT_MAX), from_ms))
    };
    schedules.iter().map(entry).collect()
}

/// Puts a tick into a connector's inbox; it is on disk when it answers.
///
/// # Errors
/// There is no such connector or schedule, or several to choose from; the connector is not enabled; the planned time is
/// none, or lies ahead; the disk is full, or the ledger cannot be changed.
pub async fn fire(
    ledger: &Ledger,
    directory: &Directory,
    schedules: &[Scheduled],
    connector: &str,
    wanted: &Fire,
) -> Result<Fired, Problem> {
    let scheduled = find(directory, schedules, connector, wanted.schedule.as_deref())?;
    if !scheduled.is_enabled {
        return Err(Problem::new(StatusCode::CONFLICT, format!("connector `{connector}` is not enabled")));
    }
    let now_ms = ledger.clock().now_ms();
    let planned_ms = wanted.at.as_deref().map_or(Ok(now_ms), parse_time)?;
    if planned_ms > now_ms {
        return Err(malformed("`at` lies ahead: its tick will be made when it is due".to_owned()));
    }
    let Scheduled { id: number, inbox, lineage, settings, .. } = scheduled;
    let draft = settings.tick(lineage, planned_ms, MadeBy::Hand);
    let (id, schedule) = (draft.id.clone(), settings.name.clone());
    let is_new = ledger.fire_tick(*number, &schedule, planned_ms, (*inbox, draft)).await.map_err(of_append)?;
    tracing::info!(connector, schedule, id, is_new, "an operator fired a schedule");
    Ok(Fired { id, schedule, planned_at: rfc3339(planned_ms), duplicate: !is_new })
}

impl Scheduled {
    pub(super) fn connector(&self) -> &str {
        self.connector.as_str()
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    /// When it fires, as it is configured.
    pub(super) fn times(&self) -> String {
        config::times(&self.settings)
    }

    /// So many planned times after `from_ms`; none where the connector is not enabled.
    pub(super) fn next(&self, count: usize, from_ms: u64) -> Vec<String> {
        let times = std::iter::successors(self.plan.after(from_ms), |planned_ms| self.plan.after(*planned_ms));
        times.take(if self.is_enabled { count } else { 0 }).map(rfc3339).collect()
    }

    fn entry(&self, known: ScheduleRow, next: usize, from_ms: u64) -> Entry {
        let seconds = |ms| std::time::Duration::from_millis(ms).as_secs_f64();
        Entry {
            connector: self.connector.to_string(),
            schedule: self.settings.name.clone(),
            next: self.next(next, from_ms),
            last: known.last_outcome.map(|last| Last {
                planned_at: rfc3339(last.planned_ms),
                outcome: last.outcome,
                ended_at: rfc3339(last.ended_ms),
            }),
            lag_seconds: known.last_lag_ms.map(seconds),
        }
    }
}

fn find<'s>(
    directory: &Directory,
    schedules: &'s [Scheduled],
    connector: &str,
    name: Option<&str>,
) -> Result<&'s Scheduled, Problem> {
    if directory.connector(connector).is_none() {
        return Err(unknown_connector(directory, connector));
    }
    let own: Vec<&Scheduled> = schedules.iter().filter(|it| it.connector.as_str() == connector).collect();
    match (name, &own[..]) {
        (_, []) => Err(Problem::new(StatusCode::CONFLICT, format!("connector `{connector}` has no schedule"))),
        (None, [one]) => Ok(one),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|it| it.settings.name.as_str()).collect();
            Err(malformed(format!("connector `{connector}` has several schedules, name one: {}", names.join(", "))))
        }
        (Some(name), own) => {
            let what = format!("connector `{connector}` has no schedule `{name}`");
            let known = own.iter().map(|it| it.settings.name.as_str());
            own.iter().find(|it| it.settings.name == name).copied().ok_or_else(|| unknown(&what, name, known))
        }
    }
}

fn parse_time(text: &str) -> Result<u64, Problem> {
    let time: Option<Timestamp> = text.parse().ok();
    let ms = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
    ms.ok_or_else(|| malformed(format!("`{text}` is not a time as in RFC 3339, such as `2026-03-01T09:00:00Z`")))
}

pub(super) async fn list_all(
    State(admin): State<Admin>,
    Asked(wanted): Asked<Wanted>,
) -> Result<Json<Vec<Entry>>, Problem> {
    let from = wanted.from.as_deref().map(parse_time).transpose()?;
    let from = from.and_then(|ms| Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok());
    Ok(Json(list(&admin.ledger, &admin.schedules, wanted.next.unwrap_or(NEXT), from)?))
}

pub(super) async fn fire_one(
    State(admin): State<Admin>,
    Path(connector): Path<String>,
    Json(wanted): Json<Fire>,
) -> Result<Json<Fired>, Problem> {
    admin.takes_work()?;
    let fired = fire(&admin.ledger, &admin.directory, &admin.schedules, &connector, &wanted).await?;
    fired.event(&connector).into_iter().for_each(|event| admin.audit.note(event));
    Ok(Json(fired))
}
