//! Publishing. A publish is staged: it commits together with the delivery that is being handled, or not at all.

use std::fmt;

use crate::{Draft, Failure, host};

/// Why a publish was not staged. As a [`Failure`], `Full` is a retry that costs no attempt, the others are rejections.
///
/// ```
/// use bulkhead_sdk::{Failure, queue};
///
/// assert!(Failure::from(queue::Error::Full("orders is full".into())).is_retry());
/// assert!(!Failure::from(queue::Error::Denied("no grant".into())).is_retry());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No grant for this queue. The text names the key of the configuration that would grant it.
    Denied(String),
    /// Too large, too many in this call, or a malformed header or id.
    Invalid(String),
    /// The queue is at its bound.
    Full(String),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(text) | Self::Invalid(text) | Self::Full(text) => formatter.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(text) | Error::Invalid(text) => Self::reject(text),
            Error::Full(text) => Self::retry(text),
        }
    }
}

/// Stages one message for `queue` and answers its id.
///
/// ```
/// use bulkhead_sdk::prelude::*;
/// use bulkhead_sdk::testing::Host;
///
/// let host = Host::new().install();
/// queue::publish("orders", Draft::json(&7)?.key("customer-1"))?;
/// assert_eq!(host.published("orders")[0].body, b"7");
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
/// When the host did not stage it.
pub fn publish(queue: &str, draft: Draft) -> Result<String, Error> {
    Ok(publish_all(queue, [draft])?.pop().unwrap_or_default())
}

/// Stages many messages for `queue` at once, in order, all or none; answers their ids.
///
/// ```
/// use bulkhead_sdk::prelude::*;
/// use bulkhead_sdk::testing::Host;
///
/// let host = Host::new().install();
/// queue::publish_all("lines", "a\nb".lines().map(Draft::new))?;
/// assert_eq!(host.published("lines").len(), 2);
/// # Ok::<(), Failure>(())
/// ```
///
/// # Errors
/// When the host did not stage them.
pub fn publish_all(queue: &str, drafts: impl IntoIterator<Item = Draft>) -> Result<Vec<String>, Error> {
    host::publish(queue, drafts.into_iter().collect())
}
