//! The answer to a request.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::verdict::{Verdict, verdict};
use super::{Error, ErrorKind, retry_after};
use crate::message::find_header;
use crate::{Header, host};

/// How much of a refusing answer's body is kept for people.
const EXCERPT_CHARACTERS: usize = 200;

/// An answer, with any status: redirects are not followed.
///
/// [`status`](Self::status) can be looked at before; [`json`](Self::json), [`text`](Self::text), [`bytes`](Self::bytes)
/// and [`check`](Self::check) answer an error when it is not 2xx.
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let _host = Host::new().respond(|_| Ok(http::Response::new(304))).install();
/// let response = http::get("https://api.example.com/names").header("if-none-match", "\"1\"").send()?;
/// let names: Vec<String> = if response.status() == 304 { Vec::new() } else { response.json()? };
/// assert!(names.is_empty());
/// # Ok::<(), Failure>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Vec<u8>,
    request: String,
}

impl Response {
    /// A response for tests, which [`testing::Host`](crate::testing::Host) answers with.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::Response::new(204).status(), 204);
    /// ```
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), request: String::new() }
    }

    /// The same with one more header, for tests.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::Response::new(200).with_header("ETag", "\"1\"").header("etag"), Some("\"1\""));
    /// ```
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_string()));
        self
    }

    /// The same with this body, for tests.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::Response::new(200).with_body("hi").body(), b"hi");
    /// ```
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Its status, as it is.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::Response::new(404).status(), 404);
    /// ```
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The first header of that name, in any case.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::Response::new(200).header("etag"), None);
    /// ```
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// Every header, in the receiver's order.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert!(http::Response::new(200).headers().is_empty());
    /// ```
    #[must_use]
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// The body as it came, decompressed, whatever the status.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::Response::new(422).with_body("no such customer").body(), b"no such customer");
    /// ```
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// How long the receiver asks to wait (`Retry-After`, in seconds or as a date).
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// let response = http::Response::new(429).with_header("retry-after", "30");
    /// assert_eq!(response.retry_after(), Some(std::time::Duration::from_secs(30)));
    /// ```
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers, host::now())
    }

    /// Itself, if its status is 2xx.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert!(http::Response::new(201).check().is_ok());
    /// assert!(http::Response::new(500).check().is_err());
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Status`] otherwise.
    pub fn check(self) -> Result<Self, Error> {
        match verdict(self.status) {
            Verdict::Success => Ok(self),
            Verdict::Retry | Verdict::Reject => Err(self.refusal()),
        }
    }

    /// The body, parsed as JSON, if the status is 2xx.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::Response::new(200).with_body("[1]").json::<Vec<u8>>()?, [1]);
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Status`] when it is not 2xx, [`ErrorKind::Body`] when it is not JSON of that shape.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let answer = self.check()?;
        serde_json::from_slice(&answer.body)
            .map_err(|error| answer.malformed(&format!("the answer is not the expected JSON: {error}")))
    }

    /// The body as text, if the status is 2xx.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::Response::new(200).with_body("hi").text()?, "hi");
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Status`] when it is not 2xx, [`ErrorKind::Body`] when it is not UTF-8.
    pub fn text(self) -> Result<String, Error> {
        let answer = self.check()?;
        let request = answer.request;
        String::from_utf8(answer.body)
            .map_err(|_| Error::new(&request, ErrorKind::Body("the answer is not UTF-8".to_owned())))
    }

    /// The body, if the status is 2xx.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(http::Response::new(200).with_body([1, 2]).bytes()?, [1, 2]);
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Status`] when it is not 2xx.
    pub fn bytes(self) -> Result<Vec<u8>, Error> {
        Ok(self.check()?.body)
    }

    /// The same as the answer to the request with this label.
    pub(crate) fn of(mut self, request: String) -> Self {
        self.request = request;
        self
    }

    fn refusal(&self) -> Error {
        let excerpt = match self.header("location") {
            Some(location) if (300..400).contains(&self.status) => {
                let place = location.split(['?', '#']).next().unwrap_or_default();
                format!("redirects are not followed; it names {place}")
            }
            _ => String::from_utf8_lossy(&self.body).trim().chars().take(EXCERPT_CHARACTERS).collect(),
        };
        Error::new(&self.request, ErrorKind::Status { status: self.status, retry_after: self.retry_after(), excerpt })
    }

    fn malformed(&self, problem: &str) -> Error {
        Error::new(&self.request, ErrorKind::Body(problem.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(response: Response, expected: &str) {
        let error = response.of("GET https://a.example/".to_owned()).text().unwrap_err();
        assert_eq!(error.to_string(), format!("GET https://a.example/: {expected}"));
    }

    #[test]
    fn a_refusal_quotes_the_beginning_of_the_body() {
        check(Response::new(422).with_body(" no such customer\n"), "status 422: no such customer");
        check(Response::new(500).with_body("ä".repeat(300)), &format!("status 500: {}", "ä".repeat(200)));
    }

    #[test]
    fn a_redirect_is_explained() {
        check(Response::new(301).with_header("location", "/b"), "status 301: redirects are not followed; it names /b");
    }

    #[test]
    fn a_broken_body_is_told() {
        check(Response::new(200).with_body([0xff]), "the answer is not UTF-8");
    }
}
