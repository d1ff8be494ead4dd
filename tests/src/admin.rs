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
    /// The status line and the headers, as they came.
    pub head: String,
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

    /// A header's value.
    #[must_use]
    pub fn header(&self, wanted: &str) -> Option<String> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.next().map(|(_, value)| value.trim().to_owned())
    }

    /// The `detail` of a problem document.
    #[must_use]
    #[track_caller]
    pub fn detail(&self) -> String {
        self.json()["detail"].as_str().expect("a problem has a detail").to_owned()
    }
}

/// What is asked.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a str,
}

/// Sends one request; `token` and a JSON `body` where they are not empty.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, token: &str, body: &str) -> Reply {
    let content_type = if matches!(method, "POST" | "PUT") || !body.is_empty() { "application/json" } else { "" };
    try_ask(address, token, &Request { method, path, content_type, body }).expect("the admin listener answers in time")
}

/// Sends one request to a host that may go before it has answered.
pub(crate) fn try_ask(address: SocketAddr, token: &str, request: &Request<'_>) -> std::io::Result<Reply> {
    let Request { method, path, content_type, body } = request;
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n", body.len());
    if !token.is_empty() {
        head += &format!("Authorization: Bearer {token}\r\n");
    }
    if !content_type.is_empty() {
        head += &format!("Content-Type: {content_type}\r\n");
    }
    exchange(address, &format!("{head}\r\n{body}"))
}

/// Sends a request as it is written, and reads the answer; with HTTP/1.0 the end of the answer is the end of the
/// connection.
///
/// # Errors
/// The connection broke, or the answer did not come in time.
#[expect(clippy::disallowed_methods, reason = "a test asks its own host on loopback")]
pub fn exchange(address: SocketAddr, request: &str) -> std::io::Result<Reply> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(ANSWER_WITHIN))?;
    connection.write_all(request.as_bytes())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let cut_short = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(cut_short)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut_short)?;
    Ok(Reply { status, head: head.to_owned(), body: body.to_owned() })
}
