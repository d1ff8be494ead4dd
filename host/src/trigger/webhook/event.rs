//! What a verified request is about: its event's id, by what its repeats are known, and its headers as a message has them.
//!
//! `CloudEvents` 1.0 (binary and structured mode) are understood; every other body is opaque.

use http::{HeaderMap, HeaderName, header};
use serde::Deserialize;

use super::verify::Verified;
use crate::id::{self, Kind};
use crate::message::Header;

/// The longest id of an event that becomes a message's as it is.
const ID_BYTES_MAX: usize = 256;
/// Attributes of a `CloudEvents` event that become headers.
const ATTRIBUTES: [&str; 4] = ["ce-id", "ce-source", "ce-type", "ce-time"];

/// Headers that speak of the connection, or prove who sent a request: they are not the event's.
const NOT_THE_EVENTS: [HeaderName; 10] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// As the sender names it; a derived one where it cannot be a message's, a random one where there is none.
    pub(super) id: String,
    /// What its repeats have in common with it; none where it cannot be known.
    pub(super) keys: Vec<String>,
    /// What it adds to the request's headers.
    attributes: Vec<Header>,
}

/// What is read of a structured event.
#[derive(Deserialize)]
struct Structured {
    id: String,
    source: String,
    r#type: String,
    #[serde(default)]
    time: Option<String>,
}

impl Event {
    /// What a request is about.
    pub(super) fn of(verified: &Verified, headers: &HeaderMap, body: &[u8]) -> Self {
        let cloud = cloud_event(headers, body);
        let mut keys = Vec::new();
        let named = match (&verified.event_id, &cloud) {
            (Some(named), _) => {
                keys.push(format!("id:{named}"));
                Some(named.clone())
            }
            (None, Some(Cloud { id, source, .. })) => {
                keys.push(format!("event:{source}\n{id}"));
                Some(id.clone())
            }
            (None, None) => None,
        };
        keys.extend(verified.signature.iter().map(|signature| format!("signature:{signature}")));
        let id = match named {
            Some(named) if is_id(&named) => named,
            Some(named) => id::derive(Kind::Event, &[&named], 0),
            None => id::random(),
        };
        Self { id, keys, attributes: cloud.map_or_else(Vec::new, |cloud| cloud.attributes) }
    }

    /// The headers of its message: the request's, without what was consumed, and its own attributes.
    pub(super) fn headers(&self, verified: &Verified, headers: &HeaderMap) -> Vec<Header> {
        let is_kept = |name: &HeaderName| {
            let replaces = |(own, _): &Header| own == name.as_str();
            !NOT_THE_EVENTS.contains(name)
                && !verified.consumed_headers.contains(name)
                && !self.attributes.iter().any(replaces)
        };
        let kept = headers.iter().filter(|(name, _)| is_kept(name));
        // A value that is no text cannot be a message's.
        let own = kept.filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?.to_owned())));
        own.chain(self.attributes.iter().cloned()).collect()
    }
}

struct Cloud {
    id: String,
    source: String,
    /// Those that are not among the request's headers already.
    attributes: Vec<Header>,
}

fn cloud_event(headers: &HeaderMap, body: &[u8]) -> Option<Cloud> {
    let find = |name: &str| headers.get(name).and_then(text);
    if find("ce-specversion").is_some_and(|version| version.starts_with("1.")) {
        let (id, source) = (find("ce-id")?.to_owned(), find("ce-source")?.to_owned());
        return Some(Cloud { id, source, attributes: Vec::new() });
    }
    let kind = find("content-type")?.split(';').next()?.trim();
    if !kind.eq_ignore_ascii_case("application/cloudevents+json") {
        return None;
    }
    let Structured { id, source, r#type, time } = serde_json::from_slice(body).ok()?;
    let values = [Some(id.clone()), Some(source.clone()), Some(r#type), time];
    let attributes = ATTRIBUTES.into_iter().zip(values).filter_map(|(name, value)| {
        let value = value.filter(|value| value.len() <= 1024 && !value.contains(char::is_control))?;
        Some((name.to_owned(), value))
    });
    Some(Cloud { id, source, attributes: attributes.collect() })
}

fn text(value: &http::HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok().filter(|text| !text.contains(|it: char| it.is_control() && it != '\t'))
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= ID_BYTES_MAX && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse::<http::HeaderValue>().expect("a value"))
        };
        headers.iter().map(pair).collect()
    }

    #[test]
    fn the_schemes_id_comes_before_that_of_the_body() {
        let headers = map(&[("ce-specversion", "1.0"), ("ce-id", "7"), ("ce-source", "/shop")]);
        let verified = Verified { event_id: Some("evt_1".to_owned()), ..Verified::default() };
        let event = Event::of(&verified, &headers, b"");
        assert_eq!((event.id.as_str(), event.keys), ("evt_1", vec!["id:evt_1".to_owned()]));
    }

    #[test]
    fn a_cloud_event_is_known_by_source_and_id() {
        let binary = map(&[("ce-specversion", "1.0"), ("ce-id", "7"), ("ce-source", "/shop"), ("ce-type", "paid")]);
        let structured = map(&[("content-type", "application/cloudevents+json; charset=utf-8")]);
        let body = br#"{"specversion":"1.0","id":"7","source":"/shop","type":"paid","time":"2026-01-02T03:04:05Z"}"#;
        let none = Verified::default();
        let (binary, structured) = (Event::of(&none, &binary, b"x"), Event::of(&none, &structured, body));
        assert_eq!(binary.keys, structured.keys);
        assert_eq!((binary.id.as_str(), structured.id.as_str()), ("7", "7"));
        let names: Vec<_> = structured.attributes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ATTRIBUTES);
    }

    #[test]
    fn without_an_id_nothing_is_a_repeat_and_with_an_odd_one_it_still_is() {
        let none = Event::of(&Verified::default(), &HeaderMap::new(), b"");
        assert!(none.keys.is_empty() && none.id.len() == 26);
        let odd = Verified { event_id: Some("x\u{7}".repeat(300)), ..Verified::default() };
        let (one, two) = (Event::of(&odd, &HeaderMap::new(), b"1"), Event::of(&odd, &HeaderMap::new(), b"2"));
        assert_eq!(one, two);
        assert!(is_id(&one.id));
    }

    #[test]
    fn what_proves_or_carries_is_left_out() {
        let headers = map(&[
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("x-signature", "s"),
            ("content-length", "3"),
            ("traceparent", "00-1-2-01"),
        ]);
        let consumed_headers = vec![HeaderName::from_static("x-signature")];
        let verified = Verified { consumed_headers, ..Verified::default() };
        let kept = Event::default().headers(&verified, &headers);
        assert_eq!(kept, [("traceparent".to_owned(), "00-1-2-01".to_owned())]);
    }
}
