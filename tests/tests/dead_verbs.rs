//! What people do with many dead letters: find them, count them by reason, deliver them again, drop them.

use bulkhead_tests::{Bulkhead, Finished, guest};
use serde_json::{Value, json};

/// Two connectors that die of what their messages say, each with a queue of its own.
fn two() -> Bulkhead {
    let connector = |name: &str, queue: &str| {
        let plugin = guest("hostile");
        format!(
            "[connectors.{name}]\nplugin = '{}'\nconsume = '{queue}'\nbrake = 0\nretry = {{ attempts = 1 }}\n",
            plugin.display()
        )
    };
    Bulkhead::new(&[connector("a", "in"), connector("b", "other")].concat())
}

/// The same after these have died in `a`.
fn with_letters(bodies: &[&str]) -> Bulkhead {
    let host = two();
    host.send("in", bodies);
    let _ = host.run_until_idle();
    host
}

fn dead(host: &Bulkhead, arguments: &[&str]) -> Finished {
    host.run(&[&["dead"], arguments].concat())
}

fn listed(host: &Bulkhead, arguments: &[&str]) -> Vec<Value> {
    dead(host, &[&["list", "--json"], arguments].concat()).ok().json().as_array().unwrap().clone()
}

fn reasons(letters: &[Value]) -> Vec<&str> {
    letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect()
}

/// Without a host, then through one: both answer the same.
fn both_ways(host: &Bulkhead, check: impl Fn(&str)) {
    check("without a host");
    let running = host.start();
    check("through the host");
    let _ = running.terminate().ok();
}

#[test]
fn letters_are_found_by_connector_queue_reason_and_time() {
    let host = with_letters(&["reject early & first"]);
    host.send("in", &["reject late"]);
    host.send("other", &["reject LATE too"]);
    let _ = host.run_until_idle();
    let late = host.dead()[1]["died_at"].as_str().unwrap().to_owned();
    both_ways(&host, |way| {
        for (arguments, expected) in [
            (&["--connector", "b"][..], &["LATE too"][..]),
            (&["--queue", "in"], &["early & first", "late"]),
            (&["--reason", "EARLY & f"], &["early & first"]),
            (&["--reason", "late", "--queue", "in"], &["late"]),
            (&["--reason", "late", "--queue", "nowhere"], &[]),
            (&["--since", "1h"], &["early & first", "late", "LATE too"]),
            (&["--since", "2999-01-01T00:00:00Z"], &[]),
        ] {
            let letters = listed(&host, arguments);
            let mut found = reasons(&letters);
            // Of two connectors either may come first.
            found.sort_by_key(|reason| reason.to_lowercase());
            assert_eq!(found, expected, "{way}: {arguments:?}");
        }
        let letters = listed(&host, &["--since", &late]);
        assert!(!letters.is_empty() && !reasons(&letters).contains(&"early & first"), "{way}: {letters:?}");
    });
}

#[test]
fn letters_are_counted_by_reason_without_its_numbers_and_ids() {
    let host = with_letters(&["reject order 17 is unknown", "reject no luck", "reject order 4711 is unknown"]);
    let newest = host.dead()[2].clone();
    both_ways(&host, |way| {
        let groups = dead(&host, &["list", "--group", "--json"]).ok().json();
        let group = &groups[0];
        assert_eq!((&group["reason"], &group["count"]), (&json!("order N is unknown"), &json!(2)), "{way}");
        assert_eq!((&group["connectors"], &group["last_id"]), (&json!(["a"]), &newest["id"]), "{way}");
        assert_eq!(group["last_died_at"], newest["died_at"], "{way}");
        assert_eq!((&groups[1]["reason"], groups.as_array().unwrap().len()), (&json!("no luck"), 2), "{way}");
        let few = dead(&host, &["list", "--group", "--reason", "luck"]).ok().output;
        assert!(few.contains("no luck") && !few.contains("order"), "{way}: {few}");
    });
}

#[test]
fn a_dry_run_counts_and_a_filter_delivers_what_it_means() {
    let host = with_letters(&["reject this", "reject that", "reject this too"]);
    both_ways(&host, |way| {
        let counted = dead(&host, &["retry", "--reason", "this", "--dry-run"]).ok().output;
        assert_eq!((counted.as_str(), host.dead().len()), ("2 would be delivered again\n", 3), "{way}");
    });
    assert_eq!(dead(&host, &["retry", "--reason", "this"]).ok().output, "2 delivered again\n");
    assert_eq!(reasons(&host.dead()), ["that"]);
    let delivered = &host.queues()[0]["subscriptions"][0]["backlog"];
    assert_eq!(delivered, &json!(2));
}

#[test]
fn a_letter_named_twice_is_one_and_no_more_are_named_than_are_looked_up() {
    let host = with_letters(&["reject this", "reject that"]);
    let ids: Vec<String> = host.dead().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect();
    let running = host.start();
    let chosen = |ids: &[String], dry_run: bool| json!({ "filter": { "ids": ids }, "dry_run": dry_run }).to_string();
    for verb in ["drop", "retry"] {
        let counted = running.api("POST", &format!("dead/{verb}"), &chosen(&vec![ids[0].clone(); 1_000], true));
        assert_eq!((counted.status, &counted.json()["count"]), (200, &json!(1)), "{verb}");
        let refused = running.api("POST", &format!("dead/{verb}"), &chosen(&vec![ids[0].clone(); 10_001], true));
        assert_eq!(refused.status, 400, "{verb}");
        assert!(refused.detail().contains("10000 at most"), "{}", refused.detail());
    }
    let twice = [ids.clone(), ids.clone()].concat();
    assert_eq!(running.api("POST", "dead/drop", &chosen(&twice, false)).json()["count"], json!(2));
}

/// The ledger spreads them: no process has to stay for it.
#[test]
fn a_rate_spreads_what_is_delivered_again() {
    let host = with_letters(&["reject 1", "reject 2", "reject 3"]);
    assert_eq!(dead(&host, &["retry", "--all", "--rate", "2/h"]).ok().output, "3 delivered again\n");
    assert_eq!(host.dead(), Vec::<Value>::new());
    let _ = host.run_until_idle();
    let letters = host.dead();
    assert_eq!((reasons(&letters), &host.queues()[0]["subscriptions"][0]["backlog"]), (vec!["1"], &json!(2)));
}

#[test]
fn a_rate_that_takes_longer_than_a_day_is_refused() {
    let bodies: Vec<String> = (0..25).map(|number| format!("reject {number}")).collect();
    let host = with_letters(&bodies.iter().map(String::as_str).collect::<Vec<_>>());
    let refused = dead(&host, &["retry", "--all", "--rate", "1/h"]).ended_with(2);
    assert!(refused.errors().contains("higher rate"), "{}", refused.errors());
    assert_eq!(host.dead().len(), 25);
}

#[test]
fn one_letter_is_delivered_with_another_body() {
    let host = with_letters(&["reject secretly", "reject twice"]);
    std::fs::write(host.path("body"), "publish nowhere").unwrap();
    let id = host.dead()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(dead(&host, &["retry", &id, "--edit-body", "@body"]).ok().output, "1 delivered again\n");
    let _ = host.run_until_idle();
    let letters = host.dead();
    let again = letters.iter().find(|letter| letter["reason"].as_str().unwrap().contains("nowhere")).unwrap();
    let shown = dead(&host, &["show", again["id"].as_str().unwrap(), "--json"]).ok().json();
    assert_eq!((&shown["body"], letters.len()), (&json!("publish nowhere"), 2));
    let running = host.start();
    let id = again["id"].as_str().unwrap();
    let of = |ids: &[&str]| json!({ "filter": { "ids": ids }, "body": "ok" }).to_string();
    let other = letters.iter().find(|letter| letter["id"] != again["id"]).unwrap()["id"].as_str().unwrap();
    assert_eq!(running.api("POST", "dead/retry", &of(&[id, other])).status, 400);
    assert_eq!(running.api("POST", "dead/retry", &of(&[id])).json(), json!({ "count": 1 }));
    let _ = running.terminate().ok();
    let _ = host.run_until_idle();
    assert_eq!((reasons(&host.dead()), &host.queues()[0]["bytes"]), (vec!["twice"], &json!(0)));
    let record = host.audit().iter().map(Value::to_string).collect::<String>();
    assert!(record.contains("with another body") && !record.contains("publish nowhere"), "{record}");
}

#[test]
fn a_body_that_the_queue_does_not_take_leaves_the_letter() {
    let host = with_letters(&["reject it"]);
    std::fs::write(host.path("body"), vec![b'x'; 2 << 20]).unwrap();
    let refused = dead(&host, &["retry", "1", "--edit-body", "@body"]).ended_with(2);
    assert!(refused.errors().contains("its queue takes 1048576"), "{}", refused.errors());
    assert_eq!(host.dead().len(), 1);
}

#[test]
fn a_drop_is_confirmed_or_does_nothing() {
    let host = with_letters(&["reject this", "reject that"]);
    both_ways(&host, |way| {
        let refused = dead(&host, &["drop", "--all"]).ended_with(2);
        assert!(refused.errors().contains("2 dead letters") && refused.errors().contains("`--yes`"), "{way}");
        assert_eq!(host.dead().len(), 2, "{way}");
    });
    assert_eq!(dead(&host, &["drop", "--reason", "this", "--yes"]).ok().output, "1 dropped\n");
    assert_eq!(reasons(&host.dead()), ["that"]);
}

/// What its list says of a group is enough to choose it.
#[test]
fn a_group_is_delivered_again_as_a_whole() {
    let host = with_letters(&["reject order 17 is unknown", "reject no luck", "reject order 4711 is unknown"]);
    let running = host.start();
    let groups = running.api("GET", "dead/groups", "").json();
    assert_eq!(groups[0]["reason"], "order N is unknown");
    let listed = running.api("GET", "dead?group=order%20N%20is%20unknown", "").json();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    let chosen = |reason: &Value| json!({ "filter": { "group": reason }, "dry_run": true }).to_string();
    for (reason, count) in [(&groups[0]["reason"], 2), (&groups[1]["reason"], 1), (&json!("order 17 is unknown"), 0)] {
        assert_eq!(running.api("POST", "dead/retry", &chosen(reason)).json(), json!({ "count": count }), "{reason}");
    }
    let dropped = json!({ "filter": { "group": groups[0]["reason"] } }).to_string();
    assert_eq!(running.api("POST", "dead/drop", &dropped).json(), json!({ "count": 2 }));
    let _ = running.terminate().ok();
    assert_eq!(reasons(&host.dead()), ["no luck"]);
}
