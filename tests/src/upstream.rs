//! Servers that misbehave below HTTP's own level, each connection in the same way.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// What it does with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// Breaks the connection off without a word.
    Reset,
    /// Answers a head and the beginning of a body, and nothing more.
    Stall,
    /// Announces a body of so many bytes and sends as much of it as is taken.
    Endless(u64),
    /// Answers a body without an announced end, for as long as it is taken.
    Chunks,
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
                kept.extend(misbehave(connection, &misdeed));
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

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
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
fn misbehave(mut connection: TcpStream, misdeed: &Misdeed) -> Option<TcpStream> {
    if *misdeed == Misdeed::Reset {
        // A socket that is closed with unread bytes resets its connection.
        let _ = connection.peek(&mut [0]);
        return None;
    }
    // Enough of the request to answer it.
    let _ = connection.read(&mut [0; 1024]);
    let head = match misdeed {
        Misdeed::Reset => return None,
        Misdeed::Stall => "Content-Length: 1000\r\n\r\nthe beginning".to_owned(),
        Misdeed::Endless(bytes) => format!("Content-Length: {bytes}\r\n\r\n"),
        Misdeed::Chunks => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
    };
    let piece = match misdeed {
        Misdeed::Reset | Misdeed::Stall => Vec::new(),
        Misdeed::Endless(_) => vec![b'x'; 1 << 16],
        Misdeed::Chunks => [b"10000\r\n".as_slice(), &[b'x'; 1 << 16], b"\r\n"].concat(),
    };
    let _ = write!(connection, "HTTP/1.1 200 OK\r\n{head}");
    // Ends when the other side does not take it any more.
    while !piece.is_empty() && connection.write_all(&piece).is_ok() {}
    Some(connection)
}
