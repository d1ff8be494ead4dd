//! The `Retry-After` header: seconds, or a date.
//!
//! A date is counted from the answer's own `Date` where it has one, so that a sender's wrong clock does no harm.

use std::time::{Duration, SystemTime};

use crate::Header;
use crate::message::find_header;

/// How long the receiver asks to wait, from its headers; a date that has passed is no wait.
///
/// ```
/// use bulkhead_sdk::http::retry_after;
/// use std::time::{Duration, SystemTime};
///
/// let headers = [("retry-after".to_string(), "120".to_string())];
/// assert_eq!(retry_after(&headers, SystemTime::UNIX_EPOCH), Some(Duration::from_secs(120)));
/// ```
#[must_use]
pub fn retry_after(headers: &[Header], now: SystemTime) -> Option<Duration> {
    let value = find_header(headers, "retry-after")?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let sent = find_header(headers, "date").and_then(|date| httpdate::parse_http_date(date.trim()).ok());
    Some(until.duration_since(sent.unwrap_or(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_NOON: &str = "Sat, 01 Mar 2025 12:00:00 GMT";
    const AT_FIVE_PAST: &str = "Sat, 01 Mar 2025 12:05:00 GMT";

    fn check(headers: &[(&str, &str)], expected: Option<u64>) {
        let now = httpdate::parse_http_date(AT_NOON).unwrap();
        let headers: Vec<Header> = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs));
    }

    #[test]
    fn seconds_count_from_the_answer() {
        check(&[("Retry-After", " 7 ")], Some(7));
    }

    #[test]
    fn a_date_counts_from_the_clock() {
        check(&[("retry-after", AT_FIVE_PAST)], Some(300));
    }

    #[test]
    fn a_date_counts_from_the_receivers_own_clock_where_it_tells_it() {
        check(&[("retry-after", AT_FIVE_PAST), ("date", "Sat, 01 Mar 2025 12:04:00 GMT")], Some(60));
    }

    #[test]
    fn a_date_that_has_passed_is_no_wait() {
        check(&[("retry-after", AT_NOON), ("date", AT_FIVE_PAST)], Some(0));
    }

    #[test]
    fn nonsense_is_no_header() {
        check(&[("retry-after", "soon")], None);
        check(&[("retry-after", "-1")], None);
        check(&[], None);
    }
}
