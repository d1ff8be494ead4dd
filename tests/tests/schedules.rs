//! Ticks: their ids, through retries and in what comes of them, and that nothing which computes holds them up.

use std::time::Duration;

use bulkhead_host::id::{Kind, derive};
use bulkhead_tests::{Bulkhead, Metrics, Running, exchange, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

fn hostile(name: &str, keys: &str) -> String {
    format!("[connectors.{name}]\nplugin = '{}'\nbrake = 0\n{keys}\n", guest("hostile").display())
}

fn ended(metrics: &Metrics, connector: &str, outcome: &str) -> f64 {
    metrics.value("bulkhead_deliveries_total", &[("connector", connector), ("outcome", outcome)])
}

/// The id that a connector's tick has by what the ledger says of its schedule.
fn tick_id(host: &Bulkhead, connector: &str, schedule: &str) -> String {
    let planned_ms = host.ledger().planned(connector, schedule).unsigned_abs();
    derive(Kind::Tick, &[connector, schedule], planned_ms)
}

#[test]
fn a_tick_has_the_id_of_its_planned_time_on_every_attempt() {
    let keys =
        "schedule = { name = 'hourly', every = '1h', input = 'retry later' }\nretry = { attempts = 3, first = '1ms' }";
    let host = Bulkhead::new(&hostile("it", keys)).variable("BULKHEAD_LOG", "debug");
    let running = host.start();
    running.wait_until("death", PATIENCE, |metrics| ended(metrics, "it", "dead") == 1.0);
    let ended = running.terminate().ok();
    let id = tick_id(&host, "it", "hourly");
    let lines = |text: &str| ended.log.iter().filter(|line| line.contains(text) && line.contains(&id)).count();
    assert_eq!((lines("delivery is put off"), lines("delivery became a dead letter")), (2, 1), "{}", ended.errors());
    let dead = host.ledger().dead();
    assert_eq!((dead.len(), &dead[0].id, dead[0].attempts), (1, &id, 3));
}

#[test]
fn what_a_tick_publishes_has_an_id_made_of_the_ticks() {
    let keys = "schedule = { every = '1h', input = 'publish out' }\nallow.publish = ['out']";
    let host = Bulkhead::new(&hostile("it", keys));
    let _ = host.run_until_idle();
    let ids: Vec<String> = host.ledger().messages("out").into_iter().map(|message| message.id).collect();
    assert_eq!(ids, [derive(Kind::Publish, &["it", "out", &tick_id(&host, "it", "default")], 0)]);
}

/// A loop for each core and one more: who looks, who sends and what runs by the clock still get their turn.
#[test]
fn loops_on_every_core_hold_up_nobody_else() {
    let loops = std::thread::available_parallelism().unwrap().get() + 1;
    let keys = format!(
        "consume = {{ queue = 'in', batch = 1, concurrency = {loops} }}\nlimits = {{ cpu = '1h', wall = '1h' }}"
    );
    let host = Bulkhead::new(&(hostile("often", "schedule = { every = '10ms' }") + &hostile("loops", &keys)));
    let running = host.start();
    host.send("in", &vec!["spin"; loops]);
    // The other connector has one worker.
    let looping = || {
        let runs = host.in_flight();
        runs.iter().any(|run| runs.iter().filter(|other| other.subscription == run.subscription).count() == loops)
    };
    running.wait_until("loops", PATIENCE, |_| looping());
    let before = ended(&running.metrics(), "often", "done");
    running.wait_until("ticks", PATIENCE, |metrics| ended(metrics, "often", "done") >= before + 3.0);
    let health = format!("GET /healthz HTTP/1.0\r\nHost: {}\r\n\r\n", running.admin());
    assert_eq!(exchange(running.admin(), &health).unwrap().status, 200);
    host.send("in", &["ok"]);
    let metrics = running.metrics();
    assert_eq!((ended(&metrics, "loops", "done"), ended(&metrics, "loops", "retry"), looping()), (0.0, 0.0, true));
    running.kill9();
    assert_eq!(host.ledger().messages("in").len(), loops + 1);
}

fn cancelled(running: &Running) -> usize {
    running.log().iter().filter(|line| line.contains("a tick is cancelled")).count()
}

/// Those that compute are stopped, and those that wait, and no connector is charged for it.
#[test]
fn a_tick_that_still_runs_is_stopped_for_the_next_one() {
    for verb in ["spin", "sleep 3600"] {
        let keys = format!(
            "schedule = {{ every = '300ms', overlap = 'cancel', input = '{verb}' }}\nlimits = {{ cpu = '1h', wall = '1h' }}"
        );
        let host = Bulkhead::new(&hostile("it", &keys));
        let running = host.start();
        running.wait_until("cancelled ticks", PATIENCE, |_| cancelled(&running) >= 3);
        let metrics = running.metrics();
        assert_eq!(["done", "retry", "dead"].map(|outcome| ended(&metrics, "it", outcome)), [0.0; 3], "{verb}");
        let shown = host.schedules(&[]);
        assert_eq!(shown[0]["last"]["outcome"], "cancelled", "{shown}");
        running.kill9();
        assert_eq!(host.ledger().dead(), []);
        // The last one, and perhaps one that was made meanwhile.
        assert!(host.ledger().messages("@it").len() <= 2, "{verb}");
    }
}

/// It waits for its next attempt while the next ones are made; when that would begin, it is over.
#[test]
fn a_tick_that_waits_for_its_next_attempt_is_cancelled_too() {
    let keys = "schedule = { every = '200ms', overlap = 'cancel', input = 'retry later' }\n\
                retry = { attempts = 1000, first = '500ms', max = '500ms', jitter = 'none' }";
    let host = Bulkhead::new(&hostile("it", keys));
    let running = host.start();
    running.wait_until("cancelled ticks", PATIENCE, |_| cancelled(&running) >= 3);
    assert_eq!(ended(&running.metrics(), "it", "dead"), 0.0);
    running.kill9();
    assert_eq!(host.ledger().dead(), []);
}

/// A process that was killed while the tick ran does not run it again after the next one.
#[test]
fn a_tick_whose_place_is_taken_does_not_run_after_a_restart() {
    let keys = |input: &str| {
        format!(
            "schedule = {{ every = '1h', overlap = 'cancel', input = '{input}' }}\nlimits = {{ cpu = '1h', wall = '1h' }}"
        )
    };
    let host = Bulkhead::new(&hostile("it", &keys("spin")));
    let running = host.start();
    running.wait_until("run", PATIENCE, |_| !host.in_flight().is_empty());
    running.kill9();
    let before = tick_id(&host, "it", "default");
    let planned = host.ledger().planned("it", "default");
    host.ledger().plan("it", "default", planned - 2 * 3_600_000);
    host.configure(&hostile("it", &keys("ok")));
    // It begins before the next tick is made, or is never begun.
    let log = host.run_until_idle().errors();
    assert!(log.contains("a tick is cancelled") && log.contains(&before), "{log}");
    assert_eq!(host.ledger().messages("@it"), []);
}
