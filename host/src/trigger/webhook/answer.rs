//! What a sender is told: the status of each way in which a request can end, and little else.
//!
//! Invariant: nothing tells a stranger which webhooks there are, why a signature is wrong, or what a plugin said of it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::message::request::Answer;

/// The id under which the request is known here.
const MESSAGE_ID: HeaderName = HeaderName::from_static("bulkhead-message-id");
/// When to come back to a queue without room, or to a plugin that asks for another attempt and does not say when.
const RETRY: Duration = Duration::from_secs(1);
/// When to come back to a host that stops.
const STOPPING_RETRY: Duration = Duration::from_secs(5);
/// Nobody is asked to wait longer.
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// Headers of a plugin's answer that are the connection's.
const NOT_THE_PLUGINS: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::DATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// An answer on its way.
#[derive(Debug)]
pub(super) struct Reply(Response<Full<Bytes>>);

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not a request that can be understood in one way only.
    Malformed,
    /// Nobody may know it from a webhook that is not there.
    Unknown,
    /// It did not prove who sent it.
    Unverified,
    /// The keys that would prove it cannot be had.
    NoKeys,
    /// Its body took too long.
    Slow,
    /// Its body is too large.
    Body,
    /// Its target is too long.
    Target,
    /// Its headers are too many or too large.
    Head,
    /// More in a time than the webhook takes.
    Rate(Duration),
    /// The queue or the disk is full.
    NoRoom,
    /// The plugin, or what it needs, asks for another attempt.
    Retry(Duration),
    /// The plugin will never take it.
    Rejected,
    /// The plugin broke, or used too much.
    Broken,
    /// It took too long; it may still succeed.
    Deadline,
    /// The host takes nothing new.
    Stopping,
}

impl Refusal {
    /// Another attempt at the usual time.
    pub(super) const RETRY: Self = Self::Retry(RETRY);

    fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::Unverified => StatusCode::UNAUTHORIZED,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Body => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Target => StatusCode::URI_TOO_LONG,
            Self::Head => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Rate(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NoKeys | Self::NoRoom | Self::Retry(_) | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::Rejected => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Rate(wait) | Self::Retry(wait) => Some(wait),
            Self::NoKeys | Self::NoRoom => Some(RETRY),
            Self::Stopping => Some(STOPPING_RETRY),
            _ => None,
        }
    }

    /// Whether what is left of the request is not read: the connection cannot go on.
    fn ends_connection(self) -> bool {
        matches!(self, Self::Malformed | Self::Slow | Self::Body | Self::Target | Self::Head | Self::Stopping)
    }
}

impl Reply {
    /// The answer to a request that is on disk; its repeats get the same.
    pub(super) fn accepted(status: u16, message_id: &str) -> Self {
        let mut reply = Self::empty(StatusCode::from_u16(status).unwrap_or(StatusCode::ACCEPTED));
        if let Ok(value) = HeaderValue::from_str(message_id) {
            reply.0.headers_mut().insert(MESSAGE_ID, value);
        }
        reply
    }

    /// 200 with a body.
    pub(super) fn ok(content_type: &'static str, body: Vec<u8>) -> Self {
        let mut response = Response::new(Full::from(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self(response)
    }

    /// A status alone.
    pub(super) fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Self(response)
    }

    /// What a plugin answers, without what is the connection's.
    pub(super) fn of_plugin(answer: &Answer) -> Self {
        let mut reply = Self::empty(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK));
        for (name, value) in &answer.headers {
            let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) else {
                continue;
            };
            if !NOT_THE_PLUGINS.contains(&name) {
                reply.0.headers_mut().append(name, value);
            }
        }
        *reply.0.body_mut() = Full::from(answer.body.clone());
        reply
    }

    /// With a header more.
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().insert(name, value);
        self
    }

    /// With the end of the connection after it.
    pub(super) fn closing(self) -> Self {
        self.with(header::CONNECTION, HeaderValue::from_static("close"))
    }

    pub(super) fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        self.0
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let mut reply = Self::empty(refusal.status());
        if let Some(wait) = refusal.retry_after() {
            let seconds = wait.min(RETRY_MAX).as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                reply = reply.with(header::RETRY_AFTER, value);
            }
        }
        if refusal.ends_connection() { reply.closing() } else { reply }
    }
}
