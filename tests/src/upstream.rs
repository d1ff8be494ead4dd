//! Servers that misbehave below HTTP's own level, each connection in the same way.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often one that drips says something more.
const DRIP_EVERY: Duration = Duration::from_millis(10);

/// What it does with a connection: what it says, and what comes then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// Breaks the connection off.
    Reset(&'static [u8]),
    /// Ends the connection in good order.
    Close(Vec<u8>),
    /// Says nothing more.
    Hang(&'static [u8]),
    /// Goes on, one byte at a time, again and again.
    Drip(&'static [u8]),
    /// Takes what it is sent one byte at a time, and answers nothing.
    Sip,
    /// Says the second for ever after the first, as fast as it is taken.
    Pour(Vec<u8>, Vec<u8>),
}

impl Misdeed {
    /// Announces a body of so many bytes and sends as much of it as is taken.
    #[must_use]
    pub fn endless(bytes: u64) -> Self {
        Self::Pour(head(&format!("Content-Length: {bytes}")), vec![b'x'; 1 << 16])
    }

    /// Answers a body without an announced end, for as long as it is taken.
    #[must_use]
    pub fn chunks() -> Self {
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 1 << 16], b"\r\n"].concat();
        Self::Pour(head("Transfer-Encoding: chunked"), chunk)
    }
}

fn head(header: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n").into_bytes()
}

/// A server on loopback; it ends when dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    connections: AtomicUsize,
    heard: Mutex<Vec<u8>>,
    is_stopped: AtomicBool,
}

impl Upstream {
    /// Misbehaves on every connection.
    #[must_use]
    pub fn start(misdeed: Misdeed) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared::default());
        let state = shared.clone();
        let serve = move || {
            // One that stalls keeps its connections, so that the other side is the first to give up.
            let mut kept = Vec::new();
            for connection in listener.incoming() {
                if state.is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                state.connections.fetch_add(1, Ordering::SeqCst);
                let Ok(connection) = connection else { continue };
                kept.extend(misbehave(connection, &misdeed, &state));
            }
        };
        let server = thread::Builder::new().name("upstream".to_owned()).spawn(serve).expect("a thread can be started");
        Self { address, shared, server: Some(server) }
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// What it has read of all requests, as the bytes came: of each the beginning, a kibibyte at most.
    #[must_use]
    pub fn heard(&self) -> String {
        let heard = self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&heard).into_owned()
    }
}

impl Drop for Upstream {
    #[expect(clippy::disallowed_methods, reason = "a connection of its own wakes the server up to its end")]
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(server) = self.server.take() {
            // A server that panicked has shown it in the test already.
            let _ = server.join();
        }
    }
}

/// Answers the connection where it is to be kept.
fn misbehave(mut connection: TcpStream, misdeed: &Misdeed, shared: &Shared) -> Option<TcpStream> {
    if let Misdeed::Reset(words) = misdeed {
        // A socket that is closed with unread bytes resets its connection.
        let _ = connection.peek(&mut [0]);
        let _ = connection.write_all(words);
        return None;
    }
    // Enough of the request to answer it.
    let mut beginning = [0; 1024];
    let read = connection.read(&mut beginning).unwrap_or(0);
    shared.heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&beginning[..read]);
    match misdeed {
        Misdeed::Reset(_) => return None,
        Misdeed::Close(words) => {
            let _ = connection.write_all(words);
            return None;
        }
        Misdeed::Hang(words) => {
            let _ = connection.write_all(words);
        }
        Misdeed::Drip(words) => drip(&mut connection, words, shared),
        Misdeed::Sip => {
            let mut taken = 1;
            while taken > 0 && !shared.is_stopped.load(Ordering::SeqCst) {
                taken = connection.read(&mut [0]).unwrap_or(0);
            }
        }
        Misdeed::Pour(first, again) => {
            let mut pouring = connection.write_all(first);
            // Ends when the other side does not take it any more.
            while pouring.is_ok() && !shared.is_stopped.load(Ordering::SeqCst) {
                pouring = connection.write_all(again);
            }
        }
    }
    Some(connection)
}

/// Until the other side has enough of it; what it says meanwhile is not heard.
fn drip(connection: &mut TcpStream, words: &[u8], shared: &Shared) {
    let is_set = connection.set_nodelay(true).and_then(|()| connection.set_read_timeout(Some(DRIP_EVERY)));
    is_set.expect("a socket of ours");
    let mut words = words.iter().copied().chain(std::iter::repeat(b'x'));
    while !shared.is_stopped.load(Ordering::SeqCst) {
        let byte = words.next().unwrap_or(b'x');
        let is_over =
            connection.write_all(&[byte]).is_err() || connection.read(&mut [0; 1024]).is_ok_and(|read| read == 0);
        if is_over {
            return;
        }
    }
}
