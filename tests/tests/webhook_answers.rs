//! Webhooks that their connector answers: what a sender gets, when it is on disk, and that one of many repeats runs.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use bulkhead_tests::{Bulkhead, Line, Metrics, Reply, guest, post};
use serde_json::json;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Its events are known by `X-Event`.
fn answering(webhook: &str, keys: &str) -> Bulkhead {
    let verify = "{ scheme = 'none', id = { header = 'x-event' } }";
    let webhook = format!("webhook = {{ path = '/ask', verify = {verify}, respond = 'connector', {webhook} }}");
    Bulkhead::new(&format!("[connectors.it]\nplugin = '{}'\n{webhook}\n{keys}\n", guest("hook").display()))
}

fn ask(host: &Bulkhead, event: &str, body: &str) -> Reply {
    let event = [("X-Event", event)];
    post(host.webhooks(), "/ask", if event[0].1.is_empty() { &[] } else { &event }, body)
}

/// A receiver that answers each request when it is told to.
struct Receiving {
    url: String,
    arrived: Receiver<SyncSender<()>>,
}

impl Receiving {
    #[expect(clippy::disallowed_methods, reason = "a receiver of the test's own")]
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (told, arrived) = sync_channel(8);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (mut connection, told) = (connection.unwrap(), told.clone());
                thread::spawn(move || {
                    let mut head = [0; 4096];
                    // One request a connection: whoever opens one without sending has gone again.
                    if connection.read(&mut head).is_ok_and(|read| read > 0) {
                        let (release, released) = sync_channel(8);
                        let _ = told.send(release);
                        let _ = released.recv();
                        let _ =
                            connection.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
                    }
                });
            }
        });
        Self { url, arrived }
    }

    fn grant(&self) -> String {
        format!("allow.http = [{{ url = '{}/*', methods = ['POST'], private = true }}]", self.url)
    }

    /// Waits for a request; it is answered when the answer of this is used or dropped.
    fn wait(&self) -> SyncSender<()> {
        self.arrived.recv_timeout(PATIENCE).unwrap()
    }
}

fn done(metrics: &Metrics) -> f64 {
    metrics.value("bulkhead_deliveries_total", &[("connector", "it"), ("outcome", "done")])
}

#[test]
fn an_answer_leaves_when_what_it_stands_for_is_on_disk() {
    let host = answering("", "allow.publish = ['out']");
    let running = host.start();
    let reply = ask(&host, "evt_1", "publish hello");
    assert_eq!((reply.status, reply.body.as_str()), (201, "hello"));
    running.kill9();
    let messages = host.ledger().messages("out");
    assert_eq!((messages.len(), messages[0].body.as_slice()), (1, &b"hello"[..]));
    // Nothing of the request itself is stored.
    assert_eq!((host.ledger().messages("@it").len(), host.ledger().dead().len()), (0, 0));
}

#[test]
fn a_plugin_sees_the_request_and_the_connection_is_the_hosts() {
    let host = answering("methods = ['POST', 'PUT']", "");
    let running = host.start();
    let told = ask(&host, "evt_1", "tell").json();
    let host_header = host.webhooks().to_string();
    let expected = json!({
        "id": "evt_1", "method": "POST", "target": "/ask", "remote_address": "127.0.0.1", "parameters": [],
        "headers": [["host", host_header], ["x-event", "evt_1"]], "verified_by": null, "attempt": 1,
    });
    assert_eq!(told, expected);
    let odd = ask(&host, "", "odd");
    assert_eq!((odd.status, odd.body.as_str(), odd.header("x-kept").as_deref()), (200, "as it is", Some("yes")));
    assert_eq!((odd.header("content-length").as_deref(), odd.header("transfer-encoding")), (Some("8"), None));
    drop(running);
}

#[test]
fn each_failure_has_its_status_and_leaves_nothing_behind() {
    let host = answering("", "limits = { cpu = '100ms' }");
    let running = host.start();
    let told = |body| {
        let reply = ask(&host, "", body);
        assert_eq!(reply.body, "", "{body}");
        (reply.status, reply.header("retry-after"))
    };
    assert_eq!(told("retry 2500"), (503, Some("3".to_owned())));
    assert_eq!(told("reject"), (422, None));
    assert_eq!(told("trap"), (500, None));
    assert_eq!(told("spin"), (500, None));
    assert_eq!(told("status 42"), (500, None));
    assert_eq!(running.metrics().limits("it"), ["cpu"]);
    assert_eq!(done(&running.metrics()), 0.0);
    let _ = running.terminate().ok();
    assert_eq!((host.ledger().dead().len(), host.ledger().pending()), (0, 0));
}

#[test]
fn a_wall_that_ends_a_run_is_a_deadline() {
    let host = answering("timeout = '1h'", "limits = { wall = '100ms', cpu = '1h' }");
    let running = host.start();
    assert_eq!(ask(&host, "", "spin").status, 504);
    assert_eq!(running.metrics().limits("it"), ["wall"]);
    drop(running);
}

/// The run goes on, and its repeat gets what it answered.
#[test]
fn who_waits_no_longer_gets_the_answer_with_a_repeat() {
    let server = Receiving::start();
    let url = &server.url;
    let host = answering("timeout = '50ms'", &server.grant());
    let running = host.start();
    assert_eq!(ask(&host, "evt_1", &format!("fetch {url}/a")).status, 504);
    // A sender that goes away changes nothing either.
    let mut gone = Line::open(host.webhooks());
    gone.say(
        format!(
            "POST /ask HTTP/1.1\r\nHost: x\r\nX-Event: evt_2\r\nContent-Length: {}\r\n\r\nfetch {url}/b",
            8 + url.len()
        )
        .as_bytes(),
    );
    let held = (server.wait(), server.wait());
    drop(gone);
    drop(held);
    running.wait_until("runs", PATIENCE, |metrics| done(metrics) == 2.0);
    for event in ["evt_1", "evt_2"] {
        let reply = ask(&host, event, "fetch nothing");
        assert_eq!((reply.status, reply.body.as_str()), (200, "200"), "{event}");
    }
    assert!(server.arrived.try_recv().is_err(), "neither ran again");
    drop(running);
}

#[test]
fn of_many_repeats_one_runs_and_all_get_its_answer_also_after_a_crash() {
    let host = answering("", "");
    let running = host.start();
    let answers: Vec<(u16, String)> = thread::scope(|scope| {
        let asking: Vec<_> = (0..50).map(|_| scope.spawn(|| ask(&host, "evt_1", "count"))).collect();
        let replies = asking.into_iter().map(|asking| asking.join().unwrap());
        replies.map(|reply| (reply.status, reply.body)).collect()
    });
    assert_eq!(answers, vec![(200, "1".to_owned()); 50]);
    assert_eq!(done(&running.metrics()), 1.0);
    running.kill9();
    let running = host.start();
    assert_eq!(ask(&host, "evt_1", "count").body, "1");
    assert_eq!(ask(&host, "evt_2", "count").body, "2");
    // Without an id nothing is a repeat.
    assert_eq!([ask(&host, "", "count").body, ask(&host, "", "count").body], ["3", "4"]);
    drop(running);
}

#[test]
fn runs_that_meet_in_state_all_end() {
    let host = answering("concurrency = 4", "");
    let running = host.start();
    let mut counts: Vec<u32> = thread::scope(|scope| {
        let asking: Vec<_> = (0..24).map(|_| scope.spawn(|| ask(&host, "", "count"))).collect();
        asking.into_iter().map(|asking| asking.join().unwrap().body.parse().unwrap()).collect()
    });
    counts.sort_unstable();
    assert_eq!(counts, (1..=24).collect::<Vec<u32>>());
    drop(running);
}

#[test]
fn a_failed_event_is_not_remembered() {
    let host = answering("", "");
    let running = host.start();
    assert_eq!(ask(&host, "evt_1", "reject").status, 422);
    assert_eq!(ask(&host, "evt_1", "count").body, "1");
    drop(running);
}

#[test]
fn a_paused_connector_answers_503() {
    let host = answering("", "");
    let running = host.start();
    assert_eq!(running.api("POST", "connectors/it/pause", "").status, 204);
    let reply = ask(&host, "", "count");
    assert_eq!((reply.status, reply.header("retry-after").as_deref()), (503, Some("1")));
    assert_eq!(running.api("POST", "connectors/it/resume", "").status, 204);
    assert_eq!(ask(&host, "", "count").status, 200);
    drop(running);
}

/// A signal lets a run end, settle and answer.
#[test]
fn a_stop_waits_for_who_is_being_answered() {
    let server = Receiving::start();
    let url = &server.url;
    let host = answering("", &server.grant());
    let running = host.start();
    thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&host, "evt_1", &format!("fetch {url}/a")));
        let held = server.wait();
        running.signal(bulkhead_tests::Signal::TERM);
        running.wait_for_log("stopping", PATIENCE);
        drop(held);
        assert_eq!(asking.join().unwrap().body, "200");
    });
    let _ = running.wait().ok();
}
