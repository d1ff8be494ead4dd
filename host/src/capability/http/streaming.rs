//! `wasi:http/outgoing-handler` on the same gate: bodies stream both ways and are never held whole in the host.
//!
//! The standard's error codes carry no text, so the operator's log line is where the missing key is named. Trailers of
//! requests cannot be sent. Invariant: a body that stalls ends with the call's deadline, one that grows at its limit.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_LENGTH;
use http_body::Body as _;
use http_body_util::{BodyExt, StreamBody};
use reqwest::Body;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use super::Grant;
use super::dressing::{Charge, Payload};
use super::exchange::{Admitted, Answer};
use super::header::{Owner, owner};
use super::refusal::{Failure, Refusal, Reports};
use super::session::{Asked, Gate, TIMEOUT_MIN};

/// One write of a guest to a body.
const CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Writes that wait for the network.
const CHUNKS_WAITING: usize = 1;

type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Gate {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name| owner(name.as_str()) == Owner::Connection)
    }

    /// The client writes `Host` from the URL.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        CHUNKS_WAITING
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _failed: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let (parts, body) = request.into_parts();
        let body_bytes = announced(&parts.headers);
        let admitted = self.admit(Asked {
            method: parts.method.as_str(),
            url: &parts.uri.to_string(),
            headers: parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())),
            body_bytes: body_bytes.unwrap_or_default(),
            timeout: None,
        });
        let late = Late { grant: self.grant.clone(), reports: self.reports.clone() };
        let options = options.unwrap_or_default();
        Box::new(async move {
            let answer = match admitted {
                Ok(admitted) => send(admitted, body, body_bytes, options).await,
                Err(failure) => Err(failure),
            };
            let answer = answer.map_err(|failure| late.error(&failure))?;
            let nothing_more: Box<dyn Future<Output = _> + Send> = Box::new(std::future::ready(Ok(())));
            Ok((respond(answer, late, options.between_bytes_timeout), nothing_more))
        })
    }
}

/// Where failures go that show up after the gate has let a request through.
struct Late {
    grant: Arc<Grant>,
    reports: Arc<Reports>,
}

impl Late {
    fn error(&self, failure: &Failure) -> Error {
        self.reports.report(&self.grant, failure);
        failure.stream_error()
    }
}

/// The length that a guest announced: the standard's types have made sure that it is one number, and hold it to it.
fn announced(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn send(
    mut admitted: Admitted,
    body: WasiBody,
    body_bytes: Option<u64>,
    options: RequestOptions,
) -> Result<Answer, Failure> {
    admitted.head_by = options.first_byte_timeout.and_then(after);
    let outgoing = Outgoing::of(&admitted, body);
    if let Some(bytes) = body_bytes {
        admitted.headers.insert(CONTENT_LENGTH, bytes.into());
    }
    let (egress, stopped) = (admitted.grant.services.egress.clone(), admitted.interrupted("the host is stopping"));
    let (problem, mut recall) = (outgoing.problem.clone(), Recall(Some(outgoing.body.clone())));
    let needs_body = admitted.entry().needs_body(admitted.target.url());
    let work = async move {
        if !needs_body {
            return admitted.open(outgoing.into_payload()).await;
        }
        let mut charge = Charge::new(admitted.held_left.clone());
        let body = timeout_at(admitted.deadline, outgoing.hold(&admitted, &mut charge)).await;
        let body = body.map_err(|_| admitted.interrupted("its body did not come in time"))??;
        admitted.open(Payload::whole(body)).await
    };
    let answer = egress.run(work).await.unwrap_or(Err(stopped));
    if answer.is_ok() {
        // The rest of the body may come while the answer does.
        recall.0 = None;
    }
    // The client only knows that the body ended early; why is known here.
    answer.map_err(|failure| problem.get().cloned().unwrap_or(failure))
}

/// A timeout that a guest chose, as a point in time.
fn after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout.max(TIMEOUT_MIN))
}

/// A guest's body on its way out.
struct Outgoing {
    body: Lent,
    left: u64,
    too_large: Refusal,
    problem: Arc<OnceLock<Failure>>,
    /// Dropped with this, when the client has taken all of it or wants no more.
    handing: Option<oneshot::Sender<Infallible>>,
}

/// A body that can be taken back from the client, which keeps it beyond the request's end where a receiver takes nothing:
/// what it has written already has to go first.
#[derive(Clone)]
struct Lent(Arc<Mutex<Option<WasiBody>>>);

/// Takes the body back when the request is over without an answer, so that a guest that still writes learns of it.
struct Recall(Option<Lent>);

impl Lent {
    fn lock(&self) -> MutexGuard<'_, Option<WasiBody>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` where it was taken back.
    async fn frame(&self) -> Option<Option<Result<http_body::Frame<Bytes>, Error>>> {
        poll_fn(|context| match &mut *self.lock() {
            Some(body) => Pin::new(body).poll_frame(context).map(Some),
            None => Poll::Ready(None),
        })
        .await
    }
}

impl Drop for Recall {
    fn drop(&mut self) {
        let body = self.0.take().and_then(|lent| lent.lock().take());
        drop(body);
    }
}

/// The outgoing body ended early; the reason lies in [`Outgoing::problem`].
#[derive(Debug, thiserror::Error)]
#[error("the body ended early")]
struct Cut;

impl Outgoing {
    fn of(admitted: &Admitted, body: WasiBody) -> Self {
        let (max, key) = admitted.grant.request_bytes(admitted.entry());
        let body = Lent(Arc::new(Mutex::new(Some(body))));
        Self { body, left: max, too_large: Refusal::RequestBytes { max, key }, problem: Arc::default(), handing: None }
    }

    /// A request without a body must not look like one with an empty body.
    fn into_payload(mut self) -> Payload {
        if self.body.lock().as_ref().is_none_or(|body| body.is_end_stream()) {
            return Payload::Nothing;
        }
        let (handing, handed) = oneshot::channel();
        self.handing = Some(handing);
        let chunks = stream::unfold(self, |mut outgoing| async move {
            let chunk = outgoing.next().await?;
            Some((chunk, outgoing))
        });
        Payload::Stream(Body::wrap_stream(chunks), Some(handed))
    }

    /// Takes all of it into the host's memory, because it must be known before it is sent.
    async fn hold(mut self, admitted: &Admitted, charge: &mut Charge) -> Result<Vec<u8>, Failure> {
        let (max, key) = admitted.entry().signed_body_bytes();
        let mut body = Vec::new();
        while let Some(chunk) = self.next().await {
            let Ok(chunk) = chunk else {
                let cut = Refusal::Malformed("its body was not finished").into();
                return Err(self.problem.get().cloned().unwrap_or(cut));
            };
            if (body.len() + chunk.len()) as u64 > max {
                return Err(Refusal::RequestBytes { max, key }.into());
            }
            if !charge.add(chunk.len() as u64) {
                let (max, key) = (admitted.grant.limits.memory_bytes, admitted.grant.key("limits.memory"));
                return Err(Refusal::RequestBytes { max, key }.into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        let Some(frame) = self.body.frame().await else {
            return Some(Err(self.cut(Refusal::Malformed("its request is over"))));
        };
        let frame = frame?.map(|frame| frame.into_data());
        let chunk = match frame {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(_)) => return Some(Err(self.cut(Refusal::Malformed("requests with trailers are not supported")))),
            Err(_) => return Some(Err(self.cut(Refusal::Malformed("its body was not finished")))),
        };
        match self.left.checked_sub(chunk.len() as u64) {
            Some(left) => {
                self.left = left;
                Some(Ok(chunk))
            }
            None => Some(Err(self.cut(self.too_large.clone()))),
        }
    }

    fn cut(&self, why: Refusal) -> Cut {
        self.problem.get_or_init(|| why.into());
        Cut
    }
}

fn respond(answer: Answer, late: Late, between_bytes: Option<Duration>) -> http::Response<WasiBody> {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let chunks = stream::unfold(Some((answer, late)), move |state| async move {
        let (mut answer, late) = state?;
        match answer.next(between_bytes.and_then(after)).await? {
            Ok(chunk) => Some((Ok(http_body::Frame::data(chunk)), Some((answer, late)))),
            Err(failure) => Some((Err(late.error(&failure)), None)),
        }
    });
    let mut response = http::Response::new(StreamBody::new(chunks).boxed_unsync());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
