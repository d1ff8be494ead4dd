//! What a reload meets: requests and runs under way, a lock file, secrets, a pause, a host that stops.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Line, Metrics, Posted, Running, Signal, guest, post};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the reload has changed, or why nothing has.
fn reload(running: &Running, status: u16) -> Value {
    let reply = running.api("POST", "reload", "{}");
    assert_eq!(reply.status, status, "{}", reply.body);
    reply.json()
}

/// The keys that are wrong.
fn refused(running: &Running) -> Vec<String> {
    let problems = reload(running, 422)["problems"].as_array().unwrap().clone();
    problems.iter().map(|problem| problem["key"].as_str().unwrap().to_owned()).collect()
}

/// A receiver that answers once it may; says when somebody asks.
fn receiver() -> (Fixture, Receiver<()>, SyncSender<()>) {
    let ((arrived, arrivals), (go, gone)) = (sync_channel(9), sync_channel::<()>(9));
    let gone = Mutex::new(gone);
    let server = Fixture::start(move |_| {
        let _ = arrived.send(());
        let _ = gone.lock().unwrap().recv_timeout(PATIENCE);
        Answer::status(200)
    });
    (server, arrivals, go)
}

/// A connector that does what a message asks for.
fn hostile(keys: &str) -> String {
    format!("[connectors.it]\nplugin = '{}'\nconsume = 'in'\n{keys}\n", guest("hostile").display())
}

/// A host whose connector has asked the server in a run that goes on, and has been changed meanwhile.
fn changed_in_a_run() -> (Fixture, SyncSender<()>, Bulkhead, Running) {
    let (server, arrivals, go) = receiver();
    let grant = format!("allow.http = [{{ url = '{}/*', methods = ['GET'], private = true }}]", server.url());
    let host = Bulkhead::new(&hostile(&grant));
    let running = host.start();
    host.send("in", &[format!("get {}/", server.url())]);
    arrivals.recv_timeout(PATIENCE).expect("the run asks");
    host.configure(&(hostile(&grant) + "brake = 7\n"));
    (server, go, host, running)
}

#[test]
fn a_repeat_waits_for_the_run_that_what_was_before_has_begun() {
    let (server, arrivals, go) = receiver();
    let toml = |wall: &str| {
        let grant = format!("{{ url = '{}/*', methods = ['POST'], private = true }}", server.url());
        format!(
            "[connectors.it]\nplugin = '{}'\nlimits = {{ wall = '{wall}' }}\nallow.http = [{grant}]\n
            webhook = {{ path = '/ask', verify = {{ scheme = 'none', id = {{ header = 'x-event' }} }}, respond = 'connector' }}\n",
            guest("hook").display()
        )
    };
    let host = Bulkhead::new(&toml("60s"));
    let running = host.start();
    let ask = || post(host.webhooks(), "/ask", &[("X-Event", "1")], &format!("fetch {}/", server.url()));
    thread::scope(|scope| {
        let first = scope.spawn(ask);
        arrivals.recv_timeout(PATIENCE).expect("the run asks");
        host.configure(&toml("59s"));
        // A run whose sender waits is nothing that the next one has to wait for.
        assert_eq!(reload(&running, 200)["changed"][0]["keys"], json!(["connectors.it.limits.wall"]));
        let repeat = scope.spawn(ask);
        go.send(()).unwrap();
        let (first, repeat) = (first.join().unwrap(), repeat.join().unwrap());
        assert_eq!((first.status, &first.body), (200, &"200".to_owned()));
        assert_eq!((repeat.status, repeat.body), (first.status, first.body));
    });
    assert_eq!(server.requests().len(), 1);
    let _ = running.terminate().ok();
}

#[test]
fn a_plugin_that_was_not_accepted_is_no_upgrade() {
    let host = Bulkhead::new("[connectors.it]\nplugin = 'x.wasm'\nconsume = 'in'\nallow.publish = ['out']\n");
    let put = |name: &str| fs::copy(guest(name), host.path("x.wasm")).map(drop).unwrap();
    put("steps");
    let _ = host.run(&["lock"]).ok();
    let running = host.start();
    put("hostile");
    assert_eq!(refused(&running), ["connectors.it.plugin"]);
    let _ = host.run(&["lock", "--accept", "it"]).ok();
    assert_eq!(reload(&running, 200)["changed"][0]["connector"], "it");
    let _ = running.terminate().ok();
}

#[test]
fn who_uses_a_secret_is_replaced_when_its_value_is_another() {
    let host = Bulkhead::new("");
    let seal = |value: &str| {
        fs::write(host.path("token"), value).unwrap();
        fs::set_permissions(host.path("token"), Permissions::from_mode(0o600)).unwrap();
    };
    seal("a-long-value");
    let other = "[connectors.other]\nplugin = 'builtin:log'\nconsume = 'other'\n";
    host.configure(&format!(
        "[secrets]\ntoken = {{ file = 'token' }}\n{}{other}",
        hostile("allow.secrets = ['token']")
    ));
    let running = host.start();
    seal("another-long-value");
    let change = reload(&running, 200);
    assert_eq!(change["changed"], json!([{ "connector": "it", "keys": ["secrets.token"] }]));
    assert!(!running.terminate().ok().errors().contains("long-value"));
    assert!(!host.audit().iter().any(|event| event.to_string().contains("long-value")));
}

#[test]
fn a_pause_holds_what_takes_the_place_of_who_was_paused() {
    let host = Bulkhead::new(&hostile(""));
    let running = host.start();
    let _ = host.run(&["pause", "it"]).ok();
    host.configure(&hostile("brake = 7"));
    reload(&running, 200);
    host.send("in", &["ok"]);
    let held = |metrics: &Metrics| metrics.value("bulkhead_held", &[("reason", "paused")]);
    assert_eq!(held(&running.metrics()), 1.0);
    let _ = host.run(&["resume", "it"]).ok();
    let done = [("outcome", "done")];
    running.wait_until("delivery", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) == 1.0);
    assert_eq!(held(&running.metrics()), 0.0);
    let _ = running.terminate().ok();
}

#[test]
fn what_the_host_has_no_place_for_is_refused() {
    let host = Bulkhead::new(&hostile(""));
    let running = host.start();
    host.configure(&hostile("limits = { memory = '2GiB' }"));
    assert_eq!(refused(&running), ["connectors.it.limits.memory"]);
    host.configure(&hostile("reuse = 'always'").replace("'in'", "{ queue = 'in', concurrency = 40 }"));
    assert_eq!(refused(&running), ["connectors"]);
    let taken = TcpListener::bind(host.webhooks()).unwrap();
    let hook = "[connectors.hook]\nwebhook = { path = '/in', verify = 'none', publish = 'in' }\n";
    host.configure(&(hostile("") + hook));
    assert_eq!(refused(&running), ["host.listen"]);
    drop(taken);
    assert_eq!(reload(&running, 200)["added"][0]["connector"], "hook");
    let _ = running.terminate().ok();
}

#[test]
fn a_host_that_is_stopped_while_it_waits_for_a_run_changes_nothing_more() {
    let (server, go, host, running) = changed_in_a_run();
    thread::scope(|scope| {
        let asked = scope.spawn(|| running.api("POST", "reload", "{}").status);
        running.wait_for_log("ends what it has begun", PATIENCE);
        running.signal(Signal::TERM);
        assert_eq!(asked.join().unwrap(), 503);
        go.send(()).unwrap();
    });
    let _ = running.wait().ok();
    let nobody = host.run(&["reload"]).ended_with(1).errors();
    assert!(nobody.contains("no host runs on "), "{nobody}");
    assert_eq!((host.ledger().messages("in"), server.requests().len()), (vec![], 1));
}

#[test]
fn who_asks_and_goes_changes_nothing_about_it() {
    let (_server, go, host, running) = changed_in_a_run();
    let (admin, token) = (running.admin(), fs::read_to_string(host.data().join("admin.token")).unwrap());
    let mut line = Line::open(admin);
    let head = format!("POST /api/v1/reload HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {}\r\n", token.trim());
    line.say(format!("{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes());
    running.wait_for_log("ends what it has begun", PATIENCE);
    drop(line);
    go.send(()).unwrap();
    running.wait_for_log(r#""asked_by":"the API","added":0,"removed":0,"changed":1"#, PATIENCE);
    let _ = running.terminate().ok();
    assert!(host.audit().iter().any(|event| event["kind"] == "reload" && event["reason"] == "done"));
}

/// Only the ledger knows that both have a past.
#[test]
fn a_name_that_cannot_be_taken_over_is_refused_and_its_owner_goes_on() {
    let other = |keys: &str| format!("[connectors.other]\nplugin = 'builtin:log'\nconsume = 'other'\n{keys}\n");
    let host = Bulkhead::new(&(hostile("") + &other("")));
    let running = host.start();
    host.configure(&other("was = 'it'"));
    assert_eq!(refused(&running), ["connectors"]);
    assert_eq!(host.post("in", "{\"body\":\"ok\"}\n"), Posted::Accepted);
    let done = [("connector", "it"), ("outcome", "done")];
    running.wait_until("delivery", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &done) == 1.0);
    let _ = running.terminate().ok();
}
