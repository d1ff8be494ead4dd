//! Standard Webhooks: an id, a time and a body signed together, with HMAC-SHA-256 (`v1`) or ed25519 (`v1a`).
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>. The headers also come
//! under the names that they had before the standard, `svix-*`.

use std::time::Duration;

use aws_lc_rs::hmac::Context;
use http::HeaderName;

use super::key::{Key, Ring, Use};
use super::signature::{Encoding, SIGNATURES_MAX, is_same};
use super::{Incoming, Means, Refused, event_id, header};

pub(super) const SIGNATURES: [HeaderName; 2] =
    [HeaderName::from_static("webhook-signature"), HeaderName::from_static("svix-signature")];
const IDS: [HeaderName; 2] = [HeaderName::from_static("webhook-id"), HeaderName::from_static("svix-id")];
const TIMES: [HeaderName; 2] =
    [HeaderName::from_static("webhook-timestamp"), HeaderName::from_static("svix-timestamp")];

pub(super) struct Check {
    window: Duration,
    ring: Ring,
}

/// Which half of the key a signature was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V1a,
}

struct Signature {
    version: Version,
    bytes: Vec<u8>,
}

impl Check {
    pub(super) fn new(window: Duration, secrets: &[String], means: &Means<'_>) -> Self {
        Self { window, ring: Ring::new(secrets, Use::Standard, means) }
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The signature and the id, if one is right.
    pub(super) fn check(&self, incoming: &Incoming<'_>) -> Result<(Vec<u8>, String), Refused> {
        let headers = incoming.headers;
        // One set or the other, never parts of both.
        let set = usize::from(!headers.contains_key(&SIGNATURES[0]) && headers.contains_key(&SIGNATURES[1]));
        let signatures = parse(header::needed(headers, &SIGNATURES[set])?)?;
        let (id, time) = (header::needed(headers, &IDS[set])?, header::needed(headers, &TIMES[set])?);
        if id.contains('.') {
            // It separates what is signed: with it in an id, one signature would be good for two readings.
            return Err(Refused::Malformed);
        }
        header::check_time(time, incoming.now_ms, self.window)?;
        let signed = [id.as_bytes(), b".", time.as_bytes(), b".", incoming.body];
        let found = self.ring.first(|key| right_one(key, &signed, &signatures))?;
        Ok((found, event_id::checked(id.to_owned())?))
    }
}

fn parse(text: &str) -> Result<Vec<Signature>, Refused> {
    let mut signatures = Vec::new();
    for (index, item) in text.split(' ').filter(|item| !item.is_empty()).enumerate() {
        if index == SIGNATURES_MAX {
            return Err(Refused::TooMany);
        }
        let (version, value) = item.split_once(',').ok_or(Refused::Malformed)?;
        let version = match version {
            "v1" => Version::V1,
            "v1a" => Version::V1a,
            // Of a version to come.
            _ => continue,
        };
        signatures.push(Signature { version, bytes: Encoding::Base64.decode(value)? });
    }
    if signatures.is_empty() { Err(Refused::Missing) } else { Ok(signatures) }
}

fn right_one(key: &Key, signed: &[&[u8]], signatures: &[Signature]) -> Option<Vec<u8>> {
    let of = |version: Version| signatures.iter().filter(move |signature| signature.version == version);
    match key {
        Key::Hmac(key) => {
            let mut of_key = of(Version::V1).peekable();
            of_key.peek()?;
            let mut ours = Context::with_key(key);
            signed.iter().for_each(|part| ours.update(part));
            let ours = ours.sign();
            of_key.find(|theirs| is_same(ours.as_ref(), &theirs.bytes)).map(|found| found.bytes.clone())
        }
        Key::Ed25519(key) => {
            let mut of_key = of(Version::V1a).peekable();
            of_key.peek()?;
            let signed = signed.concat();
            of_key.find(|theirs| key.verify_sig(&signed, &theirs.bytes).is_ok()).map(|found| found.bytes.clone())
        }
        Key::Plain(_) => None,
    }
}
