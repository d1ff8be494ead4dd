//! When a failed delivery is tried again, and when it is not.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, guest};
use serde_json::Value;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn hostile(keys: &str) -> Bulkhead {
    let plugin = guest("hostile");
    Bulkhead::new(&format!(
        "[connectors.hostile]\nplugin = '{}'\nbrake = 0\nconsume = 'in'\n{keys}\n",
        plugin.display()
    ))
}

/// After how many attempts the message dies under this `retry`, and why.
#[track_caller]
fn check(retry: &str, body: &str, attempts: u32, reason: &str) {
    let host = hostile(&format!("retry = {{ {retry} }}\nlimits = {{ wall = '100ms' }}"));
    host.send("in", &[body]);
    let _ = host.run_until_idle();
    let letters = host.ledger().dead();
    assert_eq!((letters.len(), letters[0].attempts), (1, attempts), "{letters:?}");
    assert!(letters[0].reason.starts_with(reason), "{reason} in: {}", letters[0].reason);
}

#[test]
fn a_failure_that_is_not_listed_is_a_dead_letter_at_once() {
    check("attempts = 2, first = '1ms', on = ['retry']", "retry later", 2, "later");
    check(
        "attempts = 2, first = '1ms', on = ['trap', 'limit', 'timeout']",
        "retry later",
        1,
        "`retry.on` is without \"retry\": later",
    );
    check("attempts = 2, first = '1ms', on = ['trap']", "trap now", 2, "the plugin trapped");
    check(
        "attempts = 2, first = '1ms', on = ['retry']",
        "trap now",
        1,
        "`retry.on` is without \"trap\": the plugin trapped",
    );
    check("attempts = 2, first = '1ms', on = ['timeout']", "sleep 60", 2, "over `connectors.hostile.limits.wall`");
    check(
        "attempts = 2, first = '1ms', on = ['limit']",
        "sleep 60",
        1,
        "`retry.on` is without \"timeout\": over `connectors.hostile",
    );
    check("attempts = 2, first = '1ms', on = []", "retry later", 1, "`retry.on` is without \"retry\": later");
}

/// The reason says which key it was, and the label of a limit is the same as ever.
#[test]
fn a_limit_that_is_not_tried_again_is_counted_like_any_other() {
    let host = hostile("retry = { attempts = 3, on = ['retry', 'timeout'] }\nlimits = { memory = '4MiB' }");
    let running = host.start();
    host.send("in", &["grow"]);
    running.wait_for_log("became a dead letter", PATIENCE);
    assert_eq!(running.metrics().limits("hostile"), ["memory"]);
    let _ = running.terminate().ok();
    let letter = host.ledger().dead().remove(0);
    assert_eq!(letter.attempts, 1);
    assert!(letter.reason.starts_with("`retry.on` is without \"limit\": "), "{}", letter.reason);
}

/// The process has died twice under it, and is not given a third time.
#[test]
fn a_message_that_takes_the_process_down_is_not_tried_again_where_that_is_not_listed() {
    let host = hostile("retry = { on = ['retry'] }\nlimits = { cpu = '10m', wall = '10m' }");
    host.send("in", &["spin"]);
    for is_alone in [false, true] {
        let running = host.start();
        running.wait_until("run", PATIENCE, |_| host.in_flight().iter().any(|run| run.is_alone == is_alone));
        running.kill9();
    }
    let _ = host.run_until_idle();
    let letter = host.ledger().dead().remove(0);
    assert_eq!(letter.attempts, 1);
    assert!(letter.reason.starts_with("`retry.on` is without \"crash\": the process ended"), "{}", letter.reason);
}

#[test]
fn nothing_is_tried_again_past_the_whole_time() {
    let past = "the next attempt would be past `retry.within`: later";
    check("first = '1h', jitter = 'none', within = '9m'", "retry later", 1, past);
}

/// What the host holds back itself is no failure: such a delivery waits for as long as it takes.
#[test]
fn waiting_for_room_is_not_bound_by_the_whole_time() {
    let host = hostile("retry = { within = '1ms' }\nallow.publish = ['out']\n[queues.out]\nmax_bytes = '1KiB'");
    host.send("out", &["x".repeat(1023 - 26)]);
    host.send("in", &["publish out"]);
    let _ = host.run(&["run", "--until-idle"]).ended_with(1);
    assert!(host.ledger().dead().is_empty());
    assert_eq!(host.ledger().messages("in").len(), 1);
}

/// Half of the delay is always there.
#[test]
fn an_equal_jitter_never_tries_again_at_once() {
    let host = hostile("retry = { attempts = 6, first = '400ms', factor = 1.0, jitter = 'equal' }");
    host.send("in", &["retry later"]);
    let _ = host.run_until_idle();
    let id = host.dead().remove(0)["id"].as_str().unwrap().to_owned();
    let letter = host.run(&["dead", "show", &id, "--json"]).ok().json();
    let at = |attempt: &Value| attempt["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    let times: Vec<i64> = letter["history"].as_array().unwrap().iter().map(at).collect();
    assert_eq!(times.len(), 6);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 200), "{times:?}");
}

/// One worker, one run at a time, and the first message waits for an hour.
#[test]
fn a_retry_holds_up_neither_the_messages_behind_it_nor_the_worker() {
    let host = hostile("retry = { first = '1h', jitter = 'none' }");
    host.send("in", &["retry later"]);
    host.send("in", &["ok"; 100]);
    let running = host.start();
    let delivered = |outcome: &'static str| [("connector", "hostile"), ("outcome", outcome)];
    running.wait_until("all others", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &delivered("done")) == 100.0
    });
    assert_eq!(running.metrics().value("bulkhead_deliveries_total", &delivered("retry")), 1.0);
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().messages("in").len(), 1);
}
