//! How long messages stay: by age goes only what no configured connector has still to settle, whether it runs or not.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bulkhead_tests::{Bulkhead, Running, guest};

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

/// Four connectors on one queue: one that runs, one that is switched off, one to be paused, one that tries again in an hour.
fn toml(off: &str) -> String {
    let retrying = format!(
        "[connectors.retrying]\nplugin = '{}'\nconsume = 'in'\nretry = {{ first = '1h', max = '1h', jitter = 'none' }}\n",
        guest("hostile").display()
    );
    let queues = "[queues.in]\nretention = '1s'\n[queues.unread]\nretention = '1s'\n";
    [queues, &copying("running", ""), &copying("off", off), &copying("paused", ""), &retrying].concat()
}

fn messages(running: &Running, queue: &str) -> u64 {
    let queues = running.api("GET", "queues", "").json();
    let found = queues.as_array().unwrap().iter().find(|one| one["queue"] == queue).unwrap();
    found["messages"].as_u64().unwrap()
}

fn bodies(host: &Bulkhead, queue: &str) -> Vec<String> {
    host.ledger().messages(queue).into_iter().map(|message| String::from_utf8(message.body).unwrap()).collect()
}

#[test]
fn nothing_that_a_configured_connector_has_to_settle_goes_by_age() {
    let host = Bulkhead::new(&toml("enabled = false"));
    let _ = host.run(&["pause", "paused"]).ok();
    let running = host.start();
    host.send("in", &BODIES);
    // Younger, and looked after in the same rounds.
    host.send("unread", &["nobody's"]);
    running.wait_until("message that goes by age", PATIENCE, |metrics| {
        let tried = metrics.value("bulkhead_deliveries_total", &[("connector", "retrying"), ("outcome", "retry")]);
        tried == 2.0 && messages(&running, "unread") == 0
    });
    let _ = running.terminate().ok();
    assert_eq!(bodies(&host, "of-running"), BODIES);
    assert_eq!(bodies(&host, "in"), BODIES);
    assert_eq!(host.ledger().pending(), 2);
    host.configure(&toml(""));
    let _ = host.run(&["resume", "paused"]).ok();
    let running = host.start();
    running.wait_until("late deliveries", PATIENCE, |metrics| {
        let done =
            |connector| metrics.value("bulkhead_deliveries_total", &[("connector", connector), ("outcome", "done")]);
        done("off") == 2.0 && done("paused") == 2.0
    });
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().pending(), 2, "what waits for another attempt is still there");
    assert_eq!(bodies(&host, "in"), BODIES);
}
