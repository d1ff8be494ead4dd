//! What others learn of a transaction that is on disk: readers, metrics, and whoever handed a job in.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use super::{Answer, Writer};
use crate::ledger::book::Book;
use crate::ledger::intake::Job;
use crate::ledger::settle::Verdict;
use crate::ledger::settled::Returned;
use crate::ledger::write::Changes;
use crate::ledger::{Shared, Tail};
use crate::settlement::{QueueId, SettleError};

impl Writer {
    /// Tells readers and metrics what is on disk now.
    pub(super) fn announce(&mut self, changes: &Changes) {
        for id in self.book.touched_queues() {
            if let Some(queue) = self.book.queue(*id) {
                self.shared.accounts.set_stored(QueueId(*id), queue.counts.bytes());
                let is_redriven = changes.redriven.contains(id);
                self.shared.set_tail(*id, |tail| {
                    tail.seq = queue.counts.tail;
                    tail.redriven += u64::from(is_redriven);
                });
            }
        }
        for queue in changes.duplicates.iter().filter_map(|id| self.book.queue(*id)) {
            self.shared.metrics.duplicate(&queue.name);
        }
        for (id, copies) in &changes.unrouted {
            if let Some(queue) = self.book.queue(*id) {
                self.shared.metrics.unrouted(&queue.name, *copies);
                let queue = &queue.name;
                tracing::error!(%queue, copies, "routes go round: copies of a message were not made any more, look for a loop");
            }
        }
        let mut expired = BTreeMap::<u32, u64>::new();
        changes.expired.iter().for_each(|(id, messages)| *expired.entry(*id).or_default() += messages);
        expired.into_iter().for_each(|(id, messages)| self.count_expired(id, messages));
        let delayed = self.found.delayed_ms.into_iter().chain(changes.delayed_ms);
        self.found.delayed_ms = delayed.min();
        self.book.committed();
        self.dedup.committed();
    }

    /// Reads the book again after rows were made or renamed, and takes policies over.
    pub(super) fn lay_out(&mut self, changes: &mut Changes) -> rusqlite::Result<()> {
        let is_new = changes.laid_out.is_some();
        if !is_new && !changes.is_restructured {
            return Ok(());
        }
        self.book = Book::load(&self.db)?;
        if let Some(policies) = changes.laid_out.take() {
            self.policies = policies;
            self.is_laid_out = true;
        }
        self.book.apply(&self.policies);
        let mut known = Vec::new();
        for (id, queue) in (0u32..).zip(&self.book.queues) {
            let is_named = self.policies.queues.contains_key(&id);
            known.push(queue.as_ref().map(|queue| (queue.name.clone(), Arc::new(queue.policy.clone()))));
            if let Some(queue) = queue {
                let bytes_max = if is_named || queue.name.is_inbox() { queue.policy.max_bytes } else { u64::MAX };
                self.shared.accounts.bound(QueueId(id), bytes_max);
                self.shared.accounts.set_stored(QueueId(id), queue.counts.bytes());
            }
        }
        self.count_orphans();
        *self.shared.led_to.write().unwrap_or_else(PoisonError::into_inner) = self.policies.led_to.clone();
        *self.shared.policies.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// Shows what waits for connectors that have left the configuration.
    pub(super) fn count_orphans(&self) {
        for (id, subscription) in (0u32..).zip(&self.book.subscriptions) {
            let Some(subscription) = subscription.as_ref().filter(|subscription| subscription.orphaned_ms.is_some())
            else {
                continue;
            };
            if let Some(queue) = self.book.queue(subscription.queue)
                && let Some(connector) = self.book.connector(subscription.connector)
            {
                let messages = if queue.subscriptions.contains(&id) { self.book.backlog(id) } else { 0 };
                self.shared.metrics.orphaned(&queue.name, &connector.name, messages);
            }
        }
    }

    fn count_expired(&self, subscription: u32, messages: u64) {
        if let Some(subscription) = self.book.subscription(subscription)
            && let Some(queue) = self.book.queue(subscription.queue)
            && let Some(connector) = self.book.connector(subscription.connector)
        {
            let (queue, connector) = (&queue.name, &connector.name);
            self.shared.metrics.expired(queue, connector, messages);
            tracing::warn!(%queue, %connector, messages, "messages expired before they were delivered");
        }
    }
}

impl Shared {
    /// The ledger cannot go on: everything waiting and everything to come learns that the ledger is closed.
    pub(in crate::ledger) fn end(&self, reason: &str) {
        self.fatal.send_if_modified(|fatal| {
            let is_first = fatal.is_none();
            fatal.get_or_insert_with(|| reason.into());
            is_first
        });
        self.intake.abandon();
        self.appending.close();
    }

    /// The sender and a receiver of a queue's tail, made where there is none yet.
    pub(in crate::ledger) fn tail(&self, queue: u32) -> (watch::Sender<Tail>, watch::Receiver<Tail>) {
        let index = queue as usize;
        if let Some(sender) = self.tails.read().unwrap_or_else(PoisonError::into_inner).get(index) {
            return (sender.clone(), sender.subscribe());
        }
        let mut tails = self.tails.write().unwrap_or_else(PoisonError::into_inner);
        while tails.len() <= index {
            tails.push(watch::Sender::default());
        }
        (tails[index].clone(), tails[index].subscribe())
    }

    pub(super) fn set_tail(&self, queue: u32, change: impl FnOnce(&mut Tail)) {
        self.tail(queue).0.send_if_modified(|tail| {
            let before = *tail;
            change(tail);
            *tail != before
        });
    }
}

pub(super) fn ticket(job: &Job) -> Option<u64> {
    match job {
        Job::Settle(settle) => Some(settle.ticket),
        Job::Append(_) | Job::Task(_) => None,
    }
}

/// Answers a job whose transaction is on disk. Whoever asked may have gone.
pub(super) fn deliver(job: Job, answer: Answer) {
    match (job, answer) {
        (Job::Settle(settle), answer) => {
            let is_applied = matches!(answer, Answer::Settled(Verdict::Applied));
            let outcomes = settle.settlement.outcomes;
            if let Some(returns) = settle.returns {
                returns.put(if is_applied { Returned::Committed(outcomes) } else { Returned::Conflicted(outcomes) });
            }
            drop(settle.room);
            let _ = settle.reply.send(if is_applied { Ok(()) } else { Err(SettleError::Conflict) });
        }
        (Job::Append(append), Answer::Appended(appended)) => {
            drop(append.room);
            drop(append.share);
            let _ = append.reply.send(Ok(appended));
        }
        (Job::Append(_), _) => {}
        (Job::Task(task), _) => (task.answer)(Ok(())),
    }
}
