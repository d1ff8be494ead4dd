//! What stands in the headers of a request: one value or none, and times.
//!
//! Invariant: a header that counts and stands there twice is refused, since two readers of it may take two values.

use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};

use super::Refused;

/// The one value of a header.
pub(super) fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Refused::Malformed),
        (Some(_), Some(_)) => Err(Refused::Malformed),
    }
}

/// As [`one`], where it must be there.
pub(super) fn needed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Refused> {
    one(headers, name)?.filter(|value| !value.is_empty()).ok_or(Refused::Missing)
}

/// What follows `Authorization: SCHEME`; schemes are written in any case.
pub(super) fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Result<&'a str, Refused> {
    let (found, rest) = needed(headers, &AUTHORIZATION)?.split_once(' ').ok_or(Refused::Malformed)?;
    if found.eq_ignore_ascii_case(scheme) { Ok(rest.trim_start_matches(' ')) } else { Err(Refused::Malformed) }
}

/// Refuses a time too far from the present one, in either direction. `text` is in whole seconds since the Unix epoch.
pub(super) fn check_time(text: &str, now_ms: u64, window: Duration) -> Result<(), Refused> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refused::Malformed);
    }
    let sent: u64 = text.parse().map_err(|_| Refused::Malformed)?;
    let (sent_ms, window_ms) = (sent.saturating_mul(1_000), u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
    if sent_ms.saturating_add(window_ms) < now_ms {
        return Err(Refused::Stale);
    }
    if sent_ms > now_ms.saturating_add(window_ms) { Err(Refused::Future) } else { Ok(()) }
}
