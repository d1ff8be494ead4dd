//! `was = "old"`: a connector under another name goes on as the same one, in everything that it has.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, Metrics, guest};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connector that reads, has two schedules, keeps state, publishes, and fails at once.
fn toml(name: &str, keys: &str) -> String {
    format!(
        "[connectors.{name}]\nplugin = '{}'\nconsume = 'in'\nallow.publish = ['out']\n{keys}\n
        schedule = [{{ name = 'count', every = '365d', input = 'count ticks' }}, {{ name = 'later', every = '365d', input = 'retry later' }}]\n
        retry = {{ attempts = 2, first = '1h', max = '1h', jitter = 'none' }}\n",
        guest("hostile").display()
    )
}

/// What happened under the first name: ticks, one of which waits for its next attempt; a count, a dead letter, a publish.
fn with_past() -> Bulkhead {
    let host = Bulkhead::new(&toml("old", ""));
    host.send("in", &["count total", "reject it", "publish out"]);
    let _ = host.run_until_idle();
    host
}

/// Sends messages with ids of their own choice, and works them off.
fn work(host: &Bulkhead, messages: &[(&str, &str)]) {
    for (id, body) in messages {
        let _ = host.run(&["send", "in", "--id", id, "--body", body]).ok();
    }
    let _ = host.run_until_idle();
}

/// The id of what was published last.
fn published(host: &Bulkhead) -> String {
    host.ledger().messages("out").pop().unwrap().id
}

/// Each subscription of a connector: its queue, what is unsettled, and what of that has failed.
fn subscriptions(host: &Bulkhead, connector: &str) -> Vec<Value> {
    let queues = host.queues();
    let of_queue = |queue: &Value| {
        let subscriptions = queue["subscriptions"].as_array().unwrap().clone();
        let own = subscriptions.into_iter().find(|subscription| subscription["connector"] == connector)?;
        Some(json!([queue["queue"], own["backlog"], own["retrying"], own["dead"]]))
    };
    queues.as_array().unwrap().iter().filter_map(of_queue).collect()
}

#[test]
fn a_renamed_connector_goes_on_where_it_was() {
    let host = with_past();
    let before = subscriptions(&host, "old");
    assert_eq!(before, [json!(["@old", 1, 1, 0]), json!(["in", 0, 0, 1])]);
    host.send("in", &["count total"]);
    host.configure(&toml("new", "was = 'old'"));
    let _ = host.run(&["check"]).ok();
    let _ = host.run_until_idle();
    assert_eq!((subscriptions(&host, "old"), subscriptions(&host, "new").len()), (vec![], 2));
    assert_eq!(subscriptions(&host, "new"), [json!(["@new", 1, 1, 0]), json!(["in", 0, 0, 1])]);
    let counts = |text: &str| text.as_bytes().to_vec();
    let state = [("ticks".to_owned(), counts("1")), ("total".to_owned(), counts("2"))];
    assert_eq!(host.ledger().state("new"), state, "what was settled is not delivered again, no schedule fires anew");
    let letters = host.dead();
    assert_eq!((letters.len(), &letters[0]["connector"], &letters[0]["queue"]), (1, &json!("new"), &json!("in")));
    let _ = host.run(&["dead", "retry", "--connector", "new"]).ok();
    let _ = host.run_until_idle();
    assert_eq!((host.dead().len(), &host.dead()[0]["connector"]), (1, &json!("new")));
    assert_ne!(host.dead()[0]["id"], letters[0]["id"], "it was delivered once more");
}

#[test]
fn a_renamed_connector_derives_the_ids_that_it_derived_before() {
    let (renamed, kept, other) = (with_past(), with_past(), Bulkhead::new(&toml("new", "")));
    renamed.configure(&toml("new", "was = 'old'"));
    for host in [&renamed, &kept, &other] {
        work(host, &[("the-message", "publish out")]);
    }
    assert_eq!(published(&renamed), published(&kept));
    assert_ne!(published(&renamed), published(&other));
}

/// A pause is the connector's own, too.
#[test]
fn a_renamed_connector_stays_paused() {
    let host = with_past();
    let _ = host.run(&["pause", "old"]).ok();
    host.configure(&toml("new", "was = 'old'"));
    work(&host, &[("waits", "count total")]);
    assert_eq!(host.ledger().holds("new"), ["paused"]);
    assert_eq!(subscriptions(&host, "new")[1], json!(["in", 1, 0, 1]));
}

#[test]
fn a_name_that_never_was_is_no_past() {
    let host = Bulkhead::new(&toml("new", "was = 'nobody'"));
    let _ = host.run(&["check"]).ok();
    work(&host, &[("the-message", "count total")]);
    assert_eq!(subscriptions(&host, "new").len(), 2);
    // It does not become one when it stays in the TOML.
    work(&host, &[("another", "count total")]);
    assert_eq!(host.ledger().state("new")[1], ("total".to_owned(), b"2".to_vec()));
}

#[test]
fn two_pasts_are_not_joined() {
    let host = with_past();
    host.configure(&toml("new", ""));
    work(&host, &[("the-message", "count total")]);
    host.configure(&toml("new", "was = 'old'"));
    let refused = host.run(&["run", "--until-idle"]).ended_with(2);
    assert!(refused.errors().contains("remove `connectors.new.was`"), "{}", refused.errors());
    assert_eq!(host.ledger().state("old").len(), 2, "nothing has changed");
}

/// The milliseconds at which a schedule of each second is planned.
fn phase(host: &Bulkhead) -> u64 {
    let running = host.start();
    let rejected = |metrics: &Metrics| metrics.value("bulkhead_deliveries_total", &[("outcome", "dead")]);
    // Without history the first one is planned for the start itself.
    running.wait_until("second tick", PATIENCE, |metrics| rejected(metrics) >= 2.0);
    let _ = running.terminate().ok();
    let reason = host.ledger().dead().pop().unwrap().reason;
    let planned = reason.split("planned ").nth(1).unwrap().split(',').next().unwrap();
    planned.parse::<u64>().unwrap() % 1_000
}

/// Its schedules are planned by the connector's lineage, as its ids are derived from it.
#[test]
fn a_renamed_connector_is_planned_for_the_same_times() {
    let toml = |name: &str, was: &str| {
        let plugin = guest("hostile");
        let schedule = "schedule = { every = '1s', input = 'show' }\nbrake = 0";
        format!("[connectors.{name}]\nplugin = '{}'\n{schedule}\n{was}\n", plugin.display())
    };
    let host = Bulkhead::new(&toml("old", ""));
    let before = phase(&host);
    host.configure(&toml("new", "was = 'old'"));
    assert_eq!(phase(&host), before);
}
