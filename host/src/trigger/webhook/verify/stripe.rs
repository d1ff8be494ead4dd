//! `Stripe-Signature: t=TIME,v1=SIGNATURE,…`, a signature for each secret while one takes over from another.
//!
//! <https://docs.stripe.com/webhooks/signature>

use std::time::Duration;

use aws_lc_rs::hmac::{Context, HMAC_SHA256};
use http::HeaderName;

use super::key::{Key, Ring, Use};
use super::signature::{Encoding, SIGNATURES_MAX, is_same};
use super::{Incoming, Means, Refused, header};

pub(super) const HEADER: HeaderName = HeaderName::from_static("stripe-signature");

pub(super) struct Check {
    window: Duration,
    ring: Ring,
}

/// What stands in the header.
struct Signed<'a> {
    time: &'a str,
    signatures: Vec<Vec<u8>>,
}

impl Check {
    pub(super) fn new(window: Duration, secrets: &[String], means: &Means<'_>) -> Self {
        Self { window, ring: Ring::new(secrets, Use::Hmac(HMAC_SHA256), means) }
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The signature, if one is right.
    pub(super) fn check(&self, incoming: &Incoming<'_>) -> Result<Vec<u8>, Refused> {
        let signed = Signed::parse(header::needed(incoming.headers, &HEADER)?)?;
        header::check_time(signed.time, incoming.now_ms, self.window)?;
        self.ring.first(|key| {
            let Key::Hmac(key) = key else { return None };
            let mut ours = Context::with_key(key);
            [signed.time.as_bytes(), b".", incoming.body].iter().for_each(|part| ours.update(part));
            let ours = ours.sign();
            signed.signatures.iter().find(|theirs| is_same(ours.as_ref(), theirs)).cloned()
        })
    }
}

impl<'a> Signed<'a> {
    fn parse(text: &'a str) -> Result<Self, Refused> {
        let (mut time, mut signatures) = (None, Vec::new());
        for (index, item) in text.split(',').enumerate() {
            // One more than signatures: the time.
            if index > SIGNATURES_MAX {
                return Err(Refused::TooMany);
            }
            match item.trim().split_once('=').ok_or(Refused::Malformed)? {
                ("t", value) if time.is_none() => time = Some(value),
                ("t", _) => return Err(Refused::Malformed),
                ("v1", value) => signatures.push(Encoding::Hex.decode(value)?),
                // `v0` is of test events and proves nothing.
                _ => {}
            }
        }
        let time = time.ok_or(Refused::Malformed)?;
        if signatures.is_empty() { Err(Refused::Missing) } else { Ok(Self { time, signatures }) }
    }
}
