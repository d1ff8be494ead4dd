//! Servers that flood a connection of HTTP/2: each request ends in time, and the host does not grow.

use std::fs;
use std::time::Duration;

use bulkhead_tests::{Authority, Bulkhead, Flaw, TlsServer, guest};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the host may grow by: windows of the connections, and what the allocator keeps for a second after it was freed.
const GROWTH_MAX: u64 = 128 << 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0xfe;
const END_HEADERS: u8 = 4;
/// `:status: 200`, and `:status: 103`.
const OK: &[u8] = &[0x88];
const EARLY_HINTS: &[u8] = &[0x08, 3, b'1', b'0', b'3'];

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A header that is not indexed, of 200 bytes.
fn header() -> Vec<u8> {
    [&[0, 1, b'x', 0x7f, 73][..], &[b'y'; 200]].concat()
}

/// A header of 4,000 bytes that is indexed once and then named again and again, by one byte each.
fn header_bomb() -> Vec<u8> {
    [OK, &[0x40, 1, b'x', 0x7f, 0xa1, 0x1e], &[b'y'; 4_000], &[0xbe; 12_000]].concat()
}

/// A request with a body that nobody takes.
const NO_WINDOW: &str = "no window";

/// What begins a connection, and what then goes on for ever.
fn floods() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let settings = frame(SETTINGS, 0, 0, &[]);
    let with = |start: Vec<u8>| [settings.clone(), start].concat();
    let head = frame(HEADERS, END_HEADERS, 1, OK);
    // `SETTINGS_INITIAL_WINDOW_SIZE`: 0.
    let no_window = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    vec![
        ("settings", Vec::new(), settings.clone()),
        ("pings", with(Vec::new()), frame(PING, 0, 0, &[0; 8])),
        // For no reason, and "not processed, ask again".
        ("resets", with(Vec::new()), frame(RST_STREAM, 0, 1, &[0; 4])),
        ("refusals", with(Vec::new()), frame(RST_STREAM, 0, 1, &[0, 0, 0, 7])),
        ("resets of streams to come", with(Vec::new()), frame(RST_STREAM, 0, 0x7f, &[0, 0, 0, 7])),
        ("farewells", with(Vec::new()), frame(GOAWAY, 0, 0, &[0; 8])),
        ("windows", with(Vec::new()), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("priorities", with(Vec::new()), frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 1])),
        (NO_WINDOW, no_window, frame(PING, 1, 0, &[0; 8])),
        ("unknown frames", with(Vec::new()), frame(UNKNOWN, 0, 0, &[0; 100])),
        ("a head without an end", with(frame(HEADERS, 0, 1, OK)), frame(CONTINUATION, 0, 1, &header())),
        ("empty continuations", with(frame(HEADERS, 0, 1, OK)), frame(CONTINUATION, 0, 1, &[])),
        ("interim answers", with(Vec::new()), frame(HEADERS, END_HEADERS, 1, EARLY_HINTS)),
        ("empty data", with(head.clone()), frame(DATA, 0, 1, &[])),
        ("data beyond the window", with(head.clone()), frame(DATA, 0, 1, &[b'x'; 16_000])),
        ("pushes", with(head), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
        ("a header bomb", with(Vec::new()), frame(HEADERS, END_HEADERS, 1, &header_bomb())),
    ]
}

#[test]
fn floods_of_http_2_end_in_time_and_the_host_stays_small() {
    let authority = Authority::new();
    let good = TlsServer::start(&authority.issue(Flaw::None));
    let servers: Vec<_> = floods()
        .into_iter()
        .map(|(name, start, again)| (name, TlsServer::flooding(&authority.issue(Flaw::None), start, again)))
        .collect();
    let grant = |server: &TlsServer| {
        format!("{{ url = '{}', methods = ['GET', 'POST'], private = true, timeout = '1s' }}", server.url("/*"))
    };
    let grants: Vec<String> = servers.iter().map(|(_, server)| grant(server)).chain([grant(&good)]).collect();
    let host = Bulkhead::new("");
    fs::write(host.path("roots.pem"), authority.pem()).expect("the folder can be written");
    host.configure(&format!(
        "[host.tls]\nca_file = 'roots.pem'\n[connectors.caller]\nplugin = '{}'\n\
         consume = {{ queue = 'in', batch = 1 }}\nbrake = 0\nretry = {{ attempts = 1 }}\n\
         allow.http = [{}]\n",
        guest("hostile").display(),
        grants.join(", ")
    ));
    let running = host.start();
    let done = |count: u32| {
        let labels = [("connector", "caller"), ("outcome", "done")];
        running.wait_until("answer", PATIENCE, |metrics| {
            metrics.value("bulkhead_deliveries_total", &labels) == f64::from(count)
        });
    };
    host.send("in", &[format!("get {}", good.url("/x"))]);
    done(1);
    let before = running.memory_peak_bytes();
    let line = |name: &str, server: &TlsServer| {
        let verb = if name == NO_WINDOW { "post" } else { "get" };
        format!("{verb} {}", server.url("/x"))
    };
    let lines: Vec<String> = servers.iter().map(|(name, server)| line(name, server)).collect();
    host.send("in", &lines);
    host.send("in", &[format!("get {}", good.url("/x"))]);
    done(2);
    let grown = running.memory_peak_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "grown by {} MiB", grown >> 20);
    let _ = running.terminate().ok();
    let reasons: Vec<String> = host.dead().iter().map(|letter| letter["reason"].to_string()).collect();
    for (name, server) in &servers {
        let url = server.url("/x");
        let reason = reasons.iter().find(|reason| reason.contains(&url));
        // The head of an answer that broke off later is none.
        let is_typed = reason
            .is_some_and(|reason| reason.contains("may have got the request") || reason.contains("cannot be reached"));
        assert!(is_typed, "{name}: {reason:?} of {reasons:#?}");
        assert!(server.connections() > 0, "{name}");
    }
}
