//! The times of cron expressions, against those of cronsim, which follows the practice of Debian's cron and shares no code
//! with ours: `tests/cron/make.py` has asked it.

use std::collections::BTreeMap;

use bulkhead_host::trigger::cron::Cron;
use jiff::tz::TimeZone;

const CASES: &str = include_str!("../cron/times.txt");
/// Of each case at most so many times were asked for, and none after the second moment.
const TIMES: usize = 5;
const END: i64 = 1_735_689_600;
const ZONES: [(&str, &str); 8] = [
    ("U", "UTC"),
    ("N", "America/New_York"),
    ("B", "Europe/Berlin"),
    ("H", "Australia/Lord_Howe"),
    ("A", "Pacific/Apia"),
    ("K", "Asia/Kathmandu"),
    ("J", "America/St_Johns"),
    ("S", "America/Sao_Paulo"),
];

/// What is found otherwise in a case; `None` where both find the same.
fn difference(case: &str, zones: &BTreeMap<&str, TimeZone>) -> Option<String> {
    let mut fields = case.split('|');
    let (zone, start, text) = (fields.next()?, fields.next()?.parse::<i64>().unwrap(), fields.next()?);
    let mut at = start;
    let expected: Vec<i64> = fields
        .map(|seconds| {
            at += seconds.parse::<i64>().unwrap();
            at
        })
        .collect();
    let cron = Cron::parse(text, zones[zone].clone()).map_err(|error| format!("{case}: {error}"));
    let found = cron.map(|cron| {
        let times = std::iter::successors(cron.after(start), |second| cron.after(*second));
        times.take(TIMES).take_while(|second| *second < END).collect::<Vec<_>>()
    });
    match found {
        Ok(found) if found == expected => None,
        Ok(found) => Some(format!("{case}: {found:?} for {expected:?}")),
        Err(error) => Some(error),
    }
}

#[test]
fn another_implementation_finds_the_same_times() {
    let zones: BTreeMap<&str, TimeZone> =
        ZONES.into_iter().map(|(letter, name)| (letter, TimeZone::get(name).unwrap())).collect();
    let different: Vec<String> = CASES.lines().filter_map(|case| difference(case, &zones)).collect();
    assert!(different.is_empty(), "{} of {}:\n{}", different.len(), CASES.lines().count(), different.join("\n"));
    assert!(CASES.lines().count() >= 10_000);
}
