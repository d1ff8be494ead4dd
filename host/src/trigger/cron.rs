//! Times of a cron expression in a time zone.
//!
//! The syntax and the days are croner's; how the clock of a zone is followed is decided here, by the practice of Vixie
//! cron, which no crate follows. An expression whose minute or hour begins with `*` runs by the real time that passes: a
//! skipped hour is left out, a repeated one runs twice. Any other one names times of the day: a time that is skipped
//! runs once, right after the gap, and one that is repeated runs at the first of the two. Invariant: times come in whole
//! seconds, each later than the one before.

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::{CronPattern, Weekday};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};

/// How far ahead a time is looked for. 29 February on a given day of the week comes within 40 years.
const YEARS_MAX: i32 = 100;

/// A cron expression that was read, and its zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Cron {
    days: CronPattern,
    hours: Vec<i8>,
    minutes: Vec<i8>,
    seconds: Vec<i8>,
    zone: TimeZone,
    runs_by: RunsBy,
}

/// What a change of the clock does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunsBy {
    /// It names times of the day.
    TimeOfDay,
    /// It names minutes or hours that come again and again.
    RealTime,
}

impl Cron {
    /// Reads an expression of five fields, or six with seconds in front, or `@daily` and the like.
    ///
    /// # Errors
    /// It is none; the text says why.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, String> {
        let text = if text.trim().eq_ignore_ascii_case("@midnight") { "@daily" } else { text };
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let days = parser.parse(&in_vixies_way(text)).map_err(|error| reason(text, error))?.pattern;
        // Nicknames are spelt out in it.
        let is_star = |field: Option<&str>| field.is_some_and(|field| field.starts_with('*'));
        let mut fields = days.as_str().split_whitespace().rev().skip(3);
        let by_hour = is_star(fields.next());
        let by_minute = is_star(fields.next());
        let runs_by = if by_hour || by_minute { RunsBy::RealTime } else { RunsBy::TimeOfDay };
        let values = |values: Vec<u16>| values.into_iter().filter_map(|value| i8::try_from(value).ok()).collect();
        let (hours, minutes) = (values(days.hours.values()), values(days.minutes.values()));
        Ok(Self { hours, minutes, seconds: values(days.seconds.values()), days, zone, runs_by })
    }

    /// The first time after `second`, in seconds since the Unix epoch; `None` where none comes in a hundred years.
    #[must_use]
    pub fn after(&self, second: i64) -> Option<i64> {
        let from = Timestamp::from_second(second).ok()?;
        let last = self.zone.to_datetime(from).date().saturating_add(Span::new().years(YEARS_MAX));
        match self.runs_by {
            RunsBy::RealTime => self.after_in_real_time(second, last),
            RunsBy::TimeOfDay => self.after_by_time_of_day(second, last),
        }
    }

    /// Looks through one stretch after the other in which the zone's offset stays the same.
    fn after_in_real_time(&self, second: i64, last: Date) -> Option<i64> {
        let mut start = Timestamp::from_second(second.checked_add(1)?).ok()?;
        loop {
            let offset = self.zone.to_offset(start);
            let wanted = self.matching(offset.to_datetime(start), last)?;
            let found = offset.to_timestamp(wanted).ok()?;
            match self.zone.following(start).next().map(|transition| transition.timestamp()) {
                Some(change) if change <= found => start = change,
                _ => return Some(found.as_second()),
            }
        }
    }

    /// Each time of a day stands for one moment, also one that the clock skips or repeats.
    fn after_by_time_of_day(&self, second: i64, last: Date) -> Option<i64> {
        let mut local = self.zone.to_datetime(Timestamp::from_second(second).ok()?);
        loop {
            local = self.matching(local.checked_add(Span::new().seconds(1)).ok()?, last)?;
            let found = self.moment_of(local)?.as_second();
            // Within a repeated hour, what was there the first time is over.
            if found > second {
                return Some(found);
            }
        }
    }

    fn moment_of(&self, local: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(local).ok()
            }
            AmbiguousOffset::Gap { before, .. } => {
                let beyond = before.to_timestamp(local).ok()?.checked_add(Span::new().seconds(1)).ok()?;
                Some(self.zone.preceding(beyond).next()?.timestamp())
            }
        }
    }

    /// The first time on the clock, from `from` on, that the expression names.
    fn matching(&self, from: DateTime, last: Date) -> Option<DateTime> {
        let (mut date, mut time) = (from.date(), from.time());
        while date <= last {
            let is_month = self.days.month_match(u32::try_from(date.month()).ok()?).ok()?;
            if is_month
                && self.is_day(date)?
                && let Some(time) = self.time_from(time)
            {
                return Some(date.to_datetime(time));
            }
            date = if is_month { date.tomorrow() } else { date.last_of_month().tomorrow() }.ok()?;
            time = Time::midnight();
        }
        None
    }

    fn is_day(&self, date: Date) -> Option<bool> {
        let (month, day) = (u32::try_from(date.month()).ok()?, u32::try_from(date.day()).ok()?);
        let weekday = u32::try_from(date.weekday().to_sunday_zero_offset()).ok()?;
        self.days.day_match(date.year().into(), month, day, Weekday::from_days_from_sunday(weekday)).ok()
    }

    /// The first time of a day, from `from` on.
    fn time_from(&self, from: Time) -> Option<Time> {
        for hour in self.hours.iter().copied().filter(|hour| *hour >= from.hour()) {
            let minute_min = if hour == from.hour() { from.minute() } else { 0 };
            for minute in self.minutes.iter().copied().filter(|minute| *minute >= minute_min) {
                let is_same = (hour, minute) == (from.hour(), from.minute());
                let second_min = if is_same { from.second() } else { 0 };
                if let Some(second) = self.seconds.iter().copied().find(|second| *second >= second_min) {
                    return Time::new(hour, minute, second, 0).ok();
                }
            }
        }
        None
    }
}

/// The same expression for croner, which reads two things otherwise. To Vixie cron a field that begins with `*` restricts
/// no days by itself, so that both fields have to fit, which croner does only where `+` asks for it; and `SUN` is the last
/// day of a range to croner, so that `SUN-SUN` would be every day.
fn in_vixies_way(text: &str) -> String {
    let mut fields: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if let [.., days, _, weekdays] = fields.as_mut_slice() {
        let is_sunday = |item: &str| item.split('/').next().is_some_and(|range| range.eq_ignore_ascii_case("SUN-SUN"));
        let items: Vec<&str> = weekdays.split(',').map(|item| if is_sunday(item) { "SUN" } else { item }).collect();
        let needs_both = days.starts_with('*') || weekdays.starts_with('*');
        let plus = if needs_both && !weekdays.starts_with('+') { "+" } else { "" };
        *weekdays = format!("{plus}{}", items.join(","));
    }
    fields.join(" ")
}

/// Why a text is no expression, for people.
fn reason(text: &str, error: CronError) -> String {
    match error {
        CronError::EmptyPattern => "it is empty".to_owned(),
        CronError::InvalidPattern(_) => match text.split_whitespace().count() {
            1 => "it has one field".to_owned(),
            count => format!("it has {count} fields"),
        },
        // What follows repeats the expression, which may be anything.
        CronError::IllegalCharacters(what) => {
            let what = what.split(" in part ").next().unwrap_or_default();
            what.trim_start_matches("CronPattern ").trim_end_matches('.').to_lowercase()
        }
        CronError::ComponentError(what) => what.trim_end_matches('.').to_lowercase(),
        error => error.to_string(),
    }
}
