//! Why something could not be handled, and what the host shall do about it.
//!
//! Owns [`Failure`], the error type of every connector, and [`OrFail`], which turns other errors and missing values into it.
//! The errors of the SDK's own modules convert by `?`, each as its module says.

use std::fmt::{self, Display};
use std::time::Duration;

/// What a connector answers when it could not handle a message, tick or request.
///
/// ```
/// use bulkhead_sdk::Failure;
/// use std::time::Duration;
///
/// let busy = Failure::retry("the warehouse is closed").after(Duration::from_secs(60));
/// let hopeless = Failure::reject("an order needs a customer");
/// assert_eq!(busy.to_string(), "the warehouse is closed");
/// assert!(busy.is_retry() && !hopeless.is_retry());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Try again, by the connector's retry policy. Costs an attempt.
    Retry {
        /// Why, for people.
        reason: String,
        /// No sooner than this.
        after: Option<Duration>,
    },
    /// It will never work: a dead letter at once.
    Reject {
        /// Why, for people.
        reason: String,
    },
}

impl Failure {
    /// Worth another attempt, by the connector's retry policy.
    ///
    /// ```
    /// # use bulkhead_sdk::Failure;
    /// assert!(Failure::retry("the answer was empty").is_retry());
    /// ```
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// Never going to work: a dead letter at once.
    ///
    /// ```
    /// # use bulkhead_sdk::Failure;
    /// assert!(!Failure::reject("no such customer").is_retry());
    /// ```
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject { reason: reason.into() }
    }

    /// The next attempt no sooner than this; nothing changes for a rejection.
    ///
    /// ```
    /// # use bulkhead_sdk::Failure;
    /// # use std::time::Duration;
    /// let failure = Failure::retry("closed").after(Duration::from_secs(5));
    /// assert!(matches!(failure, Failure::Retry { after: Some(after), .. } if after.as_secs() == 5));
    /// ```
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        match self {
            Self::Retry { reason, .. } => Self::Retry { reason, after: Some(delay) },
            Self::Reject { reason } => Self::Reject { reason },
        }
    }

    /// Why, for people.
    ///
    /// ```
    /// # use bulkhead_sdk::Failure;
    /// assert_eq!(Failure::reject("no id").reason(), "no id");
    /// ```
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry { reason, .. } | Self::Reject { reason } => reason,
        }
    }

    /// Whether another attempt is asked for.
    ///
    /// ```
    /// # use bulkhead_sdk::Failure;
    /// assert!(Failure::retry("later").is_retry());
    /// ```
    #[must_use]
    pub fn is_retry(&self) -> bool {
        matches!(self, Self::Retry { .. })
    }
}

impl Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

impl std::error::Error for Failure {}

/// What does not parse today does not parse tomorrow: a rejection.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::reject(format!("not the expected JSON: {error}"))
    }
}

/// Bytes that are not text stay so: a rejection.
impl From<std::str::Utf8Error> for Failure {
    fn from(error: std::str::Utf8Error) -> Self {
        Self::reject(format!("not UTF-8: {error}"))
    }
}

/// Bytes that are not text stay so: a rejection.
impl From<std::string::FromUtf8Error> for Failure {
    fn from(error: std::string::FromUtf8Error) -> Self {
        error.utf8_error().into()
    }
}

/// Turns any other error, or a value that is not there, into a [`Failure`] with a few words of context.
///
/// ```
/// use bulkhead_sdk::prelude::*;
///
/// fn quantity(text: Option<&str>) -> Result<u32, Failure> {
///     text.or_reject("an order needs a quantity")?.parse().or_reject("quantity")
/// }
/// assert_eq!(quantity(Some("3")), Ok(3));
/// assert_eq!(quantity(None), Err(Failure::reject("an order needs a quantity")));
/// assert_eq!(quantity(Some("x")), Err(Failure::reject("quantity: invalid digit found in string")));
/// ```
pub trait OrFail<T> {
    /// Asks for another attempt.
    ///
    /// # Errors
    /// `Retry`, with the context and the error's text.
    fn or_retry(self, context: &str) -> Result<T, Failure>;

    /// Gives up on it: a dead letter.
    ///
    /// # Errors
    /// `Reject`, with the context and the error's text.
    fn or_reject(self, context: &str) -> Result<T, Failure>;
}

impl<T, E: Display> OrFail<T> for Result<T, E> {
    fn or_retry(self, context: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::retry(format!("{context}: {error}")))
    }

    fn or_reject(self, context: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::reject(format!("{context}: {error}")))
    }
}

impl<T> OrFail<T> for Option<T> {
    fn or_retry(self, context: &str) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::retry(context))
    }

    fn or_reject(self, context: &str) -> Result<T, Failure> {
        self.ok_or_else(|| Failure::reject(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_json_is_rejected() {
        let error = serde_json::from_str::<u8>("x").unwrap_err();
        assert!(!Failure::from(error).is_retry());
    }

    #[test]
    fn a_delay_changes_no_rejection() {
        assert_eq!(Failure::reject("no").after(Duration::from_secs(1)), Failure::reject("no"));
    }
}
