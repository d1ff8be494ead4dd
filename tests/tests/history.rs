//! The history: what attempts did, and of which it is kept.

use std::time::{Duration, Instant};

use bulkhead_tests::{Answer, Bulkhead, Fixture, Running, guest, post};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Attempts that are kept.
const KEPT_MAX: u32 = 100_000;

/// What comes into `in` is passed on through `mid` to a server.
fn chain(server: &Fixture, host_keys: &str) -> Bulkhead {
    let url = server.url();
    let toml = format!(
        "[connectors.map]\nplugin = 'builtin:jq'\nconsume = 'in'\nconfig = {{ program = '.', publish = 'mid' }}\n
        allow.publish = ['mid']\n
        [connectors.deliver]\nplugin = 'builtin:http-request'\nconsume = 'mid'\nconfig = {{ url = '{url}/take?key=hidden' }}\n
        retry = {{ attempts = 2, first = '10ms' }}\n
        allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]\n"
    );
    with_host_keys(&toml, host_keys)
}

fn with_host_keys(toml: &str, host_keys: &str) -> Bulkhead {
    let host = Bulkhead::new(toml);
    let file = host.path("bulkhead.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("metrics_open = true\n", &format!("metrics_open = true\n{host_keys}\n")))
        .unwrap();
    host
}

fn trace(host: &Bulkhead, id: &str) -> Value {
    host.run(&["trace", id, "--json"]).ok().json()["message"].take()
}

/// After one message with the id `m` was worked off.
fn worked_off(answers: &[u16], host_keys: &str) -> (Bulkhead, Fixture) {
    let server = Fixture::answering(answers.iter().map(|status| Answer::status(*status)));
    let host = chain(&server, host_keys);
    let _ = host.run(&["send", "in", "--body", "{}", "--id", "m"]).ok();
    let _ = host.run_until_idle();
    (host, server)
}

/// Statuses of the requests of attempts.
fn statuses(attempts: &Value) -> Vec<Option<u64>> {
    let effects = attempts.as_array().unwrap().iter().flat_map(|attempt| attempt["effects"].as_array().unwrap());
    effects.filter(|effect| effect["effect"] == "request").map(|effect| effect["status"].as_u64()).collect()
}

fn outcomes(node: &Value) -> Vec<&str> {
    node["attempts"].as_array().unwrap().iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect()
}

#[test]
fn a_dead_letter_shows_what_each_attempt_did() {
    let (host, server) = worked_off(&[500, 422], "");
    let shown = host.run(&["dead", "show", "1", "--json"]).ok().json();
    let history = &shown["history"];
    assert_eq!(statuses(history), [Some(500), Some(422)]);
    let effect = &history[0]["effects"][0];
    assert_eq!((&effect["method"], &effect["url"]), (&json!("POST"), &json!(format!("{}/take", server.url()))));
    assert!(effect["duration_ms"].is_u64() && history[0]["started_at"].is_string(), "{history}");
    assert!(!shown.to_string().contains("hidden"), "{shown}");
    let text = host.run(&["dead", "show", "1"]).ok().output;
    assert!(text.contains(&format!("POST {}/take: 500 after ", server.url())), "{text}");
    let running = host.start();
    assert_eq!(running.api("GET", "dead/1", "").json(), shown);
    let _ = running.terminate().ok();
}

#[test]
fn an_answer_that_does_not_come_has_no_status() {
    let server = Fixture::answering([Answer::Hang]);
    let url = server.url();
    let host = Bulkhead::new(&format!(
        "[connectors.deliver]\nplugin = 'builtin:http-request'\nconsume = 'in'\nconfig = {{ url = '{url}/' }}\n
        retry = {{ attempts = 1 }}\n
        allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true, timeout = '100ms' }}]\n"
    ));
    let _ = host.run(&["send", "in", "--body", "x"]).ok();
    let _ = host.run_until_idle();
    let shown = host.run(&["dead", "show", "1", "--json"]).ok().json();
    assert_eq!(statuses(&shown["history"]), [None]);
}

/// The failed attempt is known, and the success after it is not.
#[test]
fn failures_are_kept_unless_more_is_wanted() {
    let (host, _server) = worked_off(&[500, 200], "");
    let unknown = host.run(&["trace", "m"]).ok().output;
    assert!(unknown.starts_with("message m, no longer known\n"), "{unknown}");
    let tree = host.run(&["trace", "m", "--json"]).ok().json();
    let child = &tree["message"]["children"][0];
    assert_eq!((outcomes(child), statuses(&child["attempts"])), (vec!["retry"], vec![Some(500)]));
}

#[test]
fn with_all_a_message_that_is_settled_everywhere_is_known() {
    let (host, _server) = worked_off(&[500, 200], "history = 'all'");
    let tree = host.run(&["trace", "m", "--json"]).ok().json();
    let (root, child) = (&tree["message"], &tree["message"]["children"][0]);
    assert_eq!((outcomes(root), outcomes(child)), (vec!["done"], vec!["retry", "done"]));
    let publish = json!({ "effect": "publish", "queue": "mid", "id": child["message_id"], "is_committed": true });
    assert_eq!(root["attempts"][0]["effects"], json!([publish]));
    assert_eq!(statuses(&child["attempts"]), [Some(500), Some(200)]);
    let text = host.run(&["trace", "m"]).ok().output;
    assert!(text.contains("attempt 1 of map, ") && text.contains(", done\n"), "{text}");
}

#[test]
fn a_sample_keeps_its_part_of_what_succeeds() {
    for (sample, expected) in [("0.0", vec![]), ("1.0", vec!["done"])] {
        let (host, _server) = worked_off(&[500, 200], &format!("history = {{ sample = {sample} }}"));
        let tree = host.run(&["trace", "m", "--json"]).ok().json();
        assert_eq!(outcomes(&tree["message"]), expected, "{sample}");
        assert_eq!(outcomes(&tree["message"]["children"][0])[0], "retry", "{sample}");
    }
}

/// Of a success only where more is kept than failures, like anything else.
#[test]
fn a_request_that_its_connector_answers_is_known_by_its_event() {
    let server = Fixture::answering([Answer::status(204)]);
    let url = server.url();
    let verify = "{ scheme = 'none', id = { header = 'x-event' } }";
    let toml = format!(
        "[connectors.it]\nplugin = '{}'\nwebhook = {{ path = '/ask', verify = {verify}, respond = 'connector' }}\n
        allow.publish = ['out']\nallow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]\n",
        guest("hook").display()
    );
    for (keep, is_known) in [("", false), ("history = 'all'", true)] {
        let host = with_host_keys(&toml, keep);
        let running = host.start();
        let ask = |event, body: &str| post(host.webhooks(), "/ask", &[("X-Event", event)], body).status;
        assert_eq!(ask("good", &format!("fetch {url}/a")), 200);
        assert_eq!(ask("told", "publish x"), 201);
        assert_eq!(ask("bad", "reject"), 422);
        let _ = running.terminate().ok();
        let bad = trace(&host, "bad");
        assert_eq!((outcomes(&bad), &bad["attempts"][0]["queue"]), (vec!["failed"], &json!("@it")));
        assert!(bad["attempts"][0]["reason"].as_str().unwrap().contains("a word for the operator"), "{bad}");
        if is_known {
            let (good, told) = (trace(&host, "good"), trace(&host, "told"));
            assert_eq!((outcomes(&good), statuses(&good["attempts"])), (vec!["done"], vec![Some(204)]));
            assert_eq!(told["attempts"][0]["effects"][0]["queue"], "out");
        } else {
            let _ = host.run(&["trace", "good"]).ended_with(2);
        }
    }
}

/// A connector that sends a request, and publishes what was answered.
fn courier(server: &Fixture, grant: &str, keys: &str) -> Bulkhead {
    let (url, plugin) = (server.url(), guest("courier"));
    let host = Bulkhead::new(&format!(
        "[connectors.it]\nplugin = '{}'\nconsume = 'in'\nallow.publish = ['seen']\n
        allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true, {grant} }}]\n{keys}\n",
        plugin.display()
    ));
    for id in ["m", "n"] {
        let errand = json!({ "method": "POST", "url": format!("{url}/{id}") }).to_string();
        let _ = host.run(&["send", "in", "--id", id, "--body", &errand]).ok();
    }
    host
}

/// It is sent again, so somebody will ask who sent it twice.
#[test]
fn what_is_put_off_at_no_charge_is_kept_where_it_has_sent_a_request() {
    let server = Fixture::answering([Answer::status(200)]);
    let host = courier(&server, "", "[queues.seen]\nmax_bytes = '1KiB'\n");
    // Some bytes are left, so the run begins; there is no room for what it publishes.
    host.send("seen", &["x".repeat(1024 - 50)]);
    let running = host.start();
    server.wait_for(4, PATIENCE);
    let _ = running.terminate().ok();
    let message = trace(&host, "m");
    let first = &message["attempts"][0];
    assert_eq!(
        (&first["outcome"], &first["attempt"], first["effects"][0]["status"].as_u64()),
        (&json!("held"), &json!(1), Some(200))
    );
    assert!(outcomes(&message).iter().all(|outcome| *outcome == "held"), "{message}");
    assert_eq!(message["copies"][0]["deliveries"][0]["attempts"], 0);
}

#[test]
fn what_is_put_off_before_it_has_done_anything_is_in_no_history() {
    let server = Fixture::answering([Answer::status(200)]);
    let host = courier(&server, "rate = '1/h'", "");
    let running = host.start();
    running.wait_until("request that is held", PATIENCE, |metrics| {
        metrics.value("bulkhead_denied_total", &[("connector", "it"), ("reason", "rate")]) >= 1.0
    });
    let _ = running.terminate().ok();
    let message = trace(&host, "n");
    assert_eq!((outcomes(&message), &message["copies"][0]["deliveries"][0]["state"]), (Vec::new(), &json!("retrying")));
}

/// Waits until the history has nothing more of a message.
#[track_caller]
fn wait_until_gone(running: &Running, id: &str) {
    let deadline = Instant::now() + PATIENCE;
    while running.api("GET", &format!("messages/{id}"), "").status != 404 {
        assert!(Instant::now() < deadline, "{id} is there after {PATIENCE:?}");
    }
}

#[test]
fn the_last_attempts_are_kept_for_a_week() {
    let (host, _server) = worked_off(&[500, 200], "");
    // With the one that has failed, 300 more than are kept.
    host.ledger().fill_history(KEPT_MAX + 299);
    let running = host.start();
    wait_until_gone(&running, "filled-299");
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().history(), (i64::from(KEPT_MAX), Some("filled-300".to_owned())));
    // The others have an hour left.
    host.ledger().age_history(KEPT_MAX, Duration::from_secs(7 * 86_400 - 3_600));
    host.ledger().age_history(1, Duration::from_secs(3_600));
    let running = host.start();
    wait_until_gone(&running, "filled-300");
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().history(), (i64::from(KEPT_MAX) - 1, Some("filled-301".to_owned())));
}
