//! The trace of a message goes on: through queues, into the requests that are made for it, and into the log.

use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Finished, Fixture, Request, guest, post};
use serde_json::Value;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A trace of a sender.
fn parent() -> String {
    format!("00-{TRACE}-00f067aa0ba902b7-01")
}

/// What comes in over a webhook or `in` is passed on through `mid` to a server.
fn chain(server: &Fixture, config: &str) -> Bulkhead {
    let url = server.url();
    Bulkhead::new(&format!(
        "[connectors.hook]\nwebhook = {{ path = '/in', verify = 'none', publish = 'in' }}\n
        [connectors.map]\nplugin = 'builtin:jq'\nconsume = 'in'\nconfig = {{ program = '.', publish = 'mid' }}\n
        allow.publish = ['mid']\n
        [connectors.deliver]\nplugin = 'builtin:http-request'\nconsume = 'mid'\n
        config = {{ url = '{url}/', {config} }}\n
        allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]\n
        [connectors.say]\nplugin = 'builtin:log'\nconsume = 'mid'\n"
    ))
}

/// The request that came of one message with this header.
fn delivered(header: &str, config: &str) -> (Request, Finished) {
    let server = Fixture::answering([Answer::status(422)]);
    let host = chain(&server, config);
    let _ = host.run(&["send", "in", "--body", "{}", "--header", header]).ok();
    let finished = host.run_until_idle();
    (server.requests().remove(0), finished)
}

/// The `trace_id` of the lines of the log that say something.
fn traces(log: &[String], text: &str) -> Vec<Value> {
    let lines = log.iter().filter(|line| line.contains(text));
    lines.map(|line| serde_json::from_str::<Value>(line).unwrap()["trace_id"].clone()).collect()
}

#[test]
fn a_trace_goes_on_through_queues_into_requests_and_the_log() {
    let (request, finished) = delivered(&format!("traceparent: {}", parent()), "");
    let sent = request.header("traceparent").unwrap();
    assert!(sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-01"), "{sent}");
    assert_ne!(sent, parent(), "it is a step of its own");
    assert_eq!(traces(&finished.log, "became a dead letter"), [TRACE]);
    assert_eq!(traces(&finished.log, "bulkhead::plugin"), [TRACE]);
}

#[test]
fn a_trace_that_a_plugin_names_itself_stays() {
    let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let (request, _) =
        delivered(&format!("traceparent: {}", parent()), &format!("headers = {{ traceparent = '{own}' }}"));
    assert_eq!(request.header("traceparent"), Some(own));
}

#[test]
fn a_message_without_a_trace_gets_none() {
    for header in ["x-other: 1", "traceparent: 00-nonsense-01"] {
        let (request, finished) = delivered(header, "");
        assert_eq!(request.header("traceparent"), None, "{header}");
        assert_eq!(traces(&finished.log, "became a dead letter"), [Value::Null], "{header}");
    }
}

#[test]
fn the_trace_of_a_webhook_goes_on() {
    let server = Fixture::answering([Answer::status(200)]);
    let host = chain(&server, "");
    let running = host.start();
    assert_eq!(post(host.webhooks(), "/in", &[("traceparent", &parent())], "{}").status, 202);
    server.wait_for(1, PATIENCE);
    let sent = server.requests()[0].header("traceparent").unwrap().to_owned();
    assert!(sent.contains(TRACE), "{sent}");
    let _ = running.terminate().ok();
}

/// This plugin gives its drafts no headers, where `jq` hands on those of its message.
#[test]
fn a_draft_without_a_trace_belongs_to_that_of_its_message() {
    let plugin = guest("hostile");
    let toml = format!("[connectors.it]\nplugin = '{}'\nconsume = 'in'\nallow.publish = ['mid']\n", plugin.display());
    let host = Bulkhead::new(&toml);
    let header = format!("traceparent: {}", parent());
    let _ = host.run(&["send", "in", "--body", "publish mid", "--header", &header]).ok();
    let _ = host.run_until_idle();
    let headers = host.ledger().headers("mid").remove(0);
    assert_eq!((headers.len(), headers[0].0.as_str()), (1, "traceparent"));
    assert!(headers[0].1.starts_with(&format!("00-{TRACE}-")) && headers[0].1 != parent(), "{headers:?}");
}
