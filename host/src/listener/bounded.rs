//! HTTP for strangers: every connection, head and idle moment is bounded.
//!
//! HTTP/1.1 and HTTP/2, in the clear (HTTP/2 by prior knowledge) or over TLS. What a request is answered is the caller's.
//! Invariant: nobody holds a connection without sending requests for longer than the bounds say, and no more than so many
//! connections are open at once.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;

use super::framing::Watched;
use super::stream::Stream;
use super::tls::Certificate;

/// What connections may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once; more of them wait to be let in.
    pub connections: usize,
    /// From the first byte of a request, or from the connection, to the end of its head.
    pub head: Duration,
    /// Without a request.
    pub idle: Duration,
    /// Bytes of a head.
    pub head_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end of the connection.
    pub address: SocketAddr,
    /// Whether the connection is TLS.
    pub is_tls: bool,
    /// Whether somebody else could find other requests on it than we do: nothing on it is to be trusted.
    pub is_ambiguous: bool,
}

/// How HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// Streams that a peer may open and reset before they are taken; more end the connection.
const RESETS_MAX: usize = 64;
/// Files that a host needs beside its connections.
const OTHER_FILES: u64 = 256;
/// How long to wait where the system has no connection to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the beginning of a connection is looked at that comes in pieces.
const PREFACE_LOOK: Duration = Duration::from_millis(20);

/// Answers one request.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The answer.
    fn answer(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response<Full<Bytes>>> + Send;
}

/// A socket that strangers reach.
pub(super) struct Door<H> {
    pub(super) handler: H,
    pub(super) bounds: Bounds,
    pub(super) certificate: Option<Certificate>,
    /// Turns true when nothing new is taken.
    pub(super) stopped: watch::Receiver<bool>,
}

/// The requests of one connection.
#[derive(Default)]
struct Activity {
    under_way: AtomicUsize,
    /// Something has begun or ended.
    moved: Notify,
}

impl<H: Handler> Door<H> {
    /// Lets connections in until the stop, then waits for the requests under way.
    pub(super) async fn serve(self, socket: tokio::net::TcpListener) -> anyhow::Result<()> {
        let acceptor = self.certificate.as_ref().map(Certificate::acceptor).transpose()?;
        let places = Arc::new(Semaphore::new(room_for(self.bounds.connections)));
        let connections = TaskTracker::new();
        let this = Arc::new(self);
        let mut stopped = this.stopped.clone();
        loop {
            let next = async {
                // It is never closed.
                let place = places.clone().acquire_owned().await.ok();
                (place, socket.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = stop(&mut stopped) => break,
                next = next => next,
            };
            match accepted {
                Ok((stream, address)) => {
                    let (this, acceptor) = (this.clone(), acceptor.clone());
                    connections.spawn(async move { this.connection(stream, address, acceptor, place).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection can be taken just now");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(socket);
        connections.close();
        connections.wait().await;
        Ok(())
    }

    async fn connection(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        acceptor: Option<tokio_rustls::TlsAcceptor>,
        _place: Option<OwnedSemaphorePermit>,
    ) {
        // An answer is small and complete: waiting for more of it would only cost time.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = acceptor else { return self.plain(stream, address).await };
        if let Some(certificate) = &self.certificate {
            certificate.refresh();
        }
        let handshake = tokio::time::timeout(self.bounds.head, acceptor.accept(stream)).await;
        // Who does not get through the handshake is nobody's concern; scanners come all day.
        let Ok(Ok(stream)) = handshake else { return };
        let peer = Peer { address, is_tls: true, is_ambiguous: false };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.http2(stream, peer).await;
        } else {
            self.http1(stream, peer).await;
        }
    }

    async fn plain(&self, stream: TcpStream, address: SocketAddr) {
        let peer = Peer { address, is_tls: false, is_ambiguous: false };
        let mut stopped = self.stopped.clone();
        let begins = tokio::select! {
            biased;
            begins = tokio::time::timeout(self.bounds.head, begins_http2(&stream)) => begins,
            () = stop(&mut stopped) => return,
        };
        match begins {
            Ok(Ok(true)) => self.http2(stream, peer).await,
            Ok(Ok(false)) => {
                let (stream, remnant) = Stream::new(stream);
                if self.http1(stream, peer).await {
                    remnant.was_slow();
                }
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }

    /// Whether the peer was too slow.
    async fn http1(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, peer: Peer) -> bool {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.head)
            .max_buf_size(self.bounds.head_bytes.max(8192))
            .max_headers(self.bounds.headers)
            .half_close(false);
        let (stream, is_ambiguous) = Watched::new(stream);
        let service = service_fn(|request| {
            let peer = Peer { is_ambiguous: is_ambiguous.load(Ordering::Relaxed), ..peer };
            async move { Ok::<_, Infallible>(self.handler.answer(request, peer).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut stopped = self.stopped.clone();
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = stop(&mut stopped) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        ended.is_err_and(|error| error.is_timeout())
    }

    async fn http2(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, peer: Peer) {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(self.bounds.idle)
            .keep_alive_timeout(self.bounds.head)
            .max_concurrent_streams(STREAMS_MAX)
            .max_pending_accept_reset_streams(RESETS_MAX)
            .max_local_error_reset_streams(RESETS_MAX)
            .max_header_list_size(u32::try_from(self.bounds.head_bytes).unwrap_or(u32::MAX));
        let activity = Arc::new(Activity::default());
        let (handler, of_service) = (self.handler.clone(), activity.clone());
        let service = service_fn(move |request| {
            let (handler, activity) = (handler.clone(), of_service.clone());
            async move { Ok::<_, Infallible>(activity.during(handler.answer(request, peer)).await) }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut stopped = self.stopped.clone();
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = activity.idle(self.bounds.idle) => {}
            () = stop(&mut stopped) => {}
        }
        connection.as_mut().graceful_shutdown();
        // A peer that does not let go is let go of.
        let _ = tokio::time::timeout(self.bounds.idle, connection).await;
    }
}

impl Activity {
    async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.moved.notify_one();
        let done = work.await;
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        self.moved.notify_one();
        done
    }

    /// Resolves when nothing has been under way for so long.
    async fn idle(&self, bound: Duration) {
        loop {
            let moved = tokio::time::timeout(bound, self.moved.notified()).await;
            if moved.is_err() && self.under_way.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

/// Waits until nothing new is taken; for ever, where nobody can say so any more.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    if stopped.wait_for(|stopped| *stopped).await.is_err() {
        std::future::pending().await
    }
}

/// Whether a connection begins as HTTP/2 does. Nothing is taken from it.
async fn begins_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut beginning = [0; PREFACE.len()];
    loop {
        let there = stream.peek(&mut beginning).await?;
        if there == PREFACE.len() || beginning[..there] != PREFACE[..there] || there == 0 {
            return Ok(beginning == *PREFACE);
        }
        tokio::time::sleep(PREFACE_LOOK).await;
    }
}

/// Raises the bound of open files for this many connections, as far as the system allows it; how many there may be.
fn room_for(connections: usize) -> usize {
    let wanted = connections as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current.filter(|current| *current < wanted) else { return connections };
    let raised = limit.maximum.map_or(wanted, |maximum| wanted.min(maximum));
    let set = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum });
    let files = if set.is_ok() { raised } else { current };
    let room = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(connections).max(16);
    if room < connections {
        tracing::warn!(
            connections = room,
            files,
            "fewer connections than meant: raise the limit of open files (`LimitNOFILE`)"
        );
    }
    room
}
