//! `X-Twilio-Signature`: an HMAC over the URL as Twilio calls it and the parameters of a form, sorted.
//!
//! <https://www.twilio.com/docs/usage/webhooks/webhooks-security>. Of a body that is no form the URL carries the hash,
//! `bodySHA256`; a body that neither covers is refused. The hash is SHA-1 with an account's token, and what a header names
//! with a key that was made for webhooks.

use std::borrow::Cow;

use aws_lc_rs::hmac::{Context, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256};
use data_encoding::HEXLOWER_PERMISSIVE;
use http::HeaderName;
use http::header::CONTENT_TYPE;
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::key::{Key, Ring, Use};
use super::signature::{Encoding, is_same};
use super::{Incoming, Means, Refused, header};

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-twilio-signature");
/// Names the key and the hash of a signature that was not made with an account's token.
const SETTINGS: HeaderName = HeaderName::from_static("x-twilio-webhooks-signature-settings");
/// The parameter of the URL with the hash of a body that is no form.
pub(super) const BODY_HASH: &str = "bodySHA256";
/// Parameters of a form: Twilio sends some dozens.
const PARAMETERS_MAX: usize = 1_000;

type Parameters<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

pub(super) struct Check {
    sha1: Ring,
    /// The same secrets.
    sha256: Ring,
}

impl Check {
    pub(super) fn new(secrets: &[String], means: &Means<'_>) -> Self {
        let ring = |algorithm| Ring::new(secrets, Use::Hmac(algorithm), means);
        Self { sha1: ring(HMAC_SHA1_FOR_LEGACY_USE_ONLY), sha256: ring(HMAC_SHA256) }
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.sha1
    }

    /// The signature, if it is right.
    pub(super) fn check(&self, incoming: &Incoming<'_>) -> Result<Vec<u8>, Refused> {
        let theirs = Encoding::Base64.decode(header::needed(incoming.headers, &HEADER)?)?;
        let parameters = signed_parameters(incoming)?;
        let origins = [Some(Cow::Borrowed(incoming.origin)), other_spelling(incoming.origin)];
        self.ring_for(incoming)?
            .first(|key| {
                let Key::Hmac(key) = key else { return None };
                let is_right = |origin: &Cow<'_, str>| {
                    let mut ours = Context::with_key(key);
                    [origin, incoming.target].iter().for_each(|part| ours.update(part.as_bytes()));
                    for (name, value) in &parameters {
                        ours.update(name.as_bytes());
                        ours.update(value.as_bytes());
                    }
                    is_same(ours.sign().as_ref(), &theirs)
                };
                origins.iter().flatten().any(is_right).then_some(())
            })
            .map(|()| theirs)
    }

    /// The secrets for the hash that is named, of which Twilio has two.
    fn ring_for(&self, incoming: &Incoming<'_>) -> Result<&Ring, Refused> {
        let settings = header::one(incoming.headers, &SETTINGS)?.unwrap_or_default();
        let mut named = settings.split(',').filter_map(|setting| setting.split_once('='));
        match named.find(|(name, _)| name.trim() == "algorithm").map(|(_, value)| value.trim()) {
            None | Some("" | "HMAC_SHA1") => Ok(&self.sha1),
            Some("HMAC_SHA256") => Ok(&self.sha256),
            Some(_) => Err(Refused::Malformed),
        }
    }
}

/// The parameters that are signed beside the URL.
fn signed_parameters<'a>(incoming: &Incoming<'a>) -> Result<Parameters<'a>, Refused> {
    let query = incoming.target.split_once('?').map_or("", |(_, query)| query);
    let hash = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == BODY_HASH);
    if let Some((_, hash)) = hash {
        let hash = HEXLOWER_PERMISSIVE.decode(hash.as_bytes()).map_err(|_| Refused::Malformed)?;
        let is_right = is_same(&Sha256::digest(incoming.body), &hash);
        return if is_right { Ok(Vec::new()) } else { Err(Refused::Wrong) };
    }
    if incoming.body.is_empty() {
        return Ok(Vec::new());
    }
    let media = header::one(incoming.headers, &CONTENT_TYPE)?.unwrap_or_default().split(';').next().unwrap_or_default();
    if !media.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Refused::Missing);
    }
    let mut parameters: Parameters<'a> = form_urlencoded::parse(incoming.body).take(PARAMETERS_MAX + 1).collect();
    if parameters.len() > PARAMETERS_MAX {
        return Err(Refused::TooMany);
    }
    parameters.sort_unstable();
    // As Twilio's own libraries do.
    parameters.dedup();
    Ok(parameters)
}

/// The same origin without its port, or with the scheme's: Twilio signs sometimes the one and sometimes the other, also
/// where the port is none of a scheme's.
fn other_spelling(origin: &str) -> Option<Cow<'_, str>> {
    let (scheme, authority) = origin.split_once("://")?;
    if authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']')) {
        return origin.rsplit_once(':').map(|(without, _)| Cow::Borrowed(without));
    }
    let port = if scheme == "https" { 443 } else { 80 };
    Some(Cow::Owned(format!("{origin}:{port}")))
}
