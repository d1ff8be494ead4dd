//! What a query may say: every key is known, and every number is in its range, or the request is refused by its name.
//!
//! Invariant: nothing that a query says is ignored.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::{Problem, malformed};

/// Entries of a page, unless another number is asked for.
pub(super) const PAGE: usize = 100;
/// The most of them.
pub(super) const PAGE_MAX: usize = 1_000;

/// A query that was read. Its type refuses unknown fields.
pub(super) struct Asked<T>(pub(super) T);

/// Of a route that takes no query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// How many entries a page may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageSize(usize);

impl PageSize {
    pub(super) fn get(self) -> usize {
        self.0
    }

    /// The default of older lists.
    pub(super) fn largest() -> Self {
        Self(PAGE_MAX)
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self(PAGE)
    }
}

impl<'de> Deserialize<'de> for PageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let size = text.parse().ok().filter(|size| (1..=PAGE_MAX).contains(size));
        size.map(Self).ok_or_else(|| D::Error::custom(format!("a whole number from 1 to {PAGE_MAX}, not `{text}`")))
    }
}

impl JsonSchema for PageSize {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PageSize".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 1, "maximum": PAGE_MAX })
    }
}

/// Of a key that does not exist, the parser says its name twice and calls it a field.
fn in_our_words(text: &str) -> String {
    let Some((_, unknown)) = text.split_once(": unknown field ") else { return text.to_owned() };
    let unknown = unknown.replace(", there are no fields", ": here is none").replace(", expected ", ": use ");
    format!("there is no key {unknown}")
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let read = Query::<T>::try_from_uri(&parts.uri);
        read.map(|Query(query)| Self(query)).map_err(|rejection| {
            let text = rejection.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            malformed(format!("the query cannot be read: {}", in_our_words(text)))
        })
    }
}
