//! Plugins and machines that fail: what a fault costs, and that it costs nothing else.

use std::collections::HashSet;
use std::time::Duration;

use bulkhead_tests::{Bulkhead, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ends of the process without warning.
const KILLS: usize = 30;

fn hostile(extra: &str) -> String {
    let plugin = guest("hostile");
    format!(
        "[connectors.hostile]\nplugin = '{}'\nconsume = 'in'\nbrake = 0\nretry = {{ attempts = 2, first = '1ms' }}\n{extra}\n",
        plugin.display()
    )
}

/// One message that breaks a limit becomes a dead letter, and the limit's own label is counted.
fn check_limit(message: &str, limit: &str, extra: &str) {
    let host = Bulkhead::new(&hostile(extra));
    let running = host.start();
    host.send("in", &[message]);
    running.wait_for_log("became a dead letter", PATIENCE);
    let limits = running.metrics().limits("hostile");
    assert_eq!(limits, [limit], "{message}");
    let _ = running.terminate().ok();
    assert_eq!(host.dead().len(), 1, "{message}");
}

#[test]
fn a_loop_is_ended_by_its_cpu_budget() {
    check_limit("spin", "cpu", "limits = { cpu = '50ms' }");
}

#[test]
fn a_sleep_is_ended_by_the_wall_deadline() {
    check_limit("sleep 3600", "wall", "limits = { wall = '100ms' }");
}

#[test]
fn growth_is_ended_by_the_sum_of_memory() {
    check_limit("grow", "memory", "limits = { memory = '8MiB' }");
}

#[test]
fn a_flood_of_publishes_is_refused() {
    check_limit("flood out", "publishes", "limits = { publishes = 100 }\nallow.publish = ['out']");
}

#[test]
fn a_large_publish_is_refused() {
    check_limit("large out", "message", "allow.publish = ['out']");
}

#[test]
fn a_trap_costs_one_message_of_a_thousand() {
    let host = Bulkhead::new(&hostile(""));
    let mut lines = vec!["ok"; 1_000];
    lines[500] = "trap farewell";
    host.send("in", &lines);
    let _ = host.run_until_idle();
    let dead = host.dead();
    assert_eq!(dead.len(), 1);
    let reason = dead[0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("last words: farewell"), "{reason}");
    assert_eq!(host.queues()[0]["messages"], 0);
}

#[test]
fn a_publish_without_a_grant_names_the_missing_key() {
    let host = Bulkhead::new(&hostile(""));
    host.send("in", &["publish elsewhere"]);
    let _ = host.run_until_idle();
    let dead = host.dead();
    let reason = dead[0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("connectors.hostile.allow.publish"), "{reason}");
}

#[test]
fn the_sandbox_has_no_files_environment_sockets_or_lookups() {
    let host = Bulkhead::new(&hostile(""));
    host.send("in", &["file", "environment", "socket", "lookup"]);
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<serde_json::Value>::new());
}

#[test]
fn counters_in_state_survive_conflicts_between_workers() {
    let toml = hostile("").replace("consume = 'in'", "consume = { queue = 'in', batch = 4, concurrency = 4 }");
    let host = Bulkhead::new(&toml);
    host.send("in", &["count total"; 200]);
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<serde_json::Value>::new());
    assert_eq!(host.ledger().state("hostile"), [("total".to_owned(), b"200".to_vec())]);
}

/// Nothing accepted is lost and nothing is doubled, however often the process dies while it works.
#[test]
fn kills_lose_nothing_and_double_nothing() {
    let plugin = guest("echo");
    let toml = format!(
        "[connectors.echo]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 8, concurrency = 2 }}\nretry = {{ attempts = 1000, first = '1ms', max = '5ms' }}\nconfig = {{ publish = 'out' }}\nallow.publish = ['out']\n",
        plugin.display()
    );
    let host = Bulkhead::new(&toml);
    let mut sent = 0;
    for kill in 0..KILLS {
        let running = host.start();
        let lines: Vec<String> = (0..100).map(|line| format!("payload {}", sent + line)).collect();
        sent += host.send("in", &lines).len();
        // Further and further into the work, at no moment that the host could know.
        for _ in 0..kill % 7 {
            let _ = running.metrics();
        }
        running.kill9();
    }
    let _ = host.run_until_idle();
    let ledger = host.ledger();
    ledger.check_integrity();
    let out = ledger.messages("out");
    let bodies: HashSet<String> =
        out.iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect();
    let expected: HashSet<String> = (0..sent).map(|line| format!("payload {line}")).collect();
    assert_eq!((out.len(), bodies == expected), (sent, true));
    assert_eq!(ledger.dead().len(), 0);
}

#[test]
fn a_kept_sandbox_goes_on_after_a_trap() {
    let host = Bulkhead::new(&hostile("reuse = 'always'"));
    let mut lines = vec!["count total"; 100];
    lines.insert(50, "trap farewell");
    host.send("in", &lines);
    let _ = host.run_until_idle();
    assert_eq!(host.dead().len(), 1);
    assert_eq!(host.ledger().state("hostile"), [("total".to_owned(), b"100".to_vec())]);
}
