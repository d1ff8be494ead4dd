//! Which ticks a schedule makes, and which it leaves out.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bulkhead_tests::{Bulkhead, Metrics, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const YEAR_MS: i64 = 365 * 86_400_000;
const IN_THE_FUTURE: &str = "the stored planned time lies in the future: starting anew";

fn ticking(every: &str, input: &str) -> Bulkhead {
    Bulkhead::new(&format!(
        "[connectors.it]\nplugin = '{}'\nschedule = {{ every = '{every}', input = '{input}' }}\n
        retry = {{ attempts = 2, first = '1h', max = '1h', jitter = 'none' }}\n",
        guest("hostile").display()
    ))
}

/// It waits an hour for its next attempt, in which every tenth of a second a tick is planned.
#[test]
fn a_tick_that_waits_for_its_next_attempt_makes_the_next_ones_skip() {
    let host = ticking("100ms", "retry later");
    let running = host.start();
    let planned = |metrics: &Metrics| metrics.value("bulkhead_schedule_lag_seconds_count", &[]);
    running.wait_until("ten planned times", PATIENCE, |metrics| planned(metrics) >= 10.0);
    let _ = running.terminate().ok();
    assert_eq!((host.ledger().messages("@it").len(), host.ledger().pending()), (1, 1));
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
