//! Deliveries over the API: which there are, how far they are, and what their attempts did.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use bulkhead_tests::{Answer, Bulkhead, Fixture, Running, guest, post};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Deliveries of one page.
const PAGE: usize = 1_000;

/// A connector that does what messages say, with the order of keys, and everything in the history.
fn obeying(data: &tempfile::TempDir) -> Bulkhead {
    let toml = format!(
        "[queues.in]\nordering = 'key'\n[connectors.it]\nplugin = '{}'\nconsume = 'in'\nbrake = 0\n
        retry = {{ first = '1h', jitter = 'none' }}\n[connectors.other]\nplugin = 'builtin:log'\nconsume = 'else'\n",
        guest("hostile").display()
    );
    Bulkhead::on(data.path().join("data"), "history = 'all'", &toml)
}

fn ask(running: &Running, path: &str) -> Value {
    let reply = running.api("GET", path, "");
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    reply.json()
}

/// The states of a list, by message id.
fn states(running: &Running, query: &str) -> BTreeMap<String, String> {
    let page = ask(running, &format!("deliveries?{query}"));
    assert_eq!(page["next"], Value::Null, "{page}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    page["deliveries"].as_array().unwrap().iter().map(|it| (text(&it["message_id"]), text(&it["state"]))).collect()
}

#[track_caller]
fn check(running: &Running, query: &str, expected: &[(&str, &str)]) {
    let expected = expected.iter().map(|(id, state)| ((*id).to_owned(), (*state).to_owned())).collect();
    assert_eq!(states(running, query), expected, "{query}");
}

/// One that succeeds, one that dies, one that is tried again, and one that stands behind it.
fn worked_off(data: &tempfile::TempDir) -> Bulkhead {
    let host = obeying(data);
    for (id, key, body) in
        [("a", "k", "ok"), ("b", "l", "reject never"), ("order/7:1", "m", "retry later"), ("d", "m", "ok")]
    {
        let _ = host.run(&["send", "in", "--id", id, "--key", key, "--body", body]).ok();
    }
    let _ = host.run_until_idle();
    host
}

#[test]
fn a_list_has_what_is_not_settled_and_what_the_history_knows() {
    let data = tempfile::tempdir().unwrap();
    let host = worked_off(&data);
    let running = host.start();
    let (done, dead, retrying) = (("a", "done"), ("b", "dead"), ("order/7:1", "retrying"));
    let list = ask(&running, "deliveries");
    let order: Vec<&Value> = list["deliveries"].as_array().unwrap().iter().map(|it| &it["message_id"]).collect();
    assert_eq!(order, ["order/7:1", "b", "a"]);
    check(&running, "", &[done, dead, retrying]);
    check(&running, "connector=it&queue=in", &[done, dead, retrying]);
    check(&running, "connector=other", &[]);
    check(&running, "queue=else", &[]);
    for one in [done, dead, retrying] {
        check(&running, &format!("state={}", one.1), &[one]);
    }
    // What waits for its first attempt is counted elsewhere.
    check(&running, "state=waiting", &[]);
    check(&running, "state=settled", &[]);
    // What is not settled is of now.
    check(&running, "since=2100-01-01T00:00:00Z", &[retrying]);
    check(&running, "since=2000-01-01T00:00:00Z&state=done", &[done]);
    let entry = &list["deliveries"][0];
    assert_eq!(
        (&entry["id"], &entry["attempts"], &entry["reason"]),
        (&json!("it:in:order/7:1"), &json!(1), &json!("later"))
    );
    assert!(entry["due_at"].is_string() && entry["accepted_at"].is_string(), "{entry}");
    // Dropped, it is not dead any more.
    assert_eq!(running.api("DELETE", "dead/1", "").status, 200);
    check(&running, "state=dead", &[]);
    check(&running, "state=settled", &[("b", "settled")]);
    let _ = running.terminate().ok();
}

#[test]
fn a_delivery_has_its_attempts() {
    let data = tempfile::tempdir().unwrap();
    let host = worked_off(&data);
    let running = host.start();
    let retrying = ask(&running, "deliveries/it:in:order%2F7:1");
    assert_eq!((&retrying["state"], &retrying["failures"][0]["reason"]), (&json!("retrying"), &json!("later")));
    assert_eq!((&retrying["history"][0]["outcome"], &retrying["is_complete"]), (&json!("retry"), &json!(true)));
    let dead = ask(&running, "deliveries/it:in:b");
    assert_eq!((&dead["state"], &dead["letter"], &dead["reason"]), (&json!("dead"), &json!("1"), &json!("never")));
    let waiting = ask(&running, "deliveries/it:in:d");
    assert_eq!(
        (&waiting["state"], &waiting["history"], &waiting["failures"]),
        (&json!("waiting"), &json!([]), &json!([]))
    );
    let done = ask(&running, "deliveries/it:in:a");
    assert_eq!((&done["state"], &done["history"][0]["outcome"]), (&json!("done"), &json!("done")));
    // Delivered again, it is not the letter that it was.
    assert_eq!(running.api("POST", "connectors/it/pause", "").status, 204);
    assert_eq!(running.api("POST", "dead/1/retry", "").status, 200);
    let again = ask(&running, "deliveries/it:in:b");
    assert_eq!(
        (&again["state"], &again["attempts"], again["history"].as_array().unwrap().len()),
        (&json!("waiting"), &json!(0), 1)
    );
    check(&running, "state=waiting", &[("b", "waiting")]);
    let _ = running.terminate().ok();
}

#[test]
fn what_is_no_delivery_is_not_found_and_what_is_no_filter_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let host = worked_off(&data);
    let running = host.start();
    let status = |path: &str| running.api("GET", path, "").status;
    for id in ["it:in:never", "other:in:a", "it:else:a", "nobody:in:a", "a", ":", "::"] {
        assert_eq!(status(&format!("deliveries/{id}")), 404, "{id}");
    }
    for query in ["state=lost", "state=", "since=yesterday", "after=7", "after=log.x.1", "after=history.1.2"] {
        assert_eq!(status(&format!("deliveries?{query}")), 400, "{query}");
    }
    assert_eq!(status("deliveries?connector=nobody"), 404);
    let refused = running.api("GET", "deliveries?state=lost", "");
    assert!(refused.body.contains("`retrying`"), "{}", refused.body);
    let _ = running.terminate().ok();
}

#[test]
fn a_page_is_bounded_and_names_the_next_one() {
    let data = tempfile::tempdir().unwrap();
    let host = obeying(&data);
    let each = PAGE + 100;
    host.send("in", &vec!["retry later"; each]);
    host.send("in", &vec!["ok"; each]);
    let _ = host.run_until_idle();
    let running = host.start();
    let (mut seen, mut sizes, mut after) = (HashSet::new(), Vec::new(), String::new());
    loop {
        let page = ask(&running, &format!("deliveries?after={after}"));
        let entries = page["deliveries"].as_array().unwrap();
        sizes.push(entries.len());
        seen.extend(entries.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = next.to_owned();
    }
    assert_eq!((sizes, seen.len()), (vec![PAGE, PAGE, 200], 2 * each));
    // Those that a filter leaves out take no room.
    let page = ask(&running, "deliveries?state=done");
    assert_eq!(page["deliveries"].as_array().unwrap().len(), PAGE);
    let _ = running.terminate().ok();
}

/// Neither the payload, nor a query, nor a header.
#[test]
fn what_a_message_holds_and_where_it_went_exactly_is_not_shown() {
    let server = Fixture::answering([Answer::status(500), Answer::status(422)]);
    let url = server.url();
    let host = Bulkhead::new(&format!(
        "[connectors.it]\nplugin = 'builtin:http-request'\nconsume = 'in'\n
        config = {{ url = '{url}/take?key=hidden', headers = {{ x-word = 'hidden' }} }}\n
        retry = {{ attempts = 2, first = '1ms' }}\n
        allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]\n"
    ));
    let _ = host.run(&["send", "in", "--id", "m", "--body", "hidden"]).ok();
    let _ = host.run_until_idle();
    let running = host.start();
    let (list, shown) = (ask(&running, "deliveries"), ask(&running, "deliveries/it:in:m"));
    assert!(!list.to_string().contains("hidden") && !shown.to_string().contains("hidden"), "{list} {shown}");
    let statuses: Vec<&Value> =
        shown["history"].as_array().unwrap().iter().map(|it| &it["effects"][0]["status"]).collect();
    assert_eq!(statuses, [500, 422]);
    assert_eq!(shown["failures"][1]["effects"][0]["url"], format!("{url}/take"));
    let _ = running.terminate().ok();
}

/// Waits until a list has something.
#[track_caller]
fn wait_for(running: &Running, query: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = ask(running, &format!("deliveries?{query}"));
        if let Some(entry) = page["deliveries"].as_array().unwrap().first() {
            return entry.clone();
        }
        assert!(Instant::now() < deadline, "nothing by {query} within {PATIENCE:?}");
        running.rest();
    }
}

#[test]
fn a_tick_that_is_cancelled_is_known_by_what_it_asked_for() {
    let server = Fixture::answering([Answer::Hang]);
    let url = server.url();
    let host = Bulkhead::new(&format!(
        "[connectors.it]\nplugin = 'builtin:http-poll'\nschedule = {{ every = '300ms', overlap = 'cancel' }}\n
        config = {{ url = '{url}/a', publish = 'out' }}\nallow.publish = ['out']\n
        allow.http = [{{ url = '{url}/a', methods = ['GET'], private = true }}]\n"
    ));
    let running = host.start();
    let entry = wait_for(&running, "state=cancelled");
    assert_eq!((&entry["queue"], &entry.get("reason")), (&json!("@it"), &None));
    let shown = ask(&running, &format!("deliveries/{}", entry["id"].as_str().unwrap()));
    assert_eq!(shown["history"][0]["effects"][0]["url"], format!("{url}/a"));
    running.kill9();
}

#[test]
fn a_request_that_its_connector_did_not_answer_is_known() {
    let webhook = "webhook = { path = '/ask', verify = 'none', respond = 'connector' }";
    let host = Bulkhead::new(&format!("[connectors.it]\nplugin = '{}'\n{webhook}\n", guest("hook").display()));
    let running = host.start();
    assert_eq!(post(host.webhooks(), "/ask", &[], "reject").status, 422);
    let entry = wait_for(&running, "connector=it&queue=@it&state=failed");
    assert_eq!(entry["reason"], "a word for the operator");
    let _ = running.terminate().ok();
}
