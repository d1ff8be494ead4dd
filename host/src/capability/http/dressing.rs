//! The last steps before a request leaves: placeholders become values, the credential is attached, the body is signed.
//!
//! Done anew for every attempt, so that a rotated secret or a fresh token is used at once. Invariant: from here on a
//! request holds credentials and is shown to nobody; what it was dressed with is looked for in the answer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap};
use reqwest::Body;
use tokio::sync::oneshot;
use url::Url;

use super::exchange::Admitted;
use super::refusal::{Failure, HeldBy, Refusal};
use super::session::header_of;
use super::token::{Asker, Credential, Token};
use super::{Grant, GrantSettings};
use crate::audit::{Kind, Refused};
use crate::capability::credential::placeholder::{Part, fill_body, fill_headers, fill_path, fill_query};
use crate::capability::credential::scrub::Scrubber;
use crate::capability::credential::sigv4::Payload as Signed;
use crate::capability::credential::{Auth, Draft, Unattached, Unfit, Values};
use crate::egress::address::Reach;
use crate::mask::Secret;
use crate::message::trace::TRACEPARENT;
use crate::metrics::Effect;
use crate::settlement::attempt::Effect as Done;
use crate::telemetry::otlp::span::Span;

/// How soon to come back when a secret cannot be read: somebody is replacing it, or has to.
const SECRET_DELAY: Duration = Duration::from_secs(10);
/// A body that must be known first is held whole up to this, unless the grant says otherwise.
const SIGNED_BODY_BYTES_MAX: u64 = 8 << 20;

/// A request's body.
pub(super) enum Payload {
    Nothing,
    Whole(Bytes),
    /// And what ends when all of it has been handed over, or no more is wanted.
    Stream(Body, Option<Handed>),
}

/// Fails as soon as a body is handed over: nothing is ever sent through it.
pub(super) type Handed = oneshot::Receiver<Infallible>;

/// What a request was dressed with.
pub(super) struct Dress {
    pub(super) scrubber: Option<Arc<Scrubber>>,
    /// What to try again with when it is refused.
    pub(super) credential: Option<(Arc<Credential>, Arc<Token>)>,
}

/// A host's memory that is held for one body, charged to its call.
pub(super) struct Charge {
    left: Arc<AtomicU64>,
    bytes: u64,
}

/// The scrubbers of a connector's entries, kept as long as the values stay.
#[derive(Default)]
pub(super) struct Scrubbers(Mutex<HashMap<usize, Known>>);

/// The values, and what looks for them if they are worth it.
type Known = (Vec<Secret>, Option<Arc<Scrubber>>);

impl Payload {
    pub(super) fn whole(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        if body.is_empty() { Self::Nothing } else { Self::Whole(body) }
    }

    /// The same once more, unless it is a stream.
    pub(super) fn again(&self) -> Option<Self> {
        match self {
            Self::Nothing => Some(Self::Nothing),
            Self::Whole(body) => Some(Self::Whole(body.clone())),
            Self::Stream(..) => None,
        }
    }

    /// Takes what ends when a stream is handed over; `None` for what is sent at once.
    pub(super) fn handed(&mut self) -> Option<Handed> {
        match self {
            Self::Stream(_, handed) => handed.take(),
            _ => None,
        }
    }

    fn into_body(self) -> Option<Body> {
        match self {
            Self::Nothing => None,
            Self::Whole(body) => Some(Body::from(body)),
            Self::Stream(body, _) => Some(body),
        }
    }

    fn signed(&self) -> Signed<'_> {
        match self {
            Self::Nothing => Signed::Known(b""),
            Self::Whole(body) => Signed::Known(body),
            Self::Stream(..) => Signed::Unsigned,
        }
    }
}

impl Charge {
    pub(super) fn new(left: Arc<AtomicU64>) -> Self {
        Self { left, bytes: 0 }
    }

    /// Takes so many more bytes from what the call has left; whether there were enough.
    pub(super) fn add(&mut self, bytes: u64) -> bool {
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        self.bytes += if taken.is_ok() { bytes } else { 0 };
        taken.is_ok()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

impl Scrubbers {
    fn of(&self, entry: usize, values: Vec<Secret>) -> Option<Arc<Scrubber>> {
        if values.is_empty() {
            return None;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, scrubber)) = known.get(&entry)
            && *of == values
        {
            return scrubber.clone();
        }
        let scrubber = Scrubber::new(&values).map(Arc::new);
        known.insert(entry, (values, scrubber.clone()));
        scrubber
    }
}

impl GrantSettings {
    /// Whether the whole body must be known before the first byte is sent.
    pub(super) fn needs_body(&self, url: &Url) -> bool {
        let is_filled = self.placeholders.iter().any(|placeholder| placeholder.part == Part::Body);
        is_filled || self.auth.as_ref().is_some_and(|auth| auth.needs_body(url))
    }

    /// The most bytes that are held of such a body, and the key that says so.
    pub(super) fn signed_body_bytes(&self) -> (u64, String) {
        (self.max_signed_body.unwrap_or(SIGNED_BODY_BYTES_MAX), format!("{}.max_signed_body", self.key))
    }

    /// Refuses a body that would have to be held and is too large for it.
    pub(super) fn check_signed_body(&self, url: &Url, body_bytes: u64) -> Result<(), Refusal> {
        let (max, key) = self.signed_body_bytes();
        if self.needs_body(url) && body_bytes > max { Err(Refusal::RequestBytes { max, key }) } else { Ok(()) }
    }
}

impl Admitted {
    /// Puts the request together, which is the step of `span` where it is recorded; `shown` is what the client adds to it that an answer may repeat.
    pub(super) async fn dress(
        &self,
        mut payload: Payload,
        shown: Vec<Secret>,
        span: Option<&Span>,
    ) -> Result<(reqwest::Request, Dress), Failure> {
        let (mut headers, mut url) = (self.headers.clone(), self.target.url().clone());
        if let Some(span) = span.filter(|_| self.traced.as_ref().is_some_and(|it| !it.names_one)) {
            headers.insert(TRACEPARENT, header_of(span.trace));
        }
        let mut used = self.fill(&mut headers, &mut url, &mut payload)?;
        used.extend(shown);
        let credential = match &self.entry().auth {
            Some(Auth::Oauth2(settings)) => {
                let services = &self.grant.services;
                // As with a grant: the private network is open only to what is written out.
                let reach = if settings.token_url.names_port() { self.entry().reach() } else { Reach::Public };
                let credential = services.tokens.credential(settings, reach, services);
                let key = self.key("auth");
                let asker = Asker { connector: &self.grant.connector, key: &key };
                let token = credential.token(asker).await.map_err(|gone| {
                    services.metrics.denied(&self.grant.connector, Effect::Secret, "token");
                    Failure::Held(
                        gone.delay,
                        HeldBy::Secret("no access token is to be had, the log says why".to_owned()),
                    )
                })?;
                Some((credential, token))
            }
            Some(_) | None => None,
        };
        if let Some(auth) = &self.entry().auth {
            let token = credential.as_ref().map(|(_, token)| &token.value);
            used.extend(self.attach(auth, token, &mut headers, &mut url, payload.signed())?);
            used.extend(credential.iter().flat_map(|(_, token)| token.proofs.iter().cloned()));
            auth.secrets().into_iter().for_each(|name| self.record_use(name, "auth"));
        }
        let mut request = reqwest::Request::new(self.method.clone(), url);
        *request.headers_mut() = headers;
        *request.body_mut() = payload.into_body();
        let scrubber = self.grant.scrubbers.of(self.entry, used);
        Ok((request, Dress { scrubber, credential }))
    }

    fn attach(
        &self,
        auth: &Auth,
        token: Option<&Secret>,
        headers: &mut HeaderMap,
        url: &mut Url,
        body: Signed<'_>,
    ) -> Result<Vec<Secret>, Failure> {
        let services = &self.grant.services;
        let get = |name: &str| services.secrets.get(name);
        let now = i64::try_from(services.clock.now_ms() / 1_000).unwrap_or(i64::MAX);
        let values = Values { get: &get, token, now };
        let mut draft = Draft { method: &self.method, headers, url, body };
        auth.apply(&values, &mut draft).map_err(|problem| self.unattached(&problem, "auth"))
    }

    /// Puts values in the place of their words, where the entry has such a place; answers them.
    fn fill(&self, headers: &mut HeaderMap, url: &mut Url, payload: &mut Payload) -> Result<Vec<Secret>, Failure> {
        let mut used = Vec::new();
        for word in self.words.iter() {
            let value = self.grant.services.secrets.get(&word.secret);
            let missing = |problem| Unattached::Missing { name: word.secret.clone(), problem };
            let value = value.map_err(|problem| self.unattached(&missing(problem), "placeholders"))?;
            let mut found = false;
            for place in self.entry().placeholders.iter().filter(|place| place.secret == word.secret) {
                let filled = match place.part {
                    Part::Path => fill_path(url, &word.text, &value),
                    Part::Query => fill_query(url, &word.text, &value),
                    Part::Header => fill_headers(headers, &word.text, &value),
                    Part::Body => self.fill_body(headers, payload, &word.text, &value),
                };
                found |= filled.map_err(|problem| self.unattached(&problem.into(), "placeholders"))?;
            }
            if found {
                self.record_use(&word.secret, "placeholders");
                used.push(value);
            }
        }
        Ok(used)
    }

    fn fill_body(
        &self,
        headers: &mut HeaderMap,
        payload: &mut Payload,
        word: &str,
        value: &Secret,
    ) -> Result<bool, Unfit> {
        let Payload::Whole(body) = payload else { return Ok(false) };
        let bytes_max = usize::try_from(self.entry().signed_body_bytes().0).unwrap_or(usize::MAX);
        let Some(filled) = fill_body(body, headers, word, value, bytes_max)? else { return Ok(false) };
        *body = filled.into();
        // It has another length now; the client counts it.
        headers.remove(CONTENT_LENGTH);
        Ok(true)
    }

    fn record_use(&self, secret: &str, what: &str) {
        self.grant.services.audit.secret_used(&self.grant.connector, secret, &self.key(what));
        self.recorder.add(Done::Secret { name: secret.to_owned() });
    }

    /// Of a part of the entry.
    pub(super) fn key(&self, what: &str) -> String {
        format!("{}.{what}", self.entry().key)
    }

    fn unattached(&self, problem: &Unattached, what: &str) -> Failure {
        let reason = match problem {
            Unattached::Missing { .. } => "missing",
            Unattached::Unfit(_) => "unfit",
        };
        self.wait_for_repair(reason, &self.key(what), problem)
    }

    /// A credential that cannot be used is the operator's to repair: messages wait for it instead of dying.
    pub(super) fn wait_for_repair(&self, reason: &'static str, key: &str, problem: impl Display) -> Failure {
        let (connector, services, subject) = (&self.grant.connector, &self.grant.services, Effect::Secret.label());
        services.metrics.denied(connector, Effect::Secret, reason);
        let what = format!("the credential cannot be attached: {problem}");
        let text = format!("{what}: requests wait");
        services.audit.refused(&Refused { kind: Kind::Unusable, connector, subject, reason, key, text: &text });
        Failure::Held(SECRET_DELAY, HeldBy::Secret(what))
    }
}

impl Grant {
    /// An answer repeated what its request was dressed with.
    pub(super) fn scrubbed(&self, host: &str) {
        self.services.metrics.scrubbed(&self.connector);
        let (connector, key) = (&self.connector, self.key("allow.http"));
        let text = format!("an answer of `{host}` repeated a credential: it was blotted out");
        let subject = Effect::Secret.label();
        let refused = Refused { kind: Kind::Refusal, connector, subject, reason: "echoed", key: &key, text: &text };
        self.services.audit.refused(&refused);
    }
}
