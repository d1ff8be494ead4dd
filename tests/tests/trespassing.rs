//! What a sandbox does not have: sockets, lookups, files. Every entry refuses and is counted, a forged handle ends the
//! call, and who would have been reached hears nothing.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use bulkhead_tests::{Bulkhead, Canaries, NAME_SERVER, Running, guest, secluded};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Everything that takes a handle and would reach out of the sandbox with it.
const FORGED: [&str; 13] = [
    "connect", "bind", "listen", "accept", "bind-udp", "stream", "receive", "send", "next", "open", "read", "write",
    "list",
];

fn trespasser() -> Bulkhead {
    let plugin = guest("trespasser");
    Bulkhead::new(&format!(
        "[connectors.trespasser]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 1 }}\nbrake = 0\nretry = {{ attempts = 1 }}\n",
        plugin.display()
    ))
}

/// Waits until so many have ended so; nothing in the host has panicked meanwhile.
fn settled(running: &Running, outcome: &'static str, count: usize) {
    running.wait_until(outcome, PATIENCE, |metrics| {
        metrics.value("bulkhead_deliveries_total", &[("outcome", outcome)]) == count as f64
    });
    assert_eq!(running.metrics().value("bulkhead_panics_total", &[]), 0.0);
}

/// Every entry answers access-denied, and each of `count` tries is counted under its effect.
fn check_refused(message: &str, effect: &str, count: usize) {
    let host = trespasser();
    let running = host.start();
    host.send("in", &[message]);
    settled(&running, "done", 1);
    let labels = [("connector", "trespasser"), ("effect", effect), ("reason", "not_offered")];
    assert_eq!(running.metrics().value("bulkhead_denied_total", &labels), count as f64, "{message}");
}

#[test]
fn a_socket_of_either_kind_and_family_is_refused_and_counted() {
    check_refused("sockets", "socket", 4);
}

#[test]
fn a_lookup_is_refused_and_counted_whatever_the_name() {
    check_refused("lookups", "lookup", 11);
}

#[test]
fn there_are_no_directories_and_asking_is_counted() {
    check_refused("directories", "filesystem", 1);
}

/// Whoever reads it before a plugin runs is told the same as the plugin is.
#[test]
fn what_has_nothing_behind_it_is_shown_as_always_refused() {
    let host = trespasser();
    let plugin = guest("trespasser").display().to_string();
    let shown = host.run(&["inspect", &plugin, "--json"]).ok().json();
    for import in shown["imports"].as_array().unwrap() {
        let name = import["name"].as_str().unwrap();
        let works = ["wasi:cli/stdout", "wasi:cli/stderr"].iter().any(|works| name.starts_with(works));
        let has_nothing =
            ["wasi:cli/", "wasi:sockets/", "wasi:filesystem/"].iter().any(|package| name.starts_with(package));
        let expected = if has_nothing && !works { "refused" } else { "yes" };
        assert_eq!(import["offered"], expected, "{name}");
    }
    let text = host.run(&["inspect", &plugin]).ok().output;
    let line = text.lines().find(|line| line.contains("wasi:cli/environment")).unwrap();
    assert!(line.contains("linked, always refused"), "{line}");
}

/// What a plugin may draw at once ends at 64 KiB, far below the largest number.
#[test]
fn more_randomness_than_64_kib_at_once_ends_the_call() {
    for draw in ["random", "insecure"] {
        let host = trespasser();
        let running = host.start();
        host.send("in", &[65_536, 65_537, u64::MAX].map(|bytes| format!("{draw} {bytes}")));
        settled(&running, "done", 1);
        settled(&running, "dead", 2);
        assert_eq!(running.metrics().limits("trespasser"), ["hostcall"], "{draw}");
    }
}

/// In a world with a name server of the test's own, and with canaries where a hole would lead.
#[test]
fn no_packet_leaves_a_sandbox_by_any_entry_or_forged_handle() {
    secluded(module_path!(), "no_packet_leaves_a_sandbox_by_any_entry_or_forged_handle", &[], || {
        let address: SocketAddr = NAME_SERVER.parse().unwrap();
        let canaries = Canaries::at(&[address.ip()], address.port());
        let datagrams = UdpSocket::bind(address).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        let host = trespasser();
        let running = host.start();
        let lines = ["sockets".to_owned(), "lookups".to_owned(), format!("library {address}")];
        let handles = [0, 1, 2, 77, u32::MAX];
        let forged = FORGED.iter().flat_map(|what| handles.map(|handle| format!("forge {what} {handle} {address}")));
        host.send("in", &lines.into_iter().chain(forged).collect::<Vec<_>>());
        settled(&running, "done", 3);
        settled(&running, "dead", FORGED.len() * handles.len());
        let _ = running.terminate().ok();
        let dead = host.ledger().dead();
        assert!(dead.iter().all(|letter| !letter.reason.contains("hole")), "{:?}", dead[0]);
        assert_eq!(canaries.visited(), []);
        assert_eq!(datagrams.recv(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}
