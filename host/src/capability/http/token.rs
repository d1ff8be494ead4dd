//! Access tokens of `oauth2`: one for all connectors that share the credential, fetched by one at a time.
//!
//! A token is fetched before it expires, and once more when a receiver refuses it. A refresh token that the endpoint
//! replaces is sealed before the token that came with it is used. Invariant: whoever asks and goes away does not cut a
//! fetch off, because the endpoint may have replaced the refresh token by then; and an endpoint that fails is left alone
//! for a while, twice as long each time. A refresh token is spent by one at a time, however many credentials start with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Body, Request};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Services;
use super::endpoint::{self, Endpoint};
use crate::audit::{Audit, Kind, Refused};
use crate::capability::credential::Values;
use crate::capability::credential::oauth2::{Flow, Granted, Settings, error_word};
use crate::clock::Clock;
use crate::egress::address::Reach;
use crate::id::Name;
use crate::mask::Secret;
use crate::metrics::Effect;
use crate::secret_store::SecretStore;

/// A token endpoint answers within this.
const FETCH_MAX: Duration = Duration::from_secs(30);
/// The largest answer of a token endpoint: a token is a few KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// A token is fetched anew when this much of its life is left, or a fifth of it if that is less.
const MARGIN_MAX: Duration = Duration::from_secs(60);
/// After a first failure nobody asks again for this long.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// And never for longer than this.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// A token that took the place of a refused one, and was refused itself, is kept this long: it is not the token's fault.
const FUTILE: Duration = Duration::from_secs(60);

/// The credentials of all connectors.
#[derive(Default)]
pub(super) struct Tokens(Mutex<Known>);

#[derive(Default)]
struct Known {
    credentials: Vec<Arc<Credential>>,
    /// By the name under which the refresh token is sealed.
    rotations: HashMap<String, Rotation>,
}

/// The turn to spend a refresh token, and the one that has followed it and could not be sealed yet. Credentials that differ
/// in scopes alone spend the same one.
type Rotation = Arc<tokio::sync::Mutex<Option<Secret>>>;

/// One credential with its present token.
pub(super) struct Credential {
    settings: Settings,
    reach: Reach,
    /// The services that it was made with.
    origin: Weak<()>,
    secrets: Arc<SecretStore>,
    audit: Audit,
    clock: Clock,
    endpoint: Endpoint,
    state: Arc<tokio::sync::Mutex<State>>,
    rotation: Rotation,
    fetching: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    failed: Option<Failed>,
    /// The refresh token that came with the token could not be sealed yet: nothing is handed out before it is.
    is_unsealed: bool,
}

struct Failed {
    delay: Duration,
    until: Instant,
    because: Arc<str>,
}

/// A token that an endpoint has granted.
pub(super) struct Token {
    pub(super) value: Secret,
    /// What it was asked for with, and what it may be asked for with next: the receiver may know these as well.
    pub(super) proofs: Vec<Secret>,
    fetched: Instant,
    stale: Option<Instant>,
    expires: Option<Instant>,
    /// It took the place of one that was refused.
    is_replacement: bool,
    /// A receiver has taken it.
    is_proved: AtomicBool,
}

/// There is no token, for this reason; ask again after this.
#[derive(Clone, Debug)]
pub(super) struct Unavailable {
    pub(super) delay: Duration,
    because: Arc<str>,
}

/// For whom a token is asked, and the key that says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    pub(super) connector: &'a Name,
    pub(super) key: &'a str,
}

impl Tokens {
    /// The credential of these settings, shared by all who have the same, and the same services.
    pub(super) fn credential(&self, settings: &Settings, reach: Reach, services: &Services) -> Arc<Credential> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = Arc::downgrade(&services.generation);
        let is_it = |known: &&Arc<Credential>| {
            known.settings == *settings && known.reach == reach && known.origin.ptr_eq(&origin)
        };
        if let Some(known) = all.credentials.iter().find(is_it) {
            return known.clone();
        }
        // Those of connectors that have gone are nobody's.
        all.credentials.retain(|known| known.origin.strong_count() > 0);
        let rotation = match sealed_name(settings) {
            Some(name) => all.rotations.entry(name).or_default().clone(),
            None => Rotation::default(),
        };
        let credential = Arc::new(Credential {
            settings: settings.clone(),
            reach,
            origin,
            secrets: services.secrets.clone(),
            audit: services.audit.clone(),
            clock: services.clock.clone(),
            endpoint: Endpoint::new(settings.token_url.clone(), reach, services),
            state: Arc::default(),
            rotation,
            fetching: Mutex::default(),
        });
        all.credentials.push(credential.clone());
        credential
    }
}

impl Token {
    /// A receiver has answered something else than 401.
    pub(super) fn prove(&self) {
        self.is_proved.store(true, Ordering::Relaxed);
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.stale.is_none_or(|stale| now < stale)
    }

    fn is_good(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Credential {
    /// The present token, fetched if need be. To be called on egress's runtime.
    pub(super) async fn token(self: &Arc<Self>, asker: Asker<'_>) -> Result<Arc<Token>, Unavailable> {
        let state = self.state.clone().lock_owned().await;
        if let Some(token) = state.usable(Instant::now()) {
            return Ok(token);
        }
        let last = state.token.clone().filter(|_| !state.is_unsealed);
        let fetched = self.fetch_apart(state, false).await;
        // It was fetched before its end: until then it is good.
        let token = fetched.or_else(|gone| last.filter(|token| token.is_good(Instant::now())).ok_or(gone));
        token.inspect_err(|gone| self.report(asker, gone, "requests that need it wait"))
    }

    /// What to try after a receiver has answered 401; `None` where another token would not help.
    pub(super) async fn replacement(self: &Arc<Self>, refused: &Arc<Token>, asker: Asker<'_>) -> Option<Arc<Token>> {
        let mut state = self.state.clone().lock_owned().await;
        let now = Instant::now();
        if let Some(token) = state.usable(now).filter(|token| !Arc::ptr_eq(token, refused)) {
            return Some(token);
        }
        let is_futile = refused.is_replacement && !refused.is_proved.load(Ordering::Relaxed);
        if is_futile && now.saturating_duration_since(refused.fetched) < FUTILE {
            return None;
        }
        state.token = None;
        let fetched = self.fetch_apart(state, true).await;
        fetched.inspect_err(|gone| self.report(asker, gone, "the one at hand was answered with 401")).ok()
    }

    /// Fetches in a task of the credential's own; it goes on when nobody waits for it any more.
    async fn fetch_apart(
        self: &Arc<Self>,
        mut state: OwnedMutexGuard<State>,
        is_replacement: bool,
    ) -> Result<Arc<Token>, Unavailable> {
        let now = Instant::now();
        if let Some(failed) = state.failed.as_ref().filter(|failed| now < failed.until) {
            return Err(Unavailable { delay: failed.until - now, because: failed.because.clone() });
        }
        let (answer, answered) = oneshot::channel();
        let credential = self.clone();
        let fetch = async move {
            let fetched = credential.fetch(&mut state, is_replacement).await;
            let outcome = fetched.map_err(|because| Self::fail(&mut state, &because));
            // Whoever asked may have gone.
            let _ = answer.send(outcome);
        };
        {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            while fetching.try_join_next().is_some() {}
            fetching.spawn(fetch);
        }
        let stopped = || Unavailable { delay: BACKOFF_FIRST, because: "the host is stopping".into() };
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    fn fail(state: &mut State, because: &str) -> Unavailable {
        let before = state.failed.as_ref();
        let delay = before.map_or(BACKOFF_FIRST, |failed| (failed.delay * 2).min(BACKOFF_MAX));
        let because: Arc<str> = because.into();
        state.failed = Some(Failed { delay, until: Instant::now() + delay, because: because.clone() });
        Unavailable { delay, because }
    }

    fn report(&self, asker: Asker<'_>, gone: &Unavailable, then: &str) {
        let (Asker { connector, key }, because) = (asker, &gone.because);
        let (endpoint, client_id) = (self.settings.token_url.display(), &self.settings.client_id);
        let text = format!("no access token for `{client_id}` from {endpoint}: {because}: {then}");
        let subject = Effect::Secret.label();
        self.audit.refused(&Refused { kind: Kind::Unusable, connector, subject, reason: "token", key, text: &text });
    }

    async fn fetch(&self, state: &mut State, is_replacement: bool) -> Result<Arc<Token>, String> {
        let mut rotation = self.rotation.lock().await;
        if let Some(token) = rotation.clone() {
            self.seal(&mut rotation, token).await?;
        }
        state.is_unsealed = false;
        if let Some(token) = state.usable(Instant::now()) {
            return Ok(token);
        }
        let asked = Instant::now();
        let asked_for = timeout(FETCH_MAX, self.ask()).await;
        let (granted, mut proofs) = asked_for.map_err(|_| "it did not answer in time".to_owned())??;
        let is_echo = proofs.contains(&granted.access_token);
        proofs.extend(granted.refresh_token.clone());
        let token = Arc::new(Token {
            value: granted.access_token,
            proofs,
            fetched: asked,
            expires: granted.lifetime.and_then(|lifetime| asked.checked_add(lifetime)),
            stale: granted.lifetime.and_then(|lifetime| asked.checked_add(fresh_for(lifetime))),
            is_replacement,
            is_proved: AtomicBool::new(false),
        });
        if !is_echo {
            state.token = Some(token.clone());
            state.failed = None;
        }
        if let Some(refresh_token) = granted.refresh_token {
            let sealed = self.seal(&mut rotation, refresh_token).await;
            state.is_unsealed = sealed.is_err();
            sealed?;
        }
        if is_echo { Err("the token in its answer is what it was asked with".to_owned()) } else { Ok(token) }
    }

    /// One request to the endpoint, under the same rules of egress as the grant; what it grants, and what it was shown.
    async fn ask(&self) -> Result<(Granted, Vec<Secret>), String> {
        let get = |name: &str| self.secrets.get(name);
        let now = i64::try_from(self.clock.now_ms() / 1_000).unwrap_or(i64::MAX);
        let values = Values { get: &get, token: None, now };
        let present = self.present_refresh_token()?;
        let asking = self.settings.ask(&values, present.as_ref()).map_err(|error| error.to_string())?;
        let mut request = Request::new(Method::POST, self.settings.token_url.url().clone());
        *request.headers_mut() = asking.headers;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(Body::from(asking.form.as_bytes().to_vec()));
        Ok((read(self.endpoint.send(request).await?).await?, asking.proofs))
    }

    /// The refresh token that the last fetch brought; `None` where the configured one is still the first.
    fn present_refresh_token(&self) -> Result<Option<Secret>, String> {
        let Flow::RefreshToken(first) = &self.settings.flow else { return Ok(None) };
        let Ok(first) = self.secrets.get(first) else { return Ok(None) };
        let Some(name) = sealed_name(&self.settings) else { return Ok(None) };
        let kept = self.secrets.sealed().get(&name).map_err(|error| format!("{error:#}"))?;
        let (Some(kept), mark) = (kept, Sha256::digest(first.expose())) else { return Ok(None) };
        // An operator who configures another first token means that one.
        Ok(kept.expose().strip_prefix(mark.as_slice()).map(|token| Secret::new(token.to_vec())))
    }

    /// Keeps a refresh token in the sealed store, beside a mark of the configured one that it follows; until it is there,
    /// it stays in `rotation`.
    async fn seal(&self, rotation: &mut Option<Secret>, token: Secret) -> Result<(), String> {
        let (Flow::RefreshToken(first), Some(name)) = (&self.settings.flow, sealed_name(&self.settings)) else {
            return Ok(());
        };
        *rotation = Some(token.clone());
        let first = self.secrets.get(first);
        let first = first.map_err(|problem| format!("the first refresh token has no value: {problem}"))?;
        let kept = Secret::new([Sha256::digest(first.expose()).as_slice(), token.expose()].concat());
        let sealed = self.secrets.sealed().clone();
        let saved = tokio::task::spawn_blocking(move || sealed.set(&name, &kept)).await;
        let saved = saved.map_err(anyhow::Error::new).and_then(|saved| saved);
        saved.map_err(|error| format!("the new refresh token cannot be kept: {error:#}"))?;
        *rotation = None;
        Ok(())
    }
}

/// How long a token is used that lives so long: the rest is left for fetching the next one.
fn fresh_for(lifetime: Duration) -> Duration {
    lifetime.saturating_sub(MARGIN_MAX.min(lifetime / 5))
}

/// Under which name a refresh token is sealed, where there is one: for each client of an endpoint and each first token. No
/// operator's name has a `:`.
fn sealed_name(settings: &Settings) -> Option<String> {
    let Flow::RefreshToken(first) = &settings.flow else { return None };
    let parts = [settings.token_url.url().as_str(), &settings.client_id, first];
    Some(format!("oauth2:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(parts.join("\n")))))
}

impl State {
    fn usable(&self, now: Instant) -> Option<Arc<Token>> {
        self.token.clone().filter(|token| !self.is_unsealed && token.is_fresh(now))
    }
}

async fn read(mut response: reqwest::Response) -> Result<Granted, String> {
    let status = response.status();
    let body = endpoint::read(&mut response, ANSWER_BYTES_MAX).await?;
    if status.is_success() {
        return Granted::parse(&body).ok_or_else(|| "its answer holds no bearer token".to_owned());
    }
    Err(match error_word(&body) {
        Some(word) => format!("it answered {} with `{word}`", status.as_u16()),
        None => format!("it answered {}", status.as_u16()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_fetched_a_minute_before_its_end_or_a_fifth_of_its_life_if_that_is_less() {
        let cases = [(0, 0), (5, 4), (60, 48), (200, 160), (300, 240), (301, 241), (3_600, 3_540), (86_400, 86_340)];
        for (lifetime, fresh) in cases {
            assert_eq!(fresh_for(Duration::from_secs(lifetime)), Duration::from_secs(fresh), "a life of {lifetime} s");
        }
        assert!(fresh_for(Duration::MAX) < Duration::MAX);
    }
}
