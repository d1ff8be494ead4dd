//! One huge text in the place of every name and text that the host takes from a plugin: it is refused or dropped, or the
//! call ends with the limit that it broke, and the host keeps nothing of it.

use std::time::Duration;

use bulkhead_tests::{Bulkhead, Metrics, Running, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every place where the host takes a text, and the limit that ends what is done with 2 MiB there: less than one call
/// may hand over. The empty one where the text is only refused.
const PLACES: [(&str, &str); 44] = [
    ("publish.queue", ""),
    ("publish.id", ""),
    ("publish.key", ""),
    ("publish.header-name", ""),
    ("publish.header-value", ""),
    ("secrets.get", ""),
    ("config.get", ""),
    ("log.context", "log"),
    ("log.message", "log"),
    ("metrics.count", ""),
    ("metrics.gauge", ""),
    ("metrics.observe", ""),
    ("metrics.label-name", ""),
    ("metrics.label-value", ""),
    ("http.method", ""),
    ("http.url", ""),
    ("http.header-name", ""),
    ("http.header-value", ""),
    ("state.bucket", ""),
    ("state.set-key", ""),
    ("state.set-value", "state"),
    ("state.get", ""),
    ("state.delete", ""),
    ("state.exists", ""),
    ("state.cursor", ""),
    ("state.increment", ""),
    ("state.compare", ""),
    ("state.swap", "state"),
    ("batch.get", ""),
    ("batch.set-key", ""),
    ("batch.set-value", "state"),
    ("batch.delete", ""),
    ("fields.append-name", ""),
    ("fields.append-value", "hostcall"),
    ("fields.set-name", ""),
    ("fields.set-value", "hostcall"),
    ("fields.list-name", ""),
    ("fields.list-value", "hostcall"),
    ("fields.get", ""),
    ("fields.has", ""),
    ("request.method", ""),
    ("request.authority", ""),
    ("request.path", ""),
    ("request.scheme", ""),
];

/// Waits until so many deliveries with a label have ended; nothing in the host has panicked meanwhile.
fn settled(running: &Running, label: (&str, &str), count: usize) {
    let value = |metrics: &Metrics| metrics.value("bulkhead_deliveries_total", &[label]);
    running.wait_until(label.1, PATIENCE, |metrics| value(metrics) == count as f64);
    assert_eq!(running.metrics().value("bulkhead_panics_total", &[]), 0.0);
}

/// Each place with a connector of its own, so that it has its own figures, which `ends` tells from its limit in the table.
fn check_huge(mib: usize, ends: impl Fn(&'static str) -> &'static str) {
    let name = |place: &str| place.replace('.', "-");
    let connector = |(place, _): &(&str, &str)| {
        format!(
            "[connectors.{0}]\nplugin = '{1}'\nconsume = {{ queue = '{0}', batch = 1 }}\nretry = {{ attempts = 1 }}\nallow.publish = ['out']\n",
            name(place),
            guest("vandal").display()
        )
    };
    let host = Bulkhead::new(&PLACES.iter().map(connector).collect::<String>());
    let running = host.start();
    // As much as a sandbox comes to hold of it, and nothing for the host.
    PLACES.iter().for_each(|(place, _)| drop(host.send(&name(place), &[format!("huge nothing {}", 3 * mib)])));
    settled(&running, ("outcome", "done"), PLACES.len());
    let before = running.memory_peak_bytes();
    for (place, _) in PLACES {
        host.send(&name(place), &[format!("huge {place} {mib}"), "ok".to_owned()]);
        // One after the other: what several sandboxes hold at once is another matter.
        settled(&running, ("connector", &name(place)), 3);
    }
    let ended = PLACES.iter().filter(|(_, limit)| ends(limit) == "hostcall").count();
    settled(&running, ("outcome", "dead"), ended);
    settled(&running, ("outcome", "done"), 3 * PLACES.len() - ended);
    let (metrics, grown) = (running.metrics(), running.memory_peak_bytes().saturating_sub(before));
    for (place, limit) in PLACES {
        let expected: Vec<&str> = Some(ends(limit)).into_iter().filter(|limit| !limit.is_empty()).collect();
        assert_eq!(metrics.limits(&name(place)), expected, "{mib} MiB at {place}");
    }
    assert!(grown < 32 << 20, "grown by {} KiB over {mib} MiB in each place", grown >> 10);
    assert!(running.log().iter().all(|line| line.len() < 32 << 10), "no text of a guest is in the log as a whole");
    let _ = running.terminate().ok();
    assert_eq!(host.ledger().messages("out").len(), 0);
}

/// It is refused or dropped. What the host keeps of it for a call is bounded, however often the call hands it over.
#[test]
fn a_huge_text_that_a_call_may_hand_over_harms_nobody_wherever_it_stands() {
    check_huge(2, |limit| limit);
}

#[test]
fn a_huge_text_that_no_call_may_hand_over_ends_it_wherever_it_stands() {
    check_huge(8, |_| "hostcall");
}
