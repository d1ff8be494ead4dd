//! HTTP through the gate.

pub mod pattern;

use std::time::Duration;

use super::credential::Auth;

/// One entry of `allow.http`.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantSettings {
    /// Where it stands in the configuration, as in `connectors.issues.allow.http[0]`: named in refusals.
    pub key: String,
    /// Scheme, host, port and path that it covers.
    pub pattern: pattern::UrlPattern,
    /// Methods, upper case; empty grants nothing.
    pub methods: Vec<String>,
    /// Private addresses are allowed; the pattern names host and port exactly.
    pub private: bool,
    /// Total deadline of a request, narrowing `limits.wall`.
    pub timeout: Option<Duration>,
    /// Bytes of a request's body, narrowing `limits.request_bytes`.
    pub max_request: Option<u64>,
    /// Bytes of a response's body, narrowing `limits.response_bytes`.
    pub max_response: Option<u64>,
    /// Unsafe requests carry a derived `Idempotency-Key`.
    pub idempotency: bool,
    /// The credential that the gate attaches.
    pub auth: Option<Auth>,
}
