//! When the writer looks after what is not part of any settlement, and how long it may wait for a job until then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Writer;
use crate::ledger::disk::{self, Disk};
use crate::ledger::intake::{Job, Task};
use crate::ledger::schema;
use crate::ledger::upkeep::{Found, Round};
use crate::ledger::write::Write;

/// How often the writer looks after what must not wait.
const SHORT_EVERY: Duration = Duration::from_millis(200);
/// How often it looks after what goes by age.
const FULL_EVERY: Duration = Duration::from_secs(1);

impl Writer {
    /// How long to wait for a job before something else is due.
    pub(super) fn patience(&self) -> Duration {
        if self.found.has_more && !self.shared.accounts.disk_is_spent() {
            return Duration::ZERO;
        }
        let now_ms = self.shared.clock.now_ms();
        let delayed = self.found.delayed_ms.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(now_ms)));
        delayed.map_or(SHORT_EVERY, |delayed| delayed.min(SHORT_EVERY))
    }

    /// Looks after what is not part of any settlement.
    pub(super) fn upkeep(&mut self) -> rusqlite::Result<()> {
        let result = self.checkpoints.busy(&self.db, &self.shared.metrics);
        self.tolerate(result)?;
        let is_due = self.found.delayed_ms.is_some_and(|due_ms| due_ms <= self.shared.clock.now_ms());
        let is_pressing = (is_due || self.found.has_more) && !self.shared.accounts.disk_is_spent();
        if !is_pressing && self.short_round.elapsed() < SHORT_EVERY {
            return Ok(());
        }
        self.short_round = Instant::now();
        self.look_at_disk()?;
        self.keep_history()?;
        if !self.is_laid_out || self.shared.accounts.disk_is_spent() {
            return Ok(());
        }
        // What a full round left over is not left to wait for the next one.
        let is_full = self.found.has_more || self.full_round.elapsed() >= FULL_EVERY;
        if is_full {
            self.full_round = Instant::now();
        }
        let round = if is_full { Round::Full } else { Round::Short };
        let found = Arc::new(Mutex::new(Found::default()));
        let slot = found.clone();
        let run = move |write: &mut Write<'_>| {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = write.upkeep(round)?;
            Ok(())
        };
        // A change that fails is logged where its error is judged, and tried again at the next round.
        self.alone(Job::Task(Task { run: Box::new(run), waits_for_room: true, answer: Box::new(drop) }))?;
        self.found = *found.lock().unwrap_or_else(PoisonError::into_inner);
        if is_full {
            self.count_orphans();
        }
        Ok(())
    }

    /// Writes the attempts down that have ended since the last round, in a transaction of their own. There is no room for
    /// them on a disk that is full.
    pub(super) fn keep_history(&mut self) -> rusqlite::Result<()> {
        if self.shared.accounts.disk_is_spent() {
            return Ok(());
        }
        let attempts = self.shared.history.take();
        if attempts.is_empty() {
            return Ok(());
        }
        let run = move |write: &mut Write<'_>| write.keep_attempts(&attempts);
        self.alone(Job::Task(Task { run: Box::new(run), waits_for_room: true, answer: Box::new(drop) }))
    }

    /// Closes the intake below the watermark, and opens it above. While the disk is full, looks whether it still is.
    pub(super) fn look_at_disk(&mut self) -> rusqlite::Result<()> {
        if self.shared.accounts.disk_is_spent() {
            return self.seek_room();
        }
        self.show_disk();
        Ok(())
    }

    /// Something was committed: the disk is not full.
    pub(super) fn found_room(&self) {
        if self.shared.accounts.disk_is_spent() {
            self.show_disk();
        }
    }

    /// Commits a page that changes nothing: free bytes alone do not say that a commit finds room.
    fn seek_room(&mut self) -> rusqlite::Result<()> {
        match self.db.pragma_update(None, "user_version", schema::VERSION) {
            Ok(()) => self.show_disk(),
            Err(error) => drop(self.judge(&error)?),
        }
        Ok(())
    }

    fn show_disk(&self) {
        let settings = &self.shared.settings;
        let Some((free, disk)) = disk::look(&settings.dir, settings.min_free) else { return };
        if !self.shared.accounts.set_disk(disk) {
            return;
        }
        if disk == Disk::Roomy {
            tracing::info!(free, "the disk has room again");
        } else {
            tracing::error!(free, "the disk is nearly full: nothing new is accepted until there is room");
        }
    }
}
