//! Watches how the requests of an HTTP/1.1 connection are framed, beside the parser.
//!
//! The parser settles what RFC 9112 (section 6.3) lets a recipient settle: of `Content-Length` and `Transfer-Encoding` one
//! wins, equal lengths are one, a line may end without CR. A proxy in front may settle it otherwise, and that is how
//! requests are smuggled. Invariant: once a head can be read in two ways, everything on its connection is refused.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A head is looked at up to here; the parser refuses longer ones.
const HEAD_BYTES_MAX: usize = 128 << 10;

/// A connection whose heads are looked at.
pub(super) struct Watched<S> {
    stream: S,
    reading: Reading,
    is_ambiguous: Arc<AtomicBool>,
}

/// What the next byte belongs to.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    /// A head, of which this much is there.
    Head(Vec<u8>),
    /// A body of which so many bytes are missing.
    Body(u64),
    /// Something that nobody reads a head behind: a chunked body ends its connection.
    Rest,
}

impl<S> Watched<S> {
    /// Watches a stream; the flag rises when a head was ambiguous.
    pub(super) fn new(stream: S) -> (Self, Arc<AtomicBool>) {
        let is_ambiguous = Arc::new(AtomicBool::new(false));
        (Self { stream, reading: Reading::Head(Vec::new()), is_ambiguous: is_ambiguous.clone() }, is_ambiguous)
    }

    fn watch(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.reading {
                Reading::Rest => return,
                Reading::Body(missing) => {
                    let taken = usize::try_from(*missing).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[taken..];
                    *missing -= taken as u64;
                    if *missing == 0 {
                        self.reading = Reading::Head(Vec::new());
                    }
                }
                Reading::Head(head) => {
                    // Empty lines before a request are not part of it.
                    if head.is_empty() && matches!(bytes[0], b'\r' | b'\n') {
                        bytes = &bytes[1..];
                        continue;
                    }
                    let line = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
                    head.extend_from_slice(&bytes[..line]);
                    bytes = &bytes[line..];
                    if head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n") {
                        let (next, is_ambiguous) = judge(head);
                        self.reading = next;
                        if is_ambiguous {
                            self.is_ambiguous.store(true, Ordering::Relaxed);
                        }
                    } else if head.len() > HEAD_BYTES_MAX {
                        self.reading = Reading::Rest;
                    }
                }
            }
        }
    }
}

/// What follows a whole head, and whether it can be read in two ways.
fn judge(head: &[u8]) -> (Reading, bool) {
    let mut lengths = Vec::new();
    let (mut is_chunked, mut is_ambiguous) = (false, false);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        is_ambiguous |= !line.ends_with(b"\r\n");
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = line[..colon].trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths.push(line[colon + 1..].trim_ascii());
        }
        is_chunked |= name.eq_ignore_ascii_case(b"transfer-encoding");
    }
    is_ambiguous |= lengths.len() > 1 || (is_chunked && !lengths.is_empty());
    let length = lengths.first().map_or(Some(0), |length| std::str::from_utf8(length).ok()?.parse().ok());
    match length {
        Some(0) if !is_chunked => (Reading::Head(Vec::new()), is_ambiguous),
        Some(bytes) if !is_chunked => (Reading::Body(bytes), is_ambiguous),
        // A length that is none is the parser's to refuse.
        _ => (Reading::Rest, is_ambiguous),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.watch(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether something in it is ambiguous, however it is cut into pieces.
    fn is_ambiguous(text: &str) -> bool {
        let watched = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let (mut watched, flag) = Watched::new(());
            pieces.for_each(|piece| watched.watch(piece));
            flag.load(Ordering::Relaxed)
        };
        let whole = watched(&mut std::iter::once(text.as_bytes()));
        for size in 1..text.len() {
            assert_eq!(watched(&mut text.as_bytes().chunks(size)), whole, "{size}: {text:?}");
        }
        whole
    }

    #[test]
    fn a_head_that_is_framed_twice_is_ambiguous() {
        let head = |lines: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        for lines in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 1\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length : 1\r\nContent-Length: 1\r\n",
            "X: y\n",
        ] {
            assert!(is_ambiguous(&head(lines)), "{lines:?}");
        }
        for lines in ["Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", "X-Content-Length: 1\r\n", ""] {
            assert!(!is_ambiguous(&head(lines)), "{lines:?}");
        }
    }

    #[test]
    fn bodies_are_not_heads_and_what_follows_them_is() {
        let first = "POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\na\nb\n\nc";
        let fine = "\r\nPOST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
        assert!(!is_ambiguous(&format!("{first}{fine}{fine}")));
        assert!(is_ambiguous(&format!("{first}{fine}POST / HTTP/1.1\nContent-Length: 0\r\n\r\n")));
    }
}
