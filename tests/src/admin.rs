//! Asks the admin listener as any HTTP client would.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// For an answer of the admin listener.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What the listener answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in: {}", self.body))
    }

    /// The `detail` of a problem document.
    #[must_use]
    #[track_caller]
    pub fn detail(&self) -> String {
        self.json()["detail"].as_str().expect("a problem has a detail").to_owned()
    }
}

/// Sends one request; `token` and a JSON `body` where they are not empty.
#[expect(clippy::disallowed_methods, reason = "a test asks its own host on loopback")]
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, token: &str, body: &str) -> Reply {
    let mut connection = TcpStream::connect(address).expect("the admin listener listens");
    connection.set_read_timeout(Some(ANSWER_WITHIN)).expect("a bound above zero");
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n", body.len());
    if !token.is_empty() {
        head += &format!("Authorization: Bearer {token}\r\n");
    }
    if method == "POST" {
        head += "Content-Type: application/json\r\n";
    }
    // HTTP/1.0: the end of the answer is the end of the connection.
    write!(connection, "{head}\r\n{body}").expect("it takes a request");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("it answers in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
    Reply { status, body: body.to_owned() }
}
