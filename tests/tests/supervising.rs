//! What a service manager is told, by a socket of the test's: that a host is ready when it is, well while it is, and stops.
#![allow(clippy::disallowed_methods, reason = "holds the ledger's file from another process than the host's")]

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use bulkhead_tests::{Bulkhead, Signal};
use rusqlite::Connection;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(60);
const SHOW: &str = "[connectors.show]\nplugin = 'builtin:log'\nconsume = 'in'\n";

/// The next thing that it is told; none within this time.
fn told(manager: &UnixDatagram, within: Duration) -> Option<String> {
    manager.set_read_timeout(Some(within)).unwrap();
    let mut bytes = [0; 1_024];
    manager.recv(&mut bytes).ok().map(|count| String::from_utf8(bytes[..count].to_vec()).unwrap())
}

/// A host that tells a socket in its folder, and the socket.
fn told_by(watchdog: Option<&str>) -> (Bulkhead, UnixDatagram) {
    let host = Bulkhead::new(SHOW);
    let path = host.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let host = host.variable("NOTIFY_SOCKET", path.to_str().unwrap());
    (
        match watchdog {
            Some(micros) => host.variable("WATCHDOG_USEC", micros),
            None => host,
        },
        manager,
    )
}

#[test]
fn a_host_is_ready_once_it_answers_and_says_that_it_stops() {
    let (host, manager) = told_by(None);
    let running = host.launch();
    assert_eq!(told(&manager, PATIENCE).as_deref(), Some("READY=1\nSTATUS=1 connectors run"));
    assert_eq!(running.readyz(), 200);
    // Good, bad, good: whoever asked by a signal is told that it is read, and that the host goes on.
    for (toml, status) in [(SHOW, "is in use"), ("[connectors.show]\n", "is refused"), (SHOW, "is in use")] {
        host.configure(toml);
        running.signal(Signal::HUP);
        let (reading, read) = (told(&manager, PATIENCE).unwrap(), told(&manager, PATIENCE).unwrap());
        let micros = reading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.lines().next());
        assert!(micros.is_some_and(|micros| micros.parse::<u64>().is_ok_and(|it| it > 0)), "{reading}");
        assert!(read.starts_with("READY=1\n") && read.contains(status), "{read}");
    }
    let _ = running.terminate().ok();
    let stopping = told(&manager, PATIENCE).unwrap();
    assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
    assert_eq!(told(&manager, Duration::from_millis(1)), None);
}

#[test]
fn a_host_that_cannot_start_is_never_ready() {
    let (host, manager) = told_by(None);
    let other = host.start();
    assert!(told(&manager, PATIENCE).is_some());
    let _ = host.run(&["run"]).ended_with(2);
    assert_eq!(told(&manager, Duration::from_millis(1)), None);
    let _ = other.terminate().ok();
}

/// Its ledger is what another process keeps from being written: the host is there, and not well.
#[test]
fn a_host_is_well_only_while_its_ledger_can_be_written() {
    let (host, manager) = told_by(Some("400000"));
    let running = host.start();
    let well = |manager| std::iter::from_fn(|| told(manager, PATIENCE)).find(|said| said == "WATCHDOG=1");
    assert_eq!((well(&manager), well(&manager)).1.as_deref(), Some("WATCHDOG=1"));
    let other = Connection::open(host.data().join("ledger.db")).unwrap();
    other.busy_timeout(PATIENCE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    running.wait_for_log("the service manager is not told", PATIENCE);
    // What was on its way before.
    while told(&manager, Duration::from_millis(1)).is_some() {}
    assert_eq!(told(&manager, Duration::from_millis(800)), None);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(well(&manager).as_deref(), Some("WATCHDOG=1"));
    let _ = running.terminate().ok();
}

/// systemd gives such a name in a container.
#[test]
fn a_socket_without_a_file_is_told_too_and_one_that_is_not_there_is_no_matter() {
    let name = format!("bulkhead-test-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let host = Bulkhead::new(SHOW).variable("NOTIFY_SOCKET", &format!("@{name}"));
    let _ = host.run_until_idle();
    assert!(told(&manager, PATIENCE).unwrap().starts_with("READY=1\n"));
    drop(manager);
    let run = host.run_until_idle();
    assert!(run.errors().contains("was not told `READY=1`"), "{}", run.errors());
    assert_eq!(host.run(&["queues"]).ok().errors(), "");
}

/// As where a shell stands between the two.
#[test]
fn a_watchdog_of_another_process_is_left_to_it() {
    let (host, manager) = told_by(Some("1000"));
    let host = host.variable("WATCHDOG_PID", "1");
    let _ = host.run_until_idle();
    let all: Vec<String> = std::iter::from_fn(|| told(&manager, Duration::from_millis(1))).collect();
    assert!(!all.is_empty() && all.iter().all(|said| said != "WATCHDOG=1"), "{all:?}");
}
