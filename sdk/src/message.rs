//! What travels through queues: a [`Message`] as it arrives, a [`Draft`] on its way out.
//!
//! Owns the shapes and their JSON; publishing is [`crate::queue`]'s. Header names are lower case.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Failure;

/// One header: a lower-case name and its value. A name may repeat.
///
/// ```
/// use bulkhead_sdk::{Draft, Header};
///
/// let source: Header = ("source".to_owned(), "shop".to_owned());
/// assert_eq!(Draft::new("{}").header("source", "shop").headers, [source]);
/// ```
pub type Header = (String, String);

/// A message as a connector receives it.
///
/// ```
/// use bulkhead_sdk::prelude::*;
///
/// #[derive(serde::Deserialize)]
/// struct Order { id: u64 }
///
/// let message = Message { body: br#"{"id": 7}"#.to_vec(), ..Message::default() };
/// let order: Order = message.json()?;
/// assert_eq!(order.id, 7);
/// # Ok::<(), Failure>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Stable over every redelivery; unique only within the queue's `dedup` window.
    pub id: String,
    /// The queue that it came from.
    pub queue: String,
    /// What the sender ordered it by, if anything.
    pub key: Option<String>,
    /// In the sender's order.
    pub headers: Vec<Header>,
    /// The payload.
    pub body: Vec<u8>,
    /// 1 + the attempts charged so far.
    pub attempt: u32,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub enqueued_at_ms: u64,
    /// When it stops being worth delivering, if ever, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// The id of the message that it was made from, if any.
    pub parent: Option<String>,
    /// How many connectors it has passed through in this host.
    pub hops: u32,
}

impl Message {
    /// The body, parsed as JSON; what is parsed may borrow from the body.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// let message = Message { body: b"[1, 2]".to_vec(), ..Message::default() };
    /// assert_eq!(message.json::<Vec<u8>>()?, [1, 2]);
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// A rejection when the body is not JSON of that shape.
    pub fn json<'m, T: Deserialize<'m>>(&'m self) -> Result<T, Failure> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// The body as text.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// let message = Message { body: b"hello".to_vec(), ..Message::default() };
    /// assert_eq!(message.text()?, "hello");
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// A rejection when the body is not UTF-8.
    pub fn text(&self) -> Result<&str, Failure> {
        Ok(std::str::from_utf8(&self.body)?)
    }

    /// The first header of that name, in any case.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// let message = Message { headers: vec![("source".into(), "shop".into())], ..Message::default() };
    /// assert_eq!(message.header("Source"), Some("shop"));
    /// ```
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }
}

/// A message to be published.
///
/// ```
/// use bulkhead_sdk::prelude::*;
/// use std::time::Duration;
///
/// let draft = Draft::json(&serde_json::json!({"id": 7}))?
///     .key(7)
///     .header("source", "shop")
///     .delay(Duration::from_secs(30));
/// assert_eq!(draft.body, br#"{"id":7}"#);
/// assert_eq!((draft.key.as_deref(), draft.delay_ms), (Some("7"), Some(30_000)));
/// # Ok::<(), Failure>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// Left out, the host derives one that is the same on every redelivery of what is being handled.
    pub id: Option<String>,
    /// The id of the message that it was made from; needed only in a [`BatchConsumer`](crate::BatchConsumer).
    pub cause: Option<String>,
    /// What to order it by, if anything.
    pub key: Option<String>,
    /// Names are lower case; a name may repeat.
    pub headers: Vec<Header>,
    /// The payload.
    pub body: Vec<u8>,
    /// Deliver no sooner than this after the commit, in milliseconds.
    pub delay_ms: Option<u64>,
    /// Not worth delivering later than this after the commit, in milliseconds.
    pub expires_ms: Option<u64>,
}

impl Draft {
    /// A message with these bytes.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(Draft::new("plain text").body, b"plain text");
    /// ```
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// A message with `value` as JSON.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(Draft::json(&[1, 2])?.body, b"[1,2]");
    /// # Ok::<(), Failure>(())
    /// ```
    ///
    /// # Errors
    /// A rejection when `value` has no JSON form, such as a map whose keys are not text.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, Failure> {
        Ok(Self::new(serde_json::to_vec(value)?))
    }

    /// Its id. Left out, the host derives one that is the same on every redelivery.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(Draft::new("x").id("order-7").id.as_deref(), Some("order-7"));
    /// ```
    #[must_use]
    pub fn id(mut self, id: impl ToString) -> Self {
        self.id = Some(id.to_string());
        self
    }

    /// The message that it was made from: needed only in a [`BatchConsumer`](crate::BatchConsumer).
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// let message = Message { id: "a".into(), ..Message::default() };
    /// assert_eq!(Draft::new("x").cause(&message).cause.as_deref(), Some("a"));
    /// ```
    #[must_use]
    pub fn cause(mut self, message: &Message) -> Self {
        self.cause = Some(message.id.clone());
        self
    }

    /// What to order it by, where the queue has `ordering = "key"`.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(Draft::new("x").key(42).key.as_deref(), Some("42"));
    /// ```
    #[must_use]
    pub fn key(mut self, key: impl ToString) -> Self {
        self.key = Some(key.to_string());
        self
    }

    /// One more header; its name is made lower case.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(Draft::new("x").header("Source", "shop").headers, [("source".to_string(), "shop".to_string())]);
    /// ```
    #[must_use]
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_string()));
        self
    }

    /// Deliver it no sooner than this after the commit.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(Draft::new("x").delay(std::time::Duration::from_secs(2)).delay_ms, Some(2_000));
    /// ```
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay_ms = Some(milliseconds(delay));
        self
    }

    /// Later than this after the commit it is not worth delivering.
    ///
    /// ```
    /// # use bulkhead_sdk::prelude::*;
    /// assert_eq!(Draft::new("x").expires(std::time::Duration::from_secs(2)).expires_ms, Some(2_000));
    /// ```
    #[must_use]
    pub fn expires(mut self, expires: Duration) -> Self {
        self.expires_ms = Some(milliseconds(expires));
        self
    }
}

/// A copy that is passed on: key, headers and body; its id is derived anew.
impl From<Message> for Draft {
    fn from(message: Message) -> Self {
        Self { key: message.key, headers: message.headers, body: message.body, ..Self::default() }
    }
}

/// The first header of that name, in any case.
pub(crate) fn find_header<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Whole milliseconds, at most what fits.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
