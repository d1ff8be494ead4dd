//! A connector's own rate: what is over it waits in the queue, at no attempt and in nobody's way.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, Metrics, guest, post};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn connector(name: &str, plugin: &str, keys: &str) -> String {
    format!("[connectors.{name}]\nplugin = '{}'\nbrake = 0\n{keys}\n", guest(plugin).display())
}

fn delivered(metrics: &Metrics, connector: &str, outcome: &str) -> f64 {
    metrics.value("bulkhead_deliveries_total", &[("connector", connector), ("outcome", outcome)])
}

fn waits(metrics: &Metrics, connector: &str) -> bool {
    metrics.value("bulkhead_held", &[("connector", connector), ("reason", "rate")]) == 1.0
}

/// One sandbox in the whole host, which the connector that waits does not keep.
#[test]
fn what_is_over_the_rate_waits_without_a_sandbox_and_at_no_attempt() {
    let slow = connector("slow", "hostile", "consume = 'slow'\nrate = '5/h'");
    let other = connector("other", "hostile", "consume = 'other'");
    let data = tempfile::tempdir().unwrap();
    let host = Bulkhead::on(data.path().join("data"), "runs = 1", &(slow + &other));
    host.send("slow", &["ok"; 40]);
    let running = host.start();
    running.wait_until("hold", PATIENCE, |metrics| waits(metrics, "slow") && delivered(metrics, "slow", "done") == 5.0);
    host.send("other", &["ok"; 100]);
    running.wait_until("neighbour", PATIENCE, |metrics| delivered(metrics, "other", "done") == 100.0);
    let metrics = running.metrics();
    assert!(waits(&metrics, "slow") && !waits(&metrics, "other"));
    assert_eq!((delivered(&metrics, "slow", "done"), delivered(&metrics, "slow", "retry")), (5.0, 0.0));
    // The stop does not wait for the next hour either, and loses nothing.
    let _ = running.terminate().ok();
    let ledger = host.ledger();
    assert_eq!((ledger.messages("slow").len(), ledger.pending(), ledger.dead().len()), (35, 0, 0));
}

/// Two workers share the rate.
#[test]
fn what_waits_comes_when_its_time_has_come() {
    let keys = "consume = { queue = 'in', concurrency = 2, batch = 2 }\nrate = '4/s'";
    let host = Bulkhead::new(&connector("it", "hostile", keys));
    host.send("in", &["ok"; 10]);
    let _ = host.run_until_idle();
    assert!(host.ledger().messages("in").is_empty());
}

#[test]
fn further_attempts_go_by_the_rate_too() {
    let keys = "consume = 'in'\nrate = '3/h'\nretry = { first = '1ms', jitter = 'none' }";
    let host = Bulkhead::new(&connector("it", "hostile", keys));
    host.send("in", &["retry later"]);
    let running = host.start();
    running.wait_until("hold", PATIENCE, |metrics| waits(metrics, "it"));
    assert_eq!(delivered(&running.metrics(), "it", "retry"), 3.0);
    let _ = running.terminate().ok();
}

/// Each message of a call for many is one.
#[test]
fn a_batch_holds_as_many_messages_as_the_rate_allows() {
    let keys = "consume = { queue = 'in', batch = 10 }\nrate = '3/h'\nallow.publish = ['out']";
    let host = Bulkhead::new(&connector("it", "batch", keys));
    host.send("in", &["company"; 10]);
    let running = host.start();
    running.wait_until("hold", PATIENCE, |metrics| waits(metrics, "it"));
    running.wait_until("call", PATIENCE, |metrics| delivered(metrics, "it", "done") == 3.0);
    let _ = running.terminate().ok();
    let bodies: Vec<_> = host.ledger().messages("out").into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, ["- - -"; 3].map(|body| body.as_bytes().to_vec()));
}

/// Of what has expired in the queue nothing reaches the plugin: it does not use the rate up.
#[test]
fn what_is_never_given_to_the_plugin_takes_nothing_of_the_rate() {
    let keys = "consume = 'in'\nrate = '1/h'";
    let host = Bulkhead::new(&connector("it", "hostile", keys));
    host.send("in", &["ok"; 50]);
    host.ledger().expire_all();
    let running = host.start();
    running.wait_until("end of all", PATIENCE, |metrics| {
        metrics.value("bulkhead_expired_total", &[("connector", "it")]) == 50.0
    });
    host.send("in", &["ok"]);
    running.wait_until("token", PATIENCE, |metrics| delivered(metrics, "it", "done") == 1.0);
    let _ = running.terminate().ok();
}

/// Somebody waits for the answer: `webhook.rate` is what bounds those.
#[test]
fn a_request_that_its_connector_answers_does_not_wait_for_the_rate() {
    let webhook = "webhook = { path = '/ask', verify = 'none', respond = 'connector' }";
    let host = Bulkhead::new(&connector("it", "hook", &format!("{webhook}\nrate = '1/h'")));
    let running = host.start();
    for count in ["1", "2", "3"] {
        let reply = post(host.webhooks(), "/ask", &[], "count");
        assert_eq!((reply.status, reply.body.as_str()), (200, count));
    }
    let _ = running.terminate().ok();
}
