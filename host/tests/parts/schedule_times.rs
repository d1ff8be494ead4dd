//! The times of cron expressions, against a second way to find them: a walk through every minute.

use std::collections::BTreeSet;

use bulkhead_host::trigger::cron::Cron;
use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use proptest::prelude::*;

/// Zones, and a time (UTC) about which their clocks change.
const CHANGES: [(&str, &str); 14] = [
    ("America/New_York", "2026-03-08T07:00:00Z"),
    ("America/New_York", "2026-11-01T06:00:00Z"),
    ("Europe/Berlin", "2026-03-29T01:00:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z"),
    // By a quarter of an hour.
    ("Asia/Kathmandu", "1985-12-31T18:30:00Z"),
    ("Africa/Casablanca", "2026-02-15T02:00:00Z"),
    ("Africa/Casablanca", "2026-03-22T02:00:00Z"),
    // At midnight.
    ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
    ("America/Sao_Paulo", "2018-02-18T02:00:00Z"),
    // A day that never was.
    ("Pacific/Apia", "2011-12-30T10:00:00Z"),
    ("Europe/Dublin", "2026-03-29T01:00:00Z"),
    ("UTC", "2026-02-28T12:00:00Z"),
];

/// One field: what is written, and the values that it stands for.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    values: BTreeSet<i8>,
}

impl Field {
    fn is_star(&self) -> bool {
        self.text.starts_with('*')
    }
}

fn every(min: i8, max: i8) -> Field {
    Field { text: "*".to_owned(), values: (min..=max).collect() }
}

fn field(min: i8, max: i8) -> impl Strategy<Value = Field> {
    let all = move |step: i8| (min..=max).step_by(usize::try_from(step).unwrap()).collect::<BTreeSet<_>>();
    prop_oneof![
        3 => Just(every(min, max)),
        1 => (2..=max).prop_map(move |step| Field { text: format!("*/{step}"), values: all(step) }),
        4 => prop::collection::btree_set(min..=max, 1..4).prop_map(|values| {
            let text = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            Field { text, values }
        }),
        2 => (min..=max, min..=max, 1..5_i8).prop_map(|(one, other, step)| {
            let (first, last) = (one.min(other), one.max(other));
            let values = (first..=last).step_by(usize::try_from(step).unwrap()).collect();
            Field { text: format!("{first}-{last}/{step}"), values }
        }),
    ]
}

/// A day of the month or of the week that depends on the month.
#[derive(Clone, Copy, Debug)]
enum Special {
    LastDay,
    NearestWeekday(i8),
    LastWeekday(i8),
    Nth(i8, i8),
}

impl Special {
    fn text(self) -> (String, String) {
        let star = "*".to_owned();
        match self {
            Self::LastDay => ("L".to_owned(), star),
            Self::NearestWeekday(day) => (format!("{day}W"), star),
            Self::LastWeekday(weekday) => (star, format!("{weekday}L")),
            Self::Nth(weekday, nth) => (star, format!("{weekday}#{nth}")),
        }
    }

    fn is_on(self, at: DateTime) -> bool {
        let (day, weekday) = (at.day(), at.weekday().to_sunday_zero_offset());
        match self {
            Self::LastDay => day == at.date().days_in_month(),
            Self::LastWeekday(wanted) => weekday == wanted && day + 7 > at.date().days_in_month(),
            Self::Nth(wanted, nth) => weekday == wanted && (day - 1) / 7 + 1 == nth,
            Self::NearestWeekday(wanted) => nearest_weekday(at, wanted) == Some(day),
        }
    }
}

/// The working day nearest to a day, in the same month.
fn nearest_weekday(at: DateTime, wanted: i8) -> Option<i8> {
    let is_working = |day: i8| {
        let date = at.date().with().day(day).build().ok()?;
        Some(!matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday))
    };
    is_working(wanted)?;
    [0, -1, 1, -2, 2].map(|distance| wanted + distance).into_iter().find(|day| is_working(*day) == Some(true))
}

#[derive(Clone, Debug)]
struct Expression {
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
    special: Option<Special>,
}

impl Expression {
    fn text(&self) -> String {
        let plain = (self.day.text.clone(), self.weekday.text.clone());
        let (day, weekday) = self.special.map_or(plain, Special::text);
        format!("{} {} {day} {} {weekday}", self.minute.text, self.hour.text, self.month.text)
    }

    fn is_on(&self, at: DateTime) -> bool {
        let is_day = match self.special {
            Some(special) => special.is_on(at),
            None => {
                let day = self.day.values.contains(&at.day());
                let weekday = self.weekday.values.contains(&at.weekday().to_sunday_zero_offset());
                // Where both restrict the days, one of them is enough.
                if self.day.is_star() || self.weekday.is_star() { day && weekday } else { day || weekday }
            }
        };
        let is_time = self.hour.values.contains(&at.hour()) && self.minute.values.contains(&at.minute());
        is_day && is_time && self.month.values.contains(&at.month())
    }
}

fn expression() -> impl Strategy<Value = Expression> {
    let special = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Special::LastDay)),
        1 => (1..=31_i8).prop_map(|day| Some(Special::NearestWeekday(day))),
        1 => (0..=6_i8).prop_map(|day| Some(Special::LastWeekday(day))),
        1 => (0..=6_i8, 1..=5_i8).prop_map(|(day, nth)| Some(Special::Nth(day, nth))),
    ];
    // Most of them fire on most days, so that the changes of the clock are met.
    let often = |min, max, strategy| prop_oneof![3 => Just(every(min, max)), 1 => strategy];
    let (day, month, weekday) = (often(1, 31, field(1, 31)), often(1, 12, field(1, 12)), often(0, 6, field(0, 6)));
    (field(0, 59), field(0, 23), day, month, weekday, special).prop_map(
        |(minute, hour, day, month, weekday, special)| Expression { minute, hour, day, month, weekday, special },
    )
}

/// Every minute that fires: by real time each that is named; otherwise the first one with each time of the day, and the
/// end of a gap in which a time was skipped.
fn by_walking(expression: &Expression, zone: &TimeZone, minutes: std::ops::Range<i64>) -> Vec<i64> {
    let by_real_time = expression.minute.is_star() || expression.hour.is_star();
    let local = |minute: i64| zone.to_datetime(Timestamp::from_second(minute * 60).unwrap());
    let mut latest = local(minutes.start - 1);
    let mut fires = Vec::new();
    for minute in minutes {
        let now = local(minute);
        if by_real_time {
            fires.extend(expression.is_on(now).then_some(minute * 60));
            continue;
        }
        let mut is_due = false;
        while latest < now {
            latest = latest.checked_add(Span::new().minutes(1)).unwrap();
            is_due |= expression.is_on(latest);
        }
        fires.extend(is_due.then_some(minute * 60));
    }
    fires
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_next_time_is_the_one_that_a_walk_through_every_minute_finds(
        expression in expression(),
        (zone, about) in prop::sample::select(&CHANGES[..]),
        offset_seconds in -60..60_i64,
    ) {
        let zone = TimeZone::get(zone).unwrap();
        let cron = Cron::parse(&expression.text(), zone.clone()).unwrap();
        let about = about.parse::<Timestamp>().unwrap().as_second() / 60;
        let minutes = about - 3 * 1_440..about + 3 * 1_440;
        let expected = by_walking(&expression, &zone, minutes.clone());
        let times = std::iter::successors(cron.after(minutes.start * 60 - 1), |second| cron.after(*second));
        let found: Vec<i64> = times.take_while(|second| *second < minutes.end * 60).collect();
        prop_assert_eq!(&found, &expected, "{} in {:?}", expression.text(), zone.iana_name());
        // From anywhere else the answer is the same one.
        let from = about * 60 + offset_seconds * 61;
        let next = cron.after(from).filter(|second| *second < minutes.end * 60);
        prop_assert_eq!(next, expected.into_iter().find(|second| *second > from), "{}", expression.text());
    }
}

fn times(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let zone = TimeZone::get(zone).unwrap();
    let cron = Cron::parse(cron, zone.clone()).unwrap();
    let from = from.parse::<Timestamp>().unwrap().as_second();
    let times = std::iter::successors(cron.after(from), |second| cron.after(*second)).take(count);
    let shown = |second| Timestamp::from_second(second).unwrap().display_with_offset(offset(&zone, second)).to_string();
    times.map(shown).collect()
}

fn offset(zone: &TimeZone, second: i64) -> jiff::tz::Offset {
    zone.to_offset(Timestamp::from_second(second).unwrap())
}

#[test]
fn a_time_that_is_skipped_runs_once_right_after_the_gap() {
    let found = times("15,45 2,4 * * *", "Europe/Berlin", "2026-03-28T22:00:00Z", 3);
    assert_eq!(found, ["2026-03-29T03:00:00+02:00", "2026-03-29T04:15:00+02:00", "2026-03-29T04:45:00+02:00"]);
}

#[test]
fn a_time_that_comes_twice_runs_at_the_first_of_the_two() {
    let found = times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
    assert_eq!(found, ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]);
}

#[test]
fn a_time_of_every_hour_runs_in_every_hour_that_passes() {
    let found = times("30 * * * *", "Europe/Berlin", "2026-10-24T23:45:00Z", 3);
    assert_eq!(found, ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"]);
    let found = times("30 * * * *", "Europe/Berlin", "2026-03-28T23:45:00Z", 2);
    assert_eq!(found, ["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"]);
}

#[test]
fn seconds_and_nicknames_are_known() {
    let found = times("*/20 59 23 * * *", "UTC", "2026-01-01T00:00:00Z", 4);
    let day = "2026-01-01T23:59";
    assert_eq!(found[..3], [format!("{day}:00+00:00"), format!("{day}:20+00:00"), format!("{day}:40+00:00")]);
    assert_eq!(found[3], "2026-01-02T23:59:00+00:00");
    for (nickname, next) in [
        ("@hourly", "2026-01-01T01:00:00+00:00"),
        ("@daily", "2026-01-02T00:00:00+00:00"),
        ("@midnight", "2026-01-02T00:00:00+00:00"),
        ("@weekly", "2026-01-04T00:00:00+00:00"),
        ("@monthly", "2026-02-01T00:00:00+00:00"),
        ("@yearly", "2027-01-01T00:00:00+00:00"),
    ] {
        assert_eq!(times(nickname, "UTC", "2026-01-01T00:00:00Z", 1), [next], "{nickname}");
    }
}

/// As in Vixie cron: a field that begins with a star is not one that names days.
#[test]
fn one_of_two_days_is_enough_unless_a_star_stands_in_front() {
    let days = |cron: &str| {
        let found = times(cron, "UTC", "2026-01-01T12:00:00Z", 4);
        found.iter().map(|time| time[5..10].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(days("0 0 10,12 * MON"), ["01-05", "01-10", "01-12", "01-19"]);
    assert_eq!(days("0 0 10,12 * +MON"), ["01-12", "08-10", "10-12", "04-12"]);
    assert_eq!(days("0 0 */10 * MON"), ["05-11", "06-01", "08-31", "09-21"]);
    assert_eq!(days("0 0 10 * */3"), ["01-10", "05-10", "06-10", "10-10"]);
    assert_eq!(days("0 0 * * SUN-SUN"), ["01-04", "01-11", "01-18", "01-25"]);
}

#[test]
fn a_leap_day_is_found_and_a_day_that_no_month_has_is_not() {
    assert_eq!(times("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00+00:00"]);
    assert_eq!(times("0 0 30 2 *", "UTC", "2026-01-01T00:00:00Z", 1), Vec::<String>::new());
}
