//! What a status means for a delivery, where the author says nothing else.

/// What to do after an answer.
///
/// ```
/// use bulkhead_sdk::http::{Verdict, verdict};
///
/// assert_eq!(verdict(201), Verdict::Success);
/// assert_eq!(verdict(429), Verdict::Retry);
/// assert_eq!(verdict(422), Verdict::Reject);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It worked.
    Success,
    /// It may work later.
    Retry,
    /// It will never work.
    Reject,
}

/// 2xx succeed; 401 and 403 (a credential may be renewed), 408, 409, 421, 423, 425, 429 and 5xx may work later; nothing else will.
///
/// ```
/// # use bulkhead_sdk::http::{Verdict, verdict};
/// assert_eq!(verdict(302), Verdict::Reject, "redirects are not followed");
/// ```
#[must_use]
pub fn verdict(status: u16) -> Verdict {
    match status {
        200..=299 => Verdict::Success,
        401 | 403 | 408 | 409 | 421 | 423 | 425 | 429 | 500..=599 => Verdict::Retry,
        _ => Verdict::Reject,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_the_verdict_that_is_documented() {
        for status in [401, 403, 408, 409, 421, 423, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(verdict(status), Verdict::Retry, "{status}");
        }
        for status in [100, 301, 304, 400, 402, 404, 405, 406, 410, 413, 418, 422, 451, 600, 0] {
            assert_eq!(verdict(status), Verdict::Reject, "{status}");
        }
        for status in [200, 202, 204, 226] {
            assert_eq!(verdict(status), Verdict::Success, "{status}");
        }
    }
}
