//! HTTP/1.1 for whoever is on this machine or beside it: any router, within bounds.
//!
//! Who is let in is the router's concern; here nobody is known yet. Invariant: no more than so many connections are open,
//! and one on which nothing is asked gives way to the next, so that silent ones keep nobody out; an answer, be it a stream
//! without an end, goes on for as long as its reader takes something of it.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use hyper::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once: browsers, probes and command lines need a handful each.
const CONNECTIONS_MAX: usize = 128;
/// For a request's head, and without a request.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Bytes of a head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// A reader that takes nothing of its answer for so long has gone.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// How long one that gives way may take before the next one is asked to.
const GIVING_WAY: Duration = Duration::from_millis(50);
/// How long to wait where the system has no connection to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket, and what answers there.
pub(super) struct Desk {
    service: TowerToHyperService<Router>,
    /// Nothing new is taken.
    stopped: CancellationToken,
    /// The oldest first.
    lines: Mutex<VecDeque<Arc<Line>>>,
}

/// One connection, for whoever may want its place.
#[derive(Default)]
struct Line {
    /// Requests that are not answered to the end.
    asked: AtomicUsize,
    /// It gives way.
    gives_way: CancellationToken,
}

/// A request that is not answered to the end.
struct Asked(Arc<Line>);

/// An answer's body, with its request.
struct Answer {
    body: Body,
    _asked: Asked,
}

/// A connection whose reader has to take something.
struct Taken {
    stream: TcpStream,
    /// Set while it takes nothing.
    until: Option<Pin<Box<Sleep>>>,
}

impl Desk {
    pub(super) fn new(router: Router) -> Self {
        let (service, stopped) = (TowerToHyperService::new(router), CancellationToken::new());
        Self { service, stopped, lines: Mutex::default() }
    }

    /// Lets connections in until the stop, then waits for the requests under way.
    pub(super) async fn serve(self, socket: TcpListener, stop: impl Future<Output = ()> + Send) {
        let (this, places) = (Arc::new(self), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
        let connections = TaskTracker::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let next = async {
                let accepted = socket.accept().await;
                (accepted, this.place(&places).await)
            };
            let (accepted, place) = tokio::select! {
                biased;
                () = stop.as_mut() => break,
                next = next => next,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (this, line) = (this.clone(), Arc::new(Line::default()));
                    this.lines().push_back(line.clone());
                    connections.spawn(async move {
                        this.connection(stream, &line).await;
                        this.lines().retain(|other| !Arc::ptr_eq(other, &line));
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection can be taken just now");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(socket);
        this.stopped.cancel();
        connections.close();
        connections.wait().await;
    }

    /// A place, if need be that of the oldest connection on which nothing is asked.
    async fn place(&self, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = places.clone().try_acquire_owned() {
            return Some(place);
        }
        loop {
            let silent = self.lines().iter().find(|line| line.is_silent()).cloned();
            silent.iter().for_each(|line| line.gives_way.cancel());
            // The one that was to give way may be asked something at this moment.
            if let Ok(place) = tokio::time::timeout(GIVING_WAY, places.clone().acquire_owned()).await {
                // It is never closed.
                return place.ok();
            }
        }
    }

    async fn connection(&self, stream: TcpStream, line: &Arc<Line>) {
        // Without it an answer waits for more of it to come.
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request: Request<Incoming>| {
            let (asked, answer) = (Asked::new(line.clone()), self.service.call(request));
            async move { answer.await.map(|answer| answer.map(|body| Answer { body, _asked: asked })) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(Taken { stream, until: None }), service);
        let mut connection = std::pin::pin!(connection);
        // How a connection ends is nobody's concern.
        tokio::select! {
            biased;
            _ = connection.as_mut() => {}
            () = line.let_go() => {}
            () = self.stopped.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn is_silent(&self) -> bool {
        self.asked.load(Ordering::SeqCst) == 0 && !self.gives_way.is_cancelled()
    }

    /// Resolves when it gives way, unless something has been asked at the last moment.
    async fn let_go(&self) {
        self.gives_way.cancelled().await;
        if self.asked.load(Ordering::SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
    }
}

impl Asked {
    fn new(line: Arc<Line>) -> Self {
        line.asked.fetch_add(1, Ordering::SeqCst);
        Self(line)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.asked.fetch_sub(1, Ordering::SeqCst);
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Taken {
    /// What became of a write; an error where nothing has been taken for too long.
    fn written(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.until = None;
            return written;
        }
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_TIME)));
        until.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Taken {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Taken {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
