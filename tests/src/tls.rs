//! The world outside over TLS: an authority of the tests' own, and a server with a certificate from it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::HandshakeKind;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::server::TlsStream;

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Issues certificates; what trusts it trusts them.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its private key.
#[derive(Debug)]
pub struct Certified {
    /// The certificate, as PEM.
    pub cert: String,
    /// The key, as PEM.
    pub key: String,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    None,
    /// It has expired.
    Expired,
    /// It is for another name.
    OtherName,
    /// Nobody vouches for it.
    SelfSigned,
}

/// Answers over TLS with 200 and the path; it ends when dropped.
pub struct TlsServer {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

/// What a client that was let in has said first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Whom it asked for (SNI).
    pub name: Option<String>,
    /// Whether it went on with a session of an earlier connection.
    pub is_resumed: bool,
}

/// What happens on a connection.
#[derive(Clone)]
enum Manner {
    Answer,
    /// Once, and that is it.
    AnswerOnce,
    /// Where it sends everybody to, or nowhere.
    Http2(Option<String>),
    Flood(Arc<(Vec<u8>, Vec<u8>)>),
}

#[derive(Default)]
struct Seen {
    handshakes: Vec<Handshake>,
    requests: Vec<String>,
}

impl Authority {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own: under one name, one authority's certificates look like forgeries of another's.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("authority {}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("the parameters are complete"))
    }

    /// Its certificate, as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `localhost`, with a flaw or without.
    #[must_use]
    pub fn issue(&self, flaw: Flaw) -> Certified {
        self.issue_for(if flaw == Flaw::OtherName { "elsewhere.example" } else { "localhost" }, flaw)
    }

    /// The same for another name.
    #[must_use]
    pub fn issue_for(&self, name: &str, flaw: Flaw) -> Certified {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        if flaw == Flaw::Expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
        }
        let key = KeyPair::generate().expect("a key can be made");
        let cert = match flaw {
            Flaw::SelfSigned => params.self_signed(&key),
            Flaw::None | Flaw::Expired | Flaw::OtherName => params.signed_by(&key, &self.0),
        };
        Certified { cert: cert.expect("the parameters are complete").pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a certificate of ours");
        roots
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl TlsServer {
    /// Shows this certificate.
    #[must_use]
    pub fn start(certified: &Certified) -> Self {
        Self::serve(certified, None)
    }

    /// The same with a connection for each request.
    #[must_use]
    pub fn closing(certified: &Certified) -> Self {
        Self::listen(LOOPBACK, config(certified, None), Manner::AnswerOnce)
    }

    /// Takes only clients with a certificate of `clients`.
    #[must_use]
    pub fn for_clients_of(clients: &Authority, certified: &Certified) -> Self {
        Self::serve(certified, Some(clients.roots()))
    }

    /// Speaks HTTP/2, and answers in the same way.
    #[must_use]
    pub fn http2(certified: &Certified) -> Self {
        Self::listen(LOOPBACK, http2_config(certified), Manner::Http2(None))
    }

    /// Speaks HTTP/2 at this address, and sends everybody elsewhere.
    #[must_use]
    pub fn redirecting(at: SocketAddr, certified: &Certified, location: &str) -> Self {
        Self::listen(at, http2_config(certified), Manner::Http2(Some(location.to_owned())))
    }

    /// Speaks HTTP/2: begins every connection with `start`, then says `again` for ever.
    #[must_use]
    pub fn flooding(certified: &Certified, start: Vec<u8>, again: Vec<u8>) -> Self {
        // Many at once: the flood shall not be slowed down by its source.
        let again = again.repeat(16 * 1024 / again.len());
        Self::listen(LOOPBACK, http2_config(certified), Manner::Flood(Arc::new((start, again))))
    }

    /// `https://localhost:PORT` and a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// How many clients have connected and were let in.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.handshakes().len()
    }

    /// What they have said first.
    #[must_use]
    pub fn handshakes(&self) -> Vec<Handshake> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).handshakes.clone()
    }

    /// The first line of each request.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).requests.clone()
    }

    fn serve(certified: &Certified, clients: Option<RootCertStore>) -> Self {
        Self::listen(LOOPBACK, config(certified, clients), Manner::Answer)
    }

    fn listen(at: SocketAddr, config: ServerConfig, manner: Manner) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let seen = Arc::<Mutex<Seen>>::default();
        let (told, address) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let shared = seen.clone();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            runtime.block_on(async {
                let listener = TcpListener::bind(at).await.expect("the address is free");
                told.send(listener.local_addr().expect("a bound socket has an address")).expect("the test waits");
                tokio::select! {
                    () = accept(&listener, &acceptor, &manner, &shared) => {}
                    _ = stopped => {}
                }
            });
        };
        let server = thread::Builder::new().name("tls".to_owned()).spawn(serve).expect("a thread can be started");
        let address = address.recv().expect("the server tells its address");
        Self { address, seen, stop: Some(stop), server: Some(server) }
    }
}

impl Handshake {
    fn of(stream: &TlsStream<TcpStream>) -> Self {
        let connection = stream.get_ref().1;
        let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        Self { name: connection.server_name().map(str::to_owned), is_resumed }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            // A server that panicked has shown it in the test already.
            let _ = server.join();
        }
    }
}

/// What a server needs that shows this certificate.
pub(crate) fn acceptor(certified: &Certified) -> TlsAcceptor {
    TlsAcceptor::from(Arc::new(config(certified, None)))
}

fn config(certified: &Certified, clients: Option<RootCertStore>) -> ServerConfig {
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().expect("the provider has cipher suites");
    let builder = match clients {
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("there is a root"))
        }
        None => builder.with_no_client_auth(),
    };
    let cert = CertificateDer::from_pem_slice(certified.cert.as_bytes()).expect("a certificate of ours");
    let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).expect("a key of ours");
    builder.with_single_cert(vec![cert], key).expect("the key is the certificate's")
}

fn http2_config(certified: &Certified) -> ServerConfig {
    let mut config = config(certified, None);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn accept(listener: &TcpListener, acceptor: &TlsAcceptor, manner: &Manner, seen: &Arc<Mutex<Seen>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("loopback accepts");
        let (acceptor, manner, seen) = (acceptor.clone(), manner.clone(), seen.clone());
        // A client that hangs up in the middle is what some tests are about.
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            seen.lock().unwrap_or_else(PoisonError::into_inner).handshakes.push(Handshake::of(&stream));
            let ended = match manner {
                Manner::Answer => answer(stream, &seen, false).await,
                Manner::AnswerOnce => answer(stream, &seen, true).await,
                Manner::Http2(location) => {
                    answer_http2(stream, location.as_deref(), &seen).await.map_err(io::Error::other)
                }
                Manner::Flood(flood) => self::flood(stream, &flood.0, &flood.1).await,
            };
            ended.unwrap_or_default();
        });
    }
}

/// Answers one request after the other on a connection that is kept, or one alone.
async fn answer(mut stream: TlsStream<TcpStream>, seen: &Mutex<Seen>, is_last: bool) -> io::Result<()> {
    let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if text.contains("\r\n\r\n") {
            lock().requests.push(text.lines().next().unwrap_or_default().to_owned());
            let connection = if is_last { "close" } else { "keep-alive" };
            let answer = format!("HTTP/1.1 200 OK\r\nConnection: {connection}\r\nContent-Length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
            if is_last {
                return stream.shutdown().await;
            }
            bytes.clear();
        } else if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
}

async fn answer_http2(
    stream: TlsStream<TcpStream>,
    location: Option<&str>,
    seen: &Mutex<Seen>,
) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(asked) = connection.accept().await {
        let (request, mut respond) = asked?;
        let line = format!("{} {} {:?}", request.method(), request.uri().path(), request.version());
        seen.lock().unwrap_or_else(PoisonError::into_inner).requests.push(line);
        let mut response = http::Response::new(());
        if let Some(location) = location {
            *response.status_mut() = http::StatusCode::FOUND;
            let location = location.parse().expect("a header's value");
            response.headers_mut().insert(http::header::LOCATION, location);
        }
        respond.send_response(response, false)?.send_data("ok".into(), true)?;
    }
    Ok(())
}

/// Reads meanwhile, so that nothing but the client itself slows the flood down.
async fn flood(stream: TlsStream<TcpStream>, start: &[u8], again: &[u8]) -> io::Result<()> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let mut read = vec![0; 16 * 1024];
    // The client's preface first: it has asked for something by then.
    reading.read_exact(&mut read[..24]).await?;
    let drain = async {
        while reading.read(&mut read).await? > 0 {}
        Ok(())
    };
    let pour = async {
        writing.write_all(start).await?;
        loop {
            writing.write_all(again).await?;
        }
    };
    tokio::select! {
        ended = drain => ended,
        ended = pour => ended,
    }
}
