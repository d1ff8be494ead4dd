//! The world outside: an HTTP server on loopback that answers as it is told, and remembers who asked for what.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, Response, Uri};
use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls::{self, Certified};

/// What the server answers to one request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A response.
    Respond {
        /// Its status.
        status: u16,
        /// Its headers.
        headers: Vec<(String, String)>,
        /// Its body.
        body: Bytes,
    },
    /// Nothing, for as long as the connection lasts.
    Hang,
}

/// What somebody asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub uri: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A server on loopback; it ends when dropped.
#[derive(Debug)]
pub struct Fixture {
    address: SocketAddr,
    is_tls: bool,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

struct Shared {
    requests: Mutex<Vec<Request>>,
    arrived: Condvar,
    decide: Box<Decide>,
}

type Decide = dyn Fn(&Request) -> Answer + Send + Sync;

/// Lets in who has shaken hands.
struct Handshaking {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl Answer {
    /// A status and nothing else.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Respond { status, headers: Vec::new(), body: Bytes::new() }
    }

    /// 200 with a JSON body.
    #[must_use]
    pub fn json(value: &serde_json::Value) -> Self {
        Self::status(200).with("content-type", "application/json").body(value.to_string())
    }

    /// The same with a header more.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if let Self::Respond { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The same with this body.
    #[must_use]
    pub fn body(mut self, text: impl Into<Bytes>) -> Self {
        if let Self::Respond { body, .. } = &mut self {
            *body = text.into();
        }
        self
    }
}

impl Request {
    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Fixture {
    /// Answers each request as `decide` says.
    #[must_use]
    pub fn start(decide: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address and a port"), decide)
    }

    /// The same at an address of the test's choice.
    #[must_use]
    pub fn start_at(at: SocketAddr, decide: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::serve(at, None, Box::new(decide))
    }

    /// The same over TLS, with this certificate.
    #[must_use]
    pub fn start_tls(certified: &Certified, decide: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let at = "127.0.0.1:0".parse().expect("an address and a port");
        Self::serve(at, Some(tls::acceptor(certified)), Box::new(decide))
    }

    fn serve(at: SocketAddr, tls: Option<TlsAcceptor>, decide: Box<Decide>) -> Self {
        let shared = Arc::new(Shared { requests: Mutex::default(), arrived: Condvar::new(), decide });
        let (told, address) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let (state, is_tls) = (shared.clone(), tls.is_some());
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            runtime.block_on(async {
                let listener = TcpListener::bind(at).await.expect("the address is free");
                told.send(listener.local_addr().expect("a bound socket has an address")).expect("the test waits");
                let routes = Router::new().fallback(answer).layer(DefaultBodyLimit::disable()).with_state(state);
                let serving = async {
                    match tls {
                        Some(acceptor) => axum::serve(Handshaking { listener, acceptor }, routes).await,
                        None => axum::serve(listener, routes).await,
                    }
                };
                tokio::select! {
                    ended = serving => ended.expect("the server runs"),
                    _ = stopped => {}
                }
            });
        };
        let server = thread::Builder::new().name("fixture".to_owned()).spawn(serve).expect("a thread can be started");
        let address = address.recv().expect("the server tells its address");
        Self { address, is_tls, shared, stop: Some(stop), server: Some(server) }
    }

    /// Answers with these in turn, the last one again and again.
    #[must_use]
    pub fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = Mutex::new(answers.into_iter().collect::<VecDeque<Answer>>());
        Self::start(move |_| {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
                .unwrap_or(Answer::status(200))
        })
    }

    /// `http://127.0.0.1:PORT`, or `https://localhost:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        if self.is_tls {
            format!("https://localhost:{}", self.address.port())
        } else {
            format!("http://{}", self.address)
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().clone()
    }

    /// Waits until there were `count` requests.
    #[track_caller]
    pub fn wait_for(&self, count: usize, within: Duration) {
        let deadline = Instant::now() + within;
        let mut requests = self.shared.lock();
        while requests.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} requests within {within:?}", requests.len());
            requests = self.shared.arrived.wait_timeout(requests, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Listener for Handshaking {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.listener.accept().await.expect("loopback accepts");
            // Who does not trust the certificate hangs up.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            // A server that panicked has shown it in the test already.
            let _ = server.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let request = Request { method: method.to_string(), uri: uri.to_string(), headers, body };
    let answer = (shared.decide)(&request);
    shared.lock().push(request);
    shared.arrived.notify_all();
    match answer {
        Answer::Hang => std::future::pending().await,
        Answer::Respond { status, headers, body } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(body.into()).expect("the test answers with a valid response")
        }
    }
}
