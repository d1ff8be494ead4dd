//! Guests that attack from every place where the host calls them, and through every import: each ends with the limit
//! that it broke, its neighbour in the next message does not notice, and the host goes on.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Metrics, Running, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn vandal(keys: &str) -> Bulkhead {
    let plugin = guest("vandal");
    Bulkhead::new(&format!(
        "[connectors.vandal]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 1 }}\nbrake = 0\nretry = {{ attempts = 1 }}\n{keys}\n",
        plugin.display()
    ))
}

fn settled(running: &Running, outcome: &'static str, count: usize) {
    let value = |metrics: &Metrics| metrics.value("bulkhead_deliveries_total", &[("outcome", outcome)]);
    running.wait_until(outcome, PATIENCE, |metrics| value(metrics) == count as f64);
    assert_eq!(running.metrics().value("bulkhead_panics_total", &[]), 0.0);
}

/// The message dies, by this limit alone, and the next one does not notice.
fn check(message: &str, limit: &str, keys: &str) {
    let host = vandal(keys);
    let running = host.start();
    host.send("in", &[message, "ok"]);
    settled(&running, "dead", 1);
    settled(&running, "done", 1);
    assert_eq!(running.metrics().limits("vandal"), [limit], "{message}");
}

#[test]
fn a_loop_in_realloc_is_ended_by_the_cpu_budget() {
    check("realloc", "cpu", "limits = { cpu = '50ms' }");
}

#[test]
fn a_loop_after_the_return_is_ended_by_the_cpu_budget() {
    check("post-return", "cpu", "limits = { cpu = '50ms' }");
}

#[test]
fn a_loop_of_bulk_memory_is_ended_by_the_cpu_budget() {
    check("fill", "cpu", "limits = { cpu = '50ms' }");
}

#[test]
fn a_wait_of_the_longest_duration_is_ended_by_the_wall_deadline() {
    check("wait", "wall", "limits = { wall = '50ms' }");
}

#[test]
fn a_wait_of_no_duration_is_none() {
    let host = vandal("");
    let running = host.start();
    host.send("in", &["wait 0"; 100]);
    settled(&running, "done", 100);
}

#[test]
fn an_error_text_of_a_hundred_mebibytes_is_too_much_to_hand_over() {
    check("long-error 100", "hostcall", "limits = { memory = '256MiB' }");
}

#[test]
fn forty_thousand_header_fields_are_not_sent() {
    let server = Fixture::answering([Answer::status(200)]);
    let url = server.url();
    let host = vandal(&format!("allow.http = [{{ url = '{url}/*', methods = ['GET'], private = true }}]"));
    let running = host.start();
    host.send("in", &[format!("fields {url}/"), "ok".to_owned()]);
    settled(&running, "dead", 1);
    settled(&running, "done", 1);
    assert!(server.requests().is_empty());
}

/// The host refuses before anything runs: the plugin is started once when it is loaded.
#[test]
fn a_loop_in_the_start_is_refused_at_load() {
    let plugin = wat::parse_str(
        r#"(component
            (core module $m (func $spin (loop (br 0))) (func (export "handle")) (start $spin))
            (core instance $i (instantiate $m))
            (func $handle (canon lift (core func $i "handle")))
            (instance $consumer (export "handle" (func $handle)))
            (export "bulkhead:connector/consumer@0.1.0" (instance $consumer)))"#,
    );
    let host = Bulkhead::new("[connectors.stuck]\nplugin = 'stuck.wasm'\nconsume = 'in'\nlimits = { cpu = '50ms' }\n");
    std::fs::write(host.path("stuck.wasm"), plugin.unwrap()).unwrap();
    let refused = host.run(&["run"]).ended_with(2).errors();
    assert!(refused.contains("connectors.stuck.plugin") && refused.contains("limits.cpu"), "{refused}");
}

#[test]
fn a_hundred_memories_are_refused_at_load() {
    let instances = "(core instance (instantiate $m))".repeat(100);
    let plugin = wat::parse_str(format!("(component (core module $m (memory 1)) {instances})")).unwrap();
    let host = Bulkhead::new("[connectors.many]\nplugin = 'many.wasm'\nconsume = 'in'\n");
    std::fs::write(host.path("many.wasm"), plugin).unwrap();
    let refused = host.run(&["run"]).ended_with(2).errors();
    assert!(refused.contains("connectors.many.plugin") && refused.contains("memories"), "{refused}");
}

#[test]
fn a_table_larger_than_any_is_refused_at_load() {
    let plugin = wat::parse_str("(component (core module $m (table 200000 funcref)) (core instance (instantiate $m)))");
    let host = Bulkhead::new("[connectors.large]\nplugin = 'large.wasm'\nconsume = 'in'\n");
    std::fs::write(host.path("large.wasm"), plugin.unwrap()).unwrap();
    let refused = host.run(&["run"]).ended_with(2).errors();
    assert!(refused.contains("connectors.large.plugin") && refused.contains("table"), "{refused}");
}

#[test]
fn names_that_look_like_others_are_refused() {
    let host = vandal("allow.publish = ['out']");
    host.send("in", &["names"]);
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<serde_json::Value>::new());
    assert_eq!(host.ledger().messages("out").len(), 0);
}

/// Below what a call may hand over, the text is refused or dropped; above it, the call ends.
#[test]
fn huge_texts_in_every_place_harm_nobody() {
    let host = vandal("allow.publish = ['out']");
    let running = host.start();
    let places = ["queue", "key", "header", "secret", "metric", "bucket", "state", "read", "url", "method"];
    let lines: Vec<String> = places.iter().flat_map(|place| [1, 8].map(|mib| format!("huge {place} {mib}"))).collect();
    host.send("in", &lines);
    running.wait_until("all settled", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[]) == lines.len() as f64
    });
    assert!(running.metrics().limits("vandal").contains(&"hostcall".to_owned()));
    host.send("in", &["ok"]);
    running.wait_until("one more", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[]) == (lines.len() + 1) as f64
    });
    assert_eq!(running.metrics().value("bulkhead_panics_total", &[]), 0.0);
    assert!(running.log().iter().all(|line| line.len() < 32 << 10), "no text of a guest is in the log as a whole");
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().messages("out").len(), 0);
}

/// Fifty times the pool's slots: whoever comes after finds nothing of who was there before.
#[test]
fn memory_of_a_sandbox_holds_nothing_of_another() {
    let host = vandal("");
    let running = host.start();
    let lines: Vec<&str> = ["stain", "residue", "residue"].into_iter().cycle().take(300).collect();
    host.send("in", &lines);
    settled(&running, "done", 300);
}

/// Kills in the middle of work and of waits: what they leave behind does not add up.
#[test]
fn a_thousand_kills_leave_nothing_behind() {
    let host = vandal("limits = { cpu = '2ms', wall = '4ms' }");
    let running = host.start();
    let round = |rounds: usize| {
        let lines: Vec<&str> = ["fill", "wait"].into_iter().cycle().take(500).collect();
        host.send("in", &lines);
        settled(&running, "dead", rounds * 500);
        (running.memory_peak_bytes(), running.threads_and_files())
    };
    let (memory, (threads, files)) = round(1);
    let (memory_after, (threads_after, files_after)) = round(2);
    assert!(memory_after < memory + (32 << 20), "{memory} bytes became {memory_after}");
    assert!(
        threads_after <= threads + 2 && files_after <= files + 4,
        "{threads} {files} became {threads_after} {files_after}"
    );
}

/// Each message becomes two: what the queue's bound lets in is all there ever is.
#[test]
fn a_connector_that_feeds_itself_is_held_at_the_bound_of_its_queue() {
    let host = vandal("limits = { publish_bytes = '16KiB' }\nallow.publish = ['in']\n[queues.in]\nmax_bytes = '16KiB'");
    let running = host.start();
    host.send("in", &["fan-out in"]);
    running.wait_until("full queue", PATIENCE, |metrics| {
        metrics.value("bulkhead_denied_total", &[("effect", "publish"), ("reason", "full")]) > 0.0
    });
    let bytes = host.queues()[0]["bytes"].as_u64().unwrap();
    running.kill9();
    assert!(bytes < 64 << 10, "{bytes} bytes are in a queue of 16 KiB, beyond which one call may go by as much");
}
