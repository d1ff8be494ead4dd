//! Byte accounts: how much each queue holds, and how much is promised to publishes that are not on disk yet.
//!
//! Lives in memory only; the writer sets what is stored after each commit. Invariant: a publish reserves before it is
//! staged, so a settlement never fails for room.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use smallvec::{SmallVec, smallvec};
use tokio::sync::{Notify, watch};

use super::{Disk, Full};
use crate::settlement::{Lack, QueueId};

/// Every queue's account.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    queues: RwLock<Vec<Arc<Account>>>,
    disk: watch::Sender<Disk>,
    /// Set while that is not roomy: nothing new is accepted, whatever the bounds say. Apart, since every publish asks.
    disk_is_full: AtomicBool,
    freed: Arc<Notify>,
}

#[derive(Debug)]
struct Account {
    bytes_max: AtomicU64,
    stored: AtomicU64,
    reserved: AtomicU64,
    freed: Arc<Notify>,
}

/// Room that is kept for messages on their way to the ledger. Dropping it gives the room back: a settlement that was
/// handed in keeps room of its own.
#[derive(Debug, Default)]
pub struct Reservation(SmallVec<[(Arc<Account>, u64); 1]>);

impl Reservation {
    /// Takes another reservation into this one.
    pub fn absorb(&mut self, mut other: Self) {
        if self.0.is_empty() {
            std::mem::swap(&mut self.0, &mut other.0);
            return;
        }
        for (account, bytes) in other.0.drain(..) {
            self.note(account, bytes);
        }
    }

    fn note(&mut self, account: Arc<Account>, bytes: u64) {
        match self.0.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &account)) {
            Some((_, held)) => *held += bytes,
            None => self.0.push((account, bytes)),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        for (account, bytes) in &self.0 {
            account.reserved.fetch_sub(*bytes, Ordering::AcqRel);
            account.freed.notify_waiters();
        }
    }
}

impl Account {
    fn used(&self) -> u64 {
        self.stored.load(Ordering::Acquire).saturating_add(self.reserved.load(Ordering::Acquire))
    }

    fn is_full(&self) -> bool {
        self.used() >= self.bytes_max.load(Ordering::Acquire)
    }

    fn holds(&self, more: u64, beyond: u64) -> bool {
        self.used().saturating_add(more) <= self.bytes_max.load(Ordering::Acquire).saturating_add(beyond)
    }
}

impl Accounts {
    /// Sets a queue's bound, opening its account where it has none.
    pub(super) fn bound(&self, queue: QueueId, bytes_max: u64) {
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        while queues.len() <= queue.0 as usize {
            queues.push(Arc::new(Account {
                bytes_max: AtomicU64::new(u64::MAX),
                stored: AtomicU64::new(0),
                reserved: AtomicU64::new(0),
                freed: self.freed.clone(),
            }));
        }
        queues[queue.0 as usize].bytes_max.store(bytes_max, Ordering::Release);
        self.freed.notify_waiters();
    }

    /// Says how much a queue holds on disk.
    pub(super) fn set_stored(&self, queue: QueueId, bytes: u64) {
        if let Some(account) = self.account(queue) {
            let before = account.stored.swap(bytes, Ordering::AcqRel);
            if bytes < before {
                self.freed.notify_waiters();
            }
        }
    }

    /// Closes or opens the intake of the whole ledger; answers whether that is a change.
    pub(super) fn set_disk(&self, disk: Disk) -> bool {
        let is_full = disk != Disk::Roomy;
        let before = self.disk_is_full.swap(is_full, Ordering::AcqRel);
        if before && !is_full {
            self.freed.notify_waiters();
        }
        self.disk.send_replace(disk) != disk
    }

    /// The room on the disk, as it changes.
    pub(super) fn disk(&self) -> watch::Receiver<Disk> {
        self.disk.subscribe()
    }

    /// Whether a commit found no room, and none has since.
    pub(super) fn disk_is_spent(&self) -> bool {
        *self.disk.borrow() == Disk::Full
    }

    /// Whether nothing new may be accepted.
    pub(super) fn disk_is_full(&self) -> bool {
        self.disk_is_full.load(Ordering::Acquire)
    }

    /// Reserves within the bound.
    pub(super) fn reserve(&self, queue: QueueId, bytes: u64) -> Result<Reservation, Full> {
        if self.disk_is_full() {
            return Err(Full::Disk);
        }
        self.reserve_beyond(queue, bytes, 0)
    }

    /// The same with so many bytes more than the bound, whatever room the disk has.
    pub(super) fn reserve_beyond(&self, queue: QueueId, bytes: u64, beyond: u64) -> Result<Reservation, Full> {
        let Some(account) = self.account(queue) else { return Ok(Reservation::default()) };
        // Added first and looked at then, so that two publishes cannot both take the last room.
        account.reserved.fetch_add(bytes, Ordering::AcqRel);
        let is_over = !account.holds(0, beyond);
        let reservation = Reservation(smallvec![(account, bytes)]);
        if is_over { Err(Full::Bound) } else { Ok(reservation) }
    }

    /// Reserves whatever the bound says: for what is decided already.
    pub(super) fn force(&self, wanted: impl Iterator<Item = (QueueId, u64)>) -> Reservation {
        let mut reservation = Reservation::default();
        let mut run: Option<(QueueId, u64)> = None;
        // Publishes of one settlement mostly go to one queue: one addition for each stretch of the same.
        for (queue, bytes) in wanted {
            match &mut run {
                Some((same, sum)) if *same == queue => *sum += bytes,
                _ => {
                    self.add(&mut reservation, run.take());
                    run = Some((queue, bytes));
                }
            }
        }
        self.add(&mut reservation, run);
        reservation
    }

    fn add(&self, reservation: &mut Reservation, run: Option<(QueueId, u64)>) {
        if let Some((queue, bytes)) = run
            && let Some(account) = self.account(queue)
        {
            account.reserved.fetch_add(bytes, Ordering::AcqRel);
            reservation.note(account, bytes);
        }
    }

    /// Whether nothing more may be published to a queue.
    pub(super) fn is_full(&self, queue: QueueId) -> bool {
        self.disk_is_full() || self.account(queue).is_some_and(|account| account.is_full())
    }

    /// Whether a queue has by now what a call lacked.
    pub(super) fn has_room(&self, lack: &Lack) -> bool {
        self.account(lack.queue).is_none_or(|account| account.holds(lack.bytes, lack.beyond))
    }

    /// Waits until a queue has room. Cancel-safe.
    pub(super) async fn room(&self, queue: QueueId) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if !self.is_full(queue) {
                return;
            }
            freed.await;
        }
    }

    fn account(&self, queue: QueueId) -> Option<Arc<Account>> {
        self.queues.read().unwrap_or_else(PoisonError::into_inner).get(queue.0 as usize).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueId = QueueId(1);

    fn accounts(bytes_max: u64) -> Accounts {
        let accounts = Accounts::default();
        accounts.bound(QUEUE, bytes_max);
        accounts
    }

    #[test]
    fn a_dropped_reservation_is_given_back() {
        let accounts = accounts(10);
        let held = accounts.reserve(QUEUE, 6).expect("there is room");
        assert_eq!(accounts.reserve(QUEUE, 5).expect_err("it is promised"), Full::Bound);
        drop(held);
        assert!(accounts.reserve(QUEUE, 10).is_ok());
    }

    #[test]
    fn what_is_stored_counts_and_force_goes_beyond() {
        let accounts = accounts(10);
        accounts.set_stored(QUEUE, 9);
        assert!(!accounts.is_full(QUEUE));
        let _beyond = accounts.force([(QUEUE, 4), (QUEUE, 4)].into_iter());
        assert!(accounts.is_full(QUEUE));
    }

    #[test]
    fn a_full_disk_refuses_everything() {
        let accounts = accounts(10);
        accounts.set_disk(Disk::Low);
        assert_eq!(accounts.reserve(QUEUE, 1).expect_err("no disk"), Full::Disk);
        assert!(accounts.is_full(QUEUE));
    }
}
