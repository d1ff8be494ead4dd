//! What a connector adds to the trace of the delivery that it handles, where the host exports traces.
//!
//! It stands in the span of the present attempt, beside what the host says itself: the requests and publishes of the call
//! are there without a word. Where the host exports no traces, or does not record this one, nothing happens. Names and
//! texts are bounded in number and length by the host; past a bound they are left out and counted. Never say a secret:
//! whoever reads traces reads it.

use std::fmt;

use crate::host;

/// What is said under a name: a text, a number, yes or no.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any number.
    Number(f64),
    /// Yes or no.
    Boolean(bool),
}

/// Says something about the attempt; the same name again takes the place of what was said before.
///
/// ```
/// # use bulkhead_sdk::{trace, testing::Host};
/// # let host = Host::new().install();
/// trace::set_attribute("order.items", 3);
/// trace::set_attribute("order.country", "de");
/// assert_eq!(host.trace(), ["order.items=3", "order.country=de"]);
/// ```
pub fn set_attribute(key: &str, value: impl Into<Value>) {
    host::set_attribute(key, value.into());
}

/// Tells of something that happens at this moment.
///
/// ```
/// # use bulkhead_sdk::{trace, testing::Host};
/// # let host = Host::new().install();
/// trace::add_event("page.read", [("page", 2.into()), ("is_last", true.into())]);
/// assert_eq!(host.trace(), ["page.read{page=2,is_last=true}"]);
/// ```
pub fn add_event<'a>(name: &str, attributes: impl IntoIterator<Item = (&'a str, Value)>) {
    host::add_event(name, attributes.into_iter().collect());
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Integer(number) => write!(formatter, "{number}"),
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Boolean(is) => write!(formatter, "{is}"),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self::Boolean(is)
    }
}
