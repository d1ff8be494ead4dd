//! A wall clock that is set while the host runs: nothing is lost, nothing is doubled, nothing comes too soon.

use std::time::{Duration, Instant};

use bulkhead_tests::{Bulkhead, Metrics, Saboteur, guest, sabotaged};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const PERIOD_MS: u64 = 4_000;
const HOUR: i64 = 3_600;
const HOUR_MS: u64 = 3_600_000;

/// A connector that publishes the planned time of each of its ticks.
fn clock(catch_up: &str) -> String {
    format!(
        "[connectors.{catch_up}]\nplugin = '{}'\nconfig = {{ publish = '{catch_up}' }}\nallow.publish = ['{catch_up}']\n
        schedule = {{ every = '{PERIOD_MS}ms', overlap = 'queue_all', catch_up = '{catch_up}' }}\n",
        guest("parcel").display()
    )
}

/// A connector that publishes later what it is asked to.
fn later() -> String {
    format!(
        "[connectors.later]\nplugin = '{}'\nconsume = 'in'\nallow.publish = ['out']\n
        [connectors.takes]\nplugin = '{}'\nconsume = 'out'\n",
        guest("hostile").display(),
        guest("discard").display()
    )
}

fn started(toml: &str) -> (Bulkhead, Saboteur) {
    sabotaged(Bulkhead::new(toml))
}

fn ended(metrics: &Metrics, connector: &str) -> f64 {
    metrics.value("bulkhead_deliveries_total", &[("connector", connector)])
}

/// The planned times that ticks were delivered for, in the order in which they were.
fn planned(host: &Bulkhead, queue: &str) -> Vec<u64> {
    let messages = host.ledger().messages(queue).into_iter();
    messages.map(|message| String::from_utf8(message.body).unwrap().parse().unwrap()).collect()
}

/// The first is made at the start, all others lie one period apart.
fn is_dense(planned: &[u64]) -> bool {
    planned[1..].windows(2).all(|pair| pair[1] == pair[0] + PERIOD_MS)
}

#[test]
fn an_hour_forward_and_back_every_planned_time_has_one_tick_as_the_policy_says() {
    let (host, saboteur) = started(&(clock("all") + &clock("once")));
    let running = host.start();
    running.wait_until("ticks", PATIENCE, |metrics| ended(metrics, "all") >= 2.0 && ended(metrics, "once") >= 2.0);
    saboteur.set_clock(HOUR).unwrap();
    let of_an_hour = (HOUR_MS / PERIOD_MS) as f64;
    running.wait_until("ticks of the hour", PATIENCE, |metrics| ended(metrics, "all") >= of_an_hour);
    saboteur.set_clock(0).unwrap();
    let before = ended(&running.metrics(), "all");
    running.wait_until("tick after the hour", PATIENCE, |metrics| ended(metrics, "all") > before);
    let _ = running.terminate().ok();
    let (all, once) = (planned(&host, "all"), planned(&host, "once"));
    assert!(is_dense(&all) && all.len() as u64 > HOUR_MS / PERIOD_MS, "{} ticks", all.len());
    let gaps = once[1..].windows(2).filter(|pair| pair[1] != pair[0] + PERIOD_MS).count();
    assert!(once.is_sorted() && gaps == 1, "one tick stands for those that were missed: {once:?}");
    // The clock is right again: the hour that was lived through already makes no tick a second time.
    let running = host.start();
    running.wait_until("tick", PATIENCE, |metrics| ended(metrics, "all") >= 1.0);
    let _ = running.terminate().ok();
    let mut again = planned(&host, "all");
    let count = again.len();
    again.sort_unstable();
    again.dedup();
    assert_eq!(again.len(), count, "doubled");
}

#[test]
fn a_delay_ends_at_once_with_an_hour_forward_and_never_too_soon_with_an_hour_back() {
    let (host, saboteur) = started(&later());
    let running = host.start();
    host.send("in", &["publish-later out 1800000"]);
    running.wait_until("publish", PATIENCE, |metrics| ended(metrics, "later") == 1.0);
    assert_eq!(ended(&running.metrics(), "takes"), 0.0);
    saboteur.set_clock(HOUR).unwrap();
    running.wait_until("delayed message", PATIENCE, |metrics| ended(metrics, "takes") == 1.0);
    let (sent, delay) = (Instant::now(), Duration::from_secs(2));
    host.send("in", &[format!("publish-later out {}", delay.as_millis())]);
    running.wait_until("publish", PATIENCE, |metrics| ended(metrics, "later") == 2.0);
    saboteur.set_clock(-HOUR).unwrap();
    running.wait_until("delayed message", PATIENCE, |metrics| ended(metrics, "takes") == 2.0);
    assert!(sent.elapsed() >= delay, "{:?}", sent.elapsed());
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().dead(), []);
}
