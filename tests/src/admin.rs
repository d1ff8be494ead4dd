//! Asks the admin API of a host that runs, as a tool of the operator would.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::{Bulkhead, Running};

/// Long enough for a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What the API answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Bulkhead {
    /// Sends `METHOD /api/v1/PATH` with the token of the data directory, and a JSON body if there is one.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a test asks its own host on loopback")]
    pub fn ask(&self, running: &Running, method: &str, path: &str, json: Option<&str>) -> Reply {
        let token = std::fs::read_to_string(self.path("data/admin.token")).expect("a host that runs has a token");
        let (address, length) = (running.admin(), json.unwrap_or_default().len());
        let kind = json.map(|_| "Content-Type: application/json\r\n").unwrap_or_default();
        let mut connection = TcpStream::connect(address).expect("the admin listener listens");
        connection.set_read_timeout(Some(ANSWER_WITHIN)).expect("a bound above zero");
        let head = format!("{method} /api/v1/{path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n");
        let body = json.unwrap_or_default();
        write!(connection, "{head}{kind}Content-Length: {length}\r\n\r\n{body}").expect("it takes a request");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("it answers in time");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("it begins with a status");
        Reply { status, body: body.to_owned() }
    }
}
