//! One signature in one header: the general `hmac`, of which GitHub, Shopify and Slack are cases.

use std::time::Duration;

use aws_lc_rs::hmac::{self, Context};
use http::HeaderName;

use super::key::{Key, Ring, Use};
use super::signature::{Encoding, is_same};
use super::template::{Field, Template, Values};
use super::{Incoming, Means, Refused, header};

/// What `hmac` says beside the secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The header that carries the signature.
    pub header: HeaderName,
    /// Another one that may carry it, where the first is not there.
    pub other_header: Option<HeaderName>,
    /// Stands before the signature, as in `sha256=`.
    pub prefix: String,
    /// How the signature is written.
    pub encoding: Encoding,
    /// The hash.
    pub algorithm: Algorithm,
    /// What is signed.
    pub signed: Template,
    /// The header that carries the time, in seconds since the Unix epoch.
    pub timestamp: Option<HeaderName>,
    /// The header that carries the id of `{id}`.
    pub id: Option<HeaderName>,
}

/// The hash under a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-1, which no new sender uses; under an HMAC it has not been broken.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    pub(super) fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

/// Settings with their keys.
pub(super) struct Check {
    settings: Settings,
    window: Duration,
    ring: Ring,
}

impl Check {
    pub(super) fn new(settings: Settings, window: Duration, secrets: &[String], means: &Means<'_>) -> Self {
        let ring = Ring::new(secrets, Use::Hmac(settings.algorithm.hmac()), means);
        Self { settings, window, ring }
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn signs_id(&self) -> bool {
        self.settings.signed.has(Field::Id)
    }

    /// The header that carries the signature, and another one that may.
    pub(super) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        std::iter::once(&self.settings.header).chain(&self.settings.other_header)
    }

    /// The signature, if it is right.
    pub(super) fn check(&self, incoming: &Incoming<'_>) -> Result<Vec<u8>, Refused> {
        let Settings { header, prefix, encoding, signed, timestamp, id, .. } = &self.settings;
        let header = self.headers().find(|name| incoming.headers.contains_key(*name)).unwrap_or(header);
        let text = header::needed(incoming.headers, header)?;
        let theirs = encoding.decode(text.strip_prefix(prefix.as_str()).ok_or(Refused::Malformed)?)?;
        let value = |name: &Option<HeaderName>| match name {
            Some(name) => header::needed(incoming.headers, name),
            None => Ok(""),
        };
        let values = Values { timestamp: value(timestamp)?, id: value(id)? };
        if timestamp.is_some() {
            header::check_time(values.timestamp, incoming.now_ms, self.window)?;
        }
        let is_right = |key: &Key| {
            let Key::Hmac(key) = key else { return None };
            let mut ours = Context::with_key(key);
            signed.feed(incoming, values, |bytes| ours.update(bytes));
            is_same(ours.sign().as_ref(), &theirs).then_some(())
        };
        self.ring.first(is_right).map(|()| theirs)
    }
}
