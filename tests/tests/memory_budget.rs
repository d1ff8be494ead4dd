//! The memory of all sandboxes together: runs wait for it, and nothing that was admitted is too much.

use std::time::Duration;

use bulkhead_tests::{Answer, Bulkhead, Fixture, Metrics, guest};
use tempfile::TempDir;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const RESERVED: &str = "bulkhead_sandbox_reserved_bytes";

/// Connectors with eight workers and one, each run of which may use 16 MiB.
fn host(memory: &str, url: &str) -> (TempDir, Bulkhead) {
    let plugin = guest("hostile");
    let connector = |name: &str, workers: usize| {
        format!(
            "[connectors.{name}]\nplugin = '{}'\nconsume = {{ queue = '{name}', batch = 1, concurrency = {workers} }}\nlimits = {{ memory = '16MiB' }}\nallow.http = [{{ url = '{url}/*', methods = ['GET'], private = true }}]\n",
            plugin.display()
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let (host_keys, toml) = (format!("runs = 16\nmemory = '{memory}'"), connector("many", 8) + &connector("one", 1));
    let host = Bulkhead::on(folder.path().join("data"), &host_keys, &toml);
    (folder, host)
}

#[test]
fn runs_start_as_far_as_their_memory_fits_and_take_turns_for_it() {
    let server = Fixture::answering([Answer::Hang]);
    let url = server.url();
    let (_folder, host) = host("40MiB", &url);
    let running = host.start();
    host.send("many", &vec![format!("get {url}/"); 8]);
    server.wait_for(2, PATIENCE);
    host.send("one", &["ok"]);
    let metrics = running.metrics();
    assert_eq!(metrics.value(RESERVED, &[]), f64::from(2 << 24));
    assert_eq!(server.requests().len(), 2, "the third does not fit");
    running.kill9();
}

#[test]
fn what_waited_runs_when_there_is_room() {
    let (_folder, host) = host("16MiB", "http://127.0.0.1:9");
    let running = host.start();
    host.send("many", &vec!["ok"; 100]);
    host.send("one", &["grow"]);
    let done = |metrics: &Metrics| metrics.value("bulkhead_deliveries_total", &[("outcome", "done")]);
    running.wait_until("all of them", PATIENCE, |metrics| done(metrics) == 100.0);
    running.wait_until("nothing reserved", PATIENCE, |metrics| metrics.value(RESERVED, &[]) == 0.0);
    assert_eq!(running.metrics().value("bulkhead_panics_total", &[]), 0.0);
}

#[test]
fn limits_that_do_not_fit_together_are_a_warning() {
    let checked = |memory: &str| {
        let (_folder, host) = host(memory, "http://127.0.0.1:9");
        host.run(&["check"]).ok().output
    };
    let says =
        "host.memory: warning: the runs that may be under way at once may use 144MiB, and all together get 40MiB";
    assert!(checked("40MiB").contains(says), "{}", checked("40MiB"));
    let says = "host.memory: warning: more than this machine or its control group has";
    assert!(checked("16TiB").contains(says), "{}", checked("16TiB"));
    assert!(!checked("144MiB").contains("host.memory"), "{}", checked("144MiB"));
}
