//! The connector's `config`.

use std::collections::BTreeMap;

use bulkhead_sdk::prelude::*;
use serde_json::Value;

/// `config` of `builtin:http-request`. Text may hold `{{ … }}` places that are filled from the message.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The request's method.
    #[serde(default = "default_method")]
    pub method: String,
    /// Absolute URL; what is filled in is percent-encoded.
    pub url: String,
    /// Headers beside the ones that the host sets.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Text, or a table or list that becomes JSON. Left out, POST, PUT and PATCH send the message's body as it is, other methods none.
    #[serde(default)]
    pub body: Option<Value>,
    /// Statuses that settle the message, beside 2xx.
    #[serde(default)]
    pub success: Vec<Status>,
    /// Statuses that are worth another attempt, beside 401, 403, 408, 409, 421, 423, 425, 429 and 5xx.
    #[serde(default)]
    pub retry: Vec<Status>,
    /// Statuses that make a dead letter at once, beside all others.
    #[serde(default)]
    pub reject: Vec<Status>,
}

/// One status, as in `404`, or a class of them, as in `"5xx"`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum Status {
    /// One status.
    One(#[schemars(range(min = 100, max = 599))] u16),
    /// A class: `1xx` to `5xx`.
    Class(Class),
}

/// A class of statuses.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum Class {
    /// Interim answers.
    #[serde(rename = "1xx")]
    Interim,
    /// Success.
    #[serde(rename = "2xx")]
    Success,
    /// Redirects.
    #[serde(rename = "3xx")]
    Redirect,
    /// The request is at fault.
    #[serde(rename = "4xx")]
    Request,
    /// The receiver is at fault.
    #[serde(rename = "5xx")]
    Receiver,
}

impl Class {
    /// Whether the status is of this class.
    pub(crate) fn contains(self, status: u16) -> bool {
        let first_digit = match self {
            Self::Interim => 1,
            Self::Success => 2,
            Self::Redirect => 3,
            Self::Request => 4,
            Self::Receiver => 5,
        };
        status / 100 == first_digit
    }
}

fn default_method() -> String {
    "POST".to_owned()
}
