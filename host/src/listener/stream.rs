//! A plain connection that can be told something after HTTP has given it up.
//!
//! Read and written through a shared handle, so that whoever is too slow with a request's head can still be answered.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// One connection.
pub(super) struct Stream {
    socket: Arc<TcpStream>,
    unanswered: Arc<AtomicBool>,
}

/// What stays of a connection that HTTP works on.
pub(super) struct Remnant {
    socket: Arc<TcpStream>,
    /// Whether bytes have come since the last answer.
    unanswered: Arc<AtomicBool>,
}

impl Stream {
    pub(super) fn new(socket: TcpStream) -> (Self, Remnant) {
        let (socket, unanswered) = (Arc::new(socket), Arc::new(AtomicBool::new(false)));
        (Self { socket: socket.clone(), unanswered: unanswered.clone() }, Remnant { socket, unanswered })
    }
}

impl Remnant {
    /// Tells a sender that it was too slow, unless it has sent nothing: then it just went idle.
    pub(super) fn was_slow(&self) {
        if self.unanswered.load(Ordering::Relaxed) {
            // Who reads slowly too learns it from the end of the connection.
            let _ = self
                .socket
                .try_write(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(context))?;
            match self.socket.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    self.unanswered.store(read > 0, Ordering::Relaxed);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Stream {
    fn poll_try(
        &self,
        context: &mut Context<'_>,
        attempt: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(context))?;
            match attempt(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.unanswered.store(false, Ordering::Relaxed);
                    return Poll::Ready(written);
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try(context, |socket| socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(context, |socket| socket.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(&*self.socket, Shutdown::Write).map_err(Into::into))
    }
}
