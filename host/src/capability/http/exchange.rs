//! One admitted request and its answer.
//!
//! Runs on egress's runtime, never on a guest's threads. Everything that comes in passes [`Answer`], which is also where
//! a later check of contents belongs; how it is counted is `meter`'s. Invariant: from the barrier to the last byte one deadline holds.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use tokio::time::{timeout, timeout_at};

use super::dressing::{Dress, Handed, Payload};
use super::head::{has_body, has_two_ends, is_encoded};
use super::meter::{Meter, Outcome, Recorded};
use super::refusal::{Failure, Refusal};
use super::target::{Host, Scheme, Target};
use super::token::{Asker, Token};
use super::turn::Slot;
use super::{Grant, GrantSettings};
use crate::bindings::bulkhead::connector::http::Response;
use crate::capability::backoff;
use crate::capability::breaker::Passage;
use crate::capability::credential::placeholder::Words;
use crate::capability::credential::scrub::{Scrubber, Stream};
use crate::capability::recorder::Recorder;
use crate::clock;
use crate::egress::client::{self, Keys, RESPONSE_HEADER_BYTES_MAX, Unusable};
use crate::mask::Secret;
use crate::settlement::Barrier;

/// Where the credential for the proxy stands.
const PROXY_AUTH: &str = "host.proxy.auth";
const UNRESOLVED: &str = "its name was not resolved in time";
const SLOW: &str = "the answer did not come in time";

/// A request that may be sent.
pub(super) struct Admitted {
    pub(super) grant: Arc<Grant>,
    /// Which entry of the grant covers it.
    pub(super) entry: usize,
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    /// What stands for secrets that the entry has a place for.
    pub(super) words: Words,
    /// Bytes of bodies that the call may still have held in the host.
    pub(super) held_left: Arc<AtomicU64>,
    /// Requests under way in the same sandbox.
    pub(super) under_way: Arc<AtomicU32>,
    pub(super) recorder: Recorder,
    /// What its spans are made with.
    pub(super) traced: Option<Recorded>,
    /// Waited for by unsafe methods.
    pub(super) barrier: Option<Barrier>,
    pub(super) deadline: tokio::time::Instant,
    /// When the head of the answer must be there, if sooner.
    pub(super) head_by: Option<tokio::time::Instant>,
}

/// An answer whose body is still coming.
pub(super) struct Answer {
    response: reqwest::Response,
    host: String,
    /// Bytes still allowed, of how many, by which key.
    left: u64,
    max: u64,
    key: String,
    deadline: tokio::time::Instant,
    scrubbing: Option<Scrubbing>,
    meter: Meter,
    /// Taken when it is known how the request ended.
    passage: Option<Passage>,
    _slot: Slot,
}

/// The head of an answer, with what its request was dressed with.
struct Answered {
    response: reqwest::Response,
    meter: Meter,
    dress: Dress,
}

/// What is looked for in an answer.
struct Scrubbing {
    scrubber: Arc<Scrubber>,
    stream: Stream,
    was_found: bool,
}

impl Admitted {
    /// Sends it with a whole body and takes the whole answer, of which `budget` more bytes may come.
    pub(super) async fn whole(self, body: Vec<u8>, budget: Arc<AtomicU64>) -> Result<Response, Failure> {
        let egress = self.grant.services.egress.clone();
        let stopped = self.interrupted("the host is stopping");
        let work = async move { self.open(Payload::whole(body)).await?.collect(&budget).await };
        egress.run(work).await.unwrap_or(Err(stopped))
    }

    /// Sends it and waits for the head of the answer. To be run by `egress`.
    pub(super) async fn open(self, payload: Payload) -> Result<Answer, Failure> {
        self.judge_address().await?;
        let (mut passage, slot) = self.wait().await?;
        let again = payload.again();
        let first = self.attempt(payload, &mut passage).await?;
        let answered = match (again, self.replacement(&first).await) {
            (Some(payload), Some(_)) => {
                first.close();
                self.wait_for_rate().await?;
                let second = self.attempt(payload, &mut passage).await?;
                second.prove_token();
                second
            }
            _ => first,
        };
        self.answer(answered, passage, slot)
    }

    /// Another token, where the receiver has refused the one that was sent: it may have been revoked.
    async fn replacement(&self, answered: &Answered) -> Option<Arc<Token>> {
        let (credential, token) = answered.dress.credential.as_ref()?;
        if answered.prove_token() {
            return None;
        }
        let key = self.key("auth");
        let asker = Asker { connector: &self.grant.connector, key: &key };
        timeout_at(self.deadline, credential.replacement(token, asker)).await.ok().flatten()
    }

    /// Sends it once; a failure of the receiver uses the passage up.
    async fn attempt(&self, mut payload: Payload, passage: &mut Option<Passage>) -> Result<Answered, Failure> {
        let (client, shown) = self.client()?;
        let handed = payload.handed();
        let span = self.span();
        let dressing = timeout_at(self.deadline, self.dress(payload, shown, span.as_ref())).await;
        // What may take long of it is the token.
        let late = |_| self.wait_for_repair("token", &self.key("auth"), "there was no access token in time");
        let (request, dress) = dressing.map_err(late)??;
        let mut meter = Meter::start(self, span);
        match self.head(client.execute(request), handed).await {
            Ok(Ok(response)) => Ok(Answered { response, meter, dress }),
            Ok(Err(error)) => {
                let failure = self.failure(client::Failure::of(&error));
                if let Failure::Unreachable { .. } = failure {
                    meter.outcome = Outcome::Failed("unreachable");
                }
                match (&failure, passage.take()) {
                    (Failure::Refused(_), _) => meter.outcome = Outcome::Nothing,
                    (_, Some(passage)) => passage.fail(Instant::now()),
                    (_, None) => {}
                }
                Err(failure)
            }
            Err(late) => {
                meter.outcome = Outcome::Failed("timeout");
                passage.take().into_iter().for_each(|passage| passage.fail(Instant::now()));
                Err(late)
            }
        }
    }

    pub(super) fn entry(&self) -> &GrantSettings {
        &self.grant.entries[self.entry].settings
    }

    /// Waits for the head of an answer. The grant's bound counts from when the receiver has been handed a body that
    /// streams, however long that takes; it tells itself apart from the end of all time and from what the plugin asked for.
    async fn head<F: Future>(&self, answering: F, handed: Option<Handed>) -> Result<F::Output, Failure> {
        let (settings, latest) = (self.entry(), self.head_by.map_or(self.deadline, |by| by.min(self.deadline)));
        let heard = async {
            let mut answering = pin!(answering);
            if let Some(handed) = handed {
                tokio::select! {
                    answer = &mut answering => return Ok(answer),
                    _ = handed => {}
                }
            }
            timeout(settings.first_byte, answering).await.map_err(|_| self.silent())
        };
        timeout_at(latest, heard).await.unwrap_or_else(|_| Err(self.interrupted(SLOW)))
    }

    fn silent(&self) -> Failure {
        let settings = self.entry();
        let (within, key) = (settings.first_byte, format!("{}.first_byte", settings.key));
        Failure::Silent { host: self.host(), within, key }
    }

    /// Names are judged when they are looked up; a proxy looks them up elsewhere.
    async fn judge_address(&self) -> Result<(), Failure> {
        let (egress, reach) = (&self.grant.services.egress, self.entry().reach());
        let judged = match self.target.host() {
            Host::Name(name) => {
                let judged = self.grant.entries[self.entry].client.judge_name(name);
                timeout_at(self.deadline, judged).await.map_err(|_| self.unreachable(UNRESOLVED))?
            }
            Host::Address(address) => egress.judge(reach, *address).map_err(client::Failure::Refused),
        };
        judged.map_err(|failure| self.failure(failure))
    }

    /// The client, with the present private key where a certificate is shown, and the password where the proxy wants one;
    /// and what of it whoever answers is shown.
    fn client(&self) -> Result<(client::Sender, Vec<Secret>), Failure> {
        let client = &self.grant.entries[self.entry].client;
        let own = self.key("auth.mtls");
        let value = |name: Option<&str>, key: &str| {
            let value = name.map(|name| self.grant.services.secrets.get(name)).transpose();
            value.map_err(|problem| self.wait_for_repair("missing", key, problem))
        };
        let private_key = value(self.entry().identity.as_ref().map(|identity| &*identity.key), &own)?;
        let proxy_password = value(client.proxy_password(), PROXY_AUTH)?;
        let keys = Keys { private_key: private_key.as_ref(), proxy_password: proxy_password.as_ref() };
        let sender = client.get(keys).map_err(|problem| match problem {
            Unusable::Identity => self.wait_for_repair("certificate", &own, problem),
            Unusable::Proxy => self.wait_for_repair("unfit", PROXY_AUTH, problem),
            Unusable::Tls => self.unreachable("TLS is not usable"),
        })?;
        if let Some(name) = client.proxy_password() {
            self.grant.services.audit.secret_used(&self.grant.connector, name, PROXY_AUTH);
        }
        // What is encrypted comes from behind the proxy, where nobody knows the password.
        let is_answered_by_proxy = self.target.scheme() == Scheme::Http;
        let shown = proxy_password.filter(|_| is_answered_by_proxy).map(|password| client.shown_to_proxy(&password));
        Ok((sender, shown.unwrap_or_default()))
    }

    fn answer(&self, answered: Answered, mut passage: Option<Passage>, slot: Slot) -> Result<Answer, Failure> {
        let Answered { mut response, meter, dress } = answered;
        self.note(&response);
        if response.status().is_server_error() {
            passage.take().into_iter().for_each(|passage| passage.fail(Instant::now()));
        } else if let Some(passage) = &mut passage {
            passage.answered();
        }
        let (max, key) = self.grant.response_bytes(self.entry());
        let header_bytes: usize =
            response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if response.content_length().is_some_and(|announced| announced > max) {
            return Err(Failure::TooLarge { max, key });
        }
        if header_bytes > RESPONSE_HEADER_BYTES_MAX as usize {
            return Err(self.interrupted("the answer has too many headers"));
        }
        if has_two_ends(response.headers()) {
            return Err(self.interrupted("the answer says in two ways where it ends"));
        }
        if dress.scrubber.is_some() && has_body(&self.method, response.status()) && is_encoded(response.headers()) {
            return Err(
                self.interrupted("its answer is compressed in a way that cannot be searched for the credential")
            );
        }
        let (host, deadline) = (self.host(), self.deadline);
        let mut scrubbing = dress.scrubber.map(Scrubbing::new);
        if scrubbing.as_mut().is_some_and(|scrubbing| scrubbing.head(response.headers_mut())) {
            self.grant.scrubbed(&host);
        }
        Ok(Answer { response, host, left: max, max, key, deadline, scrubbing, meter, passage, _slot: slot })
    }

    /// What the receiver asks of everybody in this host.
    fn note(&self, response: &reqwest::Response) {
        let answer = backoff::Answer { status: response.status(), headers: response.headers() };
        let noted = self.grant.services.backoff.note(&self.target.authority(), answer, Instant::now(), clock::wall());
        if let Some(wait) = noted {
            let (connector, host, seconds) = (&self.grant.connector, self.entry().pattern.as_str(), wait.as_secs());
            tracing::info!(%connector, host, seconds, "the receiver asks to wait: nobody in this host asks it before");
        }
    }

    fn failure(&self, failure: client::Failure) -> Failure {
        match failure {
            client::Failure::Refused(refused) => {
                let (entry, class) = (self.entry(), refused.class);
                let key = entry.key.clone();
                Refusal::Address { host: self.host(), class, reach: entry.reach(), key }.into()
            }
            client::Failure::Malformed => Refusal::Malformed("it is not a request of HTTP").into(),
            client::Failure::Unreachable(because) => self.unreachable(because),
            client::Failure::Interrupted(because) => self.interrupted(because),
        }
    }

    pub(super) fn interrupted(&self, because: &'static str) -> Failure {
        Failure::Interrupted { host: self.host(), because }
    }

    fn unreachable(&self, because: &'static str) -> Failure {
        Failure::Unreachable { host: self.host(), because }
    }

    pub(super) fn host(&self) -> String {
        self.target.host_text().to_owned()
    }
}

impl Answered {
    /// Whether the receiver has taken the token.
    fn prove_token(&self) -> bool {
        let is_taken = self.response.status() != StatusCode::UNAUTHORIZED;
        if let Some((_, token)) = self.dress.credential.as_ref().filter(|_| is_taken) {
            token.prove();
        }
        is_taken
    }

    /// It is not what the plugin gets.
    fn close(mut self) {
        self.meter.outcome = Outcome::Answered(self.response.status());
    }
}

impl Scrubbing {
    fn new(scrubber: Arc<Scrubber>) -> Self {
        Self { scrubber, stream: Stream::default(), was_found: false }
    }

    /// Whether it is the first of its answer.
    fn note(&mut self, found: bool) -> bool {
        found && !std::mem::replace(&mut self.was_found, true)
    }

    fn head(&mut self, headers: &mut HeaderMap) -> bool {
        let mut found = false;
        for value in headers.values_mut() {
            let mut bytes = value.as_bytes().to_vec();
            if self.scrubber.scrub(&mut bytes) {
                *value = HeaderValue::from_bytes(&bytes).unwrap_or(HeaderValue::from_static(""));
                found = true;
            }
        }
        self.note(found)
    }

    fn piece(&mut self, chunk: &[u8]) -> (Bytes, bool) {
        let (piece, found) = self.stream.push(&self.scrubber, chunk);
        (piece, self.note(found))
    }

    fn end(&mut self) -> (Bytes, bool) {
        let (piece, found) = self.stream.finish(&self.scrubber);
        (piece, self.note(found))
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next piece of the body, decompressed and without credentials. `None` at its end; after an error there is
    /// nothing more.
    pub(super) async fn next(&mut self, by: Option<tokio::time::Instant>) -> Option<Result<Bytes, Failure>> {
        loop {
            let received = self.receive(by).await;
            let Some(scrubbing) = &mut self.scrubbing else { return received };
            let is_end = received.is_none();
            let (piece, is_first) = match received {
                Some(Err(failure)) => return Some(Err(failure)),
                Some(Ok(chunk)) => scrubbing.piece(&chunk),
                None => scrubbing.end(),
            };
            if is_first {
                self.meter.grant.scrubbed(&self.host);
            }
            match (piece.is_empty(), is_end) {
                (false, _) => return Some(Ok(piece)),
                (true, true) => return None,
                // All of it may be the beginning of a credential.
                (true, false) => {}
            }
        }
    }

    async fn receive(&mut self, by: Option<tokio::time::Instant>) -> Option<Result<Bytes, Failure>> {
        let by = by.map_or(self.deadline, |by| by.min(self.deadline));
        match timeout_at(by, self.response.chunk()).await {
            Ok(Ok(Some(chunk))) => Some(self.take(chunk)),
            Ok(Ok(None)) => {
                self.meter.outcome = Outcome::Answered(self.status());
                self.passage.take().into_iter().for_each(Passage::succeed);
                None
            }
            Ok(Err(error)) => Some(Err(match client::Failure::of(&error) {
                client::Failure::Interrupted(because) => self.break_off(because),
                _ => self.break_off("the answer broke off"),
            })),
            Err(_) => Some(Err(self.break_off(SLOW))),
        }
    }

    fn break_off(&mut self, because: &'static str) -> Failure {
        self.passage.take().into_iter().for_each(|passage| passage.fail(Instant::now()));
        self.interrupted(because)
    }

    fn take(&mut self, chunk: Bytes) -> Result<Bytes, Failure> {
        match self.left.checked_sub(chunk.len() as u64) {
            Some(left) => {
                self.left = left;
                Ok(chunk)
            }
            None => Err(Failure::TooLarge { max: self.max, key: self.key.clone() }),
        }
    }

    fn interrupted(&self, because: &'static str) -> Failure {
        Failure::Interrupted { host: self.host.clone(), because }
    }

    /// Takes all of it.
    async fn collect(mut self, budget: &AtomicU64) -> Result<Response, Failure> {
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let (status, headers) = (self.status().as_u16(), self.headers().iter().map(text).collect());
        let mut body = Vec::new();
        while let Some(chunk) = self.next(None).await {
            let chunk = chunk?;
            let spent = |left: u64| left.checked_sub(chunk.len() as u64);
            if budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spent).is_err() {
                return Err(Failure::TooLarge { max: self.max, key: self.key.clone() });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response { status, headers, body })
    }
}
