//! Servers that misbehave: each costs an attempt, is tried again by the policy, and no memory of the host.

use std::time::{Duration, UNIX_EPOCH};

use async_compression::tokio::write::GzipEncoder;
use bulkhead_host::clock::wall;
use bulkhead_tests::{Answer, Bulkhead, Fixture, Misdeed, Running, Upstream, guest};
use tokio::io::AsyncWriteExt as _;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a bad answer may cost: the buffers of a few connections and a response of the largest size, many times over.
const GROWTH_BYTES_MAX: u64 = 48 << 20;
/// Attempts before a dead letter.
const ATTEMPTS: usize = 3;
/// A head, and less of a body than it says.
const BEGINNING: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthe beginning";
/// What a server of twenty years ago answers, a `ServerHello` of TLS 1.0 up to its random number; and what one says that
/// is asked for something newer.
const OLD_HELLO: [u8; 11] = [22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
const OLD_ALERT: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];
const RETRY: &str = "retry = { attempts = 3, first = '1ms', max = '5ms' }";

fn deliver(url: &str, limits: &str) -> Bulkhead {
    Bulkhead::new(&format!(
        "[connectors.deliver]\nplugin = 'builtin:http-request'\nconsume = 'in'\nconfig = {{ url = '{url}/' }}\n{RETRY}\n
        limits = {{ {limits} }}\nallow.http = [{{ url = '{url}/*', methods = ['POST'], private = true }}]\n"
    ))
}

fn poll(url: &str, limits: &str) -> Bulkhead {
    Bulkhead::new(&format!(
        "[connectors.deliver]\nplugin = 'builtin:http-poll'\nschedule = {{ every = '1h' }}\n{RETRY}\n
        config = {{ url = '{url}/', publish = 'out' }}\nallow.publish = ['out']\n
        limits = {{ {limits} }}\nallow.http = [{{ url = '{url}/*', methods = ['GET'], private = true }}]\n"
    ))
}

/// What there is to see of a failure.
struct Seen<'a> {
    attempts: usize,
    reason: &'a str,
    limits: &'a [&'a str],
}

/// The delivery ends as a dead letter after so many attempts, for this reason, with these limits bitten; the host lives,
/// and has not grown.
fn check(host: &Bulkhead, running: Running, memory_before: u64, seen: &Seen<'_>) {
    running.wait_for_log("became a dead letter", PATIENCE);
    let metrics = running.metrics();
    assert_eq!(metrics.limits("deliver"), seen.limits);
    let failed = metrics.value("bulkhead_http_requests_total", &[("connector", "deliver"), ("status", "error")]);
    assert_eq!(failed, seen.attempts as f64, "requests that failed");
    let grown = running.memory_peak_bytes().saturating_sub(memory_before);
    assert!(grown < GROWTH_BYTES_MAX, "the host has grown by {grown} bytes");
    let _ = running.terminate().ok();
    let ledger = host.ledger();
    let dead = ledger.dead();
    assert_eq!((dead.len(), dead[0].attempts), (1, u32::try_from(seen.attempts).unwrap_or(0)));
    assert!(dead[0].reason.contains(seen.reason), "{}", dead[0].reason);
    assert_eq!((ledger.messages("out").len(), ledger.pending()), (0, 0));
}

/// One message to a server.
fn check_sent(url: &str, limits: &str, seen: &Seen<'_>) {
    let host = deliver(url, limits);
    let running = host.start();
    let memory = running.memory_peak_bytes();
    host.send("in", &["{}"]);
    check(&host, running, memory, seen);
}

fn interrupted(reason: &str) -> Seen<'_> {
    Seen { attempts: ATTEMPTS, reason, limits: &[] }
}

/// Tried again like any other trouble of the receiver.
fn too_large() -> Seen<'static> {
    Seen { attempts: ATTEMPTS, reason: "raise `connectors.deliver.limits.response_bytes`", limits: &["response_bytes"] }
}

#[test]
fn one_that_never_answers_is_tried_again() {
    let fixture = Fixture::answering([Answer::Hang]);
    check_sent(&fixture.url(), "wall = '5s'", &interrupted("the answer did not come in time"));
    assert_eq!(fixture.requests().len(), ATTEMPTS);
}

/// A plugin that does not heed what it is told has the wall deadline behind it.
#[test]
fn a_plugin_that_keeps_asking_one_that_hangs_is_ended_by_its_wall_deadline() {
    let (fixture, plugin) = (Fixture::answering([Answer::Hang]), guest("hostile"));
    let url = fixture.url();
    let host = Bulkhead::new(&format!(
        "[connectors.deliver]\nplugin = '{}'\nconsume = 'in'\nretry = {{ attempts = 1 }}\nlimits = {{ wall = '300ms' }}\n
        allow.http = [{{ url = '{url}/*', methods = ['GET'], private = true }}]\n",
        plugin.display()
    ));
    let running = host.start();
    host.send("in", &[format!("insist {url}/")]);
    running.wait_for_log("became a dead letter", PATIENCE);
    assert_eq!(running.metrics().limits("deliver"), ["wall"]);
}

#[test]
fn one_that_stops_in_the_middle_of_its_answer_is_tried_again() {
    let upstream = Upstream::start(Misdeed::Hang(BEGINNING));
    check_sent(&upstream.url(), "wall = '1s'", &interrupted("the answer did not come in time"));
    assert_eq!(upstream.connections(), ATTEMPTS);
}

#[test]
fn one_that_resets_its_connections_is_tried_again() {
    let upstream = Upstream::start(Misdeed::Reset(b""));
    check_sent(&upstream.url(), "", &interrupted("broke off"));
}

#[test]
fn ten_gigabytes_are_refused_by_their_announcement() {
    let upstream = Upstream::start(Misdeed::endless(10 << 30));
    check_sent(&upstream.url(), "response_bytes = '1MiB'", &too_large());
}

#[test]
fn a_body_without_an_end_is_cut() {
    let upstream = Upstream::start(Misdeed::chunks());
    check_sent(&upstream.url(), "response_bytes = '1MiB'", &too_large());
}

#[test]
fn a_bomb_is_cut_at_its_decompressed_size() {
    let bomb = bomb(512);
    assert!(bomb.len() < 1 << 20, "it is small as long as it is compressed");
    let fixture = Fixture::answering([Answer::status(200).with("content-encoding", "gzip").body(bomb)]);
    check_sent(&fixture.url(), "response_bytes = '1MiB'", &too_large());
}

#[test]
fn a_poll_of_a_body_without_an_end_publishes_nothing() {
    let upstream = Upstream::start(Misdeed::chunks());
    let host = poll(&upstream.url(), "response_bytes = '1MiB'");
    let running = host.start();
    let memory = running.memory_peak_bytes();
    check(&host, running, memory, &too_large());
}

#[test]
fn a_poll_of_one_that_resets_is_tried_again() {
    let upstream = Upstream::start(Misdeed::Reset(b""));
    let host = poll(&upstream.url(), "");
    let running = host.start();
    let memory = running.memory_peak_bytes();
    check(&host, running, memory, &interrupted("broke off"));
}

#[test]
fn one_that_hangs_in_the_tls_handshake_is_tried_again() {
    let upstream = Upstream::start(Misdeed::Hang(b""));
    check_sent(&upstream.tls_url(), "wall = '1s'", &interrupted("the answer did not come in time"));
    assert_eq!(upstream.connections(), ATTEMPTS);
}

#[test]
fn an_old_version_of_tls_is_not_spoken() {
    // The random number, no session, a cipher, no compression.
    let hello = [&OLD_HELLO[..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
    for answer in [hello, OLD_ALERT.to_vec()] {
        let upstream = Upstream::start(Misdeed::Close(answer));
        check_sent(
            &upstream.tls_url(),
            "",
            &interrupted("cannot be reached: it speaks no version of TLS that is safe"),
        );
    }
}

#[test]
fn one_that_resets_is_tried_again_wherever_it_does() {
    for words in [b"".as_slice(), b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Le", BEGINNING] {
        let upstream = Upstream::start(Misdeed::Reset(words));
        check_sent(&upstream.url(), "", &interrupted("broke off"));
    }
    let upstream = Upstream::start(Misdeed::Reset(b""));
    check_sent(&upstream.tls_url(), "", &interrupted("the connection broke off"));
}

#[test]
fn an_answer_shorter_than_it_says_is_tried_again() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf";
    for answer in [BEGINNING, chunked] {
        let upstream = Upstream::start(Misdeed::Close(answer.to_vec()));
        check_sent(&upstream.url(), "", &interrupted("broke off"));
    }
}

#[test]
fn a_head_without_an_end_is_cut() {
    let line = [&[b'x'; 100][..], b": y\r\n"].concat();
    for (start, again) in [("HTTP/1.1 200 OK\r\n", line), ("HTTP/1.1 200 OK\r\nX: ", vec![b'x'; 1 << 16])] {
        let upstream = Upstream::start(Misdeed::Pour(start.into(), again));
        check_sent(&upstream.url(), "", &interrupted("broke off"));
    }
}

#[test]
fn a_tail_without_an_end_is_cut() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    // Trailers, and an extension of a chunk.
    for (start, again) in [("0\r\n", b"x: y\r\n".repeat(1_000)), ("5;", vec![b'x'; 1 << 16])] {
        let upstream = Upstream::start(Misdeed::Pour([head, start].concat().into_bytes(), again));
        check_sent(&upstream.url(), "", &interrupted("broke off"));
    }
}

#[test]
fn interim_answers_without_an_end_are_cut_by_the_deadline() {
    let upstream =
        Upstream::start(Misdeed::Pour(Vec::new(), b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(100)));
    check_sent(&upstream.url(), "wall = '1s'", &interrupted("the answer did not come in time"));
}

#[test]
fn drops_end_by_the_deadline_and_harm_no_other_delivery() {
    for start in [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"] {
        let (upstream, good) = (Upstream::start(Misdeed::Drip(start)), Fixture::answering([Answer::status(200)]));
        let grant = |url: &str, extra: &str| format!("{{ url = '{url}/*', methods = ['GET'], private = true{extra} }}");
        let host = Bulkhead::new(&format!(
            "[connectors.deliver]\nplugin = '{}'\nconsume = 'in'\nretry = {{ attempts = 1 }}\nallow.http = [{}, {}]\n",
            guest("hostile").display(),
            grant(&upstream.url(), ", timeout = '1s'"),
            grant(&good.url(), "")
        ));
        // One run has all of them, the drops in the middle.
        let (bad, good_line) = (format!("get {}/", upstream.url()), format!("get {}/", good.url()));
        host.send("in", &[&good_line, &bad, &good_line, &good_line]);
        let _ = host.run_until_idle();
        assert_eq!(good.requests().len(), 3);
        let dead = host.dead();
        assert_eq!(dead.len(), 1, "{dead:?}");
        let reason = dead[0]["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("the answer did not come in time"), "{reason}");
    }
}

/// What nobody can wait for, and what is no time at all: the delivery takes its attempts at the policy's own pace.
const NO_WAIT: [&str; 8] =
    ["0", "-1", "1e30", "1.5", "soon", "", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 10000 23:59:59 GMT"];
/// And what would be for ever.
const FOR_EVER: [&str; 3] = ["4000000000", "18446744073709551615", "Fri, 31 Dec 9999 23:59:59 GMT"];
/// More digits than a plugin reads, and the gate does.
const MANY_DIGITS: &str = "99999999999999999999999999";
/// Statuses that come with it: those that hold everybody back, and another that is tried again.
const NOT_NOW: [u16; 3] = [429, 503, 500];
/// The longest delay there is.
const DELAY_MAX: Duration = Duration::from_secs(24 * 3600);

fn not_now(status: u16, after: &str) -> Fixture {
    Fixture::answering([Answer::status(status).with("retry-after", after)])
}

#[test]
fn a_retry_after_that_is_no_wait_makes_no_hot_loop() {
    for (status, after) in [429, 503].into_iter().flat_map(|status| NO_WAIT.map(|after| (status, after))) {
        let fixture = not_now(status, after);
        let host = deliver(&fixture.url(), "");
        host.send("in", &["{}"]);
        let _ = host.run_until_idle();
        let dead = host.ledger().dead();
        let attempts = dead.iter().map(|letter| letter.attempts as usize).sum::<usize>();
        // Each request was charged: nothing came back for free.
        assert_eq!((dead.len(), attempts, fixture.requests().len()), (1, ATTEMPTS, ATTEMPTS), "{status} {after:?}");
    }
}

/// The delivery waits for a day at most, and its due time is on disk as that.
fn check_due(host: &Bulkhead, requests: impl Fn() -> usize, what: &str) {
    let _ = host.run_until_idle();
    let longest = wall().duration_since(UNIX_EPOCH).unwrap_or_default() + DELAY_MAX;
    let dues = host.ledger().dues();
    assert!(dues.len() == 1 && requests() <= 1, "{what}: {dues:?} after {} requests", requests());
    assert!(u128::try_from(dues[0]).is_ok_and(|due| due <= longest.as_millis()), "{what}: {dues:?}");
    assert_eq!(host.ledger().dead(), [], "{what}");
}

#[test]
fn a_retry_after_of_ages_is_a_day_at_most() {
    let cases = NOT_NOW.into_iter().flat_map(|status| FOR_EVER.map(|after| (status, after)));
    for (status, after) in cases.chain([(429, MANY_DIGITS), (503, MANY_DIGITS)]) {
        let fixture = not_now(status, after);
        let host = deliver(&fixture.url(), "");
        host.send("in", &["{}"]);
        check_due(&host, || fixture.requests().len(), &format!("{status} {after:?}"));
    }
}

/// All of them fail at once, and shall not come back at once.
#[test]
fn what_has_failed_together_is_tried_again_spread_over_the_whole_delay() {
    const MESSAGES: u32 = 50;
    const HOUR_MS: i64 = 3_600_000;
    let host = Bulkhead::new(&format!(
        "[connectors.hostile]\nplugin = '{}'\nconsume = 'in'\nretry = {{ first = '1h', max = '1h' }}\n",
        guest("hostile").display()
    ));
    let running = host.start();
    host.send("in", &["retry it"; MESSAGES as usize]);
    running.wait_until("all of them have failed", PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", "retry")]) >= f64::from(MESSAGES)
    });
    let _ = running.terminate().ok();
    let dues = host.ledger().dues();
    let (first, last) = (dues.iter().min().unwrap_or(&0), dues.iter().max().unwrap_or(&0));
    assert_eq!(dues.len(), MESSAGES as usize);
    // Without jitter, seconds lie between them; with it, that all fall into one half of the hour does not happen.
    assert!(last - first > HOUR_MS / 2, "{dues:?}");
}

#[test]
fn a_delay_that_a_plugin_asks_for_is_a_day_at_most_and_none_is_the_policys() {
    let plugin = guest("hostile");
    let host = || {
        let plugin = plugin.display();
        Bulkhead::new(&format!("[connectors.deliver]\nplugin = '{plugin}'\nconsume = 'in'\n{RETRY}\n"))
    };
    for after in [u64::MAX, u64::MAX / 1_000, 1 << 63, 1 << 53] {
        let host = host();
        host.send("in", &[format!("retry-after {after}")]);
        check_due(&host, || 0, &after.to_string());
    }
    let host = host();
    host.send("in", &["retry-after 0"]);
    let _ = host.run_until_idle();
    assert_eq!(host.ledger().dead().iter().map(|letter| letter.attempts as usize).collect::<Vec<_>>(), [ATTEMPTS]);
}

/// A guest of no good will gets no more than the built-in ones.
#[test]
fn a_hostile_plugin_is_cut_like_the_others() {
    let (upstream, plugin) = (Upstream::start(Misdeed::chunks()), guest("hostile"));
    let url = upstream.url();
    let host = Bulkhead::new(&format!(
        "[connectors.deliver]\nplugin = '{}'\nconsume = 'in'\n{RETRY}\nlimits = {{ response_bytes = '1MiB' }}\n
        allow.http = [{{ url = '{url}/*', methods = ['GET'], private = true }}]\n",
        plugin.display()
    ));
    let running = host.start();
    let memory = running.memory_peak_bytes();
    host.send("in", &[format!("get {url}/")]);
    check(&host, running, memory, &too_large());
}

/// So many MiB of zeros, compressed.
fn bomb(mib: usize) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    runtime.block_on(async {
        let (mut encoder, zeros) = (GzipEncoder::new(Vec::new()), vec![0; 1 << 20]);
        for _ in 0..mib {
            encoder.write_all(&zeros).await.expect("memory takes it");
        }
        encoder.shutdown().await.expect("memory takes it");
        encoder.into_inner()
    })
}
