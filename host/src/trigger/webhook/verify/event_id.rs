//! Where the sender's id of an event is: in a header, or in a body of JSON.
//!
//! Invariant: what is found is an id that a message can have, or the request is refused.

use std::fmt;

use http::HeaderName;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Incoming, Refused, header};
use crate::message;

/// Deeper than any id lies.
const POINTER_SEGMENTS_MAX: usize = 16;

/// One place where an id may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A header.
    Header(HeaderName),
    /// A string or a whole number in a body of JSON.
    Pointer(Pointer),
}

/// A JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// Reads `/a/b/0`.
    ///
    /// # Errors
    /// What is not allowed.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(rest) = text.strip_prefix('/') else { return Err("it does not begin with `/`") };
        let segments: Vec<String> = rest.split('/').map(unescape).collect();
        if segments.len() > POINTER_SEGMENTS_MAX { Err("it is deeper than 16 steps") } else { Ok(Self(segments)) }
    }

    /// The string or whole number there. A body that is not JSON has none.
    fn find(&self, body: &[u8]) -> Option<String> {
        Seek(&self.0).deserialize(&mut serde_json::Deserializer::from_slice(body)).ok().flatten()
    }
}

fn unescape(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

impl Place {
    /// The id there, if there is one.
    pub(super) fn find(&self, incoming: &Incoming<'_>) -> Result<Option<String>, Refused> {
        let found = match self {
            Self::Header(name) => header::one(incoming.headers, name)?.map(str::to_owned),
            Self::Pointer(pointer) => pointer.find(incoming.body),
        };
        found.filter(|id| !id.is_empty()).map(checked).transpose()
    }
}

/// An id as a message can have it.
pub(super) fn checked(id: String) -> Result<String, Refused> {
    message::check(&id, None, &[]).map(|()| id).map_err(|_| Refused::Malformed)
}

/// Goes down to one value without building the others.
struct Seek<'a>(&'a [String]);

impl Seek<'_> {
    fn here<E: Error>(&self, id: impl ToString) -> Result<Option<String>, E> {
        Ok(self.0.is_empty().then(|| id.to_string()))
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Option<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        self.here(text)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        self.here(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.here(number)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let next = self.0.split_first();
        while let Some(is_it) = map.next_key_seed(IsKey(next.map(|(name, _)| name.as_str())))? {
            match next {
                // The last of equal keys counts, as with most readers of JSON.
                Some((_, rest)) if is_it => found = map.next_value_seed(Seek(rest))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let next = self.0.split_first().and_then(|(index, rest)| Some((index.parse::<usize>().ok()?, rest)));
        let mut found = None;
        for index in 0.. {
            let more = match next {
                Some((wanted, rest)) if wanted == index => {
                    let element = list.next_element_seed(Seek(rest))?;
                    let is_there = element.is_some();
                    found = element.flatten();
                    is_there
                }
                _ => list.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(found)
    }
}

/// Whether a key is the one that is looked for.
struct IsKey<'a>(Option<&'a str>);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        Ok(self.0 == Some(text))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(pointer: &str, body: &str, expected: Option<&str>) {
        assert_eq!(Pointer::parse(pointer).unwrap().find(body.as_bytes()).as_deref(), expected, "{pointer} in {body}");
    }

    #[test]
    fn a_pointer_leads_to_a_string_or_a_whole_number() {
        check("/id", r#"{"data": {"id": "no"}, "id": "evt_1", "x": [1, {"id": 2}]}"#, Some("evt_1"));
        check("/data/1/id", r#"{"data": [{"id": 1}, {"id": -2}, {"id": 3}]}"#, Some("-2"));
        check("/a~1b/m~0n", r#"{"a/b": {"m~n": 7}}"#, Some("7"));
        check("/id", "{\"\\u0069d\": \"caf\\u00e9\"}", Some("café"));
        check("/id", r#"{"id": "first", "id": "last"}"#, Some("last"));
        check("/", r#"{"": "empty"}"#, Some("empty"));
    }

    #[test]
    fn where_nothing_of_the_kind_is_there_is_no_id() {
        for body in ["", "[]", "1", "null", r#"{"id": null}"#, r#"{"id": {}}"#, r#"{"id": 1.5}"#, r#"{"id": tru"#] {
            check("/id", body, None);
        }
        check("/id/0", r#"{"id": "text"}"#, None);
        check("/0", &"[".repeat(100_000), None);
        assert!(Pointer::parse("id").is_err() && Pointer::parse("").is_err());
        assert!(Pointer::parse(&"/a".repeat(17)).is_err());
    }
}
