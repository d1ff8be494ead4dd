//! The history: what attempts did, and of which it is kept.

use bulkhead_tests::{Answer, Bulkhead, Fixture};
use serde_json::{Value, json};

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
    let host = Bulkhead::new(&toml);
    let file = host.path("bulkhead.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("metrics_open = true\n", &format!("metrics_open = true\n{host_keys}\n")))
        .unwrap();
    host
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
