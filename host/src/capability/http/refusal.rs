//! Why a request got no answer, told to each reader: the plugin (typed), the operator (one log line), the metrics.
//!
//! Invariant: every text that refuses names the TOML key that would allow it, and none contains a secret, a query or an
//! address that the plugin did not write itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime_wasi_http::Error as StreamError;

use super::Grant;
use super::header::Unsendable;
use crate::audit::{Kind, Refused};
use crate::bindings::bulkhead::connector::http::HttpError;
use crate::capability::veil::Veil;
use crate::egress::address::{Class, Reach};
use crate::limit::Limit;
use crate::metrics::Effect;

/// What the failures of one call come to; requests that stream report late, so it is shared with them.
#[derive(Debug)]
pub(super) struct Reports {
    held_ms: AtomicU64,
    /// What asked for the longest delay.
    held_by: Mutex<String>,
    veil: Veil,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The gate says no.
    Refused(Refusal),
    /// Not now: the plugin shall fail with `retry` after this.
    Held(Duration, HeldBy),
    /// Nothing was sent: the sandbox held all requests that the connector may have under way itself.
    Crowded { max: u32 },
    /// Nothing was sent.
    Unreachable { host: String, because: &'static str },
    /// It may have had its effect.
    Interrupted { host: String, because: &'static str },
    /// It may have had its effect: the answer has not begun within this time; the key says so.
    Silent { host: String, within: Duration, key: String },
    /// The answer is over this many bytes; the key says so.
    TooLarge { max: u64, key: String },
}

/// What a request waited for in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HeldBy {
    /// The commit of earlier deliveries.
    Commit,
    /// Other requests of the connector.
    AtOnce,
    /// A credential that cannot be had at the moment, and why.
    Secret(String),
    /// The rate of the entry with this key.
    Rate(String),
    /// The breaker of the entry with this key.
    Breaker(String),
    /// The receiver, which answered anybody in this host with `Retry-After`.
    Receiver(String),
}

/// What the gate said no to. `key` is what an operator would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No entry covers the URL.
    NotGranted { method: String, url: String },
    /// An entry covers the URL, but not the method.
    Method { method: String, url: String, key: String },
    /// The address is of a kind that the entry does not reach.
    Address { host: String, class: Class, reach: Reach, key: String },
    /// It is not a request that can be sent.
    Malformed(&'static str),
    /// A header that belongs to the connection.
    Header(String),
    /// One call asked too often.
    Requests { max: u32 },
    /// The body is too large.
    RequestBytes { max: u64, key: String },
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Unsendable> for Failure {
    fn from(unsendable: Unsendable) -> Self {
        Self::Refused(match unsendable {
            Unsendable::Owned(name) => Refusal::Header(name),
            Unsendable::Malformed(what) => Refusal::Malformed(what),
        })
    }
}

/// Which metric counts a refusal.
enum Counted {
    Denied(&'static str),
    Limit(Limit),
}

impl Refusal {
    fn counted(&self) -> Counted {
        match self {
            Self::NotGranted { .. } => Counted::Denied("not_granted"),
            Self::Method { .. } => Counted::Denied("method"),
            Self::Address { .. } => Counted::Denied("address"),
            Self::Malformed(_) => Counted::Denied("invalid"),
            Self::Header(_) => Counted::Denied("header"),
            Self::Requests { .. } => Counted::Limit(Limit::Requests),
            Self::RequestBytes { .. } => Counted::Limit(Limit::RequestBytes),
        }
    }

    fn key(&self, grant: &Grant) -> String {
        match self {
            Self::NotGranted { .. } | Self::Malformed(_) | Self::Header(_) => grant.key("allow.http"),
            Self::Method { key, .. } => format!("{key}.methods"),
            Self::Address { key, .. } => format!("{key}.private"),
            Self::Requests { .. } => grant.key("limits.requests"),
            Self::RequestBytes { key, .. } => key.clone(),
        }
    }

    fn text(&self, grant: &Grant) -> String {
        let (connector, key) = (&grant.connector, self.key(grant));
        match self {
            Self::NotGranted { method, url } => {
                format!("connector `{connector}` may not {method} {url}: add it to `{key}`")
            }
            Self::Method { method, url, .. } => {
                format!("connector `{connector}` may not {method} {url}: add \"{method}\" to `{key}`")
            }
            Self::Address { host, class, reach, .. } => {
                let fix = address_fix(*class, *reach, &key);
                format!("connector `{connector}` may not reach `{host}`, which is {}: {fix}", place(*class))
            }
            Self::Malformed(what) => format!("connector `{connector}` asked for something that cannot be sent: {what}"),
            Self::Header(name) => {
                format!("connector `{connector}` may not set `{name}`: the header belongs to the host")
            }
            Self::Requests { max } => {
                format!("connector `{connector}` may send {max} requests in one call: raise `{key}`")
            }
            Self::RequestBytes { max, .. } => {
                format!("connector `{connector}` may send bodies of {max} bytes: raise `{key}`")
            }
        }
    }
}

fn place(class: Class) -> &'static str {
    match class {
        Class::Public => "public",
        Class::Loopback | Class::Private | Class::Shared | Class::Own => "on a private network or this machine",
        Class::LinkLocal | Class::Metadata => "on the local link or a metadata service",
        Class::Unspecified | Class::Multicast | Class::Broadcast | Class::Reserved => "not the address of one host",
    }
}

/// What an operator can do, if anything.
fn address_fix(class: Class, reach: Reach, key: &str) -> String {
    if reach.allows_literal(class) {
        // Private already, but it was reached by name.
        return "only a grant that spells the address out reaches it".to_owned();
    }
    if Reach::Private.allows_by_name(class) {
        return format!("set `{key} = true` where host and port are written out");
    }
    if Reach::Private.allows_literal(class) {
        return format!("only a grant that spells address and port out, with `{key} = true`, reaches it");
    }
    "no grant reaches it".to_owned()
}

impl Reports {
    /// Reports that repeat nothing of what is behind a veil.
    pub(super) fn behind(veil: Veil) -> Self {
        Self { held_ms: AtomicU64::new(0), held_by: Mutex::default(), veil }
    }

    /// A call begins.
    pub(super) fn clear(&self) {
        self.held_ms.store(0, Ordering::Relaxed);
    }

    /// The longest delay that the gate asked for in this call, and what it waits for.
    pub(super) fn held(&self) -> Option<(Duration, String)> {
        let held_ms = self.held_ms.load(Ordering::Relaxed);
        (held_ms > 0).then(|| (Duration::from_millis(held_ms), lock(&self.held_by).clone()))
    }

    /// Counts, records and logs what an operator should see.
    pub(super) fn report(&self, grant: &Grant, failure: &Failure) {
        if let Failure::Held(delay, by) = failure
            && self.held_ms.fetch_max(millis(*delay), Ordering::Relaxed) < millis(*delay)
        {
            *lock(&self.held_by) = self.veil.hide(&by.text(grant, *delay)).into_owned();
        }
        let Some((counted, key)) = failure.counted(grant) else { return };
        let (connector, services) = (&grant.connector, &grant.services);
        let (kind, subject, reason) = match counted {
            Counted::Denied(reason) => {
                services.metrics.denied(connector, Effect::Http, reason);
                (Kind::Refusal, Effect::Http.label(), reason)
            }
            Counted::Limit(limit) => {
                services.metrics.limit_hit(connector, limit);
                (Kind::Limit, limit.label(), "limit")
            }
        };
        let text = failure.text(grant);
        let text = self.veil.hide(&text);
        if matches!(failure, Failure::Held(_, HeldBy::Rate(_) | HeldBy::Breaker(_) | HeldBy::Receiver(_))) {
            // Nothing is wrong with it: an operator asked for it, or was told when the breaker opened or the receiver spoke.
            tracing::debug!(%connector, effect = subject, reason, key, "{text}");
        } else {
            services.audit.refused(&Refused { kind, connector, subject, reason, key: &key, text: &text });
        }
    }
}

impl HeldBy {
    fn text(&self, grant: &Grant, delay: Duration) -> String {
        let (connector, ms) = (&grant.connector, delay.as_millis());
        match self {
            Self::Secret(why) => format!("connector `{connector}` waits {ms} ms: {why}"),
            Self::AtOnce | Self::Commit => format!(
                "connector `{connector}` had {} requests under way for too long: raise `{}`",
                grant.limits.requests_at_once,
                grant.key("limits.requests_at_once")
            ),
            Self::Rate(key) => {
                format!("connector `{connector}` is over its rate for another {ms} ms: it waits, or raise `{key}.rate`")
            }
            Self::Breaker(key) => {
                format!("connector `{connector}` waits {ms} ms, because its receiver failed: see `{key}.breaker`")
            }
            Self::Receiver(host) => {
                format!("connector `{connector}` waits {ms} ms, because `{host}` asked for it with Retry-After")
            }
        }
    }
}

fn lock(text: &Mutex<String>) -> MutexGuard<'_, String> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
}

impl Failure {
    /// Which metric counts it, with the key to change; `None` where neither the gate nor a limit decided. A secret is
    /// reported where it is missed, a commit is nobody's to change, the outside is counted with the request.
    fn counted(&self, grant: &Grant) -> Option<(Counted, String)> {
        match self {
            Self::Refused(refusal) => Some((refusal.counted(), refusal.key(grant))),
            Self::TooLarge { key, .. } => Some((Counted::Limit(Limit::ResponseBytes), key.clone())),
            Self::Held(_, HeldBy::AtOnce) | Self::Crowded { .. } => {
                Some((Counted::Limit(Limit::RequestsAtOnce), grant.key("limits.requests_at_once")))
            }
            Self::Held(_, HeldBy::Rate(key)) => Some((Counted::Denied("rate"), format!("{key}.rate"))),
            Self::Held(_, HeldBy::Breaker(key)) => Some((Counted::Denied("breaker"), format!("{key}.breaker"))),
            Self::Held(_, HeldBy::Receiver(_)) => Some((Counted::Denied("retry_after"), grant.key("allow.http"))),
            Self::Held(_, HeldBy::Commit | HeldBy::Secret(_)) => None,
            Self::Silent { key, .. } => Some((Counted::Limit(Limit::FirstByte), key.clone())),
            Self::Unreachable { .. } | Self::Interrupted { .. } => None,
        }
    }

    /// What the plugin is told.
    pub(super) fn error(&self, grant: &Grant) -> HttpError {
        match self {
            Self::Refused(Refusal::NotGranted { .. } | Refusal::Method { .. } | Refusal::Address { .. })
            | Self::Refused(Refusal::Requests { .. }) => HttpError::Denied(self.text(grant)),
            Self::Refused(Refusal::Malformed(_) | Refusal::Header(_) | Refusal::RequestBytes { .. }) => {
                HttpError::Invalid(self.text(grant))
            }
            Self::Held(delay, _) => HttpError::Held(millis(*delay)),
            Self::Crowded { .. } | Self::Unreachable { .. } => HttpError::Unreachable(self.text(grant)),
            Self::Interrupted { .. } | Self::Silent { .. } => HttpError::Interrupted(self.text(grant)),
            Self::TooLarge { .. } => HttpError::TooLarge(self.text(grant)),
        }
    }

    /// What a plugin that streams is told: codes of the standard, most of them without a text.
    pub(super) fn stream_error(&self) -> StreamError {
        match self {
            Self::Refused(Refusal::Address { .. }) => StreamError::DestinationIpProhibited,
            Self::Refused(Refusal::RequestBytes { max, .. }) => StreamError::HttpRequestBodySize(Some(*max)),
            Self::Refused(Refusal::Malformed(what)) => StreamError::InternalError(Some((*what).to_owned())),
            Self::Refused(_) => StreamError::HttpRequestDenied,
            Self::Held(..) | Self::Crowded { .. } => StreamError::ConnectionLimitReached,
            Self::Unreachable { .. } => StreamError::DestinationUnavailable,
            Self::Interrupted { .. } => StreamError::HttpResponseIncomplete,
            Self::Silent { .. } => StreamError::HttpResponseTimeout,
            Self::TooLarge { max, .. } => StreamError::HttpResponseBodySize(Some(*max)),
        }
    }

    fn text(&self, grant: &Grant) -> String {
        match self {
            Self::Refused(refusal) => refusal.text(grant),
            Self::Held(delay, by) => by.text(grant, *delay),
            Self::Crowded { max } => format!(
                "one sandbox of connector `{}` kept all its {max} requests under way to itself: let it take or drop their \
                 answers, or raise `{}`",
                grant.connector,
                grant.key("limits.requests_at_once")
            ),
            Self::Unreachable { host, because } => format!("`{host}` cannot be reached: {because}"),
            Self::Interrupted { host, because } => format!("`{host}` may have got the request: {because}"),
            Self::Silent { host, within, key } => {
                format!("`{host}` may have got the request: it did not begin to answer within {within:?}: see `{key}`")
            }
            Self::TooLarge { max, key } => format!("the answer is over {max} bytes: raise `{key}`"),
        }
    }
}
