//! How long messages stay: by age goes only what no configured connector has still to settle, whether it runs or not.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bulkhead_tests::{Bulkhead, Metrics, Running, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const BODIES: [&str; 2] = ["retry one", "retry two"];

/// A connector that copies to a queue of its own name.
fn copying(name: &str, keys: &str) -> String {
    format!(
        "[connectors.{name}]\nplugin = '{}'\nconsume = 'in'\nconfig = {{ publish = 'of-{name}' }}\nallow.publish = ['of-{name}', 'unread']\n{keys}\n",
        guest("echo").display()
    )
}

/// On one queue a connector that runs, one that is switched off and one to be paused; on another, where nobody else keeps
/// what it needs, one that tries again in an hour.
fn toml(off: &str) -> String {
    let queues = ["in", "again", "unread"].map(|queue| format!("[queues.{queue}]\nretention = '1s'\n"));
    let retrying = format!(
        "[connectors.retrying]\nplugin = '{}'\nconsume = 'again'\nretry = {{ first = '1h', max = '1h', jitter = 'none' }}\n",
        guest("hostile").display()
    );
    [queues.concat(), copying("running", ""), copying("off", off), copying("paused", ""), retrying].concat()
}

fn messages(running: &Running, queue: &str) -> u64 {
    let queues = running.api("GET", "queues", "").json();
    let found = queues.as_array().unwrap().iter().find(|one| one["queue"] == queue).unwrap();
    found["messages"].as_u64().unwrap()
}

fn ended(metrics: &Metrics, connector: &str, outcome: &str) -> f64 {
    metrics.value("bulkhead_deliveries_total", &[("connector", connector), ("outcome", outcome)])
}

fn bodies(host: &Bulkhead, queue: &str) -> Vec<String> {
    host.ledger().messages(queue).into_iter().map(|message| String::from_utf8(message.body).unwrap()).collect()
}

#[test]
fn nothing_that_a_configured_connector_has_to_settle_goes_by_age() {
    let whole = BODIES.map(str::to_owned).to_vec();
    let host = Bulkhead::new(&toml("enabled = false"));
    let _ = host.run(&["pause", "paused"]).ok();
    let running = host.start();
    host.send("in", &BODIES);
    host.send("again", &BODIES);
    running.wait_until("work", PATIENCE, |metrics| {
        ended(metrics, "running", "done") + ended(metrics, "retrying", "retry") == 4.0
    });
    // Younger than those, and looked after in the same rounds.
    host.send("unread", &["nobody's"]);
    running.wait_until("message that goes by age", PATIENCE, |_| messages(&running, "unread") == 0);
    let _ = running.terminate().ok();
    assert_eq!((bodies(&host, "in"), bodies(&host, "again")), (whole.clone(), whole.clone()));
    host.configure(&toml(""));
    let _ = host.run(&["resume", "paused"]).ok();
    let running = host.start();
    running.wait_until("late deliveries", PATIENCE, |metrics| {
        ended(metrics, "off", "done") + ended(metrics, "paused", "done") == 4.0
    });
    let _ = running.terminate().ok();
    assert_eq!((bodies(&host, "of-off"), bodies(&host, "of-paused")), (whole.clone(), whole.clone()));
    assert_eq!((bodies(&host, "in"), bodies(&host, "again"), host.ledger().pending()), (vec![], whole, 2));
}
