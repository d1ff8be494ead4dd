//! `bulkhead trace`: the tree of a message.

use bulkhead_tests::{Answer, Bulkhead, Fixture};
use serde_json::{Value, json};

/// Each message of `in` becomes two in `mid`, which a server refuses at first; `in` keeps what is settled.
fn split(server: &Fixture) -> Bulkhead {
    let url = server.url();
    Bulkhead::new(&format!(
        "[queues.in]\nkeep = '1h'\n
        [connectors.map]\nplugin = 'builtin:jq'\nconsume = 'in'\nconfig = {{ program = '.[]', publish = 'mid' }}\n
        allow.publish = ['mid']\n
        [connectors.deliver]\nplugin = 'builtin:http-request'\nconsume = 'mid'\nconfig = {{ url = '{url}/' }}\n
        retry = {{ attempts = 2, first = '10ms' }}\n
        allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]\n"
    ))
}

/// What both ways answer.
fn trace(host: &Bulkhead, id: &str) -> Value {
    let tree = host.run(&["trace", id, "--json"]).ok().json();
    let running = host.start();
    let through_host = running.api("GET", &format!("messages/{}", id.replace('/', "%2F")), "");
    assert_eq!((through_host.status, &through_host.json()), (200, &tree), "{id}");
    assert_eq!(host.run(&["trace", id, "--json"]).ok().json(), tree, "{id}");
    let _ = running.terminate().ok();
    tree
}

fn copies(node: &Value) -> Vec<(&Value, &Value, &Value)> {
    let copies = node["copies"].as_array().unwrap().iter();
    let deliveries = copies.flat_map(|copy| {
        let deliveries = copy["deliveries"].as_array().unwrap().iter();
        deliveries.map(move |delivery| (&copy["place"], &delivery["connector"], &delivery["state"]))
    });
    deliveries.collect()
}

#[test]
fn a_tree_shows_where_a_message_came_from_its_deliveries_and_what_was_made_of_it() {
    let server = Fixture::answering([Answer::status(500)]);
    let host = split(&server);
    let _ = host.run(&["send", "in", "--body", "[1, 2]", "--id", "order/7"]).ok();
    let _ = host.run_until_idle();
    let tree = trace(&host, "order/7");
    let root = &tree["message"];
    assert_eq!(
        (&root["message_id"], &tree["ancestors"], &tree["is_complete"]),
        (&json!("order/7"), &json!([]), &json!(true))
    );
    assert_eq!(copies(root), [(&json!("queue"), &json!("map"), &json!("settled"))]);
    let children = root["children"].as_array().unwrap();
    assert_eq!(children.len(), 2);
    for child in children {
        assert_eq!(copies(child), [(&json!("dead"), &json!("deliver"), &json!("dead"))]);
        let history = child["copies"][0]["deliveries"][0]["history"].as_array().unwrap();
        let reasons: Vec<bool> = history.iter().map(|it| it["reason"].as_str().unwrap().contains("500")).collect();
        assert_eq!(reasons, [true, true]);
    }
    let child = children[0]["message_id"].as_str().unwrap();
    let tree = trace(&host, child);
    let ancestors: Vec<&Value> = tree["ancestors"].as_array().unwrap().iter().map(|it| &it["message_id"]).collect();
    assert_eq!((ancestors, &tree["message"]["parent"]), (vec![&json!("order/7")], &json!("order/7")));
    let text = host.run(&["trace", child]).ok().output;
    assert!(text.starts_with("message order/7\n") && text.contains("deliver: dead since"), "{text}");
}

#[test]
fn what_waits_retries_or_was_redriven_is_found() {
    let server = Fixture::answering([Answer::status(500)]);
    let url = server.url();
    let toml = |first: &str| {
        format!(
            "[connectors.deliver]\nplugin = 'builtin:http-request'\nconsume = 'in'\nconfig = {{ url = '{url}/' }}\n
            retry = {{ attempts = 2, first = '{first}', jitter = 'none' }}\n
            allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]\n"
        )
    };
    let host = Bulkhead::new(&toml("1h"));
    let _ = host.run(&["send", "in", "--body", "x", "--id", "m"]).ok();
    let state = |host: &Bulkhead| {
        let tree = host.run(&["trace", "m", "--json"]).ok().json();
        let copy = &tree["message"]["copies"][0];
        json!([copy["place"], copy["deliveries"][0]["state"], copy["deliveries"][0]["attempts"]])
    };
    assert_eq!(state(&host), json!(["queue", "waiting", 0]));
    let _ = host.run_until_idle();
    assert_eq!(state(&host), json!(["queue", "retrying", 1]));
    host.configure(&toml("10ms").replace("attempts = 2", "attempts = 1"));
    let _ = host.run(&["send", "in", "--body", "x", "--id", "n"]).ok();
    let _ = host.run_until_idle();
    let tree = host.run(&["trace", "n", "--json"]).ok().json();
    assert_eq!(copies(&tree["message"]), [(&json!("dead"), &json!("deliver"), &json!("dead"))]);
    let _ = host.run(&["dead", "retry", "--all"]).ok();
    let tree = host.run(&["trace", "n", "--json"]).ok().json();
    assert_eq!(copies(&tree["message"]), [(&json!("redriven"), &json!("deliver"), &json!("waiting"))]);
}

/// Its children still name it.
#[test]
fn a_message_that_is_settled_everywhere_is_said_to_be_known_no_longer() {
    let server = Fixture::answering([Answer::status(422)]);
    let host = split(&server);
    host.configure(&std::fs::read_to_string(host.path("bulkhead.toml")).unwrap().replace("keep = '1h'", ""));
    let _ = host.run(&["send", "in", "--body", "[1]", "--id", "gone"]).ok();
    let _ = host.run_until_idle();
    let tree = trace(&host, "gone");
    assert_eq!((&tree["message"]["copies"], tree["message"]["children"].as_array().unwrap().len()), (&json!([]), 1));
    let text = host.run(&["trace", "gone"]).ok().output;
    assert!(text.starts_with("message gone, no longer known\n"), "{text}");
    let unknown = host.run(&["trace", "never"]).ended_with(2);
    assert!(unknown.errors().contains("there is no message `never`"), "{}", unknown.errors());
}

#[test]
fn a_tree_that_is_too_large_says_that_it_is_not_all() {
    let host = Bulkhead::new(
        "[connectors.map]\nplugin = 'builtin:jq'\nconsume = 'in'\nconfig = { program = 'range(.)', publish = 'mid' }\n
        allow.publish = ['mid']\nlimits = { publishes = 2000 }\n
        [connectors.log]\nplugin = 'builtin:log'\nconsume = 'mid'\nenabled = false\n",
    );
    for (count, is_complete) in [(900, true), (1_100, false)] {
        let id = count.to_string();
        let _ = host.run(&["send", "in", "--body", &id, "--id", &id]).ok();
        let _ = host.run_until_idle();
        let tree = host.run(&["trace", &id, "--json"]).ok().json();
        let children = tree["message"]["children"].as_array().unwrap().len();
        assert_eq!((children, &tree["is_complete"]), (count.min(1_000), &json!(is_complete)), "{id}");
    }
}

/// The messages of a line, from one to its first child.
fn line(node: &Value) -> usize {
    node["children"].as_array().unwrap().first().map_or(0, |child| 1 + line(child))
}

/// A message dies when it has gone round 32 times; delivered again, it goes round as often once more.
#[test]
fn a_line_of_messages_is_shown_as_far_as_hops_go_and_said_to_go_on() {
    let host = Bulkhead::new(
        "[queues.ring]\nkeep = '1h'\n
        [connectors.round]\nplugin = 'builtin:jq'\nconsume = 'ring'\nconfig = { program = '.', publish = 'ring' }\n
        allow.publish = ['ring']\n",
    );
    let _ = host.run(&["send", "ring", "--id", "first", "--body", "1"]).ok();
    let _ = host.run_until_idle();
    let first = trace(&host, "first");
    assert_eq!((line(&first["message"]), &first["is_complete"]), (33, &json!(true)));
    let _ = host.run(&["dead", "retry", "--all"]).ok();
    let _ = host.run_until_idle();
    let first = trace(&host, "first");
    assert_eq!((line(&first["message"]), &first["is_complete"]), (33, &json!(false)));
    let last = trace(&host, host.dead()[0]["message_id"].as_str().unwrap());
    assert_eq!((last["ancestors"].as_array().unwrap().len(), &last["is_complete"]), (33, &json!(false)));
    // The one that died in between has as many before it as after it.
    let middle = trace(&host, last["ancestors"][0]["message_id"].as_str().unwrap());
    let ancestors = middle["ancestors"].as_array().unwrap();
    assert_eq!((ancestors.len(), line(&middle["message"])), (33, 33));
    assert_eq!((&ancestors[0]["message_id"], &middle["is_complete"]), (&json!("first"), &json!(true)));
}

#[test]
fn what_lies_behind_two_million_rows_is_not_said_to_be_nowhere() {
    let reader =
        |name, queue| format!("[connectors.{name}]\nplugin = 'builtin:log'\nconsume = '{queue}'\nenabled = false\n");
    let host = Bulkhead::new(&(reader("a", "early") + &reader("b", "late")));
    let _ = host.run_until_idle();
    host.ledger().fill("early", 2_000_000);
    let _ = host.run(&["send", "late", "--id", "late", "--body", "x"]).ok();
    let found = host.run(&["trace", "filled-1", "--json"]).ok().json();
    assert_eq!((&found["message"]["copies"][0]["queue"], &found["is_complete"]), (&json!("early"), &json!(false)));
    let errors = host.run(&["trace", "late"]).ended_with(2).errors();
    assert!(errors.contains("not all was looked through"), "{errors}");
}
