//! Signatures as they are written in headers, and how they are compared.
//!
//! Invariant: two signatures are compared in a time that says nothing about where they differ, and what leaves this file
//! to be kept is a digest of a signature, which nobody can send again.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};

use super::Refused;

/// Signatures in a header: a sender that rotates its key sends two, more than this is no sender.
pub(super) const SIGNATURES_MAX: usize = 16;
/// The longest signature: HMAC-SHA-512 in hexadecimal.
const TEXT_BYTES_MAX: usize = 128;

/// How a signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal, in either case.
    Hex,
    /// Base64, with or without padding.
    Base64,
    /// Base64 for URLs, with or without padding.
    Base64Url,
}

impl Encoding {
    /// The bytes of a signature.
    pub(super) fn decode(self, text: &str) -> Result<Vec<u8>, Refused> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Refused::Malformed);
        }
        let decoded = match self {
            Self::Hex => HEXLOWER_PERMISSIVE.decode(text.as_bytes()),
            Self::Base64 => BASE64_NOPAD.decode(text.trim_end_matches('=').as_bytes()),
            Self::Base64Url => BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()),
        };
        decoded.map_err(|_| Refused::Malformed)
    }
}

/// Whether two signatures are the same.
pub(super) fn is_same(ours: &[u8], theirs: &[u8]) -> bool {
    verify_slices_are_equal(ours, theirs).is_ok()
}

/// What a signature is known by afterwards: equal signatures have equal ones, in whatever way they are written.
pub(super) fn digest(signature: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(signature))
}
