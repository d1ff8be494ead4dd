//! How long a sandbox lives: what one run leaves behind reaches no other, unless the TOML says so; and then only while
//! nothing fails and little is kept.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn steps(batch: usize, keys: &str) -> Bulkhead {
    Bulkhead::new(&format!(
        "[connectors.steps]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = {batch} }}\nallow.publish = ['out']\n
        retry = {{ attempts = 1 }}\n{keys}\n",
        guest("steps").display()
    ))
}

/// The number that each message's call had in its sandbox, in order of publishing.
fn check(batch: usize, keys: &str, messages: &[&str], expected: &[(&str, u32)]) {
    let host = steps(batch, keys);
    host.send("in", messages);
    let _ = host.run_until_idle();
    let out: Vec<String> =
        host.ledger().messages("out").into_iter().map(|message| String::from_utf8(message.body).unwrap()).collect();
    let calls: Vec<(&str, u32)> = out
        .iter()
        .map(|body| {
            let mut words = body.split(' ');
            (words.next().unwrap(), words.next().unwrap().parse().unwrap())
        })
        .collect();
    assert_eq!(calls, expected);
}

#[test]
fn every_run_has_a_fresh_sandbox() {
    check(1, "", &["a", "b", "c"], &[("a", 1), ("b", 1), ("c", 1)]);
}

#[test]
fn the_messages_of_a_run_share_its_sandbox() {
    check(2, "", &["a", "b", "c", "d", "e"], &[("a", 1), ("b", 2), ("c", 1), ("d", 2), ("e", 1)]);
}

#[test]
fn a_kept_sandbox_goes_on_from_run_to_run() {
    check(2, "reuse = 'always'", &["a", "b", "c", "d", "e"], &[("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5)]);
}

/// Each of them is the last call of its sandbox, also within a run.
#[test]
fn a_sandbox_is_thrown_away_after_any_failure() {
    let messages = ["a", "b stumble 1", "c", "d", "e reject", "f", "g", "h trap", "i", "j", "k spin", "l", "m"];
    for (batch, reuse) in [(1, "always"), (16, "never"), (16, "always")] {
        let host = steps(batch, &format!("reuse = '{reuse}'\nlimits = {{ cpu = '50ms' }}"));
        host.send("in", &messages);
        let running = host.start();
        running.wait_until("four dead letters", PATIENCE, |metrics| metrics.value("bulkhead_dead_letters", &[]) == 4.0);
        let done = [("outcome", "done")];
        running.wait_until("all others", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) == 9.0);
        assert_eq!(running.metrics().limits("steps"), ["cpu"]);
        let _ = running.terminate().ok();
        let out = host.ledger().messages("out");
        let call = |name: &str| {
            let bodies = out.iter().map(|message| std::str::from_utf8(&message.body).unwrap());
            bodies.filter_map(|body| body.strip_prefix(name)?.trim().chars().next()).next()
        };
        for first in ["a", "c", "f", "i", "l"] {
            assert_eq!(call(first), Some('1'), "{first} with a batch of {batch}, reuse = {reuse}");
        }
        assert_eq!(call("d"), Some('2'));
    }
}

/// It has not broken its limit: a guest that leaks is replaced before it does.
#[test]
fn a_kept_sandbox_retires_at_half_its_memory() {
    let host = steps(1, "reuse = 'always'\nlimits = { memory = '16MiB' }");
    host.send("in", &["a keep 3", "b keep 3", "c keep 3", "d", "e keep 7", "f"]);
    let running = host.start();
    let done = [("outcome", "done")];
    running.wait_until("all of them", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) == 6.0);
    assert_eq!(running.metrics().limits("steps"), Vec::<String>::new());
    let _ = running.terminate().ok();
    let out = host.ledger().messages("out");
    let bodies: Vec<&[u8]> = out.iter().map(|message| message.body.as_slice()).collect();
    assert_eq!(bodies, [b"a 1 1", b"b 2 1", b"c 3 1", b"d 1 1", b"e 2 1", b"f 1 1"]);
}
