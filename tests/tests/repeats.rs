//! `dedup`: a message with an id that was accepted before is dropped within the window, however much lies between and
//! however often the process has died; and no other is.

use std::time::{Duration, Instant};

use bulkhead_tests::{Bulkhead, Posted, Running, guest};
use serde_json::json;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than one slice of remembered ids holds.
const MANY: u32 = 70_000;

fn copying(dedup: &str) -> Bulkhead {
    Bulkhead::new(&format!(
        "[queues.in]\n{dedup}\n[connectors.copy]\nplugin = '{}'\nconsume = 'in'\nconfig = {{ publish = 'out' }}\nallow.publish = ['out']\n",
        guest("echo").display()
    ))
}

/// A queue that nobody takes anything from.
fn paused(dedup: &str) -> Bulkhead {
    let host = copying(dedup);
    let _ = host.run(&["pause", "copy"]).ok();
    host
}

fn line(id: &str) -> String {
    format!("{}\n", json!({ "id": id, "body": id }))
}

fn post(host: &Bulkhead, ids: impl Iterator<Item = String>) {
    let lines: String = ids.map(|id| line(&id)).collect();
    assert_eq!(host.post("in", &lines), Posted::Accepted);
}

fn numbers(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|number| format!("n{number}"))
}

fn dropped(running: &Running) -> f64 {
    running.metrics().value("bulkhead_duplicates_total", &[("queue", "in")])
}

#[test]
fn a_repeat_is_dropped_after_a_delivery_a_stop_and_a_crash() {
    let host = copying("dedup = '1h'");
    let send = |id: &str, body: &str| {
        let sent = host.run(&["send", "in", "--id", id, "--body", body, "--json"]).ok();
        assert_eq!(sent.json(), json!({ "ids": [id] }), "a repeat answers the id of the first");
    };
    send("same", "first");
    send("same", "second");
    let _ = host.run_until_idle();
    send("same", "third");
    let running = host.start();
    send("same", "fourth");
    send("other", "fifth");
    assert_eq!(dropped(&running), 1.0);
    running.kill9();
    send("other", "sixth");
    let _ = host.run_until_idle();
    let bodies: Vec<Vec<u8>> = host.ledger().messages("out").into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, [b"first", b"fifth"]);
}

#[test]
fn a_repeat_is_dropped_however_many_came_between() {
    let host = paused("dedup = '1h'");
    let running = host.start();
    post(&host, numbers(0..MANY));
    post(&host, ["n0", "n65535", "n65536", "n69999", "new"].into_iter().map(str::to_owned));
    assert_eq!(dropped(&running), 4.0);
    running.kill9();
    let running = host.start();
    post(&host, ["n1", "n69998", "new", "newer"].into_iter().map(str::to_owned));
    assert_eq!(dropped(&running), 3.0);
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().messages("in").len(), MANY as usize + 2);
}

/// The oldest slice is forgotten first, and the operator is told.
#[test]
fn no_more_ids_are_remembered_than_shall_be() {
    let host = paused("dedup = '1h'\ndedup_max = 66000");
    let running = host.start();
    post(&host, numbers(0..MANY));
    running.wait_for_log("forgot ids within their window: `dedup_max` is reached", PATIENCE);
    post(&host, ["n0", "n69999"].into_iter().map(str::to_owned));
    assert_eq!(dropped(&running), 1.0);
    let _ = running.terminate().ok();
    let last = host.ledger().messages("in").pop().unwrap();
    assert_eq!((last.id.as_str(), last.seq), ("n0", i64::from(MANY) + 1));
}

/// A bound below the size of a usual slice forgets the oldest ids too, not all of them.
#[test]
fn a_small_bound_keeps_the_youngest_ids() {
    let host = paused("dedup = '1h'\ndedup_max = 1000");
    let running = host.start();
    // One more than a slice: that one must not be all that is left.
    post(&host, numbers(0..1_025));
    post(&host, ["n1", "n1024"].into_iter().map(str::to_owned));
    assert_eq!(dropped(&running), 2.0);
    post(&host, numbers(1_025..2_500));
    running.wait_for_log("forgot ids within their window: `dedup_max` is reached", PATIENCE);
    post(&host, ["n0", "n1999", "n2499"].into_iter().map(str::to_owned));
    assert_eq!(dropped(&running), 4.0);
    let _ = running.terminate().ok();
}

#[test]
fn an_id_is_new_again_after_the_window_and_every_queue_has_its_own() {
    let host = paused("dedup = '1s'");
    let running = host.start();
    let deadline = Instant::now() + PATIENCE;
    post(&host, ["it".to_owned()].into_iter());
    let mut sent = 1.0;
    while dropped(&running) + 1.0 >= sent {
        assert!(Instant::now() < deadline, "it is a repeat for ever");
        post(&host, ["it".to_owned()].into_iter());
        sent += 1.0;
        running.rest();
    }
    let repeats = dropped(&running);
    assert_eq!(host.post("out", &line("it")), Posted::Accepted);
    assert_eq!(running.metrics().value("bulkhead_duplicates_total", &[]), repeats);
    let _ = running.terminate().ok();
    assert_eq!((host.ledger().messages("in").len(), host.ledger().messages("out").len()), (2, 1));
}
