//! Whom plugins and peers ask: a server that answers at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Answers every request at once, on a thread of its own; its address, and how many it has answered.
pub(crate) fn receiver() -> anyhow::Result<(SocketAddr, Arc<AtomicUsize>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let answered = Arc::new(AtomicUsize::new(0));
    let count = answered.clone();
    let serve = async move {
        let mut answering = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let count = count.clone();
            answering.spawn(async move { answer_all(stream, &count).await });
        }
    };
    std::thread::Builder::new().name("receiver".to_owned()).spawn(move || runtime.block_on(serve))?;
    Ok((address, answered))
}

async fn answer_all(mut stream: TcpStream, answered: &AtomicUsize) {
    let mut head = [0; 4096];
    let _ = stream.set_nodelay(true);
    // A request without a body comes in one piece.
    while stream.read(&mut head).await.is_ok_and(|read| read > 0) {
        answered.fetch_add(1, Ordering::Relaxed);
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}
