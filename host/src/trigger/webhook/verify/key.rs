//! The secrets of a webhook, each ready for use: what is made of a value is kept until the value changes.
//!
//! Invariant: what is kept is zeroed when it goes, and shows nothing of itself.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use data_encoding::BASE64_NOPAD;
use zeroize::Zeroizing;

use super::{Means, Refused};
use crate::audit::{self, Audit, Kind};
use crate::id::Name;
use crate::mask::Secret;
use crate::metrics::Effect;
use crate::secret_store::SecretStore;

/// What a secret is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Compared with what a request shows.
    Plain,
    /// The key of an HMAC.
    Hmac(hmac::Algorithm),
    /// As Standard Webhooks writes them: `whsec_` or `whpk_`, and base64.
    Standard,
}

/// What was made of a secret's value.
#[expect(clippy::large_enum_variant, reason = "there is one for each secret, in an `Arc` of its own")]
pub(super) enum Key {
    Plain(Secret),
    Hmac(hmac::Key),
    Ed25519(ParsedPublicKey),
}

/// All secrets of a webhook.
pub(super) struct Ring {
    store: Arc<SecretStore>,
    audit: Audit,
    connector: Name,
    /// `connectors.NAME.webhook.verify`.
    path: String,
    usage: Use,
    slots: Vec<Slot>,
}

struct Slot {
    secret: String,
    made: Mutex<Option<(Secret, Arc<Key>)>>,
}

impl Ring {
    pub(super) fn new(secrets: &[String], usage: Use, means: &Means<'_>) -> Self {
        let slot = |secret: &String| Slot { secret: secret.clone(), made: Mutex::default() };
        Self {
            store: means.secrets.clone(),
            audit: means.audit.clone(),
            connector: means.connector.clone(),
            path: means.path.to_owned(),
            usage,
            slots: secrets.iter().map(slot).collect(),
        }
    }

    /// What the first key says that `answer` has an answer for. A secret without a usable value is passed over; where it
    /// might have been the one, nobody can tell whether the request is wrong.
    pub(super) fn first<T>(&self, mut answer: impl FnMut(&Key) -> Option<T>) -> Result<T, Refused> {
        let mut otherwise = Refused::Wrong;
        for slot in &self.slots {
            match slot.key(&self.store, self.usage) {
                Ok(key) => {
                    if let Some(found) = answer(&key) {
                        return Ok(found);
                    }
                }
                Err(because) => {
                    self.report(&slot.secret, &because);
                    otherwise = Refused::Unavailable;
                }
            }
        }
        Err(otherwise)
    }

    /// What keeps each secret from being used, if anything does.
    pub(super) fn faults(&self) -> Vec<String> {
        let fault = |slot: &Slot| {
            let because = slot.key(&self.store, self.usage).err()?;
            Some(format!("the secret `{}` cannot be used: {because}", slot.secret))
        };
        self.slots.iter().filter_map(fault).collect()
    }

    fn report(&self, secret: &str, because: &str) {
        let text = format!("the secret `{secret}` cannot be used: {because}: requests that it may have signed get 503");
        let (connector, key, subject) = (&self.connector, &self.path, Effect::Secret.label());
        let refused = audit::Refused { kind: Kind::Unusable, connector, subject, reason: "webhook", key, text: &text };
        self.audit.refused(&refused);
    }
}

impl Slot {
    fn key(&self, store: &SecretStore, usage: Use) -> Result<Arc<Key>, String> {
        let value = store.get(&self.secret)?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, key)) = made.as_ref()
            && *of == value
        {
            return Ok(key.clone());
        }
        let key = Arc::new(usage.make(&value)?);
        *made = Some((value, key.clone()));
        Ok(key)
    }
}

impl Use {
    fn make(self, value: &Secret) -> Result<Key, &'static str> {
        match self {
            _ if value.expose().is_empty() => Err("it is empty"),
            Self::Plain => Ok(Key::Plain(value.clone())),
            Self::Hmac(algorithm) => Ok(Key::Hmac(hmac::Key::new(algorithm, value.expose()))),
            Self::Standard => standard(value.expose()),
        }
    }
}

fn standard(value: &[u8]) -> Result<Key, &'static str> {
    if value.starts_with(b"whsk_") {
        return Err("it is a private key: the sender keeps that, and gives out the one that begins with `whpk_`");
    }
    if let Some(text) = value.strip_prefix(b"whpk_") {
        let bytes = decoded(text).ok_or("what follows `whpk_` is not base64")?;
        return ParsedPublicKey::new(&ED25519, bytes.as_slice())
            .map(Key::Ed25519)
            .map_err(|_| "what follows `whpk_` is not a public key of ed25519");
    }
    // Some senders show it without the prefix.
    let bytes = decoded(value.strip_prefix(b"whsec_").unwrap_or(value));
    let bytes = bytes.filter(|bytes| !bytes.is_empty()).ok_or("it is not `whsec_` or `whpk_` and base64")?;
    Ok(Key::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
}

fn decoded(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    BASE64_NOPAD.decode(&text[..end]).ok().map(Zeroizing::new)
}
