//! Plugins and machines that fail: what a fault costs, and that it costs nothing else.

use std::sync::Mutex;
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Metrics, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn hostile(extra: &str) -> String {
    let plugin = guest("hostile");
    format!(
        "[connectors.hostile]\nplugin = '{}'\nconsume = 'in'\nbrake = 0\nretry = {{ attempts = 2, first = '1ms' }}\n{extra}\n",
        plugin.display()
    )
}

/// One message of a thousand does harm: it alone dies, for this reason, these limits have bitten, and the host goes on.
fn check(message: &str, keys: &str, reason: &str, limits: &[&str]) {
    let host = Bulkhead::new(&hostile(keys));
    let mut lines = vec!["ok"; 1_000];
    lines[500] = message;
    host.send("in", &lines);
    let running = host.start();
    let is = |outcome: &'static str, count: f64| {
        move |metrics: &Metrics| metrics.value("bulkhead_deliveries_total", &[("outcome", outcome)]) == count
    };
    running.wait_until("999 successes", PATIENCE, is("done", 999.0));
    running.wait_until("dead letter", PATIENCE, is("dead", 1.0));
    let metrics = running.metrics();
    let mut bitten = metrics.limits("hostile");
    bitten.sort_unstable();
    assert_eq!(
        (bitten, metrics.value("bulkhead_panics_total", &[])),
        (limits.iter().map(ToString::to_string).collect(), 0.0)
    );
    host.send("in", &["ok"]);
    running.wait_until("one more", PATIENCE, is("done", 1_000.0));
    let _ = running.terminate().ok();
    let ledger = host.ledger();
    let dead = ledger.dead();
    assert_eq!((dead.len(), ledger.messages("in").len(), ledger.pending()), (1, 0, 0));
    assert!(dead[0].body == message.as_bytes() && dead[0].reason.contains(reason), "{:?}", dead[0]);
}

#[test]
fn a_trap_costs_one_message_of_a_thousand() {
    check("trap farewell", "", "last words: farewell", &[]);
}

#[test]
fn a_panic_costs_one_message_of_a_thousand() {
    check("panic farewell", "", "farewell", &[]);
}

#[test]
fn a_recursion_without_end_costs_one_message_of_a_thousand() {
    check("recurse", "", "the plugin trapped", &[]);
}

#[test]
fn a_loop_costs_one_message_of_a_thousand() {
    check("spin", "limits = { cpu = '100ms' }", "limits.cpu", &["cpu"]);
}

#[test]
fn growth_costs_one_message_of_a_thousand() {
    check("grow", "limits = { memory = '8MiB' }", "limits.memory", &["memory"]);
}

/// It prints until its time is up; what is over the log's limit goes nowhere.
#[test]
fn gigabytes_of_output_cost_one_message_of_a_thousand() {
    check("print", "limits = { cpu = '500ms', log = '4KiB' }", "limits.cpu", &["cpu", "log"]);
}

#[test]
fn a_publish_without_a_grant_costs_one_message_of_a_thousand() {
    check("publish elsewhere", "", "connectors.hostile.allow.publish", &[]);
}

#[test]
fn what_a_dead_call_has_published_goes_nowhere() {
    let host = Bulkhead::new(&hostile("limits = { publishes = 10 }\nallow.publish = ['out']"));
    host.send("in", &["publish out", "flood out"]);
    let _ = host.run_until_idle();
    assert_eq!((host.ledger().messages("out").len(), host.ledger().dead().len()), (1, 1));
}

#[test]
fn a_publish_without_a_grant_names_the_missing_key() {
    let host = Bulkhead::new(&hostile(""));
    host.send("in", &["publish elsewhere"]);
    let _ = host.run_until_idle();
    let dead = host.dead();
    let reason = dead[0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("connectors.hostile.allow.publish"), "{reason}");
}

#[test]
fn the_sandbox_has_no_files_environment_sockets_or_lookups() {
    let host = Bulkhead::new(&hostile(""));
    host.send("in", &["file", "environment", "socket", "lookup"]);
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<serde_json::Value>::new());
}

#[test]
fn counters_in_state_survive_conflicts_between_workers() {
    let toml = hostile("").replace("consume = 'in'", "consume = { queue = 'in', batch = 4, concurrency = 4 }");
    let host = Bulkhead::new(&toml);
    host.send("in", &["count total"; 200]);
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<serde_json::Value>::new());
    assert_eq!(host.ledger().state("hostile"), [("total".to_owned(), b"200".to_vec())]);
}

/// A conflict costs no attempt, and what runs again is called as it was.
#[test]
fn counters_in_state_survive_conflicts_of_calls_with_many_messages() {
    let host = Bulkhead::new(&format!(
        "[connectors.batch]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 4, concurrency = 4 }}\nretry = {{ attempts = 1 }}\n",
        guest("batch").display()
    ));
    host.send("in", &["count"; 200]);
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<serde_json::Value>::new());
    assert_eq!(host.ledger().state("batch"), [("total".to_owned(), b"200".to_vec())]);
}

/// State belongs to the whole call: the good messages of a call with a bad one run again without it, and count once.
#[test]
fn state_of_a_call_with_a_bad_message_is_written_by_the_good_ones_alone() {
    let host = Bulkhead::new(&format!(
        "[connectors.batch]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 4 }}\nallow.publish = ['out']\n",
        guest("batch").display()
    ));
    host.send("in", &["count", "bad", "count", "ok"]);
    let _ = host.run_until_idle();
    assert_eq!(host.ledger().state("batch"), [("total".to_owned(), b"2".to_vec())]);
    let published = host.ledger().messages("out");
    assert_eq!(published.iter().map(|message| message.body.as_slice()).collect::<Vec<_>>(), [b"ok"]);
    assert_eq!(host.ledger().dead().len(), 1);
}

/// After a call that broke as a whole, sixty calls of a second each would take twice the grace time.
#[test]
fn a_stop_does_not_wait_for_all_messages_of_a_call_that_broke() {
    let host = Bulkhead::new(&format!(
        "[connectors.batch]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 60 }}\n",
        guest("batch").display()
    ));
    host.send("in", &["alone"; 60]);
    let running = host.start();
    let attempts = |metrics: &Metrics| metrics.value("bulkhead_attempt_seconds_count", &[]);
    running.wait_until("call of one", PATIENCE, |metrics| attempts(metrics) >= 2.0);
    let _ = running.terminate().ok();
    assert!(!host.ledger().messages("in").is_empty(), "the rest is delivered after the next start");
    assert_eq!(host.dead(), Vec::<serde_json::Value>::new());
}

#[test]
fn a_kept_sandbox_goes_on_after_a_trap() {
    let host = Bulkhead::new(&hostile("reuse = 'always'"));
    let mut lines = vec!["count total"; 100];
    lines.insert(50, "trap farewell");
    host.send("in", &lines);
    let _ = host.run_until_idle();
    assert_eq!(host.dead().len(), 1);
    assert_eq!(host.ledger().state("hostile"), [("total".to_owned(), b"100".to_vec())]);
}

/// Whoever reads ahead for the queues lives as long as the host.
#[test]
fn a_running_host_delivers_what_comes_later_however_much_it_is() {
    let host = Bulkhead::new(&hostile(""));
    let running = host.start();
    let done = |count: f64| {
        move |metrics: &Metrics| metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]) == count
    };
    for (nth, messages) in [(1.0, 1), (2.0, 1), (5_002.0, 5_000)] {
        host.send("in", &vec!["ok"; messages]);
        running.wait_until("delivery", PATIENCE, done(nth));
    }
    let _ = running.terminate().ok();
}

/// Each of several schedules, whatever the others have put into the inbox.
#[test]
fn a_schedule_without_history_fires_at_the_start() {
    let plugin = guest("hostile");
    let host = Bulkhead::new(&format!(
        "[connectors.hostile]\nplugin = '{}'\nschedule = [{{ name = 'one', every = '1h' }}, {{ name = 'two', every = '2h' }}]\n",
        plugin.display()
    ));
    let running = host.start();
    let done = |metrics: &Metrics| metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]);
    running.wait_until("tick of each", PATIENCE, |metrics| done(metrics) == 2.0);
}

/// A tick that lies unread in the inbox, since its connector is paused, makes the next ones skip.
#[test]
fn ticks_of_a_paused_connector_do_not_pile_up() {
    let plugin = guest("hostile");
    let toml = format!("[connectors.hostile]\nplugin = '{}'\nschedule = {{ every = '10ms' }}\n", plugin.display());
    let host = Bulkhead::new(&toml);
    let _ = host.run(&["pause", "hostile"]).ok();
    let running = host.start();
    let planned = |metrics: &Metrics| metrics.value("bulkhead_schedule_lag_seconds_count", &[]);
    running.wait_until("twenty planned times", PATIENCE, |metrics| planned(metrics) >= 20.0);
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().messages("@hostile").len(), 1);
    let _ = host.run(&["resume", "hostile"]).ok();
    let running = host.start();
    let done = |metrics: &Metrics| metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]);
    running.wait_until("ticks again", PATIENCE, |metrics| done(metrics) >= 3.0);
    let _ = running.terminate().ok();
}

/// Two messages count in one key; the slower one's state is stale when it commits, so it runs again. The process dies in
/// that second run, in which its worker has nothing else left to decide.
#[test]
fn a_delivery_that_runs_again_after_a_conflict_is_a_suspect_of_a_crash() {
    let (arrived, arrivals) = std::sync::mpsc::sync_channel(8);
    let (go, gone) = std::sync::mpsc::sync_channel::<Answer>(1);
    let (arrived, gone) = (Mutex::new(arrived), Mutex::new(gone));
    let server = Fixture::start(move |_| {
        let _ = arrived.lock().unwrap().send(());
        gone.lock().unwrap().recv_timeout(PATIENCE).unwrap_or(Answer::Hang)
    });
    let url = server.url();
    let grant = format!("allow.http = [{{ url = '{url}/*', methods = ['GET'], private = true }}]");
    let host = Bulkhead::new(&hostile(&grant).replace("'in'", "{ queue = 'in', batch = 1, concurrency = 2 }"));
    let running = host.start();
    host.send("in", &[format!("count-slowly {url}/")]);
    arrivals.recv_timeout(PATIENCE).expect("the slow one has read its state");
    host.send("in", &["count count"]);
    running.wait_until("the quick one", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]) == 1.0
    });
    go.send(Answer::status(200)).unwrap();
    arrivals.recv_timeout(PATIENCE).expect("the slow one runs again");
    assert_eq!(running.metrics().value("bulkhead_conflicts_total", &[]), 1.0);
    running.kill9();
    // The server waits for this before it ends.
    drop(go);
    let seqs: Vec<_> = host.in_flight().into_iter().map(|run| run.seqs).collect();
    assert_eq!(seqs, [[1]]);
}
