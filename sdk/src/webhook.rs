//! The HTTP requests that a [`Webhook`](crate::Webhook) takes, and its answers.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::find_header;
use crate::{Failure, Header};

/// A request whose sender the host has verified.
///
/// ```
/// use bulkhead_sdk::webhook::Request;
///
/// let request = Request { headers: vec![("x-event".into(), "paid".into())], ..Request::default() };
/// assert_eq!(request.header("X-Event"), Some("paid"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The event's id as the sender names it, or one that the host made.
    pub id: String,
    /// As in "POST".
    pub method: String,
    /// Path and query, as received.
    pub target: String,
    /// Address of the sender, after trusted proxies.
    pub remote_address: String,
    /// The values of `{name}` parts of the configured path.
    pub parameters: Vec<(String, String)>,
    /// Without those that carried the credential.
    pub headers: Vec<Header>,
    /// At most the webhook's `max_body`.
    pub body: Vec<u8>,
    /// Who the host verified it to be, as in "stripe" or a token's subject.
    pub verified_by: Option<String>,
    /// In milliseconds since the Unix epoch.
    pub received_at_ms: u64,
    /// 1 + the attempts charged so far.
    pub attempt: u32,
}

impl Request {
    /// The body, parsed as JSON.
    ///
    /// ```
    /// # use bulkhead_sdk::{Failure, webhook::Request};
    /// let request = Request { body: b"7".to_vec(), ..Request::default() };
    /// assert_eq!(request.json::<u8>()?, 7);
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// A rejection when the body is not JSON of that shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// The first header of that name, in any case.
    ///
    /// ```
    /// # use bulkhead_sdk::webhook::Request;
    /// assert_eq!(Request::default().header("x-event"), None);
    /// ```
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// The value of a `{name}` part of the configured path.
    ///
    /// ```
    /// # use bulkhead_sdk::webhook::Request;
    /// let request = Request { parameters: vec![("shop".into(), "7".into())], ..Request::default() };
    /// assert_eq!(request.parameter("shop"), Some("7"));
    /// ```
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What the sender gets with `respond = "connector"`, after the commit; else it is ignored.
///
/// ```
/// use bulkhead_sdk::webhook::Response;
///
/// let response = Response::new(200).header("content-type", "text/plain").body("thanks");
/// assert_eq!((response.status, response.body.as_slice()), (200, b"thanks".as_slice()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// From 200 to 599.
    pub status: u16,
    /// Names are lower case.
    pub headers: Vec<Header>,
    /// The payload.
    pub body: Vec<u8>,
}

impl Response {
    /// An empty response.
    ///
    /// ```
    /// # use bulkhead_sdk::webhook::Response;
    /// assert!(Response::new(204).body.is_empty());
    /// ```
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A 200 with `value` as JSON.
    ///
    /// ```
    /// # use bulkhead_sdk::{Failure, webhook::Response};
    /// let response = Response::json(&serde_json::json!({"ok": true}))?;
    /// assert_eq!(response.body, br#"{"ok":true}"#);
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// A rejection when `value` has no JSON form.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Failure> {
        Ok(Self::new(200).header("content-type", "application/json").body(serde_json::to_vec(value)?))
    }

    /// One more header; its name is made lower case.
    ///
    /// ```
    /// # use bulkhead_sdk::webhook::Response;
    /// assert_eq!(Response::new(302).header("Location", "/").headers[0].0, "location");
    /// ```
    #[must_use]
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_string()));
        self
    }

    /// Its payload.
    ///
    /// ```
    /// # use bulkhead_sdk::webhook::Response;
    /// assert_eq!(Response::new(200).body("hi").body, b"hi");
    /// ```
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}
