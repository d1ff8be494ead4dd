//! `schedule` of a connector: a period or a cron expression, and what holds between its keys.
//!
//! Invariant: a schedule that can never fire is a problem where it is written; one whose end has come is not, or a host
//! could not be started again on the day after.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::document::Place;
use super::problem::{Report, closest};
use super::view::View;
use crate::clock;
use crate::trigger::cron::Cron;
use crate::trigger::overlap::Overlap;
use crate::trigger::schedule::{CatchUp, Plan, Settings, When};

/// Ticks whose distance is compared with `jitter`.
const COMPARED: usize = 50;

/// Reads every schedule; those that miss something have been reported and are left out.
pub(super) fn schedules(connector: &View<'_>, report: &mut Report<'_>) -> Vec<Settings> {
    let mut schedules: Vec<Settings> = Vec::new();
    let mut names: Vec<(&str, Place)> = Vec::new();
    for view in connector.children("schedule") {
        let name = view.text("name").unwrap_or_default();
        if let Some((_, first)) = names.iter().find(|(other, _)| *other == name) {
            let message = format!("a second schedule named `{name}`");
            let help = "give each schedule of the connector a `name` of its own";
            report.clash((view.place_of("name"), &view.path_of("name")), message, help, (*first, "the first one"));
        }
        names.push((name, view.place_of("name")));
        schedules.extend(schedule(name, &view, report));
    }
    schedules
}

fn schedule(name: &str, view: &View<'_>, report: &mut Report<'_>) -> Option<Settings> {
    let settings = Settings {
        name: name.to_owned(),
        when: when(view, report)?,
        start_ms: time(view, "start", report),
        end_ms: time(view, "end", report),
        jitter: view.duration("jitter"),
        overlap: overlap(view),
        catch_up: catch_up(view),
        window: view.duration("window"),
        input: view.json("input").map(|input| input.to_string()),
    };
    check_catch_up(&settings, view, report);
    check_times(&settings, view, report);
    Some(settings)
}

fn when(view: &View<'_>, report: &mut Report<'_>) -> Option<When> {
    let zone = zone(view, report);
    match (view.has("every"), view.has("cron")) {
        (true, false) => {
            if view.has("timezone") {
                let help = "take it out, or write `cron` instead of `every`";
                report.problem(view.place_of("timezone"), &view.path_of("timezone"), "a period has no time zone", help);
            }
            // What is wrong with it has been reported.
            view.duration_if("every").filter(|period| !period.is_zero()).map(When::Every)
        }
        (false, true) => cron(view, zone?, report).map(|cron| When::Cron(Arc::new(cron))),
        (true, true) => {
            let help = "keep one of `every` and `cron`";
            report.problem(view.place_of("cron"), &view.path_of("cron"), "says several things", help);
            None
        }
        // Most likely it stands there misspelt.
        (false, false) if view.has_unknown() => None,
        (false, false) => {
            let help = "add `every = \"5m\"`, or `cron = \"0 9 * * MON-FRI\"`";
            report.problem(view.place, &view.path, "says nothing of when", help);
            None
        }
    }
}

fn cron(view: &View<'_>, zone: TimeZone, report: &mut Report<'_>) -> Option<Cron> {
    let (place, path) = (view.place_of("cron"), view.path_of("cron"));
    let help = "use five fields (minute, hour, day of the month, month, day of the week), or six with seconds in front, as in \"0 9 * * MON-FRI\"; or \"@hourly\", \"@daily\", \"@weekly\", \"@monthly\", \"@yearly\"";
    match Cron::parse(view.text("cron")?, zone) {
        Ok(cron) => Some(cron),
        Err(error) => {
            report.problem(place, &path, format!("not a cron expression: {error}"), help);
            None
        }
    }
}

/// By the rules of the machine; where it does not know the zone, by those that came with this program.
fn zone(view: &View<'_>, report: &mut Report<'_>) -> Option<TimeZone> {
    let name = view.text("timezone")?;
    let bundled = TimeZoneDatabase::bundled();
    if let Ok(zone) = TimeZone::get(name).or_else(|_| bundled.get(name)) {
        return Some(zone);
    }
    let known: Vec<String> = bundled.available().map(|name| name.to_string()).collect();
    let help = match closest(name, known.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => "use a name such as \"Europe/Berlin\"".to_owned(),
    };
    report.problem(view.place_of("timezone"), &view.path_of("timezone"), "not a time zone of the IANA database", help);
    None
}

/// A time as RFC 3339, in milliseconds since the Unix epoch.
fn time(view: &View<'_>, key: &str, report: &mut Report<'_>) -> Option<u64> {
    let text = view.time(key)?;
    let time: Option<Timestamp> = text.parse().ok();
    let ms = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
    if ms.is_none() {
        let help = "write it with its offset, as in \"2026-03-01T09:00:00Z\" or \"2026-03-01T09:00:00+01:00\"";
        report.problem(view.place_of(key), &view.path_of(key), "not a time as in RFC 3339", help);
    }
    ms
}

fn overlap(view: &View<'_>) -> Overlap {
    match view.text("overlap") {
        Some("queue_one") => Overlap::QueueOne,
        Some("queue_all") => Overlap::QueueAll,
        Some("cancel") => Overlap::Cancel,
        _ => Overlap::Skip,
    }
}

fn catch_up(view: &View<'_>) -> CatchUp {
    match view.text("catch_up") {
        Some("none") => CatchUp::None,
        Some("all") => CatchUp::All,
        _ => CatchUp::Once,
    }
}

fn check_catch_up(settings: &Settings, view: &View<'_>, report: &mut Report<'_>) {
    if settings.catch_up == CatchUp::All && settings.overlap == Overlap::Cancel {
        let message = "the ticks that are made up for would cancel each other";
        let help = "use `catch_up = \"once\"`, or another `overlap`";
        report.problem(view.place_of("catch_up"), &view.path_of("catch_up"), message, help);
    }
}

/// Whether it ever fires, and ticks lie further apart than they are put off.
fn check_times(settings: &Settings, view: &View<'_>, report: &mut Report<'_>) {
    let start_ms = settings.start_ms.unwrap_or(0);
    let plan = Plan::new("", &Settings { end_ms: None, ..settings.clone() });
    let Some(first_ms) = plan.after(start_ms.saturating_sub(1)) else {
        let help = "no day is like that: look at the day of the month, the month and the day of the week";
        return report.problem(view.place_of("cron"), &view.path_of("cron"), "never fires", help);
    };
    if let Some(end_ms) = settings.end_ms {
        check_end(settings, first_ms, end_ms, view, report);
    }
    let times = std::iter::successors(Some(first_ms), |time_ms| plan.after(*time_ms)).take(COMPARED);
    let times: Vec<u64> = times.collect();
    let closest_ms = times.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(u64::MAX);
    if settings.jitter > Duration::from_millis(closest_ms) {
        let message = "a tick could be put off beyond the next one";
        let help = "write a `jitter` no longer than the time from one tick to the next";
        report.problem(view.place_of("jitter"), &view.path_of("jitter"), message, help);
    }
}

/// Whether a tick comes before the end, and the end after now.
fn check_end(settings: &Settings, first_ms: u64, end_ms: u64, view: &View<'_>, report: &mut Report<'_>) {
    let (place, path) = (view.place_of("end"), view.path_of("end"));
    let start_ms = settings.start_ms.unwrap_or(0);
    if end_ms < start_ms {
        return report.problem(place, &path, "the schedule ends before it starts", "write a time after `start`");
    }
    let fires = match settings.when {
        // Where in a period the phase lies is not known here.
        When::Every(period) => u128::from(end_ms - start_ms) >= period.as_millis(),
        When::Cron(_) => first_ms <= end_ms,
    };
    if !fires {
        let message = "never fires: no tick comes between `start` and `end`";
        return report.problem(place, &path, message, "write a later time");
    }
    let now_ms = Timestamp::try_from(clock::wall()).map_or(0, Timestamp::as_millisecond);
    if i64::try_from(end_ms).is_ok_and(|end_ms| end_ms < now_ms) {
        let help = "take the schedule out, or write a later time";
        report.warning(place, &path, "this time has come: the schedule fires no more", help);
    }
}
