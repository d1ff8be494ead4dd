//! How long messages stay: by age goes only what no configured connector has still to settle, whether it runs or not.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, Ledger, Metrics, Running, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
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

/// Two connectors of which each has a dead letter, `named` with a retention of its own; they leave the configuration.
/// What becomes of letters of these ages when `change` was done to the ledger: the connectors whose letters stay.
fn letters_left(ages: [Duration; 2], change: impl FnOnce(&Ledger)) -> Vec<String> {
    let dying = |(name, keys): (&str, &str)| {
        let plugin = guest("hostile");
        format!("[connectors.{name}]\nplugin = '{}'\nconsume = '{name}'\n{keys}\n", plugin.display())
    };
    let both = [("named", "dead_retention = '1h'"), ("unnamed", "")];
    let host = Bulkhead::new(&both.map(dying).concat());
    ["named", "unnamed"].iter().for_each(|queue| drop(host.send(queue, &["reject me"])));
    let _ = host.run_until_idle();
    let ledger = host.ledger();
    ["named", "unnamed"].iter().zip(ages).for_each(|(connector, age)| ledger.age_letters(connector, age));
    change(&ledger);
    drop(ledger);
    host.configure(&dying(("other", "")));
    let running = host.start();
    let connectors = || -> Vec<String> {
        let letters = running.api("GET", "dead", "").json();
        letters.as_array().unwrap().iter().map(|letter| letter["connector"].as_str().unwrap().to_owned()).collect()
    };
    running.wait_until("letter that goes", PATIENCE, |_| connectors().len() < 2);
    let left = connectors();
    let _ = running.terminate().ok();
    left
}

#[test]
fn dead_letters_of_a_connector_that_has_left_the_configuration_are_kept_as_long_as_it_had_said() {
    assert_eq!(letters_left([2 * HOUR, 2 * HOUR], |_| ()), ["unnamed"]);
    assert_eq!(letters_left([HOUR / 2, 31 * DAY], |_| ()), ["named"]);
}

/// It does not know what the connectors had said.
#[test]
fn a_ledger_of_the_first_version_is_taken_over_with_thirty_days_for_dead_letters() {
    assert_eq!(letters_left([2 * HOUR, 31 * DAY], Ledger::become_first), ["named"]);
    assert_eq!(letters_left([31 * DAY, 29 * DAY], Ledger::become_first), ["unnamed"]);
}
