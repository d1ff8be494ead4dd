//! Which ticks a schedule makes, and which it leaves out.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, Metrics, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;
const YEAR_MS: i64 = 365 * 86_400_000;
const IN_THE_FUTURE: &str = "the stored planned time lies in the future: starting anew";

fn scheduled(keys: &str) -> Bulkhead {
    Bulkhead::new(&format!(
        "[connectors.it]\nplugin = '{}'\nschedule = {{ {keys} }}\n
        retry = {{ attempts = 2, first = '1h', max = '1h', jitter = 'none' }}\n",
        guest("hostile").display()
    ))
}

fn ticking(every: &str, input: &str) -> Bulkhead {
    scheduled(&format!("every = '{every}', input = '{input}'"))
}

/// Ticks that were made of those planned every tenth of a second, of which each waits an hour for its next attempt; and
/// the log.
fn made_while_others_wait(overlap: &str) -> (usize, i64, String) {
    let host = scheduled(&format!("every = '100ms', input = 'retry later'{overlap}"));
    let running = host.start();
    let planned = |metrics: &Metrics| metrics.value("bulkhead_schedule_lag_seconds_count", &[]);
    running.wait_until("ten planned times", PATIENCE, |metrics| planned(metrics) >= 10.0);
    let log = running.terminate().ok().errors();
    (host.ledger().messages("@it").len(), host.ledger().pending(), log)
}

#[test]
fn a_tick_that_waits_for_its_next_attempt_makes_the_next_ones_skip() {
    let (messages, pending, log) = made_while_others_wait("");
    assert_eq!((messages, pending), (1, 1));
    // Said once, not at each of them.
    assert_eq!(log.matches("ticks are skipped").count(), 1, "{log}");
}

#[test]
fn one_tick_or_every_tick_may_wait_for_those_before() {
    let (messages, _, _) = made_while_others_wait(", overlap = 'queue_one'");
    assert_eq!(messages, 2);
    let (messages, _, log) = made_while_others_wait(", overlap = 'queue_all'");
    assert!(messages >= 10 && !log.contains("ticks are skipped"), "{messages}: {log}");
}

/// A schedule of every hour, half an hour from its next time, that was last dealt with so many hours ago: the ticks that
/// are made of it now, and what is said.
fn ticks_after_hours(hours: i64, keys: &str) -> (u64, String) {
    let now = jiff::Timestamp::now();
    let minute = (now.as_second() / 60 + 30) % 60;
    let host = scheduled(&format!("cron = '{minute} * * * *', input = 'count ticks'{keys}"));
    let _ = host.run_until_idle();
    assert_eq!(host.ledger().state("it"), [], "a cron expression waits for its time");
    host.ledger().plan("it", "default", now.as_millisecond() - hours * HOUR_MS);
    let log = host.run_until_idle().errors();
    let again = host.run_until_idle().errors();
    assert!(!again.contains("ticks were missed"), "what was caught up is over: {again}");
    let ledger = host.ledger();
    let counted = ledger.state("it");
    (counted.first().map_or(0, |(_, count)| String::from_utf8_lossy(count).parse().unwrap()), log)
}

#[test]
fn missed_ticks_are_made_up_for_by_one_by_none_or_by_each() {
    for (keys, expected, said) in [
        ("", 1, "ticks were missed: this tick stands for them"),
        (", catch_up = 'none'", 0, "ticks were missed: they are dropped"),
    ] {
        let (ticks, log) = ticks_after_hours(10, keys);
        assert_eq!(ticks, expected, "{keys}: {log}");
        assert!(log.contains(said), "{keys}: {log}");
    }
    let (ticks, log) = ticks_after_hours(10, ", catch_up = 'all'");
    assert_eq!((ticks, log.contains("ticks were missed")), (10, false), "{log}");
}

#[test]
fn missed_ticks_beyond_the_window_are_dropped_and_counted() {
    let (ticks, log) = ticks_after_hours(30, ", catch_up = 'all'");
    assert_eq!(ticks, 24, "{log}");
    assert!(log.contains("\"missed\":6"), "{log}");
    let (ticks, log) = ticks_after_hours(10, ", window = '10m'");
    assert_eq!((ticks, log.contains("\"missed\":10")), (0, true), "{log}");
}

/// More than may lie in the inbox at once.
#[test]
fn very_many_missed_ticks_are_all_made_and_a_hundred_at_a_time() {
    let (ticks, log) = ticks_after_hours(250, ", catch_up = 'all', window = '30d'");
    assert_eq!(ticks, 250, "{log}");
}

/// The ticks of a schedule of one year that fired just now, after its stored time was moved; and what was said about it.
fn ticks_after(moved_ms: i64) -> (Vec<u8>, bool) {
    let host = ticking("365d", "count ticks");
    let _ = host.run_until_idle();
    let planned = host.ledger().planned("it", "default");
    host.ledger().plan("it", "default", planned + moved_ms);
    let log = host.run_until_idle().errors();
    let (planned_again, state) = (host.ledger().planned("it", "default"), host.ledger().state("it"));
    assert!(planned_again < planned + YEAR_MS || moved_ms == YEAR_MS / 2, "it is believable again");
    (state[0].1.clone(), log.contains(IN_THE_FUTURE))
}

#[test]
fn a_stored_time_too_far_ahead_is_named_and_starts_anew() {
    assert_eq!(ticks_after(1_000 * YEAR_MS), (b"2".to_vec(), true));
}

/// The clock may have been set back a little.
#[test]
fn a_stored_time_less_than_a_period_ahead_is_believed() {
    assert_eq!(ticks_after(YEAR_MS / 2), (b"1".to_vec(), false));
}
