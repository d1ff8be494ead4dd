//! Messages that are settled without a run, and work that nobody can run: seen by the operator like any other.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, Finished, Metrics, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn hostile(keys: &str) -> String {
    format!("[connectors.hostile]\nplugin = '{}'\nbrake = 0\n{keys}\n", guest("hostile").display())
}

fn dead(metrics: &Metrics) -> f64 {
    metrics.value("bulkhead_deliveries_total", &[("outcome", "dead")])
}

fn has_line(log: &[String], texts: &[&str]) -> bool {
    log.iter().any(|line| texts.iter().all(|text| line.contains(text)))
}

/// Two connectors that feed each other: the message ends as a dead letter, and whoever let it die is told.
#[test]
fn a_message_that_goes_round_dies_in_the_log_the_metric_and_the_brake() {
    let relay = |name: &str, from: &str, to: &str| {
        format!(
            "[connectors.{name}]\nplugin = 'builtin:jq'\nconsume = '{from}'\nbrake = 2\nconfig = {{ program = '.', publish = '{to}' }}\nallow.publish = ['{to}']\n"
        )
    };
    let host = Bulkhead::new(&(relay("ping", "a", "b") + &relay("pong", "b", "a")));
    host.send("a", &["1", "2"]);
    let running = host.start();
    running.wait_until("two deaths", PATIENCE, |metrics| dead(metrics) == 2.0);
    running.wait_for_log("the brake is on", PATIENCE);
    running.wait_until("brake", PATIENCE, |metrics| metrics.value("bulkhead_held", &[("reason", "brake")]) == 1.0);
    let ended = running.terminate().ok();
    let text = "passed through 33 connectors: 32 is the limit, look for a loop";
    assert!(has_line(&ended.log, &["delivery became a dead letter", text]), "{}", ended.errors());
    let letters = host.ledger().dead();
    assert_eq!((letters.len(), letters[0].reason.as_str()), (2, text));
}

#[test]
fn a_message_that_expires_is_counted_and_logged() {
    let keys = "consume = 'in'\nretry = { first = '2s', jitter = 'none' }";
    let host = Bulkhead::new(&format!("[queues.in]\nexpires = '1s'\n{}", hostile(keys)));
    let running = host.start();
    // It is over before the second attempt, if it was not before the first one.
    host.send("in", &["retry later"]);
    let labels = [("queue", "in"), ("connector", "hostile")];
    running.wait_until("expiry", PATIENCE, |metrics| metrics.value("bulkhead_expired_total", &labels) == 1.0);
    let ended = running.terminate().ok();
    assert!(has_line(&ended.log, &["messages expired before they were delivered", "hostile", r#""messages":1"#]));
    assert!(host.ledger().messages("in").is_empty() && host.ledger().dead().is_empty());
}

/// Whatever lies in a queue when a limit is lowered dies with the limit's own label.
#[test]
fn a_message_that_is_too_large_by_now_hits_the_limit_and_the_brake() {
    let keys = |more: &str| hostile(&format!("consume = 'in'\n{more}")).replace("brake = 0", "brake = 1");
    let host = Bulkhead::new(&keys(""));
    host.send("in", &[format!("ok {}", "x".repeat(5_000))]);
    host.configure(&keys("limits = { message = '1KiB' }"));
    let running = host.start();
    running.wait_until("death", PATIENCE, |metrics| dead(metrics) == 1.0);
    let limit = [("connector", "hostile"), ("limit", "message")];
    assert_eq!(running.metrics().value("bulkhead_limit_hits_total", &limit), 1.0);
    running.wait_for_log("the brake is on", PATIENCE);
    let _ = running.terminate().ok();
}

/// The last attempt of a message that takes the process down is charged at the next start, where nothing runs any more.
#[test]
fn a_message_that_takes_the_process_down_dies_in_the_log_and_the_metric() {
    let keys = "consume = 'in'\nretry = { attempts = 2 }\nlimits = { cpu = '10m', wall = '10m' }";
    let host = Bulkhead::new(&hostile(keys));
    let ids = host.send("in", &["spin"]);
    for is_alone in [false, true, true] {
        let running = host.start();
        running.wait_until("run", PATIENCE, |_| host.in_flight().iter().any(|run| run.is_alone == is_alone));
        running.kill9();
    }
    let running = host.start();
    running.wait_until("death", PATIENCE, |metrics| dead(metrics) == 1.0);
    let ended = running.terminate().ok();
    let reason = "the process ended while this message was running alone";
    assert!(has_line(&ended.log, &["delivery became a dead letter", &ids[0], reason]), "{}", ended.errors());
    let letters = host.ledger().dead();
    assert_eq!((letters.len(), letters[0].reason.as_str(), letters[0].attempts), (1, reason, 2));
}

/// The batch run ends, although work is left: it says whose, and why, and exits with 1.
#[track_caller]
fn check_held(host: &Bulkhead, reason: &str) {
    let ended: Finished = host.run(&["run", "--until-idle"]).ended_with(1);
    let queue = if reason == "full" { r#""queue":"out""# } else { "" };
    let reason = format!(r#""reason":"{reason}""#);
    assert!(has_line(&ended.log, &["work is left", "hostile", &reason, queue]), "{}", ended.errors());
    assert_eq!(host.ledger().messages("in").len(), 1);
}

#[test]
fn a_batch_run_does_not_wait_for_room_that_nobody_makes() {
    let host = Bulkhead::new(&format!(
        "[queues.out]\nmax_bytes = '1KiB'\n{}",
        hostile("consume = 'in'\nallow.publish = ['out']")
    ));
    host.send("out", &["x".repeat(1024 - 26)]);
    host.send("in", &["publish out"]);
    check_held(&host, "full");
}

/// There is room, and less than what is published.
#[test]
fn a_batch_run_does_not_wait_for_room_that_is_too_small() {
    for ordering in ["none", "key"] {
        let host = Bulkhead::new(&format!(
            "[queues.out]\nmax_bytes = '1KiB'\n[queues.in]\nordering = '{ordering}'\n{}",
            hostile("consume = 'in'\nallow.publish = ['out']")
        ));
        host.send("out", &["x".repeat(1023 - 26)]);
        host.send("in", &["publish out"]);
        check_held(&host, "full");
    }
}

/// What it would publish is more than the room that is left, also of what it has staged itself.
#[test]
fn a_batch_run_does_not_wait_for_room_that_one_call_takes_itself() {
    let keys = "consume = 'in'\nallow.publish = ['out']";
    let host = Bulkhead::new(&format!("[queues.out]\nmax_bytes = '4KiB'\n{}", hostile(keys)));
    host.send("in", &["flood out"]);
    check_held(&host, "full");
}

/// Messages that wait for a time of their own are waited for, whatever else waits for room.
#[test]
fn a_batch_run_goes_on_with_what_does_not_wait_for_room() {
    let keys = "consume = 'in'\nallow.publish = ['out']\nretry = { attempts = 2, first = '8s', jitter = 'none' }";
    let host = Bulkhead::new(&format!("[queues.out]\nmax_bytes = '1KiB'\n{}", hostile(keys)));
    host.send("out", &["x".repeat(1023 - 26)]);
    host.send("in", &["publish out", "retry later"]);
    check_held(&host, "full");
    assert_eq!(host.ledger().dead().len(), 1);
}

#[test]
fn a_batch_run_does_not_wait_for_dead_letters_to_be_dropped() {
    let host = Bulkhead::new(&hostile("consume = 'in'\ndead_max_bytes = '1KiB'"));
    host.send("in", &[format!("reject {}", "x".repeat(1_100))]);
    let _ = host.run_until_idle();
    host.send("in", &["ok"]);
    check_held(&host, "dead_letters");
    // Room makes it go on.
    let _ = host.run(&["dead", "drop", "--all", "--yes"]).ok();
    let _ = host.run_until_idle();
    assert!(host.ledger().messages("in").is_empty());
}
