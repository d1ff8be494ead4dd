//! A queue that is told of every dead letter.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, Stored, guest};
use serde_json::Value;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn hostile(name: &str, queue: &str, keys: &str) -> String {
    let plugin = guest("hostile");
    format!("[connectors.{name}]\nplugin = '{}'\nbrake = 0\nconsume = '{queue}'\n{keys}\n", plugin.display())
}

fn notice(stored: &Stored) -> Value {
    serde_json::from_slice(&stored.body).unwrap()
}

#[test]
fn a_queue_is_told_of_every_dead_letter_as_the_list_shows_it() {
    let keys = "on_dead = { publish = 'alerts' }\nretry = { attempts = 2, first = '1ms' }";
    let host = Bulkhead::new(&hostile("it", "in", keys));
    let ids = host.send("in", &["retry later", "ok", "reject never"]);
    let _ = host.run_until_idle();
    let notices = host.ledger().messages("alerts");
    let mut told: Vec<Value> = notices.iter().map(notice).collect();
    told.sort_by_key(|notice| notice["id"].as_str().unwrap().parse::<u64>().unwrap());
    assert_eq!(told, host.dead());
    assert_eq!(told.len(), 2);
    let of = |id: &str| told.iter().find(|notice| notice["message_id"] == id).unwrap();
    assert_eq!((&of(&ids[0])["reason"], &of(&ids[0])["attempts"]), (&"later".into(), &2.into()));
    assert_eq!((&of(&ids[2])["connector"], &of(&ids[2])["queue"]), (&"it".into(), &"in".into()));
}

/// The death is decided: there is no room that it could wait for.
#[test]
fn a_full_queue_is_told_all_the_same() {
    let keys = "on_dead = { publish = 'alerts' }";
    let host = Bulkhead::new(&format!("[queues.alerts]\nmax_bytes = '1KiB'\n{}", hostile("it", "in", keys)));
    host.send("alerts", &["x".repeat(1024 - 26)]);
    host.send("in", &["reject one", "reject two"]);
    let _ = host.run_until_idle();
    assert_eq!((host.ledger().dead().len(), host.ledger().messages("alerts").len()), (2, 3));
}

/// What another connector makes of a notice dies too, and its notice is the first one's next message: until the hops end.
#[test]
fn notices_of_notices_end() {
    let ping = hostile("ping", "a", "on_dead = { publish = 'b' }");
    let host = Bulkhead::new(&(ping + &hostile("pong", "b", "on_dead = { publish = 'a' }")));
    host.send("a", &["reject it"]);
    let _ = host.run_until_idle();
    let ledger = host.ledger();
    assert_eq!(ledger.dead().len(), 33);
    assert!(ledger.messages("a").is_empty() && ledger.messages("b").is_empty());
}

/// Redriven, it dies again: that is another letter, and another notice, which no window for repeats swallows.
#[test]
fn a_letter_that_dies_again_is_told_again() {
    let keys = "on_dead = { publish = 'alerts' }";
    let host = Bulkhead::new(&format!("[queues.alerts]\ndedup = '1h'\n{}", hostile("it", "in", keys)));
    host.send("in", &["reject it"]);
    let _ = host.run_until_idle();
    let _ = host.run(&["dead", "retry", "--all"]).ok();
    let _ = host.run_until_idle();
    let ids: Vec<String> = host.ledger().messages("alerts").iter().map(|told| notice(told)["id"].to_string()).collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}

/// Letter and notice are there together, whenever the host dies.
#[test]
fn a_host_that_is_killed_has_told_of_every_letter() {
    let keys = "on_dead = { publish = 'alerts' }";
    let host = Bulkhead::new(&hostile("it", "in", keys));
    host.send("in", &["reject it"; 2_000]);
    let running = host.start();
    let dead = [("outcome", "dead")];
    running.wait_until("deaths", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &dead) > 50.0);
    running.kill9();
    let ledger = host.ledger();
    assert_eq!(ledger.dead().len(), ledger.messages("alerts").len());
}
