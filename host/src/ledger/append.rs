//! Accepting messages from outside.
//!
//! A batch is admitted as a whole (sizes and bounds are checked before anything is handed to the writer), then written
//! in pieces, so that one huge batch is not one huge transaction. Invariant: what is answered is on disk.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::account::Reservation;
use super::intake::{Append, Job};
use super::{APPENDING_BYTES_MAX, AppendError, Full, Ledger, QueuePolicy, Received};
use crate::id::Name;
use crate::message::Draft;
use crate::planted::{self, Bug};
use crate::settlement::{Mark, QueueId};

/// A piece holds at most so many messages: what a group writes in a few milliseconds.
const PIECE_MESSAGES_MAX: usize = 512;
/// And at most so many bytes, one message excepted.
const PIECE_BYTES_MAX: u64 = 2 << 20;
/// Pieces of one blocking append under way at once: one is written while the next one waits.
const PIECES_AHEAD: usize = 2;

/// A message that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its id; for a repeat, the id of the first one.
    pub id: String,
    /// Whether the queue had it already.
    pub duplicate: bool,
}

impl Appended {
    /// What is answered of a message of which nothing is known yet.
    fn early((_, draft): &(QueueId, Draft)) -> Self {
        Self { id: draft.id.clone(), duplicate: false }
    }
}

struct Piece {
    drafts: Vec<(QueueId, Draft)>,
    bytes: u64,
    room: Reservation,
}

type Reply = oneshot::Receiver<Result<Vec<Appended>, AppendError>>;

impl Ledger {
    /// Accepts messages; they are on disk when it resolves, answered in their order.
    ///
    /// A large batch is committed in several transactions. An error that comes before the first of them (a bound, a
    /// size, a name) means that nothing was accepted; a later one (disk, stop) that some of the first may have been.
    /// Sending the same ids again is then safe where the queue has `dedup`.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append(&self, drafts: Vec<(QueueId, Draft)>) -> Result<Vec<Appended>, AppendError> {
        let early = planted::has(Bug::AckBeforeCommit).then(|| drafts.iter().map(Appended::early).collect());
        let mut replies = Vec::new();
        for piece in self.admit(drafts)? {
            let share = self.share(piece.bytes).await?;
            replies.push(self.send(piece, None, Some(share)));
        }
        if let Some(early) = early {
            return Ok(early);
        }
        let mut appended = Vec::new();
        for reply in replies {
            appended.extend(reply.await.unwrap_or(Err(AppendError::Closed))?);
        }
        Ok(appended)
    }

    /// Accepts what a webhook has taken; it is on disk when it resolves. Of what has a mark in common with an earlier one,
    /// only the first is stored.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn receive(&self, queue: QueueId, draft: Draft, mark: Option<Mark>) -> Result<Appended, AppendError> {
        if let Some(mark) = mark.as_ref().filter(|_| planted::has(Bug::DedupOutsideTransaction)) {
            return self.receive_apart(queue, draft, mark.clone()).await;
        }
        let bytes = draft.size_bytes();
        let (name, policy) = self.shared().policy(queue).ok_or(AppendError::NoSuchQueue)?;
        check_size(&name, &policy, bytes)?;
        self.check_routes(queue)?;
        let room = self.reserve(queue, bytes).map_err(|full| self.refusal(queue, full))?;
        let share = self.share(bytes).await?;
        let piece = Piece { drafts: vec![(queue, draft)], bytes, room };
        let appended = self.send(piece, mark, Some(share)).await.unwrap_or(Err(AppendError::Closed))?;
        appended.into_iter().next().ok_or(AppendError::Closed)
    }

    /// As it would be wrong: what makes later requests repeats is looked up before, and stored after, what is accepted.
    async fn receive_apart(&self, queue: QueueId, draft: Draft, mark: Mark) -> Result<Appended, AppendError> {
        let failed = |error: anyhow::Error| AppendError::Failed(format!("{error:#}").into());
        let known = self.received(mark.inbox, mark.keys.clone()).await.map_err(failed)?;
        if let Some(Received { message_id, .. }) = known {
            return Ok(Appended { id: message_id, duplicate: true });
        }
        let appended = self.append(vec![(queue, draft)]).await?.pop().ok_or(AppendError::Closed)?;
        self.change(move |write| write.mark(&mark)).await.map_err(failed)?;
        Ok(appended)
    }

    /// Like [`Ledger::append`], blocking the thread; not for use on a thread of an async runtime.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn append_blocking(&self, drafts: Vec<(QueueId, Draft)>) -> Result<Vec<Appended>, AppendError> {
        let mut ahead = std::collections::VecDeque::new();
        let mut appended = Vec::new();
        let take = |reply: Reply| reply.blocking_recv().unwrap_or(Err(AppendError::Closed));
        for piece in self.admit(drafts)? {
            if ahead.len() >= PIECES_AHEAD
                && let Some(reply) = ahead.pop_front()
            {
                appended.extend(take(reply)?);
            }
            ahead.push_back(self.send(piece, None, None));
        }
        for reply in ahead {
            appended.extend(take(reply)?);
        }
        Ok(appended)
    }

    /// Checks the whole batch, keeps room for it, and cuts it.
    fn admit(&self, drafts: Vec<(QueueId, Draft)>) -> Result<Vec<Piece>, AppendError> {
        let mut wanted: HashMap<QueueId, u64> = HashMap::new();
        let mut sizes = Vec::with_capacity(drafts.len());
        let mut known = None;
        for (queue, draft) in &drafts {
            let bytes = draft.size_bytes();
            let (name, policy) = match &known {
                Some((same, policy)) if same == queue => policy,
                _ => {
                    let policy = self.shared().policy(*queue).ok_or(AppendError::NoSuchQueue)?;
                    &known.insert((*queue, policy)).1
                }
            };
            check_size(name, policy, bytes)?;
            *wanted.entry(*queue).or_default() += bytes;
            sizes.push(bytes);
        }
        wanted.keys().try_for_each(|queue| self.check_routes(*queue))?;
        // Held until every piece has room of its own.
        let _whole = wanted
            .iter()
            .map(|(queue, bytes)| self.reserve(*queue, *bytes).map_err(|full| self.refusal(*queue, full)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(self.cut(drafts, &sizes))
    }

    /// Whether a queue that routes lead to has no room. What is copied is known only when it is written, so nothing is
    /// reserved there: it may go beyond its bound by what is on its way.
    fn check_routes(&self, queue: QueueId) -> Result<(), AppendError> {
        let led_to = self.shared().led_to.read().unwrap_or_else(PoisonError::into_inner);
        let full = led_to.get(&queue).into_iter().flatten().find(|to| self.is_full(**to));
        full.map_or(Ok(()), |to| Err(self.refusal(*to, if self.disk_is_full() { Full::Disk } else { Full::Bound })))
    }

    fn cut(&self, drafts: Vec<(QueueId, Draft)>, sizes: &[u64]) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::with_capacity(drafts.len() / PIECE_MESSAGES_MAX + 1);
        for ((queue, draft), bytes) in drafts.into_iter().zip(sizes) {
            let fits = pieces
                .last()
                .is_some_and(|piece| piece.drafts.len() < PIECE_MESSAGES_MAX && piece.bytes + bytes <= PIECE_BYTES_MAX);
            if !fits {
                pieces.push(Piece { drafts: Vec::new(), bytes: 0, room: Reservation::default() });
            }
            if let Some(piece) = pieces.last_mut() {
                piece.bytes += bytes;
                piece.drafts.push((queue, draft));
            }
        }
        let mut sizes = sizes.iter();
        for piece in &mut pieces {
            let wanted = piece.drafts.iter().zip(sizes.by_ref()).map(|((queue, _), bytes)| (*queue, *bytes));
            piece.room = self.shared().accounts.force(wanted);
        }
        pieces
    }

    pub(super) fn refusal(&self, queue: QueueId, full: Full) -> AppendError {
        match (full, self.shared().policy(queue)) {
            (Full::Bound, Some((name, _))) => AppendError::Full { queue: name },
            (Full::Bound, None) => AppendError::NoSuchQueue,
            (Full::Disk, _) => AppendError::Disk,
        }
    }

    /// A share of the bytes that may wait for the writer at once.
    async fn share(&self, bytes: u64) -> Result<OwnedSemaphorePermit, AppendError> {
        let permits = u32::try_from(bytes.min(APPENDING_BYTES_MAX as u64)).unwrap_or(u32::MAX);
        let appending = Arc::clone(&self.shared().appending);
        appending.acquire_many_owned(permits).await.map_err(|_| AppendError::Closed)
    }

    fn send(&self, piece: Piece, mark: Option<Mark>, share: Option<OwnedSemaphorePermit>) -> Reply {
        let (reply, receiver) = oneshot::channel();
        let Piece { drafts, bytes, room } = piece;
        // A closed ledger drops the job, and the receiver learns it.
        self.shared().intake.push(Job::Append(Append { drafts, mark, bytes, room, reply, share }));
        receiver
    }
}

fn check_size(queue: &Name, policy: &QueuePolicy, bytes: u64) -> Result<(), AppendError> {
    let bytes_max = policy.message_bytes;
    if bytes > bytes_max {
        return Err(AppendError::TooLarge { queue: queue.clone(), bytes, bytes_max });
    }
    Ok(())
}
