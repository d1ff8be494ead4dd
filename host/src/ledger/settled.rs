//! What comes back from the writer: receipts, and the settlements' outcomes.
//!
//! Settlements go into a list that the subscription empties when it looks for work, so that the lease state is right even
//! if whoever handed the settlement in has gone.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{Notify, oneshot};

use crate::settlement::{Origin, Outcome, SettleError};

/// Resolves when a settlement is on disk, or will never be. Dropping it changes nothing.
#[derive(Debug)]
pub struct Receipt(pub(super) oneshot::Receiver<Result<(), SettleError>>);

impl Future for Receipt {
    type Output = Result<(), SettleError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(SettleError::Closed)))
    }
}

/// A settlement that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Returned {
    /// It is on disk.
    Committed(Vec<(Origin, Outcome)>),
    /// Nothing of it is: state had changed.
    Conflicted(Vec<(Origin, Outcome)>),
}

/// Where the writer puts settlements that it has dealt with, and whom it wakes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Returns(Arc<List>);

#[derive(Debug, Default)]
struct List {
    settlements: Mutex<Vec<Returned>>,
    wake: Arc<Notify>,
}

impl Returns {
    /// An empty list that wakes `wake`.
    #[must_use]
    pub fn new(wake: Arc<Notify>) -> Self {
        Self(Arc::new(List { settlements: Mutex::default(), wake }))
    }

    /// Takes what has come back.
    #[must_use]
    pub fn take(&self) -> Vec<Returned> {
        std::mem::take(&mut *self.0.settlements.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts in a settlement.
    pub(super) fn put(&self, returned: Returned) {
        self.0.settlements.lock().unwrap_or_else(PoisonError::into_inner).push(returned);
        self.0.wake.notify_one();
    }
}
