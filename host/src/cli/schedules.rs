//! `bulkhead schedules`: when each fires next, what its last tick came to, and firing one by hand.

use super::main::Failed;
use super::output::{print, table};
use super::target::Target;
use super::{Schedules, SchedulesVerb};
use crate::admin::api::schedules::{Entry, Fire, Fired};
use crate::config::Config;

/// Does what the arguments say.
///
/// # Errors
/// There is no such connector or schedule, or the ledger cannot be opened, read or changed.
pub async fn run(config: &Config, arguments: &Schedules, as_json: bool) -> Result<(), Failed> {
    let target = Target::find(config)?;
    let text = act(&target, arguments, as_json).await;
    target.close();
    Ok(print(&text?)?)
}

async fn act(target: &Target, arguments: &Schedules, as_json: bool) -> anyhow::Result<String> {
    let Some(SchedulesVerb::Fire { connector, schedule, at }) = &arguments.command else {
        let entries = target.schedules(arguments.next, arguments.from).await?;
        return Ok(if as_json { serde_json::to_string(&entries)? } else { list(&entries) });
    };
    let wanted = Fire { schedule: schedule.as_ref().map(ToString::to_string), at: at.map(|at| at.to_string()) };
    let fired = target.fire(connector.as_str(), &wanted).await?;
    Ok(if as_json {
        serde_json::to_string(&fired)?
    } else {
        said(connector.as_str(), &fired, matches!(target, Target::Running(_)))
    })
}

fn said(connector: &str, fired: &Fired, is_running: bool) -> String {
    let Fired { id, schedule, planned_at, duplicate } = fired;
    if *duplicate {
        format!("{connector} has the tick `{id}` of `{schedule}`, planned at {planned_at}, already: nothing is added")
    } else {
        let when = if is_running { "" } else { ", when the host runs: start it with `bulkhead run`" };
        format!("{connector} runs tick `{id}` of `{schedule}`, planned at {planned_at}{when}")
    }
}

/// A row for each schedule, and one for every further time.
fn list(entries: &[Entry]) -> String {
    let mut rows = Vec::new();
    for entry in entries {
        let none = || "-".to_owned();
        let mut times = entry.next.iter();
        let (planned_at, outcome) = entry
            .last
            .as_ref()
            .map_or_else(|| (none(), none()), |last| (last.planned_at.clone(), last.outcome.clone()));
        rows.push(vec![
            entry.connector.clone(),
            entry.schedule.clone(),
            times.next().cloned().unwrap_or_else(none),
            planned_at,
            outcome,
            entry.lag_seconds.map_or_else(none, |lag| format!("{lag:.3}s")),
        ]);
        rows.extend(times.map(|time| {
            let mut row = vec![String::new(); 6];
            row[2].clone_from(time);
            row
        }));
    }
    table(&["CONNECTOR", "SCHEDULE", "NEXT", "LAST", "OUTCOME", "LAG"], &rows)
}
