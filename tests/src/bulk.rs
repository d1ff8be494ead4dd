//! The world outside in bulk: bodies far larger than any memory, and answers that never end.

use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

static CHUNK: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// `GET /N` answers with N bytes, `GET /events/N` with N server-sent events and no end, `POST` counts what it gets. Ends when dropped.
#[derive(Debug)]
pub struct BulkServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    is_stopped: AtomicBool,
    received: AtomicU64,
    sent: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl BulkServer {
    /// Listens on loopback.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::<Shared>::default();
        let serving = shared.clone();
        let serve = move || accept(&listener, &serving);
        let server = thread::Builder::new().name("bulk".to_owned()).spawn(serve).expect("a thread can be started");
        Self { address, shared, server: Some(server) }
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bytes of bodies that came in.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Bytes of bodies that went out.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

impl Drop for BulkServer {
    #[expect(clippy::disallowed_methods, reason = "wakes the test's own listener on loopback")]
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        // The listener waits for one more.
        let _ = TcpStream::connect(self.address);
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(server) = self.server.take() {
            // A server that panicked has shown it in the test already.
            let _ = server.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    thread::scope(|scope| {
        while let Ok((stream, _)) = listener.accept() {
            if shared.is_stopped.load(Ordering::Relaxed) {
                return;
            }
            let open = stream.try_clone().expect("a socket has a second handle");
            shared.open.lock().unwrap_or_else(PoisonError::into_inner).push(open);
            // A client that hangs up in the middle is what some tests are about.
            scope.spawn(|| answer(stream, shared).unwrap_or_default());
        }
    });
}

fn answer(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    match path.trim_start_matches('/').split_once('/') {
        Some(("events", count)) => events(&mut stream, count.parse().unwrap_or(1)),
        _ if first.starts_with("POST") => receive(&mut stream, &mut reader, shared),
        _ => send(&mut stream, path.trim_start_matches('/').parse().unwrap_or(0), shared),
    }
}

fn send(stream: &mut TcpStream, bytes: u64, shared: &Shared) -> io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n")?;
    let mut left = bytes;
    while left > 0 {
        let size = left.min(CHUNK.len() as u64);
        stream.write_all(&CHUNK[..usize::try_from(size).unwrap_or(CHUNK.len())])?;
        shared.sent.fetch_add(size, Ordering::Relaxed);
        left -= size;
    }
    stream.shutdown(Shutdown::Write)
}

fn events(stream: &mut TcpStream, count: u32) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
    for number in 0..count {
        write!(stream, "data: {number}\n\n")?;
    }
    // Until the other side has enough.
    io::copy(&mut stream.take(u64::MAX), &mut io::sink()).map(drop)
}

/// Takes chunks until the last one, and counts the bytes between their frames: bodies here are made of `x` alone.
fn receive(stream: &mut TcpStream, reader: &mut BufReader<TcpStream>, shared: &Shared) -> io::Result<()> {
    let mut tail = Vec::new();
    loop {
        let taken = reader.fill_buf()?;
        if taken.is_empty() {
            return Ok(());
        }
        let count = taken.iter().filter(|byte| **byte == b'x').count();
        shared.received.fetch_add(count as u64, Ordering::Relaxed);
        tail.extend_from_slice(&taken[taken.len().saturating_sub(7)..]);
        tail.drain(..tail.len().saturating_sub(7));
        let length = taken.len();
        reader.consume(length);
        if tail == *b"\r\n0\r\n\r\n" {
            return stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
    }
}
