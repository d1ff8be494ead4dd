//! Marks of webhook requests: by which a repeat is known, and what it is answered.
//!
//! A mark is stored in the transaction that accepts its request, under the dedup window of its connector's inbox.
//! Invariant: of requests that have a mark in common, one is accepted; what is dropped leaves none.

use super::dedup::{Found, Memory};
use super::intake::Append;
use super::write::Write;
use super::{Appended, Ledger};
use crate::settlement::{Mark, QueueId};

/// What became of an earlier request with the same mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its id.
    pub message_id: String,
    /// What its sender was answered, where that was kept.
    pub answer: Option<Vec<u8>>,
}

impl Ledger {
    /// What is remembered under any of these keys; as of the last commit.
    ///
    /// # Errors
    /// The ledger has stopped or cannot be read.
    pub async fn received(&self, inbox: QueueId, keys: Vec<String>) -> anyhow::Result<Option<Received>> {
        let may_know = |key: &String| self.shared().remembered.get().is_none_or(|ids| ids.may_know(inbox.0, key));
        if !keys.iter().any(may_know) {
            return Ok(None);
        }
        let find = move |write: &mut Write<'_>| {
            for key in &keys {
                if let Some((message_id, answer)) = write.remembered(inbox, key)? {
                    return Ok(Some(Received { message_id, answer }));
                }
            }
            Ok(None)
        };
        self.change(find).await
    }
}

impl Write<'_> {
    /// Accepts a batch from outside, or the one request that has a mark.
    pub(super) fn append_job(&mut self, append: &Append) -> rusqlite::Result<Vec<Appended>> {
        let drafts = || append.drafts.iter().map(|(queue, draft)| (*queue, draft));
        let Some(mark) = &append.mark else { return self.accept_all(drafts()) };
        if let Some(id) = self.mark(mark)? {
            self.changes.duplicates.push(mark.inbox.0);
            return Ok(vec![Appended { id, duplicate: true }]);
        }
        self.accept_all(drafts())
    }

    /// Notes a mark. Where one of its keys is known already, notes nothing and answers the id of the first request: of a
    /// repeat, what is not signed is anybody's to choose, and must not make repeats of what was never accepted.
    pub(super) fn mark(&mut self, mark: &Mark) -> rusqlite::Result<Option<String>> {
        for key in &mark.keys {
            if let Some((first, _)) = self.remembered(mark.inbox, key)? {
                return Ok(Some(first));
            }
        }
        let Some(inbox) = self.book.queue(mark.inbox.0) else { return Err(rusqlite::Error::QueryReturnedNoRows) };
        for key in &mark.keys {
            let message_id = Some(mark.message_id.as_str());
            let memory = Memory { key, message_id, answer: mark.answer.as_deref() };
            self.dedup.note(self.db, mark.inbox.0, &inbox.policy, memory, self.now.settled_ms)?;
        }
        Ok(None)
    }

    fn remembered(&self, inbox: QueueId, key: &str) -> rusqlite::Result<Option<Found>> {
        let Some(queue) = self.book.queue(inbox.0) else { return Ok(None) };
        self.dedup.find(self.db, inbox.0, &queue.policy, key, self.now.settled_ms)
    }
}
