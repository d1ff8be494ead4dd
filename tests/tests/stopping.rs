//! How a host ends: by a signal, at the end of its grace time, by a second signal, or because nothing is left to do. What
//! is cut off is delivered again at no attempt.

use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use bulkhead_tests::{Answer, Bulkhead, Fixture, Running, Signal, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const STOPPING: &str = "stopping: runs under way settle";
const CUT_OFF: &str = "cut off: what had not settled is delivered again after the next start";

/// A connector that hands what is in `in` to a server, and tells it which attempt it is. What stands first belongs to the
/// host's own table.
fn delivering(server: &Fixture, grace: &str) -> Bulkhead {
    let url = server.url();
    Bulkhead::new(&format!(
        "grace = '{grace}'\n[connectors.deliver]\nplugin = 'builtin:http-request'\nconsume = 'in'\nlimits = {{ wall = '1h' }}\n
        config = {{ url = '{url}/{{{{ attempt }}}}' }}\n
        allow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]\n"
    ))
}

fn hostile(keys: &str) -> String {
    format!("[connectors.hostile]\nplugin = '{}'\nconsume = 'in'\n{keys}\n", guest("hostile").display())
}

/// A run that is under way when the signal comes is finished first.
fn check_settled(signal: Signal) {
    let ((arrived, arrivals), (go, gone)) = (sync_channel(1), sync_channel::<Answer>(1));
    let (arrived, gone) = (Mutex::new(arrived), Mutex::new(gone));
    let server = Fixture::start(move |_| {
        let _ = arrived.lock().unwrap().send(());
        gone.lock().unwrap().recv_timeout(PATIENCE).unwrap_or(Answer::Hang)
    });
    let host = delivering(&server, "1h");
    let running = host.start();
    host.send("in", &["slow", "behind it"]);
    arrivals.recv_timeout(PATIENCE).expect("the first request comes");
    running.signal(signal);
    running.wait_for_log(STOPPING, PATIENCE);
    go.send(Answer::status(200)).unwrap();
    let _ = running.wait().ok();
    let left = host.ledger().messages("in");
    assert_eq!(left.iter().map(|message| message.body.as_slice()).collect::<Vec<_>>(), [b"behind it"]);
    assert_eq!((server.requests().len(), host.ledger().pending()), (1, 0));
}

#[test]
fn a_terminated_host_settles_what_is_under_way() {
    check_settled(Signal::TERM);
}

#[test]
fn an_interrupted_host_settles_what_is_under_way() {
    check_settled(Signal::INT);
}

/// A request is under way whose answer never comes; the host ends with 1 by what `end` does, and the next one delivers the
/// message at its first attempt.
fn check_cut(grace: &str, end: impl FnOnce(&Running)) {
    let server = Fixture::answering([Answer::Hang, Answer::status(200)]);
    let host = delivering(&server, grace);
    let running = host.start();
    host.send("in", &["again"]);
    server.wait_for(1, PATIENCE);
    end(&running);
    let log = running.wait().ended_with(1).errors();
    assert!(log.contains(CUT_OFF), "{log}");
    let ledger = host.ledger();
    assert_eq!((ledger.messages("in").len(), ledger.pending(), ledger.dead()), (1, 0, vec![]));
    let _ = host.run_until_idle();
    let uris: Vec<String> = server.requests().into_iter().map(|request| request.uri).collect();
    assert_eq!((uris, host.ledger().messages("in")), (vec!["/1".to_owned(); 2], vec![]));
}

#[test]
fn what_outlasts_the_grace_time_is_cut_off_and_delivered_again() {
    check_cut("1s", |running| running.signal(Signal::TERM));
}

#[test]
fn a_second_signal_ends_the_host_at_once() {
    check_cut("1h", |running| {
        running.signal(Signal::TERM);
        running.wait_for_log(STOPPING, PATIENCE);
        running.signal(Signal::INT);
    });
}

/// Both are there before the host has begun to stop.
#[test]
fn two_signals_at_once_end_the_host_as_well() {
    check_cut("1h", |running| {
        running.signal(Signal::TERM);
        running.signal(Signal::INT);
    });
}

/// It never waits for anything, so only its interruption ends it.
#[test]
fn a_plugin_that_computes_is_cut_off_too() {
    let host = Bulkhead::new(&format!("grace = '1s'\n{}", hostile("limits = { cpu = '1h', wall = '1h' }")));
    let running = host.start();
    host.send("in", &["spin"]);
    let deadline = Instant::now() + PATIENCE;
    while host.in_flight().is_empty() {
        assert!(Instant::now() < deadline, "nothing runs");
        running.rest();
    }
    let log = running.terminate().ended_with(1).errors();
    assert!(log.contains(CUT_OFF), "{log}");
    assert_eq!((host.ledger().messages("in").len(), host.ledger().pending()), (1, 0));
    host.configure(&hostile("limits = { cpu = '50ms' }\nretry = { attempts = 1 }"));
    let running = host.start();
    running.wait_until("dead letter", PATIENCE, |metrics| metrics.value("bulkhead_dead_letters", &[]) == 1.0);
    assert_eq!(running.metrics().limits("hostile"), ["cpu"]);
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().dead()[0].attempts, 1);
}

/// How many messages wait and how many have died when a host has ended by itself that had one to try again later.
fn check_idle(first: &str, horizon: &[&str], expected: (i64, usize)) {
    let retry = format!("retry = {{ attempts = 2, first = '{first}', max = '1h', jitter = 'none' }}");
    let host = Bulkhead::new(&hostile(&retry));
    host.send("in", &["retry later"]);
    let _ = host.run(&[&["run", "--until-idle"], horizon].concat()).ok();
    assert_eq!((host.ledger().pending(), host.ledger().dead().len()), expected, "{first} with {horizon:?}");
}

#[test]
fn an_attempt_within_the_horizon_is_waited_for() {
    check_idle("1s", &[], (0, 1));
    check_idle("3s", &["--idle-horizon", "1h"], (0, 1));
}

#[test]
fn an_attempt_beyond_the_horizon_is_not_waited_for() {
    check_idle("1h", &[], (1, 0));
    check_idle("30s", &["--idle-horizon", "1s"], (1, 0));
}

/// Nobody would ever deliver them.
#[test]
fn messages_of_a_paused_connector_or_of_nobody_do_not_keep_a_host_from_being_idle() {
    let host = Bulkhead::new(&hostile("allow.publish = ['out']"));
    host.send("out", &["for nobody"]);
    host.send("in", &["ok"]);
    let _ = host.run(&["pause", "hostile"]).ok();
    let _ = host.run_until_idle();
    assert_eq!((host.ledger().messages("in").len(), host.ledger().messages("out").len()), (1, 1));
}
