//! The example of an outbox, as it lies in its folder: a service with a table of rows, and a host that dies between
//! taking a row over and confirming it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Request, Running, example};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const ROWS: [u64; 5] = [1, 2, 3, 4, 5];
/// Rows of a tick: it takes three to have them all, and a fourth to confirm the last.
const LIMIT: usize = 2;
/// Requests of these ticks: the first has nothing to confirm.
const REQUESTS: usize = 7;

/// The request that is never answered.
#[derive(Clone, Copy)]
enum Silent {
    /// What it asks for is not done.
    Before(usize),
    /// It is done.
    After(usize),
}

#[derive(Default)]
struct Table {
    confirmed: BTreeSet<u64>,
    asked: usize,
}

impl Table {
    fn answer(&mut self, request: &Request, silent: Option<Silent>) -> Answer {
        let nth = self.asked;
        self.asked += 1;
        if matches!(silent, Some(Silent::Before(at)) if at == nth) {
            return Answer::Hang;
        }
        let answer = match (request.method.as_str(), request.uri.as_str()) {
            ("GET", "/outbox?limit=2") => {
                let left = ROWS.iter().filter(|id| !self.confirmed.contains(id)).take(LIMIT);
                Answer::json(&left.map(|id| json!({ "id": id, "key": "c1", "body": { "order": id } })).collect())
            }
            ("POST", "/outbox/confirmed") => {
                let ids: Value = serde_json::from_slice(&request.body).unwrap();
                self.confirmed.extend(ids["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()));
                Answer::status(204)
            }
            other => panic!("{other:?}"),
        };
        if matches!(silent, Some(Silent::After(at)) if at == nth) { Answer::Hang } else { answer }
    }
}

struct Service {
    fixture: Fixture,
    table: Arc<Mutex<Table>>,
}

impl Service {
    fn start(silent: Option<Silent>) -> Self {
        let table = Arc::new(Mutex::new(Table::default()));
        let state = table.clone();
        let fixture = Fixture::start(move |request| state.lock().unwrap().answer(request, silent));
        Self { fixture, table }
    }

    /// The example with this service in the place of its own, ticks by hand alone, and no `dedup`: what is taken over
    /// twice would be there twice.
    fn host(&self) -> Bulkhead {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/outbox");
        let mut toml = fs::read_to_string(folder.join("bulkhead.toml")).unwrap();
        for (from, to) in [
            ("http://127.0.0.1:8000", self.fixture.url().as_str()),
            ("every = \"5s\"", "every = \"365d\""),
            ("dedup = \"7d\"", "keep = \"1h\""),
            ("publish = \"orders\" }", "publish = \"orders\", limit = 2 }"),
        ] {
            assert!(toml.contains(from), "{from}");
            toml = toml.replace(from, to);
        }
        let host = Bulkhead::new(&toml);
        fs::copy(example("outbox"), host.path("outbox.wasm")).unwrap();
        host
    }

    /// Fires one tick after the other until all is confirmed; the host that runs has done `done` of them.
    #[track_caller]
    fn work_off(&self, running: &Running, mut done: f64) {
        wait_for_ticks(running, done);
        while self.table.lock().unwrap().confirmed.len() < ROWS.len() {
            fire(running);
            done += 1.0;
            wait_for_ticks(running, done);
        }
    }
}

fn fire(running: &Running) {
    let fired = running.api("POST", "schedules/outbox/fire", "{}");
    assert_eq!(fired.status, 200, "{}", fired.body);
}

/// Until so many ticks have succeeded.
#[track_caller]
fn wait_for_ticks(running: &Running, count: f64) {
    let labels = [("connector", "outbox"), ("outcome", "done")];
    running
        .wait_until("end of a tick", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &labels) >= count);
}

/// Every row is in the queue once, under its id, and confirmed.
#[track_caller]
fn check(host: &Bulkhead, service: &Service) {
    let messages: Vec<(String, Option<String>)> =
        host.ledger().messages("orders").into_iter().map(|message| (message.id, message.key)).collect();
    let expected: Vec<_> = ROWS.iter().map(|id| (id.to_string(), Some("c1".to_owned()))).collect();
    assert_eq!(messages, expected);
    assert_eq!(service.table.lock().unwrap().confirmed, ROWS.into());
    assert_eq!((host.ledger().state("outbox"), host.ledger().dead()), (Vec::new(), Vec::new()));
}

#[test]
fn rows_are_taken_over_and_then_confirmed() {
    let service = Service::start(None);
    let host = service.host();
    let running = host.start();
    service.work_off(&running, 1.0);
    let _ = running.terminate().ok();
    check(&host, &service);
    assert_eq!(service.table.lock().unwrap().asked, REQUESTS);
}

/// Killed while the service works on one of the requests.
fn check_kills(silent: fn(usize) -> Silent) {
    for nth in 0..REQUESTS {
        let service = Service::start(Some(silent(nth)));
        let host = service.host();
        let running = host.start();
        // The first tick asks once, each one after it twice.
        for tick in 1..=u32::try_from(nth.div_ceil(2)).unwrap() {
            wait_for_ticks(&running, f64::from(tick));
            fire(&running);
        }
        service.fixture.wait_for(nth + 1, PATIENCE);
        running.kill9();
        let running = host.start();
        service.work_off(&running, 1.0);
        let _ = running.terminate().ok();
        check(&host, &service);
    }
}

#[test]
fn killed_before_the_service_has_done_its_part_every_row_comes_once() {
    check_kills(Silent::Before);
}

#[test]
fn killed_after_the_service_has_done_its_part_every_row_comes_once() {
    check_kills(Silent::After);
}
