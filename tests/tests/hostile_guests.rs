//! Guests that attack from every place where the host calls them, and through every import: each ends with the limit
//! that it broke, its neighbour in the next message does not notice, and the host goes on.

use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Metrics, Running, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(240);

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

/// So many fields of so many bytes: the gate looks at them and refuses, and neither budget nor deadline has a part in it.
fn check_fields(count: usize, bytes: usize) {
    let server = Fixture::answering([Answer::status(200)]);
    let url = server.url();
    let host = vandal(&format!("allow.http = [{{ url = '{url}/*', methods = ['GET'], private = true }}]"));
    let running = host.start();
    // What is nearly too much is sent.
    host.send("in", &[format!("fields {count} {bytes} {url}/"), format!("fields 90 700 {url}/")]);
    settled(&running, "dead", 1);
    settled(&running, "done", 1);
    let metrics = running.metrics();
    let labels = [("connector", "vandal"), ("effect", "http"), ("reason", "invalid")];
    assert_eq!(metrics.value("bulkhead_denied_total", &labels), 1.0);
    assert_eq!(metrics.limits("vandal"), [""; 0], "{count} {bytes}");
    let _ = running.terminate().ok();
    let reason = host.ledger().dead().remove(0).reason;
    assert!(reason.contains("its headers are over 128 or 64 KiB together"), "{count} {bytes}: {reason}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn forty_thousand_header_fields_are_not_sent() {
    check_fields(40_000, 1);
}

#[test]
fn header_fields_over_64_kib_together_are_not_sent() {
    check_fields(100, 700);
}

/// The host's own memory for them ends before the gate sees them; the budget and the deadline have no part in it.
#[test]
fn fields_of_wasi_http_over_64_kib_end_the_call() {
    let server = Fixture::answering([Answer::status(200)]);
    let url = server.url();
    let host = Bulkhead::new(&format!(
        "[connectors.stream]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 1 }}\nbrake = 0\n
        retry = {{ attempts = 1 }}\nallow.http = [{{ url = '{url}/*', methods = ['GET'], private = true }}]\n",
        guest("stream").display()
    ));
    let running = host.start();
    let tries = ["40000 1 each", "40000 1 list", "100 700 each", "100 700 list", "2 60000 each"];
    host.send("in", &tries.map(|what| format!("fields {url}/ {what}")));
    settled(&running, "dead", tries.len());
    // What fits there, the gate counts.
    host.send("in", &[format!("fields {url}/ 200 1 each"), format!("fields {url}/ 90 500 each")]);
    settled(&running, "dead", tries.len() + 1);
    settled(&running, "done", 1);
    let metrics = running.metrics();
    let labels = [("connector", "stream"), ("effect", "http"), ("reason", "invalid")];
    assert_eq!(metrics.value("bulkhead_denied_total", &labels), 1.0);
    assert_eq!(metrics.limits("stream"), ["hostcall"]);
    let hits = metrics.value("bulkhead_limit_hits_total", &[("connector", "stream"), ("limit", "hostcall")]);
    assert_eq!(hits, tries.len() as f64);
    let _ = running.terminate().ok();
    let dead = host.ledger().dead();
    let ended = |because: &str| dead.iter().filter(|letter| letter.reason.contains(because)).count();
    let spent = "over a fixed bound: one `fields` of wasi:http may take 64 KiB in the host";
    assert_eq!(ended(spent), tries.len(), "{dead:?}");
    assert_eq!(ended("its headers are over 128 or 64 KiB together"), 1, "{dead:?}");
    assert_eq!(server.requests().len(), 1);
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

/// A sound component that no sandbox has room for is refused at load, with what a sandbox has.
fn check_beyond(component: &str, what: &str) {
    let host = Bulkhead::new("[connectors.many]\nplugin = 'many.wasm'\nconsume = 'in'\n");
    std::fs::write(host.path("many.wasm"), wat::parse_str(component).unwrap()).unwrap();
    let refused = host.run(&["run"]).ended_with(2).errors();
    let says = ["connectors.many.plugin", "needs more than a sandbox has", "one memory for each core module", what];
    assert!(says.iter().all(|part| refused.contains(part)) && !refused.contains("broken"), "{what}: {refused}");
}

#[test]
fn a_hundred_memories_are_refused_at_load() {
    let instances = "(core instance (instantiate $m))".repeat(100);
    check_beyond(&format!("(component (core module $m (memory 1)) {instances})"), "memories");
}

#[test]
fn a_module_with_two_memories_is_refused_at_load() {
    check_beyond("(component (core module $m (memory 1) (memory 1)) (core instance (instantiate $m)))", "memories");
}

/// The pool has room for a limit that a reload raises to 1 GiB.
#[test]
fn a_memory_larger_than_any_is_refused_at_load() {
    check_beyond("(component (core module $m (memory 20000)) (core instance (instantiate $m)))", "memory");
}

#[test]
fn a_memory_larger_than_its_limit_is_refused_at_load() {
    let plugin = wat::parse_str(
        r#"(component
            (core module $m (memory 2000) (func (export "handle")))
            (core instance $i (instantiate $m))
            (func $handle (canon lift (core func $i "handle")))
            (instance $consumer (export "handle" (func $handle)))
            (export "bulkhead:connector/consumer@0.1.0" (instance $consumer)))"#,
    );
    let host = Bulkhead::new("[connectors.large]\nplugin = 'large.wasm'\nconsume = 'in'\n");
    std::fs::write(host.path("large.wasm"), plugin.unwrap()).unwrap();
    let refused = host.run(&["run"]).ended_with(2).errors();
    assert!(refused.contains("connectors.large.plugin") && refused.contains("limits.memory"), "{refused}");
}

#[test]
fn a_table_larger_than_any_is_refused_at_load() {
    check_beyond("(component (core module $m (table 200000 funcref)) (core instance (instantiate $m)))", "table");
}

/// What can be opened, and what ends the call that opens it without end and closes nothing.
const HOARDS: [(&str, &str); 18] = [
    ("fields", "handles"),
    ("full-fields", "handles"),
    ("options", "handles"),
    ("requests", "handles"),
    ("headers", "handles"),
    ("bodies", "handles"),
    ("written-bodies", "handles"),
    ("unanswered", "handles"),
    ("answers", "handles"),
    ("answers-unread", "handles"),
    ("alarms", "handles"),
    ("pollables-of-a-stream", "handles"),
    ("outputs", "handles"),
    ("output-pollables", "handles"),
    ("networks", "handles"),
    ("buckets", "handles"),
    ("swaps", "handles"),
    // What the host keeps of these is charged to the sandbox, long before there are too many.
    ("swaps-of-large-values", "memory"),
];

#[test]
fn whatever_is_opened_without_end_is_ended_by_its_limit_and_the_neighbour_goes_on() {
    let server = Fixture::answering([Answer::status(200).body("hello")]);
    let url = server.url();
    let host = Bulkhead::new(&format!(
        "[connectors.hoarder]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 1 }}\nbrake = 0\n
        retry = {{ attempts = 1 }}\nlimits = {{ handles = 200, requests_at_once = 200 }}\n
        allow.http = [{{ url = '{url}/*', methods = ['GET', 'POST'], private = true }}]\n
        [connectors.neighbour]\nplugin = '{}'\nconsume = {{ queue = 'near', batch = 1 }}\n",
        guest("stream").display(),
        guest("vandal").display()
    ));
    let running = host.start();
    host.send("in", &["ok"]);
    settled(&running, "done", 1);
    let before = running.memory_peak_bytes();
    let lines: Vec<String> = HOARDS.iter().map(|(kind, _)| format!("hoard {url}/ {kind}")).collect();
    host.send("in", &lines);
    host.send("near", &["ok"; 100]);
    host.send("in", &["ok"]);
    settled(&running, "dead", HOARDS.len());
    settled(&running, "done", 102);
    let (metrics, grown) = (running.metrics(), running.memory_peak_bytes().saturating_sub(before));
    for limit in ["handles", "memory"] {
        let expected = HOARDS.iter().filter(|(_, ends)| *ends == limit).count();
        let hits = metrics.value("bulkhead_limit_hits_total", &[("connector", "hoarder"), ("limit", limit)]);
        assert_eq!(hits, expected as f64, "{limit}");
    }
    assert_eq!(metrics.limits("hoarder").len(), 2, "{:?}", metrics.limits("hoarder"));
    assert!(
        grown < 128 << 20,
        "grown by {} MiB: a sandbox has 64, and what the host keeps for it as much",
        grown >> 20
    );
    let _ = running.terminate().ok();
    for letter in host.ledger().dead() {
        let body = String::from_utf8(letter.body).unwrap();
        let ends = HOARDS.iter().find(|(kind, _)| body.ends_with(&format!(" {kind}"))).unwrap().1;
        assert!(letter.reason.contains(&format!("connectors.hoarder.limits.{ends}")), "{body}: {}", letter.reason);
    }
}

/// Whether a queue is there is nothing that a plugin can find out.
#[test]
fn a_queue_and_an_inbox_of_others_are_refused_like_those_that_are_not_there() {
    let other = format!("[connectors.other]\nplugin = '{}'\nconsume = 'theirs'\n", guest("vandal").display());
    let host = Bulkhead::new(&format!(
        "[connectors.hostile]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 1 }}\nbrake = 0\n\
         retry = {{ attempts = 1 }}\nallow.publish = ['out']\n{other}",
        guest("hostile").display()
    ));
    let queues = ["theirs", "nowhere", "@other", "@nobody"];
    host.send("in", &queues.map(|queue| format!("publish {queue}")));
    let _ = host.run_until_idle();
    let dead = host.ledger().dead();
    let asked = queues.iter().zip(&dead);
    let texts: Vec<String> = asked.map(|(queue, letter)| letter.reason.replace(queue, "QUEUE")).collect();
    assert!(texts.len() == 4 && texts[0].contains("may not publish to `QUEUE`: add it"), "{texts:?}");
    assert!(texts[2].contains("may not publish to a queue of no valid name"), "{texts:?}");
    assert!(texts[0] == texts[1] && texts[2] == texts[3], "{texts:?}");
}

#[test]
fn names_that_look_like_others_are_refused() {
    let host = vandal("allow.publish = ['out']");
    host.send("in", &["names"]);
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<serde_json::Value>::new());
    assert_eq!(host.ledger().messages("out").len(), 0);
}

/// Names in a place of the guest's choice, each refused and counted; `count` of them are no names there.
fn check_odd(place: &str, effect: &str, reason: &str, count: u32) {
    let server = Fixture::answering([Answer::status(200)]);
    let url = server.url();
    let host = vandal(&format!(
        "allow.publish = ['out']\nallow.http = [{{ url = '{url}/*', methods = ['GET'], private = true }}]"
    ));
    let running = host.start();
    host.send("in", &[format!("odd {place} {url}/")]);
    settled(&running, "done", 1);
    let metrics = running.metrics();
    let labels = [("connector", "vandal"), ("effect", effect), ("reason", reason)];
    let refused = metrics.value("bulkhead_denied_total", &labels);
    assert_eq!((refused, metrics.value("bulkhead_denied_total", &[])), (f64::from(count), refused), "{place}");
    assert_eq!(metrics.limits("vandal"), [""; 0], "{place}");
    assert!(running.log().iter().all(|line| line.len() < 32 << 10), "no text of a guest is in the log as a whole");
    let _ = running.terminate().ok();
    assert_eq!((server.requests().len(), host.ledger().messages("out").len()), (0, 0), "{place}");
}

#[test]
fn an_odd_name_is_refused_and_counted_wherever_it_stands() {
    check_odd("queue", "publish", "not_granted", 13);
    check_odd("message-header", "publish", "invalid", 11);
    check_odd("secret", "secret", "not_granted", 13);
    // The empty one is the connector's own.
    check_odd("bucket", "state", "not_granted", 12);
    check_odd("http-header", "http", "invalid", 11);
    check_odd("http-method", "http", "invalid", 11);
    for place in ["count", "gauge", "label"] {
        check_odd(place, "metric", "invalid", 13);
    }
    // Nothing is there, and nothing is refused.
    check_odd("config", "state", "invalid", 0);
}

#[test]
fn a_key_of_the_state_means_itself_or_is_refused_and_counted() {
    let host = vandal("");
    let running = host.start();
    host.send("in", &["odd-keys"]);
    settled(&running, "done", 1);
    let labels = [("connector", "vandal"), ("effect", "state"), ("reason", "invalid")];
    assert_eq!(running.metrics().value("bulkhead_denied_total", &labels), 12.0);
    let _ = running.terminate().ok();
    let state = host.ledger().state("vandal");
    assert!(state.len() == 11 && state.iter().all(|(key, value)| key.as_bytes() == value), "{state:?}");
}

/// Many times the pool's slots: whoever comes after finds nothing of who was there before.
#[test]
fn memory_of_a_sandbox_holds_nothing_of_another() {
    let host = vandal("");
    let running = host.start();
    let lines: Vec<&str> = ["stain", "residue", "residue"].into_iter().cycle().take(60).collect();
    host.send("in", &lines);
    settled(&running, "done", 60);
}

/// More plugins than the pool keeps warm slots for: they are given those of the others.
#[test]
fn memory_of_a_sandbox_holds_nothing_of_another_plugins() {
    let scanners = std::thread::available_parallelism().unwrap().get() + 4;
    let connector = |name: &str, plugin: &str| {
        format!(
            "[connectors.{name}]\nplugin = '{plugin}'\nconsume = {{ queue = '{name}', batch = 1 }}\nretry = {{ attempts = 1 }}\n"
        )
    };
    let name = |nth: usize| format!("scanner{nth}");
    let toml = (0..scanners).map(|nth| connector(&name(nth), &format!("{nth}.wasm")));
    let plugin = guest("vandal");
    let host = Bulkhead::new(&toml.fold(connector("stainer", plugin.to_str().unwrap()), |toml, more| toml + &more));
    for nth in 0..scanners {
        // A section that means nothing makes another plugin of it.
        let bytes = [std::fs::read(&plugin).unwrap(), vec![0, 2, 1, b'a' + u8::try_from(nth).unwrap()]].concat();
        std::fs::write(host.path(&format!("{nth}.wasm")), bytes).unwrap();
    }
    let running = host.start();
    for round in 1..=5 {
        host.send("stainer", &["stain"; 10]);
        settled(&running, "done", round * 10 + (round - 1) * scanners);
        (0..scanners).for_each(|nth| drop(host.send(&name(nth), &["residue"])));
        settled(&running, "done", round * (10 + scanners));
    }
}

/// Kills in the middle of work and of waits: what they leave behind does not add up.
#[test]
fn a_thousand_kills_leave_nothing_behind() {
    let host = vandal("limits = { cpu = '5ms', wall = '8ms' }");
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

/// Of each way to die that is quick. What they leave behind does not add up: neither threads, files nor memory. Ten
/// thousand of them are among the figures (`kills`).
#[test]
fn two_thousand_kills_leave_nothing_behind() {
    const ROUND: usize = 400;
    let connector = |queue: &str, limits: &str| {
        format!(
            "[connectors.{queue}]\nplugin = '{}'\nconsume = '{queue}'\nbrake = 0\nretry = {{ attempts = 1 }}\n
            limits = {{ {limits} }}\n",
            guest("hostile").display()
        )
    };
    let host = Bulkhead::new(&(connector("broken", "memory = '2MiB'") + &connector("late", "wall = '1ms'")));
    let running = host.start();
    let mut seen = Vec::new();
    for round in 1..=5 {
        let broken: Vec<&str> = ["trap", "panic", "grow", "handles"].into_iter().cycle().take(ROUND * 4 / 5).collect();
        host.send("broken", &broken);
        host.send("late", &vec!["sleep 3600"; ROUND / 5]);
        settled(&running, "dead", round * ROUND);
        seen.push((running.memory_peak_bytes(), running.threads_and_files()));
    }
    let (memory, (threads, files)) = seen[0];
    let (memory_after, (threads_after, files_after)) = seen[4];
    assert!(memory_after < memory + (32 << 20), "{seen:?}");
    assert!(threads_after <= threads + 2 && files_after <= files + 4, "{seen:?}");
    let mut limits = running.metrics().limits("broken");
    limits.sort();
    assert_eq!(
        (limits, running.metrics().limits("late")),
        (vec!["handles".into(), "memory".into()], vec!["wall".into()])
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
