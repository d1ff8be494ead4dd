//! The example of a compensating saga, as it lies in its folder: three services that do everything once for a key, which
//! refuse, fail, and go silent, and a host that dies meanwhile.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Request, example};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Path and key of all that is done to an order that is sent off.
const DONE: [(&str, &str); 3] =
    [("/reserve", "order-7.reserve.do"), ("/charge", "order-7.charge.do"), ("/ship", "order-7.ship.do")];
/// Of one that is not.
const UNDONE: [(&str, &str); 4] =
    [DONE[0], DONE[1], ("/refund", "order-7.charge.undo"), ("/release", "order-7.reserve.undo")];
/// What is asked for then, one after the other: the service, and how many requests it has had with this one.
const ASKED: [(usize, usize); 5] = [(0, 1), (1, 1), (2, 1), (1, 2), (0, 2)];

/// What a service answers to the request for a path, so many requests for it after the first.
type Decide = fn(&str, usize) -> u16;

/// The request, counted over all services, that is never answered.
#[derive(Clone, Copy)]
enum Silent {
    /// What it asks for is not done.
    Before(usize),
    /// It is done.
    After(usize),
}

/// Stock, money and parcels.
struct Services {
    fixtures: [Fixture; 3],
    world: Arc<Mutex<World>>,
}

#[derive(Default)]
struct World {
    /// Path and key of all that was done, in order: what was done already is not done again.
    done: Vec<(String, String)>,
    asked: usize,
    asked_for: HashMap<String, usize>,
}

impl Services {
    fn start(decide: Decide, silent: Option<Silent>) -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let fixture = || {
            let world = world.clone();
            Fixture::start(move |request| world.lock().unwrap().answer(request, decide, silent))
        };
        Self { fixtures: [fixture(), fixture(), fixture()], world: world.clone() }
    }

    fn done(&self) -> Vec<(String, String)> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner).done.clone()
    }

    /// The example with these services in the place of its own, and short waits.
    fn host(&self) -> Bulkhead {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/saga");
        let mut toml = fs::read_to_string(folder.join("bulkhead.toml")).unwrap();
        let urls = self.fixtures.iter().map(Fixture::url);
        let ports = (8001..).map(|port| format!("http://127.0.0.1:{port}")).zip(urls);
        for (from, to) in ports.chain([("first = \"1s\"".to_owned(), "first = \"1ms\"".to_owned())]) {
            assert!(toml.contains(&from), "{from}");
            toml = toml.replace(&from, &to);
        }
        let host = Bulkhead::new(&format!("{toml}\n[queues.ended]\nkeep = '1h'\n[queues.alerts]\nkeep = '1h'\n"));
        fs::copy(example("saga"), host.path("saga.wasm")).unwrap();
        let _ = host.run(&["send", "orders", "--id", "order-7", "--body", r#"{"item":"tea"}"#]).ok();
        host
    }
}

impl World {
    fn answer(&mut self, request: &Request, decide: Decide, silent: Option<Silent>) -> Answer {
        let (path, key) = (request.uri.clone(), request.header("idempotency-key").unwrap().to_owned());
        let nth = self.asked;
        self.asked += 1;
        if matches!(silent, Some(Silent::Before(at)) if at == nth) {
            return Answer::Hang;
        }
        let asked_for = self.asked_for.entry(path.clone()).or_default();
        let status = decide(&path, *asked_for);
        *asked_for += 1;
        let effect = (path, key);
        if status == 200 && !self.done.contains(&effect) {
            self.done.push(effect);
        }
        match silent {
            Some(Silent::After(at)) if at == nth => Answer::Hang,
            _ if status == 200 => Answer::json(&json!({ "number": nth })),
            _ => Answer::status(status),
        }
    }
}

fn refuses(path: &str, _: usize) -> u16 {
    if path == "/ship" { 422 } else { 200 }
}

/// What was done, and how the saga ended; then nothing of it is left.
#[track_caller]
fn check(host: &Bulkhead, services: &Services, done: &[(&str, &str)], outcome: &str) -> Value {
    let expected: Vec<_> = done.iter().map(|(path, key)| ((*path).to_owned(), (*key).to_owned())).collect();
    assert_eq!(services.done(), expected);
    let ledger = host.ledger();
    let mut ended: Vec<Value> =
        ledger.messages("ended").iter().map(|it| serde_json::from_slice(&it.body).unwrap()).collect();
    assert_eq!(ended.len(), 1, "{ended:?}");
    let end = ended.remove(0);
    assert_eq!(json!([end["saga"], end["outcome"], end["order"]]), json!(["order-7", outcome, { "item": "tea" }]));
    assert_eq!((ledger.state("checkout"), ledger.dead()), (Vec::new(), Vec::new()));
    end
}

#[test]
fn an_order_that_nobody_refuses_is_done_step_by_step() {
    let services = Services::start(|_, _| 200, None);
    let host = services.host();
    let _ = host.run_until_idle();
    let end = check(&host, &services, &DONE, "done");
    assert_eq!(end["refused"], Value::Null);
    // Undoing may need what was answered: each service is told of those before it.
    let shipped: Value = serde_json::from_slice(&services.fixtures[2].requests()[0].body).unwrap();
    assert_eq!(shipped["answers"], json!({ "reserve": { "number": 0 }, "charge": { "number": 1 } }));
}

#[test]
fn a_refusal_for_ever_undoes_what_was_done_the_last_first() {
    let services = Services::start(refuses, None);
    let host = services.host();
    let _ = host.run_until_idle();
    let end = check(&host, &services, &UNDONE, "undone");
    assert!(end["refused"].as_str().unwrap().contains("/ship: status 422"), "{end}");
}

#[test]
fn a_service_that_fails_now_and_then_is_asked_again_with_the_same_key() {
    let services = Services::start(|path, asked| if path == "/ship" && asked < 3 { 503 } else { 200 }, None);
    let host = services.host();
    let _ = host.run_until_idle();
    let _ = check(&host, &services, &DONE, "done");
    let keys: Vec<_> = services.fixtures[2].requests().iter().map(|it| it.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys, ["order-7.ship.do"; 4]);
}

/// Somebody is told, mends it, and the saga goes on from there.
#[test]
fn what_cannot_be_undone_is_a_dead_letter_that_somebody_is_told_of() {
    let decide = |path: &str, asked| match path {
        "/refund" if asked == 0 => 422,
        path => refuses(path, asked),
    };
    let services = Services::start(decide, None);
    let host = services.host();
    let _ = host.run_until_idle();
    let notices: Vec<Value> =
        host.ledger().messages("alerts").iter().map(|it| serde_json::from_slice(&it.body).unwrap()).collect();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0]["reason"].as_str().unwrap().starts_with("not undone: "), "{notices:?}");
    assert_eq!((services.done().len(), host.ledger().messages("ended").len()), (2, 0));
    let _ = host.run(&["dead", "retry", "--all"]).ok();
    let _ = host.run_until_idle();
    let _ = check(&host, &services, &UNDONE, "undone");
}

/// Killed while the services work on one of the requests of a saga that is undone.
fn check_kills(silent: fn(usize) -> Silent) {
    for (nth, (service, count)) in ASKED.into_iter().enumerate() {
        let services = Services::start(refuses, Some(silent(nth)));
        let host = services.host();
        let running = host.start();
        services.fixtures[service].wait_for(count, PATIENCE);
        running.kill9();
        let _ = host.run_until_idle();
        let _ = check(&host, &services, &UNDONE, "undone");
        assert_eq!(services.world.lock().unwrap().asked, ASKED.len() + 1, "only the one without an answer comes again");
    }
}

#[test]
fn killed_before_a_service_has_done_its_part_the_saga_goes_on_from_there() {
    check_kills(Silent::Before);
}

#[test]
fn killed_after_a_service_has_done_its_part_nothing_is_done_twice() {
    check_kills(Silent::After);
}
