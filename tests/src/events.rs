//! Follows the events of a running host, as a browser's `fetch` would.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// For the next event: every wait ends with it.
const EVENT_WITHIN: Duration = Duration::from_secs(60);

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name.
    pub kind: String,
    /// What it says.
    pub data: Value,
}

/// A stream of events that is open.
#[derive(Debug)]
pub struct Events {
    connection: BufReader<TcpStream>,
}

impl Events {
    /// Asks for them; the status where there are none.
    #[expect(clippy::disallowed_methods, reason = "a test asks its own host on loopback")]
    pub(crate) fn follow(address: SocketAddr, path: &str, token: &str) -> Result<Self, u16> {
        let mut connection = TcpStream::connect(address).expect("the admin listener takes connections");
        connection.set_read_timeout(Some(EVENT_WITHIN)).expect("a socket takes a deadline");
        let head = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
        connection.write_all(head.as_bytes()).expect("the admin listener reads");
        let mut events = Self { connection: BufReader::new(connection) };
        let status = events.line().unwrap_or_default();
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
        while events.line().is_some_and(|line| !line.is_empty()) {}
        if status != 200 {
            return Err(status);
        }
        // A comment says that nothing is missed from now on.
        assert!(events.line().is_some_and(|line| line.starts_with(':')), "the stream begins with a comment");
        Ok(events)
    }

    /// The next event; none at the end.
    #[track_caller]
    pub fn next_event(&mut self) -> Option<Event> {
        let (mut kind, mut data, deadline) = (None, None, Instant::now() + EVENT_WITHIN);
        loop {
            // Comments come all the time.
            assert!(Instant::now() < deadline, "no event within {EVENT_WITHIN:?}");
            let line = self.line()?;
            match line.split_once(": ") {
                Some(("event", name)) => kind = Some(name.to_owned()),
                Some(("data", json)) => data = Some(serde_json::from_str(json).expect("the data is JSON")),
                _ if line.is_empty() => {
                    if let (Some(kind), Some(data)) = (kind.take(), data.take()) {
                        return Some(Event { kind, data });
                    }
                }
                _ => assert!(line.starts_with(':'), "{line:?} is no line of an event"),
            }
        }
    }

    /// The next event that `is_it`; those before it are passed over.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, is_it: impl Fn(&Event) -> bool) -> Value {
        loop {
            let event = self.next_event().unwrap_or_else(|| panic!("the events ended without {what}"));
            if is_it(&event) {
                return event.data;
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.connection.read_line(&mut line).expect("the next event comes in time");
        (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }
}
