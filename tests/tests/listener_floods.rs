//! Senders that flood the webhooks' listener or the admin's: whoever sends in earnest meanwhile is served, and afterwards the host has no
//! connection, no thread and little memory more than before.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bulkhead_tests::{Bulkhead, Line, Running, post};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the host may grow by: windows of the connections, and the allocator's slack.
const GROWTH_MAX: u64 = 64 << 20;
/// A flood goes on for so many frames, if the host takes them.
const FRAMES: u32 = 200_000;
/// Frames that are written at once.
const FRAMES_AT_ONCE: u32 = 500;
const HOOK: &str = "[connectors.it]\nwebhook = { path = '/in', verify = 'none', publish = 'q' }\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `POST http://x/in`.
const HEAD: &[u8] = &[0x83, 0x86, 0x04, 3, b'/', b'i', b'n', 0x01, 1, b'x'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The nth stream that a client opens.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

/// A header of 200 bytes that is not indexed.
fn header() -> Vec<u8> {
    [&[0, 1, b'x', 0x7f, 73][..], &[b'y'; 200]].concat()
}

/// What becomes of a flood: the host ends it, or serves it to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Cut,
    Any,
}

/// One flood: what it begins with, and its nth piece.
struct Flood {
    name: &'static str,
    start: Vec<u8>,
    piece: fn(u32) -> Vec<u8>,
    end: End,
}

fn floods() -> Vec<Flood> {
    let flood = |name, start, piece, end| Flood { name, start, piece, end };
    let head = || frame(HEADERS, END_HEADERS, 1, HEAD);
    vec![
        flood(
            "requests that are taken back",
            Vec::new(),
            |n| [frame(HEADERS, END_HEADERS, stream(n), HEAD), frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8])].concat(),
            End::Cut,
        ),
        flood(
            "whole requests that are taken back",
            Vec::new(),
            |n| {
                let whole = frame(HEADERS, END_HEADERS | END_STREAM, stream(n), HEAD);
                [whole, frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8])].concat()
            },
            End::Any,
        ),
        flood(
            "streams that are wrong",
            Vec::new(),
            |n| [frame(HEADERS, END_HEADERS, stream(n), HEAD), frame(WINDOW_UPDATE, 0, stream(n), &[0; 4])].concat(),
            End::Cut,
        ),
        flood("a head without an end", frame(HEADERS, 0, 1, HEAD), |_| frame(CONTINUATION, 0, 1, &header()), End::Cut),
        flood("empty continuations", frame(HEADERS, 0, 1, HEAD), |_| frame(CONTINUATION, 0, 1, &[]), End::Cut),
        flood("many streams", Vec::new(), |n| frame(HEADERS, END_HEADERS, stream(n), HEAD), End::Any),
        flood("settings", Vec::new(), |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]), End::Any),
        flood("pings", Vec::new(), |_| frame(PING, 0, 0, &[0; 8]), End::Any),
        flood("priorities", Vec::new(), |n| frame(PRIORITY, 0, stream(n), &[0, 0, 0, 0, 1]), End::Any),
        flood("empty data", head(), |_| frame(DATA, 0, 1, &[]), End::Any),
        flood("windows", head(), |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), End::Any),
    ]
}

/// Sends a flood without reading an answer, then reads what there is; whether the host has ended it.
#[expect(clippy::disallowed_methods, reason = "a test asks its own host on loopback")]
fn send(address: SocketAddr, flood: &Flood) -> bool {
    let mut connection = TcpStream::connect(address).unwrap();
    // One that the host need not end is left when the host takes no more of it, or has nothing more to say.
    let patience = if flood.end == End::Cut { PATIENCE } else { Duration::from_secs(1) };
    connection.set_write_timeout(Some(patience)).unwrap();
    connection.set_read_timeout(Some(patience)).unwrap();
    let mut sent = connection.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &flood.start].concat());
    let mut n = 0;
    while sent.is_ok() && n < FRAMES {
        let pieces: Vec<u8> = (n..n + FRAMES_AT_ONCE).flat_map(flood.piece).collect();
        sent = connection.write_all(&pieces);
        n += FRAMES_AT_ONCE;
    }
    match sent {
        Ok(()) => is_at_end(connection),
        // It takes no more before its answers are read: that is a bound as well.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
        Err(_) => true,
    }
}

/// Whether the host has ended a connection; it has taken all of it by then.
fn is_at_end(mut connection: TcpStream) -> bool {
    let mut heard = [0; 1 << 14];
    loop {
        match connection.read(&mut heard) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// Does something to a host while somebody sends to it in earnest; all of that is taken, and nothing stays of the rest.
fn during(work: impl FnOnce(&Bulkhead, &Running) -> usize) {
    let host = Bulkhead::new(HOOK);
    let running = host.start();
    assert_eq!(post(host.webhooks(), "/in", &[], "first").status, 202);
    let (before, memory) = (running.threads_and_files(), running.memory_peak_bytes());
    let is_over = AtomicBool::new(false);
    let (mut served, mut flooded) = (0, 0);
    thread::scope(|scope| {
        let earnest = scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Ordering::SeqCst) {
                assert_eq!(post(host.webhooks(), "/in", &[], "earnest").status, 202);
                count += 1;
            }
            count
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&host, &running)));
        is_over.store(true, Ordering::SeqCst);
        flooded = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        served = earnest.join().unwrap();
    });
    let grown = running.memory_peak_bytes().saturating_sub(memory);
    assert!(grown < GROWTH_MAX, "grown by {} MiB", grown >> 20);
    running.wait_until("rest", PATIENCE, |_| running.threads_and_files().1 <= before.1 + 2);
    assert_eq!(running.threads_and_files().0, before.0);
    assert_eq!(running.readyz(), 200);
    running.kill9();
    let stored = host.ledger().messages("q");
    assert!(served > 0);
    assert_eq!(stored.iter().filter(|message| message.body == b"earnest").count(), served);
    assert_eq!(stored.iter().filter(|message| message.body == b"flood").count(), flooded);
}

#[test]
fn connections_that_come_and_go_at_once_leave_nothing_behind() {
    during(|host, running| {
        thread::scope(|scope| {
            for way in 0..4 {
                scope.spawn(move || {
                    for _ in 0..1_250 {
                        let mut line = Line::open(host.webhooks());
                        match way {
                            0 => {}
                            1 => line.say(b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"),
                            2 => line.say(PREFACE),
                            _ => line.say(&[0x16, 3, 1, 2, 0, 1]),
                        }
                    }
                });
            }
        });
        assert_eq!(running.readyz(), 200);
        0
    });
}

#[test]
fn requests_that_do_not_wait_for_their_answers_are_all_answered_in_turn() {
    during(|host, _| {
        let mut line = Line::open(host.webhooks());
        let request = b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nflood";
        line.say(&request.repeat(63));
        line.say(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n");
        line.say(&request[..]);
        let statuses: Vec<u16> = (0..65).map(|_| line.status()).collect();
        assert_eq!(statuses, [vec![202; 63], vec![404], vec![202]].concat());
        64
    });
}

#[test]
fn floods_of_http_2_keep_nobody_out() {
    during(|host, _| {
        for flood in floods() {
            let is_cut = send(host.webhooks(), &flood);
            assert!(is_cut || flood.end == End::Any, "{} goes on", flood.name);
        }
        0
    });
}

/// Who has no token must not take what webhooks and probes need.
#[test]
fn connections_that_ask_the_admin_nothing_keep_nobody_out() {
    let host = Bulkhead::new(HOOK);
    let running = host.start();
    let mut followed = running.events("kinds=audit").expect("there is a seat");
    let files = running.threads_and_files().1;
    let half = |nth: usize| {
        let mut line = Line::open(running.admin());
        if nth.is_multiple_of(2) {
            line.say(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ");
        }
        line
    };
    let lines: Vec<Line> = (0..300).map(half).collect();
    assert_eq!(post(host.webhooks(), "/in", &[], "meanwhile").status, 202);
    assert_eq!(running.readyz(), 200);
    let taken = running.threads_and_files().1.saturating_sub(files);
    assert!(taken < 200, "{taken} files for connections of nobody");
    // Whoever was asking before goes on.
    assert_eq!(running.api("POST", "connectors/it/pause", "{}").status, 204);
    assert_eq!(followed.next_event().expect("it is told").kind, "audit");
    drop(lines);
    assert_eq!(running.readyz(), 200);
}

#[test]
fn a_head_for_the_admin_without_an_end_is_cut() {
    let host = Bulkhead::new(HOOK);
    let running = host.start();
    let mut line = Line::open(running.admin());
    line.say(b"GET /healthz HTTP/1.1\r\nHost: x\r\n");
    line.say(&b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(2_000));
    let heard = line.hear();
    assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 431 "), "{heard}");
    // HTTP/2 by prior knowledge is for webhooks alone.
    let mut line = Line::open(running.admin());
    line.say(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    let heard = line.hear();
    assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 "), "{heard}");
    assert_eq!(running.readyz(), 200);
}
