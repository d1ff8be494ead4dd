//! What an admitted request waits for before it is sent, and for how long.
//!
//! Nothing has left the host meanwhile. Invariant: a request never waits beyond its own deadline, and what it waits for
//! besides its own sandbox costs its delivery no attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout_at;

use super::exchange::Admitted;
use super::refusal::{Failure, HeldBy};
use crate::capability::breaker::{Passage, Place};
use crate::capability::rate::TooLong;

/// How soon to come back when the connector's other requests were in the way.
const BUSY_DELAY: Duration = Duration::from_secs(1);
/// How long a request waits for a receiver that asked for patience; for more it is held, and its sandbox set free.
const PATIENCE: Duration = Duration::from_secs(1);

/// A place among the connector's requests under way, until the answer is there or let go.
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    /// How many the same sandbox has.
    under_way: Arc<AtomicU32>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admitted {
    /// For what must be committed before, past the breaker, for the receiver, for the rate, then for a place among the
    /// connector's requests.
    pub(super) async fn wait(&self) -> Result<(Option<Passage>, Slot), Failure> {
        if let Some(barrier) = &self.barrier {
            let passed = timeout_at(self.deadline, barrier.passed()).await;
            passed.map_err(|_| Failure::Held(BUSY_DELAY, HeldBy::Commit))?;
        }
        let passage = self.pass()?;
        self.wait_for_receiver().await?;
        self.wait_for_rate().await?;
        let permit = timeout_at(self.deadline, self.grant.at_once.clone().acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or_else(|| self.crowded())?;
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Ok((passage, Slot { _permit: permit, under_way: self.under_way.clone() }))
    }

    /// Why there was no place in time: a sandbox that has taken all of them itself, and lets none go, would never get one.
    fn crowded(&self) -> Failure {
        let max = self.grant.limits.requests_at_once;
        if self.under_way.load(Ordering::Relaxed) >= max {
            Failure::Crowded { max }
        } else {
            Failure::Held(BUSY_DELAY, HeldBy::AtOnce)
        }
    }

    fn pass(&self) -> Result<Option<Passage>, Failure> {
        let entry = self.entry();
        let Some(settings) = entry.breaker else { return Ok(None) };
        let place = Place { authority: self.target.authority(), pattern: entry.pattern.as_str().to_owned() };
        let passage = self.grant.breakers.pass(settings, place, Instant::now());
        passage.map(Some).map_err(|open| Failure::Held(open.left, HeldBy::Breaker(entry.key.clone())))
    }

    async fn wait_for_receiver(&self) -> Result<(), Failure> {
        let Some(left) = self.grant.services.backoff.left(&self.target.authority(), Instant::now()) else {
            return Ok(());
        };
        let until = tokio::time::Instant::now() + left;
        if left > PATIENCE || until > self.deadline {
            return Err(Failure::Held(left, HeldBy::Receiver(self.host())));
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    pub(super) async fn wait_for_rate(&self) -> Result<(), Failure> {
        let Some(bucket) = &self.grant.entries[self.entry].bucket else { return Ok(()) };
        let now = Instant::now();
        // What is left after the wait must be enough for the request itself.
        let patience = self.deadline.into_std().saturating_duration_since(now) / 2;
        match bucket.take(now, now + patience) {
            Ok(wait) if wait.is_zero() => Ok(()),
            Ok(wait) => {
                tokio::time::sleep_until((now + wait).into()).await;
                Ok(())
            }
            Err(TooLong { wait }) => Err(Failure::Held(wait, HeldBy::Rate(self.entry().key.clone()))),
        }
    }
}
