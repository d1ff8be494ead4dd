//! The public keys of who issues JWTs, as its JWKS endpoint publishes them.
//!
//! Times are those of the requests, in milliseconds since the Unix epoch. Invariants: one fetch at a time, in a task that
//! goes on when nobody waits for it any more; the next one no sooner than some seconds after the last, whoever asks; keys
//! that were fetched once stay in use while the endpoint gives no others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use sha2::{Digest, Sha256};
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
/// The same after one that failed, while there are no keys at all.
const REST_WITHOUT_KEYS_MS: u64 = 5_000;
/// Keys of this age are fetched again while they go on being used.
const FRESH_MS: u64 = 10 * 60_000;
/// Keys of this age are used only where newer ones could not be had: a key may have been withdrawn.
const GOOD_MS: u64 = 60 * 60_000;

/// The keys of one issuer.
pub(super) struct Keys {
    keys: Vec<Key>,
    /// A digest of what they were read from.
    mark: [u8; 32],
}

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
    known: Mutex<Known>,
    turn: Arc<tokio::sync::Mutex<Turn>>,
    fetching: Mutex<JoinSet<()>>,
}

/// What the last fetches have brought.
#[derive(Clone, Default)]
struct Known {
    keys: Option<Arc<Keys>>,
    fetched_ms: u64,
    /// The last fetch brought nothing.
    has_failed: bool,
}

/// The turn to fetch: held while somebody does.
#[derive(Default)]
struct Turn {
    next_ms: u64,
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
        if keys.is_empty() {
            return Err("its answer holds no key that can be used".to_owned());
        }
        Ok(Self { keys, mark: Sha256::digest(body).into() })
    }

    /// The keys that a token may be signed with; `id` is the one that it names.
    pub(super) fn of(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        let fits = move |key: &&Key| {
            let is_named = id.is_none_or(|id| key.id.as_deref() == Some(id));
            let is_kind = key.algorithm.is_none_or(|only| only == algorithm);
            is_named && is_kind && key.key.family() == algorithm.family()
        };
        self.keys.iter().filter(fits).map(|key| &key.key).take(CANDIDATES_MAX)
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
            known: Mutex::default(),
            turn: Arc::default(),
            fetching: Mutex::default(),
        }
    }

    /// The present keys, fetched if need be. To be called on egress's runtime.
    pub(super) async fn keys(self: &Arc<Self>, now_ms: u64) -> Result<Arc<Keys>, Refused> {
        let Known { keys, fetched_ms, has_failed } = self.known();
        let Some(keys) = keys else { return self.newer(None, now_ms).await?.ok_or(Refused::Unavailable) };
        let age_ms = now_ms.saturating_sub(fetched_ms);
        if age_ms >= GOOD_MS && !has_failed {
            return Ok(self.newer(Some(&keys), now_ms).await.ok().flatten().unwrap_or(keys));
        }
        if age_ms >= FRESH_MS
            && let Ok(turn) = self.turn.clone().try_lock_owned()
            && now_ms >= turn.next_ms
        {
            // Nobody waits for it: the next ones have what it brings.
            drop(self.fetch_apart(turn, now_ms));
        }
        Ok(keys)
    }

    /// Other keys than `old`, where the endpoint has others; `None` where it has not, or was asked a moment ago.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(super) async fn newer(
        self: &Arc<Self>,
        old: Option<&Arc<Keys>>,
        now_ms: u64,
    ) -> Result<Option<Arc<Keys>>, Refused> {
        let turn = self.turn.clone().lock_owned().await;
        if self.known().keys_but(old).is_none() && now_ms >= turn.next_ms {
            // It ends without a word only when the host does.
            let _ = self.fetch_apart(turn, now_ms).await;
        }
        let known = self.known();
        match known.keys_but(old) {
            None if known.has_failed => Err(Refused::Unavailable),
            keys => Ok(keys),
        }
    }

    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fetches in a task of its own, and tells when that is done.
    fn fetch_apart(self: &Arc<Self>, mut turn: OwnedMutexGuard<Turn>, now_ms: u64) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        let (jwks, begun) = (self.clone(), Instant::now());
        let fetch = async move {
            let fetched = jwks.fetch().await;
            let rest_ms = jwks.learn(fetched, now_ms);
            let taken_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            turn.next_ms = now_ms.saturating_add(taken_ms).saturating_add(rest_ms);
            drop(turn);
            // Whoever asked may have gone.
            let _ = answer.send(());
        };
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        while fetching.try_join_next().is_some() {}
        fetching.spawn(fetch);
        answered
    }

    async fn fetch(&self) -> Result<Keys, String> {
        Keys::parse(&self.endpoint.get("application/json", ANSWER_BYTES_MAX).await?)
    }

    /// Takes over what a fetch has brought; for how long nobody shall fetch again.
    fn learn(&self, fetched: Result<Keys, String>, now_ms: u64) -> u64 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.has_failed = fetched.is_err();
        match fetched {
            Ok(keys) => {
                known.fetched_ms = now_ms;
                // Where nothing has changed, nobody shall think that it has.
                if known.keys.as_ref().is_none_or(|old| old.mark != keys.mark) {
                    known.keys = Some(Arc::new(keys));
                }
                REST_MS
            }
            Err(because) => {
                let has_keys = known.keys.is_some();
                drop(known);
                self.report(&because, if has_keys { "the keys at hand stay in use" } else { "requests get 503" });
                if has_keys { REST_MS } else { REST_WITHOUT_KEYS_MS }
            }
        }
    }

    fn report(&self, because: &str, then: &str) {
        let text = format!("no keys from {}: {because}: {then}", self.endpoint.target().display());
        let (connector, key, subject) = (&self.connector, &self.path, Effect::Secret.label());
        let refused = audit::Refused { kind: Kind::Unusable, connector, subject, reason: "jwks", key, text: &text };
        self.audit.refused(&refused);
    }
}

impl Known {
    fn keys_but(&self, old: Option<&Arc<Keys>>) -> Option<Arc<Keys>> {
        self.keys.clone().filter(|keys| old.is_none_or(|old| !Arc::ptr_eq(old, keys)))
    }
}
