//! What is done to the host in a soak, one strike every so often: some end its life, some it has to live through.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use rustix::process::Signal;

use crate::chance::Chance;
use crate::faults::{Moment, START_US_MAX, Striker};
use crate::host::{Life, pause};
use crate::record::{Fault, FaultKind};
use crate::workload::PARCEL_WALL_MS;

/// Until a strike is due, whether the host still lives is looked at as often.
const LOOK_EACH: Duration = Duration::from_millis(50);
/// For so long after a host is there again, what it delivers is counted as delivered around a fault.
const AFTERMATH: Duration = Duration::from_secs(5);
/// Kills while it starts.
const NESTED: usize = 3;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strike {
    Kill,
    /// It stands still past the deadlines of calls, and lives on.
    Freeze,
    /// It is killed, and so many times more while it starts.
    KillAndAtStart,
    Stop,
}

/// In turn, so that lives are short and long.
const STRIKES: [Strike; 5] = [Strike::Kill, Strike::Freeze, Strike::KillAndAtStart, Strike::Freeze, Strike::Stop];

/// The process that lives, for those who look at it.
#[derive(Debug, Default)]
pub(super) struct Alive {
    /// 0 where there is none.
    pub(super) process: AtomicU32,
    /// Lives so far.
    pub(super) lives: AtomicU32,
    /// Since when, in microseconds since the Unix epoch.
    pub(super) since_us: AtomicU64,
}

/// Who strikes.
pub(super) struct Front<'a> {
    pub(super) striker: Striker<'a>,
    pub(super) alive: &'a Alive,
    /// See [`Load::door`](super::load::Load::door).
    pub(super) door: &'a Mutex<()>,
}

/// A time around a fault, in microseconds since the Unix epoch.
pub(super) type Around = (u64, u64);

impl Front<'_> {
    /// Strikes until the time is over; the life that is left, and the times around faults.
    ///
    /// # Errors
    /// The host ended by itself, or did not come up.
    pub(super) fn strike(&self, length: Duration, every: Duration, seed: u64) -> anyhow::Result<(Life, Vec<Around>)> {
        let (started, mut chance) = (Instant::now(), Chance::new(seed, "soak"));
        let closed = self.shut();
        let (mut life, mut around) = (self.come_up()?, Vec::new());
        drop(closed);
        for (nth, strike) in (1..).zip(STRIKES.into_iter().cycle()) {
            if every * nth >= length {
                break;
            }
            stay(&mut life, started + every * nth)?;
            let at_us = self.striker.clock.now_us();
            life = self.one(strike, life, &mut chance)?;
            let aftermath_us = u64::try_from(AFTERMATH.as_micros())?;
            around.push((at_us, self.striker.clock.now_us() + aftermath_us));
        }
        stay(&mut life, started + length)?;
        Ok((life, around))
    }

    fn one(&self, strike: Strike, life: Life, chance: &mut Chance) -> anyhow::Result<Life> {
        let Striker { clock, pulse, ledger, .. } = &self.striker;
        Moment::draw(chance).wait(pulse);
        match strike {
            Strike::Freeze => {
                let at_us = clock.now_us();
                life.signal(Signal::STOP)?;
                pause(Duration::from_millis(PARCEL_WALL_MS * 3 / 2));
                life.signal(Signal::CONT)?;
                ledger.append(&Fault { at_us, ended_us: clock.now_us(), kind: FaultKind::Freeze })?;
                return Ok(life);
            }
            Strike::Kill | Strike::KillAndAtStart => self.end(FaultKind::Kill, || life.kill())?,
            Strike::Stop => self.end(FaultKind::Stop, || life.stop())?,
        }
        let _closed = self.shut();
        for _ in 0..if strike == Strike::KillAndAtStart { NESTED } else { 0 } {
            let life = self.striker.start()?;
            pause(Duration::from_micros(chance.below(START_US_MAX)));
            self.striker.end(FaultKind::KillAtStart, || life.kill())?;
        }
        self.come_up()
    }

    /// Keeps `bulkhead send` out as long as it is held.
    fn shut(&self) -> MutexGuard<'_, ()> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a life, and writes it down.
    pub(super) fn end(&self, kind: FaultKind, end: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.alive.process.store(0, Ordering::SeqCst);
        self.striker.end(kind, end)
    }

    fn come_up(&self) -> anyhow::Result<Life> {
        let mut life = self.striker.start()?;
        self.alive.lives.fetch_add(1, Ordering::SeqCst);
        self.alive.since_us.store(self.striker.clock.now_us(), Ordering::SeqCst);
        self.alive.process.store(life.id(), Ordering::SeqCst);
        ensure!(self.striker.is_ready(&mut life)?, "the host is not ready in time, or has ended");
        Ok(life)
    }
}

/// Waits until then.
///
/// # Errors
/// The host ends before.
fn stay(life: &mut Life, until: Instant) -> anyhow::Result<()> {
    while Instant::now() < until {
        if let Some(status) = life.ended()? {
            bail!("the host has ended by itself: {status}");
        }
        pause(LOOK_EACH.min(until.saturating_duration_since(Instant::now())));
    }
    Ok(())
}
