//! The public keys of who issues JWTs, as its JWKS endpoint publishes them.
//!
//! Times are those of the requests, in milliseconds since the Unix epoch. Invariants: one fetch at a time, in a task that
//! goes on when nobody waits for it any more; the next one no sooner than some seconds after the last, whoever asks; keys
//! that were fetched once stay in use while the endpoint gives no others.

use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::task::JoinSet;

use super::{Means, Refused};
use crate::audit::{self, Audit, Kind};
use crate::capability::http::endpoint::Endpoint;
use crate::id::Name;
use crate::metrics::Effect;

/// A set of keys is a few KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Issuers publish two or three; those with many tenants some dozens.
const KEYS_MAX: usize = 256;
/// Keys that are tried for a token that does not name its own.
const CANDIDATES_MAX: usize = 4;
/// After a fetch, nobody causes another for this long: not even with keys that do not exist.
const REST_MS: u64 = 30_000;
/// The same after one that failed.
const REST_AFTER_FAILURE_MS: u64 = 5_000;
/// Keys of this age are fetched again while they go on being used.
const FRESH_MS: u64 = 10 * 60_000;
/// Keys of this age are used only where newer ones cannot be had: a key may have been withdrawn.
const GOOD_MS: u64 = 60 * 60_000;

/// The keys of one issuer.
pub(super) struct Keys(Vec<Key>);

struct Key {
    id: Option<String>,
    /// What alone it is for, if its issuer says so.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

/// The endpoint, and what it has said last.
pub(super) struct Jwks {
    endpoint: Endpoint,
    audit: Audit,
    connector: Name,
    path: String,
    present: Mutex<Option<Present>>,
    turn: Arc<tokio::sync::Mutex<Turn>>,
    fetching: Mutex<JoinSet<()>>,
}

#[derive(Clone)]
struct Present {
    keys: Arc<Keys>,
    fetched_ms: u64,
}

/// When the endpoint may be asked next, and whether the last time was in vain.
#[derive(Default)]
struct Turn {
    next_ms: u64,
    has_failed: bool,
}

impl Keys {
    /// Reads a set; keys of kinds that nobody here knows are left out, and those that are no public keys.
    fn parse(body: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(body).map_err(|_| "its answer is not a set of keys")?;
        let keys: Vec<Key> = set.keys.into_iter().take(KEYS_MAX).filter_map(Key::read).collect();
        if keys.is_empty() { Err("its answer holds no key that can be used".to_owned()) } else { Ok(Self(keys)) }
    }

    /// The keys that a token may be signed with; `id` is the one that it names.
    pub(super) fn of(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        let fits = move |key: &&Key| {
            let is_named = id.is_none_or(|id| key.id.as_deref() == Some(id));
            let is_kind = key.algorithm.is_none_or(|only| only == algorithm);
            is_named && is_kind && key.key.family() == algorithm.family()
        };
        self.0.iter().filter(fits).map(|key| &key.key).take(CANDIDATES_MAX)
    }
}

impl Key {
    fn read(value: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return None;
        }
        let algorithm = match jwk.common.key_algorithm {
            Some(algorithm) => Some(Algorithm::try_from(algorithm).ok()?),
            None => None,
        };
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        (key.family() != AlgorithmFamily::Hmac).then_some(Self { id: jwk.common.key_id, algorithm, key })
    }
}

impl Jwks {
    pub(super) fn new(endpoint: Endpoint, means: &Means<'_>) -> Self {
        Self {
            endpoint,
            audit: means.audit.clone(),
            connector: means.connector.clone(),
            path: format!("{}.jwks", means.path),
            present: Mutex::default(),
            turn: Arc::default(),
            fetching: Mutex::default(),
        }
    }

    /// The present keys, fetched if need be. To be called on egress's runtime.
    pub(super) async fn keys(self: &Arc<Self>, now_ms: u64) -> Result<Arc<Keys>, Refused> {
        let Some(present) = self.present() else {
            return self.newer(None, now_ms).await?.ok_or(Refused::Unavailable);
        };
        let age_ms = now_ms.saturating_sub(present.fetched_ms);
        if age_ms >= GOOD_MS {
            let newer = self.newer(Some(&present.keys), now_ms).await.ok().flatten();
            return Ok(newer.unwrap_or(present.keys));
        }
        if age_ms >= FRESH_MS
            && let Ok(turn) = self.turn.clone().try_lock_owned()
            && now_ms >= turn.next_ms
        {
            drop(self.fetch_apart(turn, now_ms));
        }
        Ok(present.keys)
    }

    /// Other keys than `known`, where the endpoint has others; `None` where it has not, or was asked a moment ago.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(super) async fn newer(
        self: &Arc<Self>,
        known: Option<&Arc<Keys>>,
        now_ms: u64,
    ) -> Result<Option<Arc<Keys>>, Refused> {
        let is_news = |keys: &Arc<Keys>| known.is_none_or(|known| !Arc::ptr_eq(known, keys));
        let turn = self.turn.clone().lock_owned().await;
        let present = self.present().map(|present| present.keys).filter(is_news);
        if present.is_some() || now_ms < turn.next_ms {
            return if present.is_none() && turn.has_failed { Err(Refused::Unavailable) } else { Ok(present) };
        }
        match self.fetch_apart(turn, now_ms).await {
            Ok(true) => Ok(self.present().map(|present| present.keys).filter(is_news)),
            // It failed, or the host is stopping.
            Ok(false) | Err(_) => Err(Refused::Unavailable),
        }
    }

    fn present(&self) -> Option<Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fetches in a task of its own, and tells whether it went well.
    fn fetch_apart(self: &Arc<Self>, mut turn: OwnedMutexGuard<Turn>, now_ms: u64) -> oneshot::Receiver<bool> {
        let (answer, answered) = oneshot::channel();
        let jwks = self.clone();
        let fetch = async move {
            let fetched = jwks.fetch(now_ms).await;
            let rest_ms = if fetched.is_ok() { REST_MS } else { REST_AFTER_FAILURE_MS };
            *turn = Turn { next_ms: now_ms.saturating_add(rest_ms), has_failed: fetched.is_err() };
            drop(turn);
            // Whoever asked may have gone.
            let _ = answer.send(fetched.is_ok());
            if let Err(because) = fetched {
                jwks.report(&because);
            }
        };
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        while fetching.try_join_next().is_some() {}
        fetching.spawn(fetch);
        answered
    }

    async fn fetch(&self, now_ms: u64) -> Result<(), String> {
        let keys = Keys::parse(&self.endpoint.get("application/json", ANSWER_BYTES_MAX).await?)?;
        let present = Present { keys: Arc::new(keys), fetched_ms: now_ms };
        *self.present.lock().unwrap_or_else(PoisonError::into_inner) = Some(present);
        Ok(())
    }

    fn report(&self, because: &str) {
        let then = if self.present().is_some() { "the keys at hand stay in use" } else { "requests get 503" };
        let text = format!("no keys from {}: {because}: {then}", self.endpoint.target().display());
        let (connector, key, subject) = (&self.connector, &self.path, Effect::Secret.label());
        let refused = audit::Refused { kind: Kind::Unusable, connector, subject, reason: "jwks", key, text: &text };
        self.audit.refused(&refused);
    }
}
