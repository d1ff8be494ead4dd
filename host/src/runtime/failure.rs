//! Why an attempt did not work.
//!
//! Owns the classification of what a call ended with; what becomes of the delivery is decided in
//! [`crate::delivery::outcome`]. Invariant: a reason is bounded and holds no control characters, since parts of it are a
//! plugin's own words.

use std::time::Duration;

use wasmtime::Trap;
use wasmtime::component::ResourceTableError;

use super::meter::Cut;
use crate::bindings::bulkhead::connector::types;
use crate::capability::{HeldBack, OverLimit, Session};
use crate::limit::Limit;
use crate::settlement::Lack;

/// Bytes of a reason: a panic message and its place, not a core dump.
const REASON_BYTES_MAX: usize = 4096;
/// What there is to say about a call that ran out of time.
pub(super) const INTERRUPTED: &str = "the call was interrupted";
/// What the engine answers when the handles of a sandbox are spent that are not in its resource table.
const HANDLES_SPENT: &str = "store handle limit exceeded";
/// What the engine answers when one host call hands over too much.
const HOSTCALL_SPENT: &str = "too much data";
/// The same for people.
const HOSTCALL_TEXT: &str = "one call of the host handed over more";

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The plugin asks for another attempt.
    Retry {
        /// In its words.
        reason: String,
        /// No sooner than after this.
        after: Option<Duration>,
    },
    /// The plugin says that it will never work.
    Reject {
        /// In its words.
        reason: String,
    },
    /// The plugin asks for another attempt because the gate held it back: costs nothing.
    Held {
        /// In its words.
        reason: String,
        /// The gate's own delay.
        delay: Duration,
        /// The room that it waits for, if it does.
        lack: Option<Lack>,
    },
    /// The plugin broke.
    Trap {
        /// What happened, and the end of what it wrote to standard error.
        reason: String,
    },
    /// A limit ended the call.
    Limit {
        /// Which.
        limit: Limit,
        /// What happened, and the end of what it wrote to standard error.
        reason: String,
    },
}

/// What a panic said.
#[must_use]
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

impl Failure {
    /// Its kind, in a fixed word; of a limit, which.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Reject { .. } => "reject",
            Self::Held { .. } => "held",
            Self::Trap { .. } => "trap",
            Self::Limit { limit, .. } => limit.label(),
        }
    }

    /// What a plugin answered; `held` is how the gate held this call back, if it did.
    #[must_use]
    pub fn of_plugin(failure: types::Failure, held: Option<&HeldBack>) -> Self {
        match (failure, held) {
            (types::Failure::Reject(reason), _) => Self::Reject { reason: bounded(&reason) },
            (types::Failure::Retry(retry), Some(HeldBack { delay, lack, why })) => {
                let reason =
                    why.as_ref().map_or_else(|| retry.reason.clone(), |why| format!("{}: {why}", retry.reason));
                Self::Held { reason: bounded(&reason), delay: *delay, lack: *lack }
            }
            (types::Failure::Retry(retry), None) => {
                Self::Retry { reason: bounded(&retry.reason), after: retry.after_ms.map(Duration::from_millis) }
            }
        }
    }

    /// What the guest or a host call broke with; ends the session's call.
    pub(super) fn of_error(session: &mut Session, error: &wasmtime::Error) -> Self {
        let memory_refused = session.memory().was_refused();
        let ended = session.end_call();
        session.note_dropped(&ended);
        let over = OverLimit::of(error);
        let what = over.map_or_else(|| session.hide(&describe(error)).into_owned(), |over| over.what.to_owned());
        let limit = over.map(|over| over.limit).or_else(|| limit_of(error, &what));
        let Some(limit) = limit.or(memory_refused.then_some(Limit::Memory)) else {
            return Self::trap(&what, &session.stderr_tail());
        };
        let is_fixed = over.is_some_and(|over| over.is_fixed);
        let key = if is_fixed { None } else { limit.key(session.grants().connector().as_str()) };
        // Memory is counted where a growth is refused, whether the guest copes or not.
        if limit != Limit::Memory {
            session.grants().hit(limit, key.as_deref());
        }
        let what = if limit == Limit::Hostcall && over.is_none() { HOSTCALL_TEXT } else { &what };
        Self::limit(session, limit, key.as_deref(), what)
    }

    /// What the meter cut short; ends the session's call.
    pub(super) fn of_cut(session: &mut Session, cut: Cut) -> Self {
        let ended = session.end_call();
        session.note_dropped(&ended);
        match cut {
            Cut::Limit(limit) => {
                let key = limit.key(session.grants().connector().as_str());
                session.grants().hit(limit, key.as_deref());
                Self::limit(session, limit, key.as_deref(), INTERRUPTED)
            }
            Cut::Panic(text) => {
                let (grants, text) = (session.grants(), session.hide(&text));
                grants.metrics().panicked();
                tracing::error!(connector = %grants.connector(), "the host failed in a run, which alone is charged: {text}");
                Self::trap(&format!("the host failed while it ran: {text}"), &session.stderr_tail())
            }
        }
    }

    /// A broken call, with the end of standard error where there is any.
    #[must_use]
    pub(super) fn trap(what: &str, stderr: &str) -> Self {
        Self::Trap { reason: with_stderr(what, stderr) }
    }

    /// Why, for people.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry { reason, .. }
            | Self::Reject { reason }
            | Self::Held { reason, .. }
            | Self::Trap { reason }
            | Self::Limit { reason, .. } => reason,
        }
    }

    /// The room that it waits for, if that is what it takes.
    #[must_use]
    pub fn lack(&self) -> Option<Lack> {
        match self {
            Self::Held { lack, .. } => *lack,
            Self::Retry { .. } | Self::Reject { .. } | Self::Trap { .. } | Self::Limit { .. } => None,
        }
    }

    /// `key` is the one that moves the limit; none where the bound is fixed.
    fn limit(session: &Session, limit: Limit, key: Option<&str>, what: &str) -> Self {
        let what = match key {
            Some(key) => format!("over `{key}`: {what}"),
            None => format!("over a fixed bound: {what}"),
        };
        Self::Limit { limit, reason: with_stderr(&what, &session.stderr_tail()) }
    }
}

fn describe(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(trap) => format!("the plugin trapped: {trap}"),
        None => error.root_cause().to_string(),
    }
}

/// The limits that the engine keeps.
fn limit_of(error: &wasmtime::Error, what: &str) -> Option<Limit> {
    let is_full = matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full));
    if is_full || what.contains(HANDLES_SPENT) {
        return Some(Limit::Handles);
    }
    what.contains(HOSTCALL_SPENT).then_some(Limit::Hostcall)
}

fn with_stderr(what: &str, stderr: &str) -> String {
    let stderr = stderr.trim();
    if stderr.is_empty() { bounded(what) } else { bounded(&format!("{what}; it wrote: {stderr}")) }
}

/// Cuts at a character and escapes control characters other than line ends and tabs.
fn bounded(text: &str) -> String {
    let mut clean = String::with_capacity(text.len().min(REASON_BYTES_MAX));
    for character in text.chars() {
        if clean.len() + character.len_utf8() > REASON_BYTES_MAX {
            clean.push('…');
            break;
        }
        if character.is_control() && !matches!(character, '\n' | '\t') {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_that_the_gate_caused_is_held_with_the_gates_delay() {
        let retry = types::Failure::Retry(types::Retry { reason: "later".to_owned(), after_ms: Some(5) });
        let delay = Duration::from_secs(2);
        let expected = Failure::Held { reason: "later".to_owned(), delay, lack: None };
        assert_eq!(Failure::of_plugin(retry, Some(&HeldBack { delay, lack: None, why: None })), expected);
    }

    #[test]
    fn a_reason_is_cut_at_a_character_and_holds_no_escape_codes() {
        let Failure::Reject { reason } = Failure::of_plugin(types::Failure::Reject("ä".repeat(10_000)), None) else {
            panic!("a reject stays one");
        };
        assert!(reason.len() <= REASON_BYTES_MAX + '…'.len_utf8() && reason.ends_with('…'));
        assert_eq!(Failure::trap("broke", "\u{1b}[31mred\n").reason(), "broke; it wrote: \\u{1b}[31mred");
    }
}
