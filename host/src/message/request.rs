//! A webhook's request as a message: what the host says about it stands in headers with a prefix of their own.
//!
//! Invariant: a sender's header never passes for one of the host's.

use serde::{Deserialize, Serialize};

use super::{Draft, Header, Message};

/// Before the names of headers that the host adds.
pub const HOST_PREFIX: &str = "bulkhead-";

const METHOD: &str = "bulkhead-method";
const PATH: &str = "bulkhead-path";
const QUERY: &str = "bulkhead-query";
const REMOTE_ADDRESS: &str = "bulkhead-remote-address";
const VERIFIED_BY: &str = "bulkhead-verified-by";
const PARAMETER: &str = "bulkhead-parameter-";

/// A verified request before it is a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The event's id as the sender names it, or one that the host made.
    pub id: String,
    /// As in "POST".
    pub method: String,
    /// As received, percent-encoded.
    pub path: String,
    /// As received, without what proved who sent it.
    pub query: Option<String>,
    /// Of the sender, after trusted proxies.
    pub remote_address: String,
    /// Who it was verified to be.
    pub verified_by: Option<String>,
    /// The values of `{name}` parts of the configured path.
    pub parameters: Vec<(String, String)>,
    /// The sender's own, without credentials; names in lower case.
    pub headers: Vec<Header>,
    /// As received.
    pub body: Vec<u8>,
}

/// What a plugin answers to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// From 200 to 599.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<Header>,
    /// As it is sent.
    pub body: Vec<u8>,
}

/// Bytes of an answer's body that are kept for repeats; of a longer one they get status and headers.
const KEPT_BYTES_MAX: usize = 64 << 10;

impl Answer {
    /// As it is kept.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let body: &[u8] = if self.body.len() <= KEPT_BYTES_MAX { &self.body } else { &[] };
        let mut bytes = serde_json::to_vec(&(self.status, &self.headers)).expect("numbers and strings are JSON");
        bytes.push(b'\n');
        bytes.extend_from_slice(body);
        bytes
    }

    /// As it was kept.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (status, headers) = serde_json::from_slice(&bytes[..end]).ok()?;
        Some(Self { status, headers, body: bytes[end + 1..].to_vec() })
    }
}

/// What a message that was a request says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// As in "POST".
    pub method: &'a str,
    /// Path and query, as received.
    pub target: String,
    /// Of the sender.
    pub remote_address: &'a str,
    /// Who it was verified to be.
    pub verified_by: Option<&'a str>,
    /// The values of `{name}` parts of the configured path.
    pub parameters: Vec<(&'a str, &'a str)>,
    /// The sender's own.
    pub headers: Vec<(&'a str, &'a str)>,
}

impl Request {
    /// As a message.
    #[must_use]
    pub fn into_draft(self) -> Draft {
        let mut headers = vec![
            (METHOD.to_owned(), self.method),
            (PATH.to_owned(), self.path),
            (REMOTE_ADDRESS.to_owned(), self.remote_address),
        ];
        headers.extend(self.query.map(|query| (QUERY.to_owned(), query)));
        headers.extend(self.verified_by.map(|who| (VERIFIED_BY.to_owned(), who)));
        headers.extend(self.parameters.into_iter().map(|(name, value)| (format!("{PARAMETER}{name}"), value)));
        headers.extend(self.headers.into_iter().filter(|(name, _)| !name.starts_with(HOST_PREFIX)));
        Draft { id: self.id, headers, body: self.body, ..Draft::default() }
    }
}

impl<'a> Parts<'a> {
    /// What a message says about the request that it was; `None` where it was none.
    #[must_use]
    pub fn of(message: &'a Message) -> Option<Self> {
        let find = |wanted| message.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let path = find(PATH)?;
        let headers = message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Some(Self {
            method: find(METHOD)?,
            target: find(QUERY).map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")),
            remote_address: find(REMOTE_ADDRESS)?,
            verified_by: find(VERIFIED_BY),
            parameters: headers.clone().filter_map(|(name, it)| Some((name.strip_prefix(PARAMETER)?, it))).collect(),
            headers: headers.filter(|(name, _)| !name.starts_with(HOST_PREFIX)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> Header {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_a_sender_says_in_the_hosts_name_is_dropped() {
        let request = Request {
            method: "POST".to_owned(),
            path: "/hooks/a%20b".to_owned(),
            query: Some("x=1".to_owned()),
            remote_address: "192.0.2.1".to_owned(),
            parameters: vec![pair("shop", "a b")],
            headers: vec![pair("bulkhead-verified-by", "stripe"), pair("x-event", "paid")],
            ..Request::default()
        };
        let Draft { headers, .. } = request.into_draft();
        let message = Message { headers, ..Message::default() };
        let parts = Parts::of(&message).expect("it was a request");
        assert_eq!((parts.method, parts.target.as_str(), parts.verified_by), ("POST", "/hooks/a%20b?x=1", None));
        assert_eq!((parts.parameters, parts.headers), (vec![("shop", "a b")], vec![("x-event", "paid")]));
    }

    #[test]
    fn an_answer_is_kept_as_it_was_and_a_long_one_without_its_body() {
        let answer = |bytes| Answer { status: 201, headers: vec![pair("a", "x\ty")], body: vec![b'\n'; bytes] };
        assert_eq!(Answer::from_bytes(&answer(KEPT_BYTES_MAX).to_bytes()), Some(answer(KEPT_BYTES_MAX)));
        assert_eq!(Answer::from_bytes(&answer(KEPT_BYTES_MAX + 1).to_bytes()), Some(answer(0)));
    }

    #[test]
    fn other_messages_were_no_requests() {
        assert_eq!(Parts::of(&Message::default()), None);
    }
}
