//! How a connector reads a queue: where it begins, and how it fills a run.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, Metrics, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connector that copies to a queue of its own name.
fn copying(name: &str, consume: &str) -> String {
    format!(
        "[connectors.{name}]\nplugin = '{}'\nconsume = {{ queue = 'in', {consume} }}\n
        config = {{ publish = 'of-{name}' }}\nallow.publish = ['of-{name}']\n",
        guest("echo").display()
    )
}

fn bodies(host: &Bulkhead, queue: &str) -> Vec<String> {
    host.ledger().messages(queue).into_iter().map(|message| String::from_utf8(message.body).unwrap()).collect()
}

/// What is kept although it is settled is the past of a connector that begins at the oldest, and nobody else's.
#[test]
fn a_new_subscription_begins_at_the_oldest_message_kept_or_after_all_of_them() {
    let keep = "[queues.in]\nkeep = '1d'\n";
    let host = Bulkhead::new(&format!("{keep}{}", copying("first", "batch = 2")));
    host.send("in", &["one", "two"]);
    let _ = host.run_until_idle();
    let (oldest, latest) = (copying("oldest", "from = 'oldest'"), copying("latest", "from = 'latest'"));
    host.configure(&format!("{keep}{}{oldest}{latest}", copying("first", "batch = 2")));
    let _ = host.run_until_idle();
    assert_eq!((bodies(&host, "of-oldest").len(), bodies(&host, "of-latest").len()), (2, 0));
    // It has begun: what comes while nobody runs is not past.
    host.send("in", &["three"]);
    let _ = host.run_until_idle();
    assert_eq!(bodies(&host, "of-latest"), ["three"]);
    assert_eq!(bodies(&host, "of-oldest"), ["one", "two", "three"]);
    assert_eq!(bodies(&host, "of-first"), ["one", "two", "three"]);
}

/// The numbers of the calls in their sandbox, with the messages sent in such groups.
fn calls(batch_wait: &str, groups: &[&[&str]]) -> Vec<String> {
    let host = Bulkhead::new(&format!(
        "[connectors.steps]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 5, batch_wait = '{batch_wait}' }}\nallow.publish = ['out']\n",
        guest("steps").display()
    ));
    let running = host.start();
    groups.iter().for_each(|group| drop(host.send("in", group)));
    let count: f64 = groups.iter().flat_map(|group| group.iter()).map(|_| 1.0).sum();
    let done = |metrics: &Metrics| metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]);
    running.wait_until("all of them", PATIENCE, |metrics| done(metrics) == count);
    let _ = running.terminate().ok();
    bodies(&host, "out").iter().map(|body| body.split(' ').nth(1).unwrap().to_owned()).collect()
}

/// An hour is longer than this test may take: only a full batch ends the wait.
#[test]
fn a_run_waits_until_its_batch_is_full() {
    assert_eq!(calls("1h", &[&["a", "b"], &["c"], &["d", "e"]]), ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_run_waits_no_longer_than_it_shall() {
    assert_eq!(calls("50ms", &[&["a", "b"]]), ["1", "2"]);
}

/// Nobody waits for a batch that does not fill once the host is to end.
#[test]
fn a_batch_that_fills_does_not_hold_up_a_stop() {
    let host = Bulkhead::new(&copying("it", "batch = 5, batch_wait = '1h'"));
    let running = host.start();
    host.send("in", &["waits"]);
    let _ = running.terminate().ok();
    assert_eq!((bodies(&host, "in"), bodies(&host, "of-it")), (vec!["waits".to_owned()], vec![]));
}
