//! What a plugin says of the time of a message that it publishes: not before, and not after.

use std::time::{Duration, UNIX_EPOCH};

use bulkhead_host::clock::wall;
use bulkhead_tests::{Bulkhead, Metrics, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

/// One connector publishes what it is told, another copies it to `copies`.
fn host() -> Bulkhead {
    Bulkhead::new(&format!(
        "[connectors.hostile]\nplugin = '{}'\nconsume = 'in'\nallow.publish = ['out']\n
        [connectors.copy]\nplugin = '{}'\nconsume = 'out'\nconfig = {{ publish = 'copies' }}\nallow.publish = ['copies']\n",
        guest("hostile").display(),
        guest("echo").display()
    ))
}

fn done(metrics: &Metrics, connector: &str) -> f64 {
    metrics.value("bulkhead_deliveries_total", &[("connector", connector), ("outcome", "done")])
}

fn bodies(host: &Bulkhead, queue: &str) -> Vec<String> {
    host.ledger().messages(queue).into_iter().map(|message| String::from_utf8(message.body).unwrap()).collect()
}

fn now_ms() -> i64 {
    i64::try_from(wall().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn a_delayed_message_is_delivered_when_it_is_due() {
    let host = host();
    let running = host.start();
    let before = now_ms();
    host.send("in", &["publish-later out 3600000", "publish-later out 20"]);
    running.wait_until("copy", PATIENCE, |metrics| done(metrics, "hostile") == 2.0 && done(metrics, "copy") == 1.0);
    let after = now_ms();
    let _ = running.terminate().ok();
    assert_eq!((bodies(&host, "copies"), bodies(&host, "out")), (vec!["20".to_owned()], vec![]));
    let dues = host.ledger().dues();
    // What was slept through may shift a clock by a little.
    let expected = before + HOUR_MS - 1_000..=after + HOUR_MS + 1_000;
    assert!(dues.len() == 1 && expected.contains(&dues[0]), "{dues:?} in {expected:?}");
}

#[test]
fn a_delay_longer_than_any_is_refused() {
    let host = host();
    host.send("in", &["publish-later out 2592000001"]);
    let _ = host.run_until_idle();
    let dead = host.ledger().dead();
    assert!(dead.len() == 1 && dead[0].reason.contains("its `delay-ms` is longer than 30 days"), "{dead:?}");
}

/// The consumer is paused until the shorter one of the two is over.
#[test]
fn a_message_that_is_over_is_not_delivered() {
    let host = host();
    let _ = host.run(&["pause", "copy"]).ok();
    host.send("in", &["publish-briefly out 1", "publish-briefly out 3600000"]);
    let _ = host.run_until_idle();
    assert_eq!(bodies(&host, "out"), ["1", "3600000"]);
    let _ = host.run(&["resume", "copy"]).ok();
    let running = host.start();
    running.wait_until("copy", PATIENCE, |metrics| {
        let expired = metrics.value("bulkhead_expired_total", &[("queue", "out"), ("connector", "copy")]);
        expired == 1.0 && done(metrics, "copy") == 1.0
    });
    let _ = running.terminate().ok();
    assert_eq!((bodies(&host, "copies"), bodies(&host, "out")), (vec!["3600000".to_owned()], vec![]));
    assert_eq!(host.ledger().dead(), []);
}
