//! What the head of an answer says about its body: whether there is one, where it ends, and how it is encoded.
//!
//! Pure; what follows from it is decided where the answer is taken.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode};

/// Whether anything follows the head of an answer.
pub(super) fn has_body(method: &Method, status: StatusCode) -> bool {
    method != Method::HEAD && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether the body is encoded still: what the client has decoded is not named any more.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    let is = |value: &HeaderValue, plain: &[u8]| value.as_bytes().trim_ascii().eq_ignore_ascii_case(plain);
    headers.get_all(CONTENT_ENCODING).iter().any(|value| !is(value, b"identity"))
        || headers.get_all(TRANSFER_ENCODING).iter().any(|value| !is(value, b"chunked"))
}

/// A length and chunks: whoever stands in between may have believed the other (RFC 9112, 6.3).
pub(super) fn has_two_ends(headers: &HeaderMap) -> bool {
    headers.contains_key(CONTENT_LENGTH) && headers.contains_key(TRANSFER_ENCODING)
}
