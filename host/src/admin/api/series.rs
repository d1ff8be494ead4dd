//! The figures of the last hour over the API, as columns of numbers: they are drawn.
//!
//! Invariant: all columns have the same length, the oldest step first; the last step is under way.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::query::Asked;
use super::{Problem, malformed, number, unknown_queue};
use crate::admin::Admin;
use crate::clock::{rfc3339, wall_ms};
use crate::host::series::{Flow, Hour, Level, Observed, STEP, Scope};
use crate::id::Name;

/// `?connector=NAME` or `?queue=NAME`; the whole host without either.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    /// Of this connector.
    connector: Option<String>,
    /// Of this queue, with those who read it.
    queue: Option<String>,
}

/// The last hour, step by step.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Series {
    /// How long a step is.
    pub step_seconds: u64,
    /// How long the last step is by now.
    pub last_step_seconds: f64,
    /// Now, as RFC 3339: where the last step ends.
    pub end: String,
    /// Deliveries settled with success; of a queue, by the connectors that read it.
    pub done: Vec<u32>,
    /// Deliveries put off.
    pub retry: Vec<u32>,
    /// Deliveries that became dead letters.
    pub dead: Vec<u32>,
    /// The time that half of the attempts stayed within.
    pub p50_ms: Vec<Option<f32>>,
    /// The time that 99 of 100 stayed within.
    pub p99_ms: Vec<Option<f32>>,
    /// Messages not settled when the step ended.
    pub backlog: Vec<u32>,
    /// Age of the oldest of them.
    pub oldest_seconds: Vec<Option<u32>>,
    /// Of a queue: the connectors that read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<BTreeMap<String, Levels>>,
}

/// How one subscription stood at the end of each step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Levels {
    /// Messages not settled.
    pub backlog: Vec<u32>,
    /// Age of the oldest of them.
    pub oldest_seconds: Vec<Option<u32>>,
}

impl Levels {
    fn of(levels: &[Level]) -> Self {
        Self {
            backlog: levels.iter().map(|level| level.backlog).collect(),
            oldest_seconds: levels.iter().map(|level| level.oldest_seconds).collect(),
        }
    }
}

impl Series {
    fn of(scope: &Scope, hour: &Hour) -> Self {
        let column = |value: fn(&Flow) -> u32| hour.flows.iter().map(value).collect();
        let ms = |value: fn(&Flow) -> Option<f32>| {
            hour.flows.iter().map(|flow| value(flow).map(|seconds| seconds * 1_000.0)).collect()
        };
        let Levels { backlog, oldest_seconds } = Levels::of(&hour.levels);
        let by_connector = || hour.subscriptions.iter().map(|(name, levels)| (name.to_string(), Levels::of(levels)));
        Self {
            step_seconds: STEP.as_secs(),
            last_step_seconds: hour.last_step.as_secs_f64(),
            end: rfc3339(wall_ms()),
            done: column(|flow| flow.done),
            retry: column(|flow| flow.retry),
            dead: column(|flow| flow.dead),
            p50_ms: ms(|flow| flow.p50_seconds),
            p99_ms: ms(|flow| flow.p99_seconds),
            backlog,
            oldest_seconds,
            subscriptions: matches!(scope, Scope::Queue(_)).then(|| by_connector().collect()),
        }
    }
}

pub(super) async fn show(State(admin): State<Admin>, Asked(wish): Asked<Wish>) -> Result<Json<Series>, Problem> {
    let (scope, reports) = match wish {
        Wish { connector: None, queue: None } => (Scope::Host, admin.ledger.queues()?),
        Wish { connector: Some(name), queue: None } => {
            number(&admin, &name)?;
            (Scope::Connector(Name::stored(&name)), admin.ledger.queues_read_by(&name)?)
        }
        Wish { connector: None, queue: Some(name) } => {
            let report = admin.ledger.queue_report(&name)?;
            let report = report.ok_or_else(|| unknown_queue(&admin.directory, &name))?;
            (Scope::Queue(Name::stored(&name)), vec![report])
        }
        Wish { connector: Some(_), queue: Some(_) } => {
            return Err(malformed("give `connector` or `queue`, not both".to_owned()));
        }
    };
    let observed = Observed::now(&admin.connectors.borrow(), &reports);
    Ok(Json(Series::of(&scope, &admin.series.hour(&scope, &observed))))
}
