//! Senders of webhooks, as any HTTP client is one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::admin::{Reply, exchange};

/// For an answer: a first run compiles nothing, but waits for busy cores.
const ANSWER_WITHIN: Duration = Duration::from_secs(180);

/// Posts a body with these headers, and waits for the answer.
#[track_caller]
pub fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    try_post(address, path, headers, body).expect("the webhook answers in time")
}

/// The same where the host may go before it answers.
///
/// # Errors
/// The connection broke, or the answer did not come in time.
pub fn try_post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> std::io::Result<Reply> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    exchange(address, &format!("{head}{headers}\r\n{body}"))
}

/// A connection that is written to piece by piece.
#[derive(Debug)]
pub struct Line(TcpStream);

impl Line {
    /// Opens one.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a test asks its own host on loopback")]
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the host listens");
        stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("it takes a timeout");
        Self(stream)
    }

    /// Writes a piece; what the host does with it is seen in what it answers.
    pub fn say(&mut self, piece: &[u8]) {
        // A host that has hung up is seen when its answer is read.
        let _ = self.0.write_all(piece);
    }

    /// All that comes until the host ends the connection.
    #[must_use]
    pub fn hear(mut self) -> String {
        let mut heard = Vec::new();
        // A reset ends it as well.
        let _ = self.0.read_to_end(&mut heard);
        String::from_utf8_lossy(&heard).into_owned()
    }

    /// The status of the next answer.
    #[must_use]
    pub fn status(&mut self) -> u16 {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && self.0.read(&mut byte).is_ok_and(|read| read > 0) {
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("the body comes");
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}
