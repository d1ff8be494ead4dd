//! Deliveries whose state another run has changed meanwhile: they run again at no attempt, with the same ids, and come to
//! an end however often that happens.

use std::sync::Mutex;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use bulkhead_host::id::{Kind, derive};
use bulkhead_tests::{Answer, Bulkhead, Fixture, Metrics, Running, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Conflicts in a row after which a delivery runs with the others held back.
const CONFLICTS: u32 = 3;

/// Whether the connector's other runs are held back for a conflict.
fn is_held(metrics: &Metrics) -> bool {
    metrics.value("bulkhead_held", &[("connector", "hostile"), ("reason", "conflict")]) > 0.0
}

fn conflicts(metrics: &Metrics) -> f64 {
    metrics.value("bulkhead_conflicts_total", &[("connector", "hostile")])
}

fn wait_for_done(running: &Running, count: f64) {
    running.wait_until("success", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]) == count
    });
}

#[test]
fn the_third_conflict_in_a_row_runs_with_the_others_held_back() {
    let ((arrived, arrivals), (go, gone)) = (sync_channel(1), sync_channel(1));
    let (arrived, gone) = (Mutex::new(arrived), Mutex::new(gone));
    let server = Fixture::start(move |_| {
        arrived.lock().unwrap().send(()).unwrap();
        gone.lock().unwrap().recv_timeout(PATIENCE).unwrap()
    });
    let url = server.url();
    let host = Bulkhead::new(&format!(
        "[connectors.hostile]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 1, concurrency = 2 }}\nretry = {{ attempts = 1 }}\n
        limits = {{ wall = '10m' }}\nallow.publish = ['out']\n
        allow.http = [{{ url = '{url}/*', methods = ['GET'], private = true }}]\n",
        guest("hostile").display()
    ));
    let running = host.start();
    let slow = host.send("in", &[format!("count-aloud {url}/")]).remove(0);
    // Each time it has read its state, another one changes it.
    for nth in 1..=CONFLICTS {
        arrivals.recv_timeout(PATIENCE).expect("it has read its state");
        assert!(!is_held(&running.metrics()), "{nth}");
        host.send("in", &["count count"]);
        wait_for_done(&running, nth.into());
        go.send(Answer::status(200)).unwrap();
    }
    arrivals.recv_timeout(PATIENCE).expect("it runs once more");
    assert!(is_held(&running.metrics()));
    // This one comes too late to be in its way.
    host.send("in", &["count count"]);
    assert_eq!(conflicts(&running.metrics()), f64::from(CONFLICTS));
    go.send(Answer::status(200)).unwrap();
    wait_for_done(&running, f64::from(CONFLICTS) + 2.0);
    assert!(!is_held(&running.metrics()));
    assert_eq!(conflicts(&running.metrics()), f64::from(CONFLICTS));
    let _ = running.terminate().ok();
    let ledger = host.ledger();
    assert_eq!((ledger.state("hostile"), ledger.dead()), (vec![("count".to_owned(), b"5".to_vec())], vec![]));
    let ids: Vec<String> = ledger.messages("out").into_iter().map(|message| message.id).collect();
    assert_eq!(ids, [derive(Kind::Publish, &["hostile", "out", &slow], 0)]);
}
