//! When the writer looks after what is not part of any settlement, and how long it may wait for a job until then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Writer;
use crate::ledger::intake::{Job, Task};
use crate::ledger::upkeep::{Found, Round};
use crate::ledger::write::Write;

/// How often the writer looks after what must not wait.
const SHORT_EVERY: Duration = Duration::from_millis(200);
/// How often it looks after what goes by age.
const FULL_EVERY: Duration = Duration::from_secs(1);
/// Free disk below which nothing new is accepted, or a twentieth of the disk where that is less.
const FREE_BYTES_MIN: u64 = 512 << 20;

impl Writer {
    /// How long to wait for a job before something else is due.
    pub(super) fn patience(&self) -> Duration {
        if self.found.has_more {
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
        if !is_due && !self.found.has_more && self.short_round.elapsed() < SHORT_EVERY {
            return Ok(());
        }
        self.short_round = Instant::now();
        self.look_at_disk();
        if !self.is_laid_out {
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
        self.alone(Job::Task(Task { run: Box::new(run), answer: Box::new(drop) }))?;
        self.found = *found.lock().unwrap_or_else(PoisonError::into_inner);
        if is_full {
            self.count_orphans();
        }
        Ok(())
    }

    /// Closes the intake below the watermark, and opens it above.
    pub(super) fn look_at_disk(&self) {
        let settings = &self.shared.settings;
        let Ok(disk) = rustix::fs::statvfs(&settings.dir) else { return };
        let (free, total) = (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize));
        let watermark = settings.min_free.unwrap_or(FREE_BYTES_MIN.min(total / 20));
        let is_full = free < watermark;
        if self.shared.accounts.set_disk_full(is_full) {
            if is_full {
                tracing::error!(
                    free,
                    watermark,
                    "the disk is nearly full: nothing new is accepted until there is room"
                );
            } else {
                tracing::info!(free, "the disk has room again");
            }
        }
    }
}
