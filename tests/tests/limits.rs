//! Every limit of a connector, broken by one guest: the message dies with the reason, and the limit's own label is
//! counted and recorded, so that no other limit can pass for it.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Misdeed, Upstream, guest};
use serde_json::Value;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn hostile(keys: &str) -> String {
    let plugin = guest("hostile");
    format!(
        "[connectors.hostile]\nplugin = '{}'\nconsume = 'in'\nretry = {{ attempts = 1 }}\n{keys}\n",
        plugin.display()
    )
}

/// What tells an operator about a limit: its own key.
fn told(limit: &str) -> String {
    match limit {
        // The queue's, which in these tests has no consumer.
        "message" => "nobody consumes it".to_owned(),
        other => format!("connectors.hostile.limits.{other}"),
    }
}

/// The message becomes a dead letter that tells of the limit, which is the one that has bitten.
fn check(message: &str, limit: &str, keys: &str) {
    let host = Bulkhead::new(&hostile(keys));
    let running = host.start();
    host.send("in", &[message]);
    running.wait_for_log("became a dead letter", PATIENCE);
    assert_eq!(running.metrics().limits("hostile"), [limit], "{message}");
    let log = running.terminate().ok().errors();
    let dead = host.ledger().dead();
    assert_eq!(dead.len(), 1, "{message}");
    assert!(dead[0].reason.contains(&told(limit)), "{}", dead[0].reason);
    let recorded = |event: &Value| event["kind"] == "limit" && event["subject"] == limit;
    assert!(host.audit().iter().any(recorded), "`{limit}` is in the record");
    assert!(limit == "message" || log.contains(&format!(r#""key":"{}""#, told(limit))), "{log}");
}

/// The same for a connector that may ask a server of our own.
fn check_http(verb: &str, limit: &str, limits: &str) {
    let server = Fixture::answering([Answer::status(200).body(vec![b'x'; 100_000])]);
    let url = server.url();
    let keys = format!(
        "limits = {{ {limits} }}\nallow.http = [{{ url = '{url}/*', methods = ['GET', 'POST'], private = true }}]"
    );
    check(&format!("{verb} {url}/"), limit, &keys);
}

#[test]
fn a_loop_is_ended_by_its_cpu_budget() {
    check("spin", "cpu", "limits = { cpu = '50ms' }");
}

/// Each call of the host comes back at once, with a refusal: none of them begins the budget anew.
#[test]
fn a_loop_that_asks_the_host_again_and_again_is_ended_by_its_cpu_budget() {
    check("spin-ask https://example.com/", "cpu", "limits = { cpu = '50ms', requests = 100000 }");
}

#[test]
fn a_sleep_is_ended_by_the_wall_deadline() {
    check("sleep 3600", "wall", "limits = { wall = '100ms' }");
}

#[test]
fn growth_is_ended_by_the_sum_of_memory() {
    check("grow", "memory", "limits = { memory = '8MiB' }");
}

#[test]
fn a_flood_of_publishes_is_refused() {
    check("flood out", "publishes", "limits = { publishes = 100 }\nallow.publish = ['out']");
}

#[test]
fn a_flood_of_bytes_is_refused() {
    check("flood out", "publish_bytes", "limits = { publish_bytes = '100KiB' }\nallow.publish = ['out']");
}

#[test]
fn a_large_publish_is_refused() {
    check("large out", "message", "allow.publish = ['out']");
}

/// It is the consumer's to raise, not the publisher's.
#[test]
fn a_publish_larger_than_a_consumer_takes_names_the_key_of_the_smallest_one() {
    let consumers = |names: &[(&str, &str)]| -> String {
        let table = |(name, size): &(&str, &str)| {
            format!("[connectors.{name}]\nplugin = 'builtin:log'\nconsume = 'out'\nlimits = {{ message = '{size}' }}\n")
        };
        names.iter().map(table).collect()
    };
    let publisher = hostile("allow.publish = ['out']");
    let host = Bulkhead::new(&(publisher + &consumers(&[("large", "4MiB"), ("least", "512KiB"), ("less", "1MiB")])));
    let running = host.start();
    host.send("in", &["large out"]);
    running.wait_for_log("became a dead letter", PATIENCE);
    assert_eq!(running.metrics().limits("hostile"), ["message"]);
    let log = running.terminate().ok().errors();
    let reason = host.ledger().dead().remove(0).reason;
    let key = "connectors.least.limits.message";
    assert!(reason.contains(&format!("which is 524288 bytes: raise `{key}`")), "{reason}");
    assert!(log.contains(&format!(r#""key":"{key}""#)) && !log.contains("connectors.hostile.limits.message"), "{log}");
}

#[test]
fn a_message_that_the_connector_does_not_take_any_more_dies_unread() {
    let host = Bulkhead::new(&hostile(""));
    host.send("in", &[format!("ok {}", "x".repeat(5_000))]);
    host.configure(&hostile("limits = { message = '1KiB' }"));
    let running = host.start();
    running.wait_until("dead letter", PATIENCE, |metrics| metrics.value("bulkhead_dead_letters", &[]) > 0.0);
    assert_eq!(running.metrics().limits("hostile"), ["message"]);
    let _ = running.terminate().ok();
    let dead = host.ledger().dead();
    assert!(dead[0].reason.contains("limits.message"), "{}", dead[0].reason);
}

#[test]
fn handles_that_are_never_closed_end_the_call() {
    check("handles", "handles", "limits = { handles = 100 }");
}

#[test]
fn a_call_of_the_host_that_hands_over_too_much_ends_the_call() {
    check("large out", "hostcall", "limits = { hostcall = '64KiB' }\nallow.publish = ['out']");
    // Where it is not set, it follows the largest message.
    check("large out", "hostcall", "limits = { message = '1KiB' }\nallow.publish = ['out']");
}

#[test]
fn what_takes_no_more_than_a_call_of_the_host_may_hand_over_passes() {
    let keys = "limits = { message = '1KiB', hostcall = '4MiB' }\nallow.publish = ['out']";
    // It is the queue's bound that is left.
    check("large out", "message", keys);
}

#[test]
fn state_has_a_bound() {
    check("put key- 4 1000", "state", "limits = { state = '3KiB' }");
}

#[test]
fn keys_of_the_state_have_a_bound() {
    check("put key- 11 1", "state_keys", "limits = { state_keys = 10 }");
    check("put key- 1 1", "state_keys", "limits = { state_keys = 0 }");
}

/// The whole of what there is by default.
#[test]
fn state_has_a_bound_that_nobody_has_to_set() {
    check("fill-state", "state_keys", "limits = { cpu = '1h', wall = '1h' }");
}

#[test]
fn keys_that_are_only_looked_for_have_a_bound() {
    check("touch", "state_keys", "limits = { state_keys = 10 }");
}

#[test]
fn what_fits_into_the_state_exactly_is_kept_and_can_be_replaced_where_the_limits_were_lowered() {
    let host = Bulkhead::new(&hostile("limits = { state = '2010B', state_keys = 2 }"));
    host.send("in", &["put key- 2 1000"]);
    let _ = host.run_until_idle();
    let values = || host.ledger().state("hostile").iter().map(|(_, value)| value.len()).collect::<Vec<_>>();
    assert_eq!(values(), [1_000, 1_000]);
    // Neither keys nor bytes become more; and then there are more bytes, of which there may be as many.
    for (limits, bytes) in [("state = '1KiB', state_keys = 1", 999), ("state = '3KiB', state_keys = 1", 1_001)] {
        host.configure(&hostile(&format!("limits = {{ {limits} }}")));
        host.send("in", &[format!("put key- 2 {bytes}")]);
        let _ = host.run_until_idle();
        assert_eq!(values(), [bytes, bytes], "{limits}");
    }
}

/// Two runs at once write what there is room for once: the slower one finds out when it commits, runs again and is
/// refused.
fn check_together(limit: &str, limits: &str, values: &str, stored: usize) {
    let (arrived, arrivals) = mpsc::sync_channel(1);
    let (go, gone) = mpsc::sync_channel::<()>(1);
    let (arrived, gone) = (Mutex::new(arrived), Mutex::new(gone));
    let server = Fixture::start(move |_| {
        let _ = arrived.lock().unwrap().send(());
        // Until it may go on, however long the machine takes, or until the test is over.
        let _ = gone.lock().unwrap().recv();
        Answer::status(200)
    });
    // Gone before the server, which would wait for its answer where this test fails.
    let go = go;
    let url = server.url();
    let keys = format!(
        "limits = {{ wall = '1h', {limits} }}
        allow.http = [{{ url = '{url}/*', methods = ['GET'], private = true, first_byte = '1h' }}]"
    );
    let host = Bulkhead::new(&hostile(&keys).replace("'in'", "{ queue = 'in', batch = 1, concurrency = 2 }"));
    let running = host.start();
    host.send("in", &[format!("put slow- {values} {url}/")]);
    arrivals.recv_timeout(PATIENCE).expect("the slow one has written");
    host.send("in", &[format!("put quick- {values}")]);
    running.wait_until("the quick one", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]) == 1.0
    });
    go.send(()).unwrap();
    running.wait_for_log("became a dead letter", PATIENCE);
    let metrics = running.metrics();
    assert_eq!(metrics.limits("hostile"), [limit], "{values}");
    assert_eq!(metrics.value("bulkhead_conflicts_total", &[("connector", "hostile")]), 1.0, "{values}");
    let _ = running.terminate().ok();
    let state = host.ledger().state("hostile");
    assert!(state.len() == stored && state.iter().all(|(key, _)| key.starts_with("quick-")), "{}", state.len());
    assert!(host.ledger().dead()[0].reason.contains(&told(limit)), "{values}");
}

#[test]
fn two_runs_at_once_do_not_go_past_the_keys_of_the_state_together() {
    check_together("state_keys", "state_keys = 10", "6 1", 6);
}

#[test]
fn two_runs_at_once_do_not_go_past_the_bytes_of_the_state_together() {
    check_together("state", "state = '10KiB'", "6 1000", 6);
}

#[test]
fn requests_of_a_call_are_counted() {
    check_http("requests", "requests", "requests = 3");
}

/// The message of one request, which is not answered in time, dies of what `expected` names: a limit, or none where all
/// of the request's time is over.
fn check_late(server: &str, times: &str, expected: Option<&str>) {
    let host = Bulkhead::new(&hostile(&format!(
        "limits = {{ wall = '2m' }}\nallow.http = [{{ url = '{server}/*', methods = ['GET'], private = true, {times} }}]"
    )));
    let running = host.start();
    host.send("in", &[format!("get {server}/")]);
    running.wait_for_log("became a dead letter", PATIENCE);
    let metrics = running.metrics();
    assert_eq!(metrics.limits("hostile"), Vec::from_iter(expected), "{times}");
    assert_eq!(metrics.value("bulkhead_http_requests_total", &[("status", "error")]), 1.0, "{times}");
    let log = running.terminate().ok().errors();
    let (reason, key) = (host.ledger().dead().remove(0).reason, "connectors.hostile.allow.http[0].first_byte");
    assert_eq!(
        (reason.contains(key), log.contains(key)),
        (expected.is_some(), expected.is_some()),
        "{times}: {reason}"
    );
}

#[test]
fn an_answer_that_does_not_begin_ends_the_request_whatever_time_it_has() {
    let server = Fixture::answering([Answer::Hang]);
    for times in ["first_byte = '200ms'", "first_byte = '200ms', timeout = '1h'"] {
        check_late(&server.url(), times, Some("first_byte"));
    }
    check_late(&server.url(), "timeout = '200ms'", None);
    check_late(&server.url(), "first_byte = '1h', timeout = '200ms'", None);
}

/// It comes when the request is over: too late for it, and no harm to anything else.
#[test]
fn an_answer_that_begins_late_is_not_waited_for() {
    let (go, gone) = mpsc::sync_channel::<()>(1);
    let gone = Mutex::new(gone);
    let server = Fixture::start(move |_| {
        let _ = gone.lock().unwrap().recv_timeout(PATIENCE);
        Answer::status(200)
    });
    check_late(&server.url(), "first_byte = '200ms'", Some("first_byte"));
    go.send(()).unwrap();
}

/// What has begun may take longer.
#[test]
fn an_answer_that_has_begun_has_the_time_of_the_request() {
    let server = Upstream::start(Misdeed::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"));
    check_late(&server.url(), "first_byte = '3s', timeout = '4s'", None);
}

/// It would never get another place. The standard's error has no text: the log names the key.
#[test]
fn a_sandbox_that_keeps_all_requests_under_way_to_itself_is_refused_another() {
    let server = Fixture::answering([Answer::status(200).body("hello")]);
    let url = server.url();
    let host = Bulkhead::new(&format!(
        "[connectors.hostile]\nplugin = '{}'\nconsume = 'in'\nretry = {{ attempts = 1 }}\n
        limits = {{ wall = '2m', requests_at_once = 4 }}\n
        allow.http = [{{ url = '{url}/*', methods = ['GET'], private = true, timeout = '5s' }}]",
        guest("stream").display()
    ));
    let running = host.start();
    host.send("in", &[format!("hoard {url}/ answers")]);
    running.wait_for_log("became a dead letter", PATIENCE);
    assert_eq!(running.metrics().limits("hostile"), ["requests_at_once"]);
    let log = running.terminate().ok().errors();
    assert!(log.contains("raise `connectors.hostile.limits.requests_at_once`"), "{log}");
    assert_eq!((server.requests().len(), host.ledger().dead()[0].attempts), (4, 1));
}

#[test]
fn a_large_request_is_not_sent() {
    check_http("post", "request_bytes", "request_bytes = '10KiB'");
}

#[test]
fn a_large_response_is_cut() {
    check_http("get", "response_bytes", "response_bytes = '10KiB'");
}

#[test]
fn log_over_its_limit_is_dropped_and_costs_nothing_else() {
    let host = Bulkhead::new(&hostile("limits = { log = '4KiB' }"));
    let running = host.start();
    host.send("in", &["print 1000"]);
    running.wait_for_log("log dropped: over `limits.log`", PATIENCE);
    let is_done = |metrics: &bulkhead_tests::Metrics| {
        metrics.value("bulkhead_deliveries_total", &[("connector", "hostile"), ("outcome", "done")]) > 0.0
    };
    running.wait_until("success", PATIENCE, is_done);
    assert_eq!(running.metrics().limits("hostile"), ["log"]);
    let printed = running.log().iter().filter(|line| line.contains("xxxxxxxx")).count();
    assert_eq!(printed, 4, "one line for each KiB");
}

/// A host that does not start shows no metrics: its log has the label.
#[test]
fn a_plugin_too_large_to_compile_is_refused_at_the_start() {
    let host = Bulkhead::new("[connectors.large]\nplugin = 'large.wasm'\nconsume = 'in'\n");
    let plugin = std::fs::File::create(host.path("large.wasm")).expect("the folder takes a file");
    plugin.set_len((32 << 20) + 1).expect("a file of holes");
    let refused = host.run(&["run"]).ended_with(2);
    let errors = refused.errors();
    assert!(errors.contains("is larger than 33554432 bytes, the most that a plugin may have"), "{errors}");
    assert!(errors.contains(r#""limit":"compile","key":"host.compile.size""#), "{errors}");
    assert!(!host.data().exists());
}
