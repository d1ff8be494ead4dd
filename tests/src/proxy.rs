//! A proxy that is asked for tunnels: it keeps what it is shown, and leads all of them to one place of the test's choice.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const HEAD_END: &[u8] = b"\r\n\r\n";

/// A proxy on loopback; it ends when dropped.
#[derive(Debug)]
pub struct TunnelProxy {
    address: SocketAddr,
    shown: Arc<Mutex<Shown>>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shown {
    heads: Vec<String>,
    /// In both directions, heads included.
    bytes: Vec<u8>,
}

impl TunnelProxy {
    /// Whatever it is asked for, it leads to `place`.
    #[must_use]
    pub fn start(place: SocketAddr) -> Self {
        let shown = Arc::<Mutex<Shown>>::default();
        let (told, address) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let state = shown.clone();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
                told.send(listener.local_addr().expect("a bound socket has an address")).expect("the test waits");
                tokio::select! {
                    () = accept(&listener, place, &state) => {}
                    _ = stopped => {}
                }
            });
        };
        let server = thread::Builder::new().name("proxy".to_owned()).spawn(serve).expect("a thread can be started");
        let address = address.recv().expect("the proxy tells its address");
        Self { address, shown, stop: Some(stop), server: Some(server) }
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The head of each request, in the order of their arrival.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        lock(&self.shown).heads.clone()
    }

    /// Whether anything that has passed, in either direction, held this text.
    #[must_use]
    pub fn has_seen(&self, text: &str) -> bool {
        lock(&self.shown).bytes.windows(text.len()).any(|bytes| bytes == text.as_bytes())
    }
}

impl Drop for TunnelProxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            // One that panicked has shown it in the test already.
            let _ = server.join();
        }
    }
}

fn lock(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: &TcpListener, place: SocketAddr, shown: &Arc<Mutex<Shown>>) {
    let mut tunnels = tokio::task::JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.expect("loopback accepts");
        let shown = shown.clone();
        // A side that hangs up is what some tests are about.
        tunnels.spawn(async move { tunnel(client, place, &shown).await.unwrap_or_default() });
    }
}

#[expect(clippy::disallowed_methods, reason = "leads to a server of the test's own on loopback")]
async fn tunnel(mut client: TcpStream, place: SocketAddr, shown: &Mutex<Shown>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(HEAD_END) {
        head.push(client.read_u8().await?);
    }
    {
        let mut shown = lock(shown);
        shown.bytes.extend_from_slice(&head);
        shown.heads.push(String::from_utf8_lossy(&head).into_owned());
    }
    let server = TcpStream::connect(place).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::try_join!(pass(from_client, to_server, shown), pass(from_server, to_client, shown)).map(drop)
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    shown: &Mutex<Shown>,
) -> io::Result<()> {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let size = from.read(&mut piece).await?;
        if size == 0 {
            return to.shutdown().await;
        }
        lock(shown).bytes.extend_from_slice(&piece[..size]);
        to.write_all(&piece[..size]).await?;
    }
}
