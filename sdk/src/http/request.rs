//! A request on its way to the gate.

use std::time::Duration;

use serde::Serialize;

use super::{Error, ErrorKind, Response, target};
use crate::{Header, host};

/// A request being built. Whatever is wrong with it is told by [`send`](Self::send).
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let host = Host::new().respond(|_| Ok(http::Response::new(200))).install();
/// let none: Option<&str> = None;
/// http::get("https://api.example.com/orders").query("state", "open").query("since", none).header("Accept", "application/json").send()?;
/// assert_eq!(host.requests()[0].url(), "https://api.example.com/orders?state=open");
/// # Ok::<(), Failure>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Vec<u8>,
    pub(crate) timeout: Option<Duration>,
    invalid: Option<String>,
}

impl Request {
    pub(crate) fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: None,
            invalid: None,
        }
    }

    /// Adds a value to the query, percent-encoded; `None` adds nothing.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::get("https://a.example/x?a=1").query("q", "b c").url(), "https://a.example/x?a=1&q=b%20c");
    /// ```
    pub fn query(mut self, name: &str, value: impl QueryValue) -> Self {
        if let Some(value) = value.query_value() {
            target::push_query(&mut self.url, name, &value);
        }
        self
    }

    /// Adds a header. Those that carry the credential or frame the message are the host's.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// let request = http::get("https://a.example/").header("Accept", "text/csv");
    /// assert_eq!(request.headers(), [("accept".to_string(), "text/csv".to_string())]);
    /// ```
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_string()));
        self
    }

    /// The body as it is; name its type with a `content-type` header.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::post("https://a.example/").body("a,b").body_bytes(), b"a,b");
    /// ```
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// `value` as JSON, with its `content-type` unless there is one.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::post("https://a.example/").json(&[1]).body_bytes(), b"[1]");
    /// ```
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.body = body,
            Err(error) => self.invalid = Some(format!("the body has no JSON form: {error}")),
        }
        self.content_type("application/json")
    }

    /// Pairs as an HTML form, with its `content-type` unless there is one.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// let request = http::post("https://a.example/").form(&[("grant", "a b"), ("n", "1")]);
    /// assert_eq!(request.body_bytes(), b"grant=a%20b&n=1");
    /// ```
    pub fn form(mut self, pairs: &[(&str, &str)]) -> Self {
        let encoded = pairs.iter().map(|(name, value)| format!("{}={}", target::encode(name), target::encode(value)));
        self.body = encoded.collect::<Vec<_>>().join("&").into_bytes();
        self.content_type("application/x-www-form-urlencoded")
    }

    /// From the first byte out to the last byte in; the grant's own limit if that is shorter.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// let request = http::get("https://a.example/slow").timeout(std::time::Duration::from_secs(5));
    /// # let _ = request;
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends it and waits for the whole answer, whatever its status.
    ///
    /// ```
    /// use bulkhead_sdk::{prelude::*, testing::Host};
    ///
    /// let _host = Host::new().respond(|_| Ok(http::Response::new(404))).install();
    /// assert_eq!(http::get("https://a.example/").send()?.status(), 404);
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// When there is no answer; see [`ErrorKind`].
    pub fn send(self) -> Result<Response, Error> {
        let label = self.label();
        let answer = host::send(self.checked()?).map_err(|kind| Error::new(&label, kind))?;
        Ok(answer.of(label))
    }

    /// Its method.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::get("https://a.example/").method(), "GET");
    /// ```
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Its URL so far.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::get("https://a.example/").query("n", 1).url(), "https://a.example/?n=1");
    /// ```
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its headers so far.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert!(http::get("https://a.example/").headers().is_empty());
    /// ```
    #[must_use]
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// Its body so far.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert!(http::get("https://a.example/").body_bytes().is_empty());
    /// ```
    #[must_use]
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// Method and URL for people, without the query: that may hold what does not belong in a log.
    pub(crate) fn label(&self) -> String {
        let end = self.url.find(['?', '#']).unwrap_or(self.url.len());
        format!("{} {}", self.method, &self.url[..end])
    }

    /// Itself, unless a part of it could not be built.
    pub(crate) fn checked(mut self) -> Result<Self, Error> {
        match self.invalid.take() {
            Some(problem) => Err(Error::new(&self.label(), ErrorKind::Invalid(problem))),
            None => Ok(self),
        }
    }

    fn content_type(self, value: &str) -> Self {
        if self.headers.iter().any(|(name, _)| name == "content-type") {
            self
        } else {
            self.header("content-type", value)
        }
    }
}

/// What [`Request::query`] takes: text, numbers, booleans, and each of them as an `Option`.
///
/// ```
/// # use bulkhead_sdk::prelude::*;
/// let request = http::get("https://a.example/").query("page", Some(2)).query("cursor", None::<String>).query("all", true);
/// assert_eq!(request.url(), "https://a.example/?page=2&all=true");
/// ```
pub trait QueryValue {
    /// Its text; `None` leaves the value out.
    fn query_value(self) -> Option<String>;
}

impl<T: QueryValue> QueryValue for Option<T> {
    fn query_value(self) -> Option<String> {
        self.and_then(QueryValue::query_value)
    }
}

macro_rules! query_values {
    ($($kind:ty),*) => {$(
        impl QueryValue for $kind {
            fn query_value(self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

query_values!(&str, String, &String, bool, char, i32, i64, isize, u8, u16, u32, u64, usize, f64);
