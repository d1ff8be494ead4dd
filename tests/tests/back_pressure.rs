//! What holds a connector back, and that it ends: a reason to wait must not be what keeps it from going away.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, Metrics, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(180);
/// What an id that the host has made counts in a message's size.
const ID_BYTES: usize = 26;

fn hostile(keys: &str) -> String {
    format!("[connectors.hostile]\nplugin = '{}'\nbrake = 0\n{keys}\n", guest("hostile").display())
}

fn delivered(metrics: &Metrics, outcome: &str) -> f64 {
    metrics.value("bulkhead_deliveries_total", &[("outcome", outcome)])
}

fn held(metrics: &Metrics, reason: &str) -> bool {
    metrics.value("bulkhead_held", &[("reason", reason)]) > 0.0
}

/// More than is read ahead, so that the bound is reached while there is more to read.
#[test]
fn too_much_unfinished_work_is_worked_off_before_more_is_read() {
    let retry = "retry = { attempts = 2, first = '2s', jitter = 'none' }";
    let host = Bulkhead::new(&hostile(&format!("consume = {{ queue = 'in', pending_max = 10 }}\n{retry}")));
    host.send("in", &["retry later"; 2_500]);
    let running = host.start();
    running.wait_until("bound of unfinished work", PATIENCE, |metrics| held(metrics, "pending"));
    running.wait_until("end of all", PATIENCE, |metrics| delivered(metrics, "dead") == 2_500.0);
    running.wait_until("free connector", PATIENCE, |metrics| !held(metrics, "pending"));
    let _ = running.terminate().ok();
}

/// A schedule that publishes waits for room, which only the connector's own consumer can make.
#[test]
fn a_full_queue_holds_the_schedule_that_publishes_to_it_and_not_its_consumer() {
    let max_bytes = 100 * (ID_BYTES + "ok".len());
    let keys = "consume = { queue = 'in', batch = 1 }\nschedule = { every = '1h' }\nallow.publish = ['in']";
    let host = Bulkhead::new(&format!("[queues.in]\nmax_bytes = '{max_bytes}B'\n{}", hostile(keys)));
    host.send("in", &["ok"; 100]);
    let running = host.start();
    running.wait_until("messages and tick", PATIENCE, |metrics| delivered(metrics, "done") == 101.0);
    let _ = running.terminate().ok();
}

/// The queue has become full while the connector had nothing to do.
#[test]
fn no_run_begins_while_a_queue_that_it_may_publish_to_is_full() {
    let keys = "consume = 'in'\nallow.publish = ['out']";
    let host = Bulkhead::new(&format!("[queues.out]\nmax_bytes = '1KiB'\n{}", hostile(keys)));
    let running = host.start();
    host.send("in", &["ok"]);
    running.wait_until("first run", PATIENCE, |metrics| delivered(metrics, "done") == 1.0);
    host.send("out", &["x".repeat(1024 - ID_BYTES)]);
    host.send("in", &["publish out"]);
    running.wait_until("hold", PATIENCE, |metrics| held(metrics, "full"));
    let attempts = running.metrics().value("bulkhead_attempt_seconds_count", &[]);
    assert_eq!(attempts, 1.0);
    let _ = running.terminate().ok();
}

/// It would wait for ever for room that the queue cannot have.
#[test]
fn a_message_larger_than_its_queue_is_no_reason_to_wait() {
    let host = Bulkhead::new(
        "[queues.out]\nmax_bytes = '1KiB'\n[connectors.jq]\nplugin = 'builtin:jq'\nconsume = 'in'\nallow.publish = ['out']
        config = { publish = 'out', program = '{ twice: [., .] }' }\n",
    );
    host.send("in", &[serde_json::Value::from("x".repeat(1000)).to_string()]);
    let running = host.start();
    running.wait_for_log("became a dead letter", PATIENCE);
    assert_eq!(running.metrics().limits("jq"), ["message"]);
    let _ = running.terminate().ok();
    let reason = host.ledger().dead().remove(0).reason;
    assert!(reason.contains("raise `queues.out.max_bytes`"), "{reason}");
    let refused = host.run(&["send", "out", "--body", &"x".repeat(2000)]).ended_with(2);
    assert!(refused.errors().contains("too large for queue `out`, which takes 1024"), "{}", refused.errors());
}

/// Calls in which nothing succeeds do not look like success.
#[test]
fn the_brake_of_a_plugin_that_takes_many_messages_at_once_goes_on() {
    let plugin = guest("batch");
    let host = Bulkhead::new(&format!(
        "[connectors.batch]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 5 }}\nallow.publish = ['out']\n",
        plugin.display()
    ));
    host.send("in", &["bad"; 60]);
    let _ = host.run_until_idle();
    assert_eq!(host.ledger().holds("batch"), ["brake"]);
    assert_eq!(host.ledger().dead().len(), 20);
}

/// A revoked token must not empty the batch in hand either: what is behind the brake is given back untouched.
#[test]
fn the_brake_stops_in_the_middle_of_a_batch() {
    let keys = "consume = { queue = 'in', batch = 32 }\nretry = { attempts = 1 }";
    let host = Bulkhead::new(&hostile(keys).replace("brake = 0", "brake = 3"));
    host.send("in", &["reject it"; 40]);
    let _ = host.run_until_idle();
    assert_eq!(host.ledger().holds("hostile"), ["brake"]);
    assert_eq!((host.ledger().dead().len(), host.ledger().messages("in").len()), (3, 37));
}
