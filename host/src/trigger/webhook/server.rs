//! The listener's side of webhooks: from a request to its webhook, and what it is answered back.
//!
//! Owns the bounds of a request before anybody has looked at it. Invariant: an unknown path, a wrong method and a webhook
//! that is not enabled look the same.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response, Version, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::answer::{Refusal, Reply};
use super::path::Values;
use super::proxies::Proxies;
use super::visit::Visit;
use super::{Hook, Whole};
use crate::listener::{Bounds, Handler, Peer};
use crate::metrics::Metrics;

/// What connections may take.
pub const BOUNDS: Bounds = Bounds {
    connections: 4096,
    head: Duration::from_secs(15),
    idle: Duration::from_secs(60),
    head_bytes: 32 << 10,
    headers: 64,
};
/// From the end of a request's head to the end of its body.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Bytes of path and query.
const TARGET_BYTES_MAX: usize = 8 << 10;
/// Bytes of all bodies that are held at once: who is not known yet must not fill the memory, however many connections.
const BODIES_BYTES_MAX: usize = 256 << 20;
/// What of them is counted as one.
const BODY_UNIT_BYTES: usize = 1 << 10;
/// Headers of a request that become its message's.
const HEADERS_MAX: usize = 48;

/// All webhooks of a host. Cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

/// What is served, until something else is.
#[derive(Default)]
pub struct Served {
    /// In the order in which they are asked for a path.
    pub hooks: Vec<Arc<Hook>>,
    /// Believed about the way of a request.
    pub proxies: Proxies,
}

struct Inner {
    served: watch::Receiver<Arc<Served>>,
    metrics: Metrics,
    stopping: watch::Receiver<bool>,
    bodies: Arc<Semaphore>,
}

impl Server {
    /// Serves what there is at the moment, until `stopping` turns true; a request that has begun ends as it began.
    #[must_use]
    pub fn new(served: watch::Receiver<Arc<Served>>, metrics: Metrics, stopping: watch::Receiver<bool>) -> Self {
        let bodies = Arc::new(Semaphore::new(BODIES_BYTES_MAX / BODY_UNIT_BYTES));
        Self(Arc::new(Inner { served, metrics, stopping, bodies }))
    }
}

impl Served {
    /// The webhook that a request asks for.
    fn find(&self, parts: &Parts) -> Option<(Arc<Hook>, Found)> {
        self.hooks.iter().find_map(|hook| {
            let values = hook.settings.path.find(parts.uri.path())?;
            let settings = &hook.settings;
            if settings.methods.iter().any(|method| method == parts.method.as_str()) {
                return Some((hook.clone(), Found::Request(values)));
            }
            let cors = settings.cors.as_ref().filter(|_| parts.method == Method::OPTIONS)?;
            Some((hook.clone(), Found::Preflight(cors.preflight(&parts.headers, &settings.methods)?)))
        })
    }
}

impl Handler for Server {
    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        let is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        let (connector, reply) = self.0.reply(request, peer).await;
        self.0.metrics.webhook(connector.as_ref().map_or("", |hook| hook.connector.as_str()), reply.status());
        // A proxy in front that reads the framing of a chunked request differently must find nothing behind it.
        if is_chunked { reply.closing() } else { reply }.into_response()
    }
}

impl Inner {
    /// The answer, and whose webhook gave it.
    async fn reply(&self, request: Request<Incoming>, peer: Peer) -> (Option<Arc<Hook>>, Reply) {
        let (parts, body) = request.into_parts();
        let served = self.served.borrow().clone();
        if let Err(refusal) = self.admit(&parts, peer) {
            return (None, refusal.into());
        }
        let (hook, found) = match served.find(&parts) {
            Some((hook, found)) => (hook, found),
            None => return (None, Refusal::Unknown.into()),
        };
        let values = match found {
            Found::Request(values) => values,
            Found::Preflight(reply) => return (Some(hook), reply),
        };
        let headers = hook.settings.cors.as_ref().map(|_| parts.headers.clone());
        let (mut visit, method) = (Visit::begin(&hook, &parts.headers), parts.method.clone());
        let reply = self.take(&served.proxies, &hook, parts, body, (values, peer), &mut visit).await;
        let reply = reply.unwrap_or_else(Reply::from);
        if let Some(visit) = visit {
            visit.end(&hook, &method, reply.status());
        }
        let reply = match (&hook.settings.cors, headers) {
            (Some(cors), Some(headers)) => cors.open(&headers, reply),
            _ => reply,
        };
        (Some(hook), reply)
    }

    /// Whether a head can be understood in one way only, and is within the bounds.
    fn admit(&self, parts: &Parts, peer: Peer) -> Result<(), Refusal> {
        if *self.stopping.borrow() {
            return Err(Refusal::Stopping);
        }
        let headers = &parts.headers;
        let is_one = parts.version != Version::HTTP_11 || headers.get_all(header::HOST).iter().count() == 1;
        if !is_one || peer.is_ambiguous {
            return Err(Refusal::Malformed);
        }
        if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > TARGET_BYTES_MAX) {
            return Err(Refusal::Target);
        }
        if headers.len() > HEADERS_MAX {
            return Err(Refusal::Head);
        }
        Ok(())
    }

    async fn take(
        &self,
        proxies: &Proxies,
        hook: &Arc<Hook>,
        parts: Parts,
        body: Incoming,
        (parameters, peer): (Values, Peer),
        visit: &mut Option<Visit>,
    ) -> Result<Reply, Refusal> {
        let (body, room) = self.read(body, hook.settings.body_bytes_max).await?;
        let remote_address = proxies.sender(&peer, &parts.headers).to_string();
        let origin = proxies.origin(&peer, &parts.headers, host(&parts));
        hook.take(Whole { parts, body, room, parameters, remote_address, origin }, visit).await
    }

    /// The whole body and its share of the memory, unless it is larger than `most` or takes too long.
    async fn read(&self, mut body: Incoming, most: u64) -> Result<(Vec<u8>, Room), Refusal> {
        if body.size_hint().exact().is_some_and(|bytes| bytes > most) {
            return Err(Refusal::Body);
        }
        // Memory is taken for what is there, not for what is said to come.
        let (mut whole, mut room) = (Vec::new(), Room::default());
        let reading = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| Refusal::Malformed)?;
                let Ok(data) = frame.into_data() else { continue };
                if (whole.len() + data.len()) as u64 > most {
                    return Err(Refusal::Body);
                }
                room.grow(&self.bodies, whole.len() + data.len())?;
                whole.extend_from_slice(&data);
            }
            Ok(())
        };
        tokio::time::timeout(BODY_TIME, reading).await.map_err(|_| Refusal::Slow)??;
        Ok((whole, room))
    }
}

/// What a webhook is asked for.
enum Found {
    Request(Values),
    Preflight(Reply),
}

fn host(parts: &Parts) -> &str {
    let of_target = parts.uri.authority().map(http::uri::Authority::as_str);
    of_target.or_else(|| parts.headers.get(header::HOST)?.to_str().ok()).unwrap_or_default()
}

/// A share of the memory for bodies; given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Room(Option<OwnedSemaphorePermit>);

impl Room {
    /// Takes what a body of so many bytes needs beyond what it has.
    fn grow(&mut self, bodies: &Arc<Semaphore>, bytes: usize) -> Result<(), Refusal> {
        let wanted = bytes.div_ceil(BODY_UNIT_BYTES);
        let missing = wanted.saturating_sub(self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        let missing = u32::try_from(missing).map_err(|_| Refusal::Body)?;
        let more = bodies.clone().try_acquire_many_owned(missing).map_err(|_| Refusal::NoRoom)?;
        match &mut self.0 {
            Some(room) => room.merge(more),
            None => self.0 = Some(more),
        }
        Ok(())
    }
}
