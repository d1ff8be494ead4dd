//! `bulkhead schedules`: what it shows, and ticks that are fired by hand.

use std::time::Duration;

use bulkhead_host::id::{Kind, derive};
use bulkhead_tests::{Bulkhead, Metrics, guest};
use serde_json::{Value, json};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const AT: &str = "2026-03-01T09:00:00Z";
const AT_MS: u64 = 1_772_355_600_000;

fn scheduled(schedule: &str) -> String {
    format!("[connectors.it]\nplugin = '{}'\nschedule = {schedule}\n", guest("hostile").display())
}

fn fire(host: &Bulkhead, arguments: &[&str]) -> Value {
    host.run(&[&["schedules", "fire", "it", "--json"], arguments].concat()).ok().json()
}

fn count(host: &Bulkhead) -> Option<String> {
    let state = host.ledger().state("it");
    state.first().map(|(_, count)| String::from_utf8(count.clone()).unwrap())
}

fn done(metrics: &Metrics) -> f64 {
    metrics.value("bulkhead_deliveries_total", &[("outcome", "done")])
}

/// Twice in a year, in a zone with summer time.
const IN_BERLIN: &str = "{ name = 'berlin', cron = '30 2 29 3 *', timezone = 'Europe/Berlin', input = 'count ticks' }";

#[test]
fn the_next_times_are_shown_from_any_moment_on() {
    let toml = scheduled(&format!("[{IN_BERLIN}, {{ name = 'ended', cron = '@daily', end = 2026-01-02T00:00:00Z }}]"));
    let host = Bulkhead::new(&toml);
    let shown = host.schedules(&["--next", "2", "--from", "2026-01-01T01:00:00+01:00"]);
    // The first one lies in the hour that is left out.
    let berlin = ["2026-03-29T01:00:00Z", "2027-03-29T00:30:00Z"];
    let expected = json!([
        { "connector": "it", "schedule": "berlin", "next": berlin, "last": null, "lag_seconds": null },
        { "connector": "it", "schedule": "ended", "next": ["2026-01-02T00:00:00Z"], "last": null, "lag_seconds": null },
    ]);
    assert_eq!(shown, expected);
    let running = host.start();
    assert_eq!(host.schedules(&["--next", "2", "--from", "2026-01-01T00:00:00Z"]), expected);
    assert_eq!(host.schedules(&[])[0]["next"].as_array().unwrap().len(), 5);
    let _ = running.terminate().ok();
    host.configure(&format!("{toml}enabled = false\n"));
    assert_eq!(host.schedules(&[])[0]["next"], json!([]));
}

#[test]
fn what_the_last_tick_came_to_is_shown_and_how_late_it_was() {
    for (input, outcome) in [("ok", "done"), ("reject it", "dead"), ("retry later", "retry")] {
        let keys = "\nretry = { attempts = 2, first = '1h', jitter = 'none' }";
        let host = Bulkhead::new(&(scheduled(&format!("{{ every = '1h', input = '{input}' }}")) + keys));
        let _ = host.run_until_idle();
        let shown = host.schedules(&[]);
        let planned_ms = host.ledger().planned("it", "default");
        let planned_at = jiff::Timestamp::from_millisecond(planned_ms).unwrap().to_string();
        let last = &shown[0]["last"];
        assert_eq!((&last["outcome"], &last["planned_at"]), (&json!(outcome), &json!(planned_at)), "{shown}");
        assert!(last["ended_at"].is_string() && shown[0]["lag_seconds"].as_f64().unwrap() >= 0.0, "{shown}");
    }
}

#[test]
fn a_planned_time_is_fired_once_whether_a_host_runs_or_not() {
    let host = Bulkhead::new(&scheduled(IN_BERLIN));
    let id = derive(Kind::Tick, &["it", "berlin"], AT_MS);
    let fired = |duplicate: bool| json!({ "id": id, "schedule": "berlin", "planned_at": AT, "duplicate": duplicate });
    assert_eq!(fire(&host, &["--at", AT]), fired(false));
    assert_eq!(fire(&host, &["--at", "2026-03-01T10:00:00+01:00"]), fired(true));
    let _ = host.run_until_idle();
    assert_eq!(count(&host).as_deref(), Some("1"));
    let running = host.start();
    assert_eq!(fire(&host, &["--at", AT]), fired(true));
    // Another time is another tick, and so is every moment.
    assert_eq!(fire(&host, &["--at", "2026-03-01T09:00:01Z", "--schedule", "berlin"])["duplicate"], false);
    assert_eq!(fire(&host, &[])["duplicate"], false);
    running.wait_until("three ticks", PATIENCE, |metrics| done(metrics) == 2.0);
    let _ = running.terminate().ok();
    assert_eq!(count(&host).as_deref(), Some("3"));
    let actions: Vec<Value> = host.audit().into_iter().filter(|event| event["subject"] == "schedules fire").collect();
    let text = format!("tick `{id}` of schedule `berlin`, planned at {AT}");
    assert_eq!((actions.len(), &actions[0]["connector"], &actions[0]["text"]), (3, &json!("it"), &json!(text)));
}

#[test]
fn a_tick_of_the_clock_is_not_fired_again_by_hand() {
    let host = Bulkhead::new(&scheduled("{ every = '1h', input = 'count ticks' }"));
    let _ = host.run_until_idle();
    let planned = jiff::Timestamp::from_millisecond(host.ledger().planned("it", "default")).unwrap().to_string();
    assert_eq!(fire(&host, &["--at", &planned])["duplicate"], true);
    let _ = host.run_until_idle();
    assert_eq!(count(&host).as_deref(), Some("1"));
}

/// Nor does it move the schedule.
#[test]
fn a_tick_fired_by_hand_is_not_cancelled_by_later_ones() {
    let host = Bulkhead::new(&scheduled("{ every = '1h', overlap = 'cancel', input = 'count ticks' }"));
    for second in 0..3 {
        let _ = fire(&host, &["--at", &format!("2026-03-01T09:00:0{second}Z")]);
    }
    let log = host.run_until_idle().errors();
    assert!(!log.contains("cancelled"), "{log}");
    assert_eq!(count(&host).as_deref(), Some("4"), "three by hand, and the one of the first start");
}

#[track_caller]
fn check_refusal(host: &Bulkhead, arguments: &[&str], expected: &str) {
    let refused = host.run(&[&["schedules", "fire"], arguments].concat()).ended_with(2);
    assert!(refused.errors().contains(expected), "{}", refused.errors());
}

#[test]
fn what_cannot_be_fired_is_refused_and_says_why() {
    let two = scheduled("[{ name = 'one', every = '1h', input = 'ok' }, { name = 'two', every = '1h', input = 'ok' }]");
    let off = scheduled("{ every = '1h' }").replace("[connectors.it]", "[connectors.off]\nenabled = false");
    let reader = "[connectors.reader]\nplugin = 'builtin:log'\nconsume = 'in'\n";
    let host = Bulkhead::new(&(two + &off + reader));
    let check = || {
        check_refusal(&host, &["ti"], "there is no connector `ti`: did you mean `it`?");
        check_refusal(&host, &["it"], "connector `it` has several schedules, name one: one, two");
        check_refusal(&host, &["it", "--schedule", "tow"], "has no schedule `tow`: did you mean `two`?");
        check_refusal(&host, &["it", "--schedule", "one", "--at", "2999-01-01T00:00:00Z"], "`at` lies ahead");
        check_refusal(&host, &["off"], "connector `off` is not enabled");
        check_refusal(&host, &["reader"], "connector `reader` has no schedule");
    };
    check();
    let running = host.start();
    check();
    let malformed = running.api("POST", "schedules/it/fire", r#"{"schedule": "one", "at": "yesterday"}"#);
    assert_eq!(malformed.status, 400, "{}", malformed.body);
    let _ = running.terminate().ok();
}

/// What the file of a zone without any changes holds.
fn zone_file() -> Vec<u8> {
    let head = [b"TZif2".as_slice(), &[0; 15 + 16], &[0, 0, 0, 1, 0, 0, 0, 4]].concat();
    let zone = [0, 0, 0, 0, 0, 0, b'U', b'T', b'C', 0];
    [&head, &zone[..], &head, &zone[..], b"\nUTC0\n"].concat()
}

/// The rules that came with the program stand in.
#[test]
fn a_machine_with_hardly_any_time_zones_knows_them_all_the_same() {
    let zones = tempfile::tempdir().unwrap();
    std::fs::write(zones.path().join("UTC"), zone_file()).unwrap();
    let host = Bulkhead::new(&scheduled(IN_BERLIN)).variable("TZDIR", zones.path().to_str().unwrap());
    let shown = host.schedules(&["--next", "1", "--from", "2026-06-01T00:00:00Z"]);
    assert_eq!(shown[0]["next"], json!(["2027-03-29T00:30:00Z"]));
}
