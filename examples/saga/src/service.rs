//! One request to a service, and what its answer means for the saga.

use bulkhead_sdk::Failure;
use bulkhead_sdk::http::{self, Verdict};
use bulkhead_sdk::log;
use serde_json::Value;

/// Of a longer answer nothing is kept: it travels with the saga's message.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// What a service decided.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// It is done. What it said, or null.
    Done(Value),
    /// It will never do it, and has not.
    Refused(String),
}

/// Asks a service to do something once, however often it is asked with this key.
///
/// # Errors
/// No decision: the service is down or busy, or the configuration does not allow it.
pub(crate) fn post(url: &str, key: &str, body: &Value) -> Result<Answer, Failure> {
    let response = http::post(url).header("idempotency-key", key).json(body).send()?;
    let is_decided = (400..500).contains(&response.status()) && http::verdict(response.status()) == Verdict::Reject;
    match response.check() {
        Ok(response) if response.body().len() > ANSWER_BYTES_MAX => {
            log::warn!("{url} answered {} bytes: they are not kept", response.body().len());
            Ok(Answer::Done(Value::Null))
        }
        Ok(response) => Ok(Answer::Done(serde_json::from_slice(response.body()).unwrap_or_default())),
        Err(error) if is_decided => Ok(Answer::Refused(error.to_string())),
        Err(error) => Err(error.into()),
    }
}
