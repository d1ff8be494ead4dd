//! Bodies that stream through `wasi:http`: however large they are, neither the sandbox nor the host holds them.

use std::time::Duration;

use bulkhead_tests::{BulkServer, Bulkhead, Misdeed, Running, Upstream, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(300);
const MIB: u64 = 1 << 20;
const GB: u64 = 1_000_000_000;
/// What sockets hold of a body that nobody reads.
const UNREAD_MAX: u64 = 64 * MIB;
/// What the host may grow by while a body passes: buffers of sockets and of a few chunks, and the allocator's slack.
const GROWTH_MAX: u64 = 32 * MIB;

fn connector(url: &str, limits: &str) -> String {
    format!(
        "[connectors.stream]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 1 }}\nretry = {{ attempts = 1 }}\n\
         limits = {{ memory = '64MiB', cpu = '10m', {limits} }}\n\
         allow.http = [{{ url = '{}/*', methods = ['GET', 'POST'], private = true }}]\n",
        guest("stream").display(),
        url
    )
}

/// Waits until this many deliveries are done; one that died shows its log.
fn wait_for_done(running: &Running, count: u32) {
    let outcome = |outcome: &'static str| [("connector", "stream"), ("outcome", outcome)];
    running.wait_until("end", PATIENCE, |metrics| {
        assert_eq!(metrics.value("bulkhead_deliveries_total", &outcome("dead")), 0.0, "{:?}", running.log());
        metrics.value("bulkhead_deliveries_total", &outcome("done")) == f64::from(count)
    });
}

/// A gigabyte by `verb` leaves the host as large as a megabyte did.
fn check_flat(verb: &str) -> BulkServer {
    let server = BulkServer::start();
    let host =
        Bulkhead::new(&connector(&server.url(), "wall = '30m', response_bytes = '1GiB', request_bytes = '1GiB'"));
    let running = host.start();
    let line = |bytes: u64| format!("{verb} {}/{bytes} {bytes}", server.url());
    host.send("in", &[line(MIB)]);
    wait_for_done(&running, 1);
    let before = running.memory_peak_bytes();
    host.send("in", &[line(GB)]);
    wait_for_done(&running, 2);
    let grown = running.memory_peak_bytes() - before;
    assert!(grown < GROWTH_MAX, "{verb}: grown by {} MiB", grown / MIB);
    let _ = running.terminate().ok();
    server
}

#[test]
fn a_download_of_a_gigabyte_leaves_the_host_flat() {
    let server = check_flat("download");
    assert_eq!(server.sent(), GB + MIB);
}

#[test]
fn an_upload_of_a_gigabyte_leaves_the_host_flat() {
    let server = check_flat("upload");
    assert_eq!(server.received(), GB + MIB);
}

#[test]
fn events_are_there_before_the_answer_ends() {
    let server = BulkServer::start();
    let host = Bulkhead::new(&connector(&server.url(), ""));
    host.send("in", &[format!("events {}/events/3 3", server.url())]);
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<serde_json::Value>::new());
}

#[test]
fn a_body_that_nobody_reads_is_not_fetched() {
    let server = BulkServer::start();
    let host = Bulkhead::new(&connector(&server.url(), "response_bytes = '1GiB'"));
    host.send("in", &[format!("ignore {}/{GB} 1", server.url())]);
    let _ = host.run_until_idle();
    assert_eq!(host.dead(), Vec::<serde_json::Value>::new());
    assert!((1..UNREAD_MAX).contains(&server.sent()), "{} bytes", server.sent());
}

#[test]
fn a_body_that_nobody_takes_waits_in_the_sandbox() {
    let upstream = Upstream::start(Misdeed::Hang(b""));
    let host = Bulkhead::new(&connector(&upstream.url(), "wall = '2s', request_bytes = '1GiB'"));
    let running = host.start();
    let before = running.memory_peak_bytes();
    host.send("in", &[format!("upload {}/x {GB}", upstream.url())]);
    running.wait_for_log("became a dead letter", PATIENCE);
    let grown = running.memory_peak_bytes() - before;
    assert!(grown < GROWTH_MAX, "grown by {} MiB", grown / MIB);
}
