//! Why a request did not give what was wanted, and what that means for the delivery.

use std::fmt;
use std::time::Duration;

use super::verdict::{Verdict, verdict};
use crate::Failure;

/// A request that did not give what was wanted: the kind of error, and which request it was.
///
/// As a [`Failure`] by `?`:
///
/// | what happened | failure |
/// | --- | --- |
/// | denied, invalid, a body that is not what was expected | reject |
/// | held back by the gate | retry with its delay; costs no attempt |
/// | not reached, interrupted, too large an answer | retry |
/// | a status of 401, 403, 408, 409, 421, 423, 425, 429, 5xx | retry, no sooner than `Retry-After` |
/// | any other status that is not 2xx | reject |
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let _host = Host::new().respond(|_| Ok(http::Response::new(503).with_header("retry-after", "5"))).install();
/// let error = http::get("https://api.example.com/a?key=1").send()?.text().unwrap_err();
/// assert_eq!(error.to_string(), "GET https://api.example.com/a: status 503");
/// assert_eq!(Failure::from(error), Failure::retry("GET https://api.example.com/a: status 503").after(std::time::Duration::from_secs(5)));
/// # Ok::<(), Failure>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    request: String,
    kind: ErrorKind,
}

/// What happened to a request.
///
/// ```
/// use bulkhead_sdk::{prelude::*, testing::Host};
///
/// let _host = Host::new().respond(|_| Ok(http::Response::new(404))).install();
/// let found = match http::get("https://api.example.com/a").send()?.check() {
///     Err(error) if matches!(error.kind(), http::ErrorKind::Status { status: 404, .. }) => None,
///     other => Some(other?),
/// };
/// assert!(found.is_none());
/// # Ok::<(), Failure>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No grant covers it. The text names the key of the configuration that would.
    Denied(String),
    /// Not a request that can be sent.
    Invalid(String),
    /// Held back by a rate limit, an open breaker or an earlier `Retry-After`.
    Held(Duration),
    /// Nothing was sent: name, connection or TLS.
    Unreachable(String),
    /// It may have had its effect: the answer did not arrive in time or broke off.
    Interrupted(String),
    /// The answer is larger than the limit; it may have had its effect.
    TooLarge(String),
    /// The answer's status is not 2xx.
    Status {
        /// Any other than 2xx, redirects included.
        status: u16,
        /// How long the receiver asks to wait.
        retry_after: Option<Duration>,
        /// The beginning of the body, for people.
        excerpt: String,
    },
    /// The answer's body is not what was asked for.
    Body(String),
}

impl Error {
    pub(crate) fn new(request: &str, kind: ErrorKind) -> Self {
        Self { request: request.to_owned(), kind }
    }

    /// What happened.
    ///
    /// ```
    /// # use bulkhead_sdk::{prelude::*, testing::Host};
    /// # let _host = Host::new().respond(|_| Err(http::ErrorKind::Denied("no grant".into()))).install();
    /// let error = http::get("https://elsewhere.example/").send().unwrap_err();
    /// assert!(matches!(error.kind(), http::ErrorKind::Denied(_)));
    /// ```
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(text)
            | Self::Invalid(text)
            | Self::Unreachable(text)
            | Self::Interrupted(text)
            | Self::TooLarge(text)
            | Self::Body(text) => formatter.write_str(text),
            Self::Held(delay) => write!(formatter, "held back for {} ms", delay.as_millis()),
            Self::Status { status, excerpt, .. } if excerpt.is_empty() => write!(formatter, "status {status}"),
            Self::Status { status, excerpt, .. } => write!(formatter, "status {status}: {excerpt}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.request, self.kind)
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let reason = error.to_string();
        match error.kind {
            ErrorKind::Denied(_) | ErrorKind::Invalid(_) | ErrorKind::Body(_) => Self::reject(reason),
            ErrorKind::Held(delay) => Self::retry(reason).after(delay),
            ErrorKind::Unreachable(_) | ErrorKind::Interrupted(_) | ErrorKind::TooLarge(_) => Self::retry(reason),
            ErrorKind::Status { status, retry_after, .. } => match verdict(status) {
                Verdict::Retry => Self::Retry { reason, after: retry_after },
                Verdict::Success | Verdict::Reject => Self::reject(reason),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure_of(kind: ErrorKind) -> Failure {
        Error::new("GET https://a.example/", kind).into()
    }

    #[test]
    fn refusals_are_rejected() {
        for kind in [ErrorKind::Denied("no".into()), ErrorKind::Invalid("no".into()), ErrorKind::Body("no".into())] {
            assert_eq!(failure_of(kind), Failure::reject("GET https://a.example/: no"));
        }
    }

    #[test]
    fn trouble_on_the_way_is_retried() {
        assert!(failure_of(ErrorKind::Unreachable("no".into())).is_retry());
        assert!(failure_of(ErrorKind::Interrupted("no".into())).is_retry());
        assert!(failure_of(ErrorKind::TooLarge("no".into())).is_retry());
    }

    #[test]
    fn the_gates_delay_is_kept() {
        let delay = Duration::from_millis(1_500);
        let expected = Failure::retry("GET https://a.example/: held back for 1500 ms").after(delay);
        assert_eq!(failure_of(ErrorKind::Held(delay)), expected);
    }

    #[test]
    fn a_status_is_retried_only_where_that_helps() {
        let status =
            |status| ErrorKind::Status { status, retry_after: Some(Duration::from_secs(9)), excerpt: String::new() };
        assert!(matches!(failure_of(status(429)), Failure::Retry { after: Some(after), .. } if after.as_secs() == 9));
        assert!(!failure_of(status(422)).is_retry());
        assert!(!failure_of(status(304)).is_retry());
    }
}
