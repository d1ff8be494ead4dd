//! The webhook trigger: HTTP requests from outside become deliveries.
//!
//! [`server`] finds the webhook of a request, [`verify`] says who sent it, `event` what it is about; then it is stored, or
//! its connector answers it (`synchronous`). Invariant: nothing is read further than its bound, nothing is stored before
//! it is verified, and no answer of 2xx leaves before what it promises is on disk.

mod answer;
pub mod cors;
mod event;
pub mod path;
pub mod proxies;
pub mod server;
mod synchronous;
pub mod verify;
mod visit;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;

use crate::audit::{Audit, Kind, Refused};
use crate::capability::rate::{Bucket, Rate};
use crate::clock;
use crate::id::Name;
use crate::ledger::{AppendError, Ledger};
use crate::message;
use crate::message::request::Request;
use crate::settlement::{Mark, QueueId};
use crate::telemetry::otlp::Tracer;

use answer::{Refusal, Reply};
use event::Event;
use server::Room;
use synchronous::Synchronous;
use verify::{Incoming, Verdict, Verified, Verifier};
use visit::Visit;

pub use synchronous::Runs;

/// `[connectors.X] webhook`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where requests come in.
    pub path: path::Pattern,
    /// Which methods they may have.
    pub methods: Vec<String>,
    /// How their sender is known.
    pub verify: verify::Settings,
    /// Who answers them.
    pub respond: Respond,
    /// The queue that they are stored in, where it is not the connector's inbox.
    pub publish: Option<Name>,
    /// Runs at once.
    pub concurrency: usize,
    /// How long a repeat is known as one.
    pub dedup: Duration,
    /// Bytes of a body.
    pub body_bytes_max: u64,
    /// Accepted requests in a time.
    pub rate: Option<Rate>,
    /// Which pages in a browser may send them.
    pub cors: Option<cors::Cors>,
}

impl Settings {
    /// What it takes from whom, and what becomes of it, in plain words.
    #[must_use]
    pub fn permission(&self) -> String {
        let (methods, path, senders) = (self.methods.join(", "), &self.path, self.verify.senders());
        let fate = match (&self.publish, self.respond) {
            (Some(queue), _) => format!("stores them in `{queue}`"),
            (None, Respond::Accepted { .. }) => "handles them later".to_owned(),
            (None, Respond::Connector { .. }) => "answers them".to_owned(),
        };
        format!("takes {methods} requests at {path} from {senders}, and {fate}")
    }
}

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Respond {
    /// The host, once the request is on disk.
    Accepted {
        /// With this.
        status: u16,
    },
    /// The connector, once its settlement is on disk.
    Connector {
        /// Within this time; afterwards the sender is told that it took too long.
        timeout: Duration,
    },
}

/// Bytes that a request's headers and names may add to its body in a stored message; a head is half of it at most.
pub const HEAD_BYTES_MAX: u64 = 64 << 10;

/// One webhook.
pub struct Hook {
    connector: Name,
    settings: Settings,
    verifier: Verifier,
    inbox: QueueId,
    /// Where accepted requests go.
    target: QueueId,
    bucket: Option<Bucket>,
    /// Where it tells of its requests, and what their senders may ask of that.
    tracer: Tracer,
    asked: Bucket,
    synchronous: Option<Synchronous>,
    ledger: Ledger,
    audit: Audit,
}

/// What a webhook is built of.
pub struct Foundation {
    /// Whose it is.
    pub connector: Name,
    /// What its senders prove.
    pub verifier: Verifier,
    /// The connector's inbox, whose window remembers what was accepted.
    pub inbox: QueueId,
    /// Where accepted requests go: the inbox, or the queue that is named.
    pub target: QueueId,
    /// What runs the plugin, where it answers itself.
    pub runs: Option<Runs>,
    /// Where accepted requests are stored.
    pub ledger: Ledger,
    /// Where refusals are recorded.
    pub audit: Audit,
    /// Where traces go, if anywhere.
    pub tracer: Tracer,
}

/// A request whose head and body are here.
struct Whole {
    parts: Parts,
    body: Vec<u8>,
    /// The body's share of the memory, as long as it is held.
    room: Room,
    parameters: path::Values,
    remote_address: String,
    origin: String,
}

impl Hook {
    /// A webhook as it is configured; `before` is the one whose place it takes, if it does.
    #[must_use]
    pub fn new(settings: Settings, foundation: Foundation, before: Option<&Self>) -> Self {
        let Foundation { connector, verifier, inbox, target, runs, ledger, audit, tracer } = foundation;
        let bucket = settings.rate.map(Bucket::new);
        let synchronous = match (settings.respond, runs) {
            (Respond::Connector { timeout }, Some(runs)) => {
                let before = before.and_then(|before| before.synchronous.as_ref());
                Some(Synchronous::new(runs, timeout, settings.concurrency, before))
            }
            _ => None,
        };
        let asked = visit::asked();
        Self { connector, settings, verifier, inbox, target, bucket, tracer, asked, synchronous, ledger, audit }
    }

    /// Verifies a whole request, and stores it or has it answered.
    async fn take(self: &Arc<Self>, mut whole: Whole, visit: &mut Option<Visit>) -> Result<Reply, Refusal> {
        let target = whole.parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let incoming = Incoming {
            method: whole.parts.method.as_str(),
            target,
            origin: &whole.origin,
            headers: &whole.parts.headers,
            body: &whole.body,
            now_ms: wall_ms(),
        };
        let verified = match self.verifier.check(&incoming).await {
            Ok(Verdict::Accepted(verified)) => verified,
            Ok(Verdict::Answer { content_type, body }) => return Ok(Reply::ok(content_type, body)),
            Err(refused) => return Err(self.unverified(refused)),
        };
        if let Some(bucket) = &self.bucket {
            let now = Instant::now();
            bucket.take(now, now).map_err(|too_long| Refusal::Rate(too_long.wait))?;
        }
        let event = Event::of(&verified, &whole.parts.headers, &whole.body);
        let room = std::mem::take(&mut whole.room);
        let mut request = request(whole, &verified, &event);
        if let Some(visit) = visit {
            visit.admit(&self.asked);
            let in_queue = self.synchronous.is_none().then_some(event.id.as_str());
            visit.carry_on(&mut request.headers, in_queue);
        }
        let mark = |answer| {
            let (inbox, keys, message_id) = (self.inbox, event.keys.clone(), event.id.clone());
            (!keys.is_empty()).then_some(Mark { inbox, keys, message_id, answer })
        };
        match (&self.synchronous, self.settings.respond) {
            (Some(synchronous), _) => synchronous.answer(self, request, room, mark(None)).await,
            (None, Respond::Accepted { status }) => self.store(request, mark(None), status, visit.as_ref()).await,
            (None, Respond::Connector { .. }) => Err(Refusal::Stopping),
        }
    }

    async fn store(
        &self,
        request: Request,
        mark: Option<Mark>,
        status: u16,
        visit: Option<&Visit>,
    ) -> Result<Reply, Refusal> {
        let draft = request.into_draft();
        message::check(&draft.id, draft.key.as_deref(), &draft.headers).map_err(|_| Refusal::Head)?;
        let stored = self.ledger.receive(self.target, draft, mark).await.map_err(|error| self.unstored(&error))?;
        if let Some(visit) = visit.filter(|_| !stored.duplicate) {
            let inbox = || Name::inbox_of(&self.connector);
            visit.stored(&self.connector, self.settings.publish.clone().unwrap_or_else(inbox).as_str(), &stored.id);
        }
        Ok(Reply::accepted(status, &stored.id))
    }

    fn unstored(&self, error: &AppendError) -> Refusal {
        match error {
            AppendError::Full { .. } | AppendError::Disk => {
                tracing::debug!(connector = %self.connector, %error, "a webhook request is not accepted");
                Refusal::NoRoom
            }
            AppendError::TooLarge { .. } => Refusal::Body,
            AppendError::Closed => Refusal::Stopping,
            AppendError::NoSuchQueue | AppendError::Failed(_) => {
                tracing::error!(connector = %self.connector, %error, "a webhook request could not be stored");
                Refusal::Broken
            }
        }
    }

    fn unverified(&self, refused: verify::Refused) -> Refusal {
        let key = format!("connectors.{}.webhook.verify", self.connector);
        let (connector, reason) = (&self.connector, refused.label());
        let text = "a webhook request is not from whom it should be, and was not taken";
        self.audit.refused(&Refused { kind: Kind::Refusal, connector, subject: "webhook", reason, key: &key, text });
        if matches!(refused, verify::Refused::Unavailable) { Refusal::NoKeys } else { Refusal::Unverified }
    }
}

fn request(whole: Whole, verified: &Verified, event: &Event) -> Request {
    let Whole { parts, body, parameters, remote_address, .. } = whole;
    Request {
        id: event.id.clone(),
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().and_then(|query| without(query, &verified.consumed_query)),
        remote_address,
        verified_by: verified.by.clone(),
        parameters,
        headers: event.headers(verified, &parts.headers),
        body,
    }
}

/// A query without these names; `None` where nothing is left.
fn without(query: &str, consumed: &[String]) -> Option<String> {
    let is_consumed = |pair: &str| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        consumed.iter().any(|consumed| *consumed == name)
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_consumed(pair)).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// What signatures are dated by is the time of day, not the ledger's clock.
fn wall_ms() -> u64 {
    let since = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
