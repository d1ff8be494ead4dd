//! The lines of standard input, in pieces: what `bulkhead send --lines` sends together.
//!
//! A thread reads, so that earlier pieces get to the disk meanwhile. It knows nothing of messages. Invariant: a piece ends
//! where nothing more has arrived yet, so that a line from a slow pipe is not kept waiting for the next one.

use std::io::{BufRead, BufReader, ErrorKind, Read, Stdin};
use std::thread;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;

use crate::admin::api::malformed;

/// Lines of one piece.
const PIECE_LINES: usize = 4_096;
/// Bytes of one piece: the reader is ahead of the disk by a few of them.
const PIECE_BYTES: usize = 4 << 20;
/// Read from standard input at once: more than its own buffer holds, which is passed by then, so that what is in neither
/// buffer is all that is left.
const BUFFER_BYTES: usize = 1 << 16;

/// Consecutive lines, empty ones left out; at least one.
pub(super) struct Piece {
    /// Without their ends.
    pub(super) lines: Vec<Vec<u8>>,
    /// The number of the first, counted from 1.
    pub(super) first: usize,
    /// The number of the last.
    pub(super) last: usize,
}

/// Reads standard input on a thread of its own, until its end or an error, which comes last. The thread may wait for
/// input that never comes: it ends with the process.
///
/// # Errors
/// The thread could not be started.
pub(super) fn read(line_bytes_max: u64) -> anyhow::Result<mpsc::Receiver<anyhow::Result<Piece>>> {
    let (pieces, read) = mpsc::channel(1);
    let work = move || {
        let mut lines = Lines::new(std::io::stdin(), line_bytes_max);
        while let Some(piece) = lines.piece().transpose() {
            let is_last = piece.is_err();
            if pieces.blocking_send(piece).is_err() || is_last {
                break;
            }
        }
    };
    thread::Builder::new().name("lines".to_owned()).spawn(work).context("cannot start reading")?;
    Ok(read)
}

/// What comes next.
enum Next {
    /// A line without its end.
    Line(Vec<u8>),
    /// Not a whole line yet.
    Later,
    End,
}

/// Whether to wait until a whole line is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Yes,
    No,
}

/// The lines that are not read yet.
struct Lines {
    input: BufReader<Stdin>,
    /// The beginning of a line whose rest has not come.
    begun: Vec<u8>,
    number: usize,
    bytes_max: u64,
    /// Told once the lines before it are on their way.
    failed: Option<anyhow::Error>,
}

impl Lines {
    fn new(input: Stdin, bytes_max: u64) -> Self {
        let input = BufReader::with_capacity(BUFFER_BYTES, input);
        Self { input, begun: Vec::new(), number: 0, bytes_max, failed: None }
    }

    /// The next piece; `None` at the end.
    fn piece(&mut self) -> anyhow::Result<Option<Piece>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut piece = Piece { lines: Vec::new(), first: self.number + 1, last: self.number };
        let mut bytes = 0;
        while piece.lines.len() < PIECE_LINES && bytes < PIECE_BYTES {
            let wait = if piece.lines.is_empty() { Wait::Yes } else { Wait::No };
            match self.line(wait) {
                Ok(Next::Line(line)) => {
                    piece.last = self.number;
                    bytes += line.len();
                    piece.lines.extend((!line.is_empty()).then_some(line));
                }
                Ok(Next::Later | Next::End) => break,
                Err(error) if piece.lines.is_empty() => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        Ok((!piece.lines.is_empty()).then_some(piece))
    }

    /// Whether the next byte is there, or the end is.
    fn has_more(&self) -> bool {
        if !self.input.buffer().is_empty() {
            return true;
        }
        let mut input = [PollFd::new(self.input.get_ref(), PollFlags::IN)];
        // What cannot be asked, such as an input that is closed, is read: that says what is wrong with it.
        poll(&mut input, Some(&Timespec::default())).map_or(true, |ready| ready > 0)
    }

    /// The next line; one that is longer than the queue takes is not read to its end.
    fn line(&mut self, wait: Wait) -> anyhow::Result<Next> {
        // Room for the end of a line that is as long as it may be.
        let bytes_max = usize::try_from(self.bytes_max).unwrap_or(usize::MAX).saturating_add(2);
        while !self.begun.ends_with(b"\n") && self.begun.len() < bytes_max {
            if wait == Wait::No && !self.has_more() {
                return Ok(Next::Later);
            }
            let mut rest = self.input.by_ref().take((bytes_max - self.begun.len()) as u64);
            let arrived = match rest.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                arrived => arrived.context("cannot read standard input")?,
            };
            if arrived.is_empty() && self.begun.is_empty() {
                return Ok(Next::End);
            }
            if arrived.is_empty() {
                break;
            }
            let end = arrived.iter().position(|byte| *byte == b'\n').map_or(arrived.len(), |place| place + 1);
            self.begun.extend_from_slice(&arrived[..end]);
            rest.consume(end);
        }
        let mut line = std::mem::take(&mut self.begun);
        self.number += 1;
        if line.ends_with(b"\n") {
            line.pop();
        }
        if line.ends_with(b"\r") {
            line.pop();
        }
        let (number, bytes_max) = (self.number, self.bytes_max);
        if line.len() as u64 > bytes_max {
            return Err(malformed(format!("line {number} is larger than the queue takes ({bytes_max} bytes)")).into());
        }
        Ok(Next::Line(line))
    }
}
