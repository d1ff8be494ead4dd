//! Bodies that stream through `wasi:http`: however large they are, neither the sandbox nor the host holds them.

use std::time::Duration;

use async_compression::tokio::write::{BrotliEncoder, GzipEncoder};
use bulkhead_tests::{Answer, BulkServer, Bulkhead, Fixture, Misdeed, Running, Upstream, guest};
use tokio::io::AsyncWriteExt as _;

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
    // The kernel adds a process's pages up by core, and may show a little less than before.
    let grown = running.memory_peak_bytes().saturating_sub(before);
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

/// The bound of a receiver that says nothing begins when it has been handed everything.
#[test]
fn an_upload_that_takes_longer_than_an_answer_may_is_sent_to_its_end() {
    let (server, bytes) = (BulkServer::start(), 256 * MIB);
    let toml = connector(&server.url(), "wall = '30m', request_bytes = '1GiB'");
    let host = Bulkhead::new(&toml.replace("private = true", "private = true, first_byte = '3s'"));
    let running = host.start();
    host.send("in", &[format!("upload {}/{bytes} {bytes}", server.url())]);
    wait_for_done(&running, 1);
    let _ = running.terminate().ok();
    assert_eq!(server.received(), bytes);
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

/// Echoes a credential in each of the forms, ten thousand times, at places that fall on every border of chunks.
fn echoes(forms: &[&str]) -> String {
    let gap = |nth: usize| "-".repeat(nth * 7 % 41);
    (0..10_000).map(|nth| gap(nth) + forms[nth % forms.len()]).collect()
}

/// The body in an encoding that answers come in.
fn compressed(encoding: &str, body: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    let memory = "memory takes it";
    runtime.block_on(async {
        match encoding {
            "gzip" => {
                let mut encoder = GzipEncoder::new(Vec::new());
                encoder.write_all(body).await.expect(memory);
                encoder.shutdown().await.expect(memory);
                encoder.into_inner()
            }
            "br" => {
                let mut encoder = BrotliEncoder::new(Vec::new());
                encoder.write_all(body).await.expect(memory);
                encoder.shutdown().await.expect(memory);
                encoder.into_inner()
            }
            _ => body.to_vec(),
        }
    })
}

#[test]
fn a_credential_in_a_compressed_stream_is_blotted_out_over_the_borders_of_its_chunks() {
    // In base64 as it stands between other bytes.
    const FORMS: [&str; 4] =
        ["canary/value+7", "canary%2Fvalue%2b7", "63616e6172792f76616c75652b37", "Y2FuYXJ5L3ZhbHVlKz"];
    let body = echoes(&FORMS);
    for encoding in ["gzip", "br"] {
        let answer = Answer::status(200).with("content-encoding", encoding).body(compressed(encoding, body.as_bytes()));
        let fixture = Fixture::answering([answer]);
        let url = fixture.url();
        let grant =
            |path: &str, auth: &str| format!("{{ url = '{url}{path}', methods = ['GET'], private = true{auth} }}");
        let host = Bulkhead::new(&format!(
            "[secrets]\ntoken = {{ env = 'TOKEN' }}\n[connectors.stream]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 1 }}\n
            retry = {{ attempts = 1 }}\nlimits = {{ cpu = '10m', wall = '10m' }}\nallow.publish = ['seen']\nallow.http = [{}, {}]\n",
            guest("stream").display(),
            grant("/secret", ", auth = { bearer = 'token' }"),
            grant("/plain", "")
        ))
        .variable("TOKEN", FORMS[0]);
        let hunts = |path: &str| FORMS.map(|form| format!("hunt {url}{path} {form}"));
        // Where nothing was attached, nothing is looked for: the hunter finds them.
        host.send("in", &hunts("/plain"));
        host.send("in", &hunts("/secret"));
        let log = host.run_until_idle().log;
        let reasons: Vec<String> = host.ledger().dead().into_iter().map(|letter| letter.reason).collect();
        assert!(
            reasons.len() == FORMS.len() && reasons.iter().all(|it| it.contains("it found the word")),
            "{reasons:?}"
        );
        let seen: Vec<_> = host.ledger().messages("seen").into_iter().map(|message| message.body).collect();
        assert_eq!(seen, vec![body.len().to_string().into_bytes(); FORMS.len()], "{encoding}: lengths stay");
        assert!(log.iter().any(|line| line.contains("repeated a credential: it was blotted out")), "{encoding}");
    }
}

/// A guest writes a body without an end to a server of this kind, in this manner: the call ends by the limit, where one
/// bit, the plugin is told why where it heeds it, and neither the host nor the neighbour notices.
fn check_poured(url: &str, manner: &str, limits: &str, bitten: &[&str], told: &str) {
    let neighbour = format!("[connectors.neighbour]\nplugin = '{}'\nconsume = 'near'\n", guest("stream").display());
    let host = Bulkhead::new(&(connector(url, limits) + &neighbour));
    let running = host.start();
    let before = running.memory_peak_bytes();
    host.send("in", &[format!("pour {url}/x {manner}")]);
    host.send("near", &["ok"; 10]);
    let of = |connector, outcome| [("connector", connector), ("outcome", outcome)];
    running.wait_until("both", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &of("stream", "dead")) == 1.0
            && metrics.value("bulkhead_deliveries_total", &of("neighbour", "done")) == 10.0
    });
    // The kernel adds a process's pages up by core, and may show a little less than before.
    let grown = running.memory_peak_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{manner}: grown by {} MiB", grown / MIB);
    assert_eq!(running.metrics().limits("stream"), bitten, "{manner}");
    let _ = running.terminate().ok();
    let reason = host.ledger().dead().remove(0).reason;
    assert!(reason.contains(told), "{manner}: {reason}");
}

/// It goes to the deadline of the request, before that of the call: the plugin is told.
const LATE: (&str, &[&str], &str) = ("wall = '2s', request_bytes = '1GiB'", &[], "HttpResponseIncomplete");

#[test]
fn a_body_without_an_end_that_is_taken_ends_by_the_bytes_of_a_request() {
    let server = BulkServer::start();
    let limits = "request_bytes = '10MiB'";
    check_poured(&server.url(), "heeding", limits, &["request_bytes"], "HttpRequestBodySize(Some(10485760))");
    assert!(server.received() <= 10 * MIB, "{} bytes were received", server.received());
}

#[test]
fn a_body_that_is_taken_byte_by_byte_ends_by_its_bytes_or_by_the_deadline() {
    let upstream = Upstream::start(Misdeed::Sip);
    let few = "request_bytes = '64KiB'";
    check_poured(&upstream.url(), "heeding", few, &["request_bytes"], "HttpRequestBodySize(Some(65536))");
    check_poured(&upstream.url(), "heeding", LATE.0, LATE.1, LATE.2);
}

#[test]
fn a_body_that_nobody_takes_waits_in_the_sandbox() {
    let upstream = Upstream::start(Misdeed::Hang(b""));
    check_poured(&upstream.url(), "heeding", LATE.0, LATE.1, LATE.2);
}

/// The client closes a connection only when what it has written is gone: the system ends those where nobody takes it.
#[test]
fn connections_to_a_receiver_that_takes_nothing_end_although_it_holds_them() {
    let upstream = Upstream::start(Misdeed::Hang(b""));
    let host = Bulkhead::new(&connector(&upstream.url(), "wall = '200ms', request_bytes = '1GiB'"));
    let running = host.start();
    let files = || running.threads_and_files().1;
    host.send("in", &["ok"]);
    wait_for_done(&running, 1);
    let before = files();
    host.send("in", &vec![format!("pour {}/x heeding", upstream.url()); 20]);
    running.wait_until("deaths", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("connector", "stream"), ("outcome", "dead")]) == 20.0
    });
    assert!(upstream.connections() > 10, "{} connections", upstream.connections());
    running.wait_until("end of connections", PATIENCE, |_| files() <= before + 4);
}

#[test]
fn a_body_that_goes_on_when_it_is_over_ends_by_the_wall_deadline_of_the_call() {
    let upstream = Upstream::start(Misdeed::Hang(b""));
    for manner in ["heedless", "early"] {
        check_poured(&upstream.url(), manner, LATE.0, &["wall"], "connectors.stream.limits.wall");
    }
}
