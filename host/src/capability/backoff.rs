//! What receivers ask for with `Retry-After`, kept for the whole host: one connector's answer spares the others theirs.
//!
//! Only 429 and 503 count, because there the header means "not yet". Invariant: an authority holds back nobody but those
//! who ask it, and not for longer than [`BACKOFF_MAX`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use http::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// The longest time that a receiver is believed: past it, one request asks again.
pub const BACKOFF_MAX: Duration = Duration::from_secs(3_600);
/// Authorities remembered: a plugin with a wildcard grant chooses them.
const AUTHORITIES_MAX: usize = 4_096;

/// Until when which authority wants no requests.
#[derive(Debug, Default)]
pub struct Backoff(Mutex<HashMap<String, Instant>>);

/// The part of an answer that counts here.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: &'a HeaderMap,
}

impl Backoff {
    /// How long `authority` still wants no requests.
    #[must_use]
    pub fn left(&self, authority: &str, now: Instant) -> Option<Duration> {
        let untils = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        untils.get(authority).map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// Takes note of an answer of `authority`, and says how long it asks everybody to wait.
    pub fn note(&self, authority: &str, answer: Answer<'_>, now: Instant, wall: SystemTime) -> Option<Duration> {
        if !matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return None;
        }
        let wait = retry_after(answer.headers, wall).filter(|wait| !wait.is_zero())?.min(BACKOFF_MAX);
        let mut untils = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if untils.len() >= AUTHORITIES_MAX {
            untils.retain(|_, until| *until > now);
        }
        if untils.len() >= AUTHORITIES_MAX && !untils.contains_key(authority) {
            return None;
        }
        untils.insert(authority.to_owned(), now + wait);
        Some(wait)
    }
}

/// Seconds, or a date: counted from the answer's own `Date` where it has one, so that a sender's wrong clock does no harm.
fn retry_after(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let value = text(&RETRY_AFTER)?;
    if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        // More digits than fit are a very long time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let sent = text(&DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(wall);
    Some(until.duration_since(sent).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const AT_NOON: &str = "Sat, 01 Mar 2025 12:00:00 GMT";
    const AT_FIVE_PAST: &str = "Sat, 01 Mar 2025 12:05:00 GMT";

    /// How long an answer at noon holds its authority back.
    fn check(status: u16, headers: &[(&'static str, &str)], expected: Option<u64>) {
        let (backoff, now) = (Backoff::default(), Instant::now());
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let wall = httpdate::parse_http_date(AT_NOON).unwrap();
        let answer = Answer { status: StatusCode::from_u16(status).unwrap(), headers: &headers.collect() };
        let noted = backoff.note("a:443", answer, now, wall);
        assert_eq!(noted, expected.map(Duration::from_secs));
        assert_eq!(backoff.left("a:443", now), noted);
        assert_eq!(backoff.left("b:443", now), None);
    }

    #[test]
    fn seconds_and_dates_count() {
        check(429, &[("retry-after", "7")], Some(7));
        check(503, &[("retry-after", AT_FIVE_PAST)], Some(300));
        check(503, &[("retry-after", AT_FIVE_PAST), ("date", "Sat, 01 Mar 2025 12:04:00 GMT")], Some(60));
    }

    #[test]
    fn no_receiver_is_believed_for_ever() {
        for value in ["86400", "18446744073709551615", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            check(429, &[("retry-after", value)], Some(3_600));
        }
    }

    #[test]
    fn nonsense_the_past_and_other_statuses_hold_nobody_back() {
        for value in ["", "soon", "-1", "1.5", "0", AT_NOON, "Sat, 01 Mar 2025 11:00:00 GMT"] {
            check(429, &[("retry-after", value)], None);
        }
        check(200, &[("retry-after", "7")], None);
        check(301, &[("retry-after", "7")], None);
        check(429, &[], None);
    }

    #[test]
    fn authorities_beyond_the_bound_are_not_remembered() {
        let (backoff, now) = (Backoff::default(), Instant::now());
        let headers: HeaderMap = [(RETRY_AFTER, "7".parse().unwrap())].into_iter().collect();
        let answer = Answer { status: StatusCode::TOO_MANY_REQUESTS, headers: &headers };
        let noted = |authority: &str, now| backoff.note(authority, answer, now, SystemTime::UNIX_EPOCH).is_some();
        assert!((0..AUTHORITIES_MAX).all(|nth| noted(&nth.to_string(), now)));
        assert!(!noted(&AUTHORITIES_MAX.to_string(), now));
        assert_eq!(backoff.left(&AUTHORITIES_MAX.to_string(), now), None);
        let later = now + Duration::from_secs(8);
        assert!(noted("a", later));
        assert!(backoff.left("a", later).is_some());
    }
}
