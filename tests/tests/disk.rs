//! A disk without room: what is new is refused, what was accepted stays, and work resumes when there is room.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Call, Failure, Fixture, Metrics, Running, SmallDisk, guest, sabotaged};

/// For what happens within a moment, also on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// Room for the compiled plugins and a few messages.
const DISK_MIB: u32 = 24;
/// Messages that are tried again and again, so that there is always something to run and to settle.
const RESTLESS: usize = 20;

/// A connector that publishes, one that does not, and one that calls a server.
fn connectors(url: &str) -> String {
    let (echo, hostile) = (guest("echo"), guest("hostile"));
    format!(
        "[connectors.relay]\nplugin = '{}'\nconsume = 'in'\nconfig = {{ publish = 'out' }}\nallow.publish = ['out']\n
        [connectors.restless]\nplugin = '{}'\nconsume = {{ queue = 'work', batch = 4 }}\n
        retry = {{ attempts = 1000, first = '50ms', max = '50ms', jitter = 'none' }}\n
        [connectors.caller]\nplugin = 'builtin:http-request'\nconsume = 'calls'\nconfig = {{ url = '{url}/' }}\n
        allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]\n",
        echo.display(),
        hostile.display()
    )
}

/// A small disk, where the machine permits one.
fn small_disk() -> Option<Arc<SmallDisk>> {
    SmallDisk::mount(DISK_MIB).map(Arc::new)
}

fn held(metrics: &Metrics, connector: &str) -> bool {
    metrics.value("bulkhead_held", &[("connector", connector), ("reason", "disk")]) > 0.0
}

fn all_held(metrics: &Metrics) -> bool {
    ["relay", "restless", "caller"].iter().all(|connector| held(metrics, connector))
}

fn done(metrics: &Metrics, connector: &str) -> f64 {
    metrics.value("bulkhead_deliveries_total", &[("connector", connector), ("outcome", "done")])
}

fn attempts(metrics: &Metrics) -> f64 {
    metrics.value("bulkhead_attempt_seconds_count", &[("connector", "restless")])
}

/// Fills the disk until the host has met its end.
fn fill(disk: &SmallDisk, running: &Running) {
    running.wait_until("full disk", SOON, |metrics| {
        disk.fill();
        all_held(metrics)
    });
}

fn check_refused(host: &Bulkhead) {
    let refused = host.run_with(&["send", "in", "--lines"], &[b'x'; 100_000]).ended_with(1);
    let expected = "the disk has no room: free some, or lower `host.min_free`";
    assert!(refused.errors().contains(expected), "{}", refused.errors());
}

#[test]
fn below_the_watermark_nothing_new_is_accepted_and_what_is_decided_goes_on() {
    let fixture = Fixture::answering([Answer::status(200)]);
    let toml = connectors(&fixture.url());
    let host = Bulkhead::new(&toml);
    host.send("in", &["one", "two"]);
    host.send("calls", &["{}"]);
    let low = Bulkhead::on(host.data(), "min_free = '1TiB'", &toml);
    let running = low.start();
    running.wait_until("call", SOON, |metrics| done(metrics, "caller") == 1.0);
    check_refused(&low);
    let metrics = running.metrics();
    assert_eq!((done(&metrics, "relay"), held(&metrics, "relay"), held(&metrics, "caller")), (0.0, true, false));
    let _ = running.terminate().ok();
    check_refused(&low);
    let _ = host.run_until_idle();
    let ledger = host.ledger();
    let bodies: Vec<Vec<u8>> = ledger.messages("out").into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, [b"one", b"two"]);
}

/// A server that says when it is called, and answers when it is let go.
fn waiting_server() -> (Fixture, Receiver<()>, SyncSender<()>) {
    let (called, is_called) = sync_channel(1);
    let (let_go, goes) = sync_channel::<()>(1);
    let goes = Mutex::new(goes);
    let fixture = Fixture::start(move |_| {
        called.send(()).unwrap();
        goes.lock().unwrap().recv_timeout(SOON).unwrap();
        Answer::status(200)
    });
    (fixture, is_called, let_go)
}

#[test]
fn on_a_full_disk_nothing_runs_or_is_lost_and_work_resumes_with_room() {
    let Some(disk) = small_disk() else { return };
    // The call is under way while the disk fills up: its settlement finds no room.
    let (fixture, is_called, let_go) = waiting_server();
    let host = Bulkhead::on_disk(&disk, "min_free = '0B'", &connectors(&fixture.url()));
    let running = host.start();
    host.send("in", &["before"]);
    host.send("work", &["retry for ever"; RESTLESS]);
    host.send("calls", &["{}"]);
    is_called.recv_timeout(SOON).unwrap();
    running.wait_until("much work", SOON, |metrics| {
        attempts(metrics) > 3.0 * RESTLESS as f64 && done(metrics, "relay") == 1.0
    });
    fill(&disk, &running);
    check_refused(&host);
    let before = attempts(&running.metrics());
    let_go.send(()).unwrap();
    (0..3).for_each(|_| check_refused(&host));
    let metrics = running.metrics();
    assert_eq!((attempts(&metrics), done(&metrics, "caller")), (before, 0.0), "nothing runs or is settled");
    disk.make_room();
    running.wait_until("work", SOON, |metrics| {
        !all_held(metrics) && attempts(metrics) > before + RESTLESS as f64 && done(metrics, "caller") == 1.0
    });
    host.send("in", &["after"]);
    running.wait_until("publish", SOON, |metrics| done(metrics, "relay") == 2.0);
    let _ = running.terminate().ok();
    check_ledger(&host, &["before", "after"]);
    assert_eq!(fixture.requests().len(), 1, "settled, and not called again");
}

/// The call is under way while the disk fills up: what it would publish then finds no room.
#[test]
fn a_publish_without_room_costs_no_attempt_and_is_made_again_with_room() {
    let Some(disk) = small_disk() else { return };
    let (fixture, is_called, let_go) = waiting_server();
    let url = fixture.url();
    let courier = format!(
        "[connectors.courier]\nplugin = '{}'\nconsume = 'errands'\nretry = {{ attempts = 1 }}\nlimits = {{ wall = '10m' }}\n
        allow.publish = ['seen']\nallow.http = [{{ url = '{url}/*', methods = ['GET'], private = true }}]\n",
        guest("courier").display()
    );
    let host = Bulkhead::on_disk(&disk, "min_free = '0B'", &(connectors(&url) + &courier));
    let running = host.start();
    host.send("errands", &[format!(r#"{{"method": "GET", "url": "{url}/"}}"#)]);
    is_called.recv_timeout(SOON).unwrap();
    host.send("work", &["retry for ever"; RESTLESS]);
    running.wait_until("much work", SOON, |metrics| attempts(metrics) > 3.0 * RESTLESS as f64);
    fill(&disk, &running);
    let_go.send(()).unwrap();
    let refused = [("connector", "courier"), ("effect", "publish"), ("reason", "full")];
    running.wait_until("refusal", SOON, |metrics| metrics.value("bulkhead_denied_total", &refused) == 1.0);
    running.wait_for_log("the disk is full: see `host.min_free`", SOON);
    disk.make_room();
    let_go.send(()).unwrap();
    is_called.recv_timeout(SOON).unwrap();
    running.wait_until("publish", SOON, |metrics| done(metrics, "courier") == 1.0);
    let _ = running.terminate().ok();
    let ledger = host.ledger();
    assert_eq!((ledger.messages("seen").len(), ledger.messages("errands"), ledger.dead()), (1, vec![], vec![]));
    ledger.check_integrity();
}

#[test]
fn a_full_disk_does_not_keep_the_host_from_stopping() {
    let Some(disk) = small_disk() else { return };
    let toml = connectors("http://127.0.0.1:1");
    let host = Bulkhead::on_disk(&disk, "min_free = '0B'\ngrace = '1s'", &toml);
    let running = host.start();
    host.send("work", &["retry for ever"; RESTLESS]);
    running.wait_until("work", SOON, |metrics| attempts(metrics) > RESTLESS as f64);
    fill(&disk, &running);
    let stopped = running.terminate();
    assert_eq!(stopped.code, Some(1), "cut off: {}", stopped.errors());
    disk.fill();
    for arguments in [&["send", "in", "--body", "x"][..], &["run"]] {
        let refused = host.run(arguments).ended_with(2);
        assert!(refused.errors().contains("has no room, free some"), "{}", refused.errors());
    }
    disk.make_room();
    let running = host.start();
    running.wait_until("work", SOON, |metrics| attempts(metrics) > RESTLESS as f64);
    let _ = running.terminate().ok();
    check_ledger(&host, &[]);
}

/// From one write after the other on there is no room, until a start makes none that is refused.
#[test]
fn a_start_that_finds_no_room_ends_and_says_so_whatever_it_was_about_to_write() {
    let (host, saboteur) = sabotaged(Bulkhead::new(&connectors("http://127.0.0.1:1")));
    let _ = host.run_until_idle();
    let (mut refused, mut nth) = (0, 1);
    loop {
        saboteur.arm(&[Call::Write], nth..=u64::MAX, Failure::NoRoom).unwrap();
        let ended = host.run(&["run", "--until-idle"]);
        if saboteur.failed() == 0 {
            break;
        }
        let errors = ended.errors();
        match ended.code {
            Some(0 | 1) => {}
            Some(2) if errors.contains("has no room, free some") => refused += 1,
            code => panic!("{code:?} at write {nth}, {:?}: {errors}", saboteur.first_failed()),
        }
        nth += 1;
    }
    assert!(refused > 3, "{refused} of {nth}");
}

/// What came out is this, everything that is tried again is still there, and nothing has died.
fn check_ledger(host: &Bulkhead, out: &[&str]) {
    let ledger = host.ledger();
    ledger.check_integrity();
    let bodies: Vec<Vec<u8>> = ledger.messages("out").into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, out.iter().map(|body| body.as_bytes().to_vec()).collect::<Vec<_>>());
    let left = (ledger.messages("in").len(), ledger.messages("calls").len(), ledger.messages("work").len());
    assert_eq!((left, ledger.dead().len()), ((0, 0, RESTLESS), 0));
}
