//! Which pages in a browser may send requests to a webhook: the CORS protocol of the Fetch standard.

use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::answer::Reply;

/// `webhook.cors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins such as `https://shop.example`; `*` is every one.
    pub origins: Vec<String>,
    /// Headers that a page may set.
    pub headers: Vec<String>,
    /// How long a browser may remember it.
    pub max_age: Duration,
}

impl Cors {
    /// What the answer to a request from this page says, if the page may send it.
    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        if self.origins.iter().any(|own| own == "*") {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.iter().any(|own| own.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    /// The answer to a browser that asks before it sends; `None` where the page may not.
    pub(super) fn preflight(&self, headers: &HeaderMap, methods: &[String]) -> Option<Reply> {
        headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        let origin = self.allowed(headers)?;
        let value = |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        let reply = Reply::empty(StatusCode::NO_CONTENT)
            .with(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)
            .with(header::VARY, HeaderValue::from_static("origin"))
            .with(header::ACCESS_CONTROL_ALLOW_METHODS, value(&methods.join(", ")))
            .with(header::ACCESS_CONTROL_MAX_AGE, value(&self.max_age.as_secs().to_string()));
        if self.headers.is_empty() {
            return Some(reply);
        }
        Some(reply.with(header::ACCESS_CONTROL_ALLOW_HEADERS, value(&self.headers.join(", "))))
    }

    /// Lets the page read the answer.
    pub(super) fn open(&self, headers: &HeaderMap, reply: Reply) -> Reply {
        match self.allowed(headers) {
            Some(origin) => reply
                .with(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)
                .with(header::VARY, HeaderValue::from_static("origin")),
            None => reply,
        }
    }
}
