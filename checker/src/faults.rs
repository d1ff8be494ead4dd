//! What is done to the host, and when: drawn from the seed, timed by events.
//!
//! A cycle is one strike: a kill, three kills while it starts, a stop, or a while in which the process stands still and is
//! then killed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use rustix::process::Signal;

use crate::chance::Chance;
use crate::host::{Host, Life};
use crate::http::{self, Reply};
use crate::ledger::Ledger;
use crate::pulse::Pulse;
use crate::record::{Clock, Fault, FaultKind};
use crate::sink::Sink;
use crate::workload::PARCEL_WALL_MS;

/// Without the event that a strike waits for, it comes after this.
const EVENT_WITHIN: Duration = Duration::from_secs(10);
/// The first start compiles the plugins.
const READY_WITHIN: Duration = Duration::from_secs(180);
/// Between two looks whether it is ready.
const LOOK_EACH: Duration = Duration::from_millis(5);
/// Kills of a strike at the start.
const NESTED: u32 = 3;
/// A host has begun to work by then.
pub(crate) const START_US_MAX: u64 = 150_000;
/// A send is accepted by then.
const ACCEPT_US_MAX: u64 = 5_000;
/// Cycles between two times for which the process stands still past a deadline.
const LONG_FREEZE_EACH: u64 = 150;
const SHORT_FREEZE_MS_MAX: u64 = 120;

/// When something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The host has accepted so many sends more.
    Accepted(u64),
    /// The host listens, so many sends more were begun, and so many microseconds have passed since: it is about to accept.
    Begun(u64, u64),
    /// So many requests more have reached the sink, and the last one is not answered.
    Arrived(u64),
    /// So many answers more have left the sink.
    Answered(u64),
    /// So long after the first of these, in microseconds.
    After(u64),
}

/// What is done in a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    /// SIGKILL.
    Kill(Moment),
    /// SIGKILL so many microseconds after its start, three times in a row.
    KillAtStart([u64; NESTED as usize]),
    /// SIGTERM.
    Stop(Moment),
    /// SIGSTOP, SIGCONT so many milliseconds later, SIGKILL at the next moment.
    Freeze(Moment, u64, Moment),
}

impl Strike {
    /// The strike of a cycle.
    pub(crate) fn draw(chance: &mut Chance, cycle: u64) -> Self {
        if cycle % LONG_FREEZE_EACH == LONG_FREEZE_EACH / 3 {
            return Self::Freeze(Moment::Arrived(2), PARCEL_WALL_MS * 3 / 2, Moment::draw(chance));
        }
        match chance.below(20) {
            0 | 1 => Self::KillAtStart([(); NESTED as usize].map(|()| chance.below(START_US_MAX))),
            2 | 3 => Self::Stop(Moment::draw(chance)),
            4 => Self::Freeze(Moment::draw(chance), chance.below(SHORT_FREEZE_MS_MAX), Moment::draw(chance)),
            _ => Self::Kill(Moment::draw(chance)),
        }
    }

    /// Sends that are asked for meanwhile, at least.
    pub(crate) fn sends(self) -> u64 {
        let of = |moment| match moment {
            Moment::Accepted(count) => count,
            Moment::Begun(count, _) => count + 1,
            Moment::Arrived(_) | Moment::Answered(_) | Moment::After(_) => 0,
        };
        match self {
            Self::Kill(moment) | Self::Stop(moment) => of(moment),
            Self::KillAtStart(_) => 0,
            Self::Freeze(first, _, second) => of(first) + of(second),
        }
    }
}

impl Moment {
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        match chance.below(10) {
            0 | 1 => Self::Accepted(1 + chance.below(3)),
            2..=4 => Self::Begun(1 + chance.below(3), chance.below(ACCEPT_US_MAX)),
            5 | 6 => Self::Arrived(1 + chance.below(10)),
            7 | 8 => Self::Answered(1 + chance.below(10)),
            _ => Self::After(chance.below(30_000)),
        }
    }

    pub(crate) fn wait(self, pulse: &Pulse) {
        let begun = pulse.counts();
        let _ = match self {
            Self::Accepted(more) => pulse.wait(EVENT_WITHIN, |now| now.accepted >= begun.accepted + more),
            Self::Begun(more, micros) => {
                pulse.wait(EVENT_WITHIN, |now| now.accepted > begun.accepted)
                    && pulse.wait(EVENT_WITHIN, |now| now.begun >= begun.begun + more)
                    && pulse.wait(Duration::from_micros(micros), |_| false)
            }
            Self::Arrived(more) => pulse.wait(EVENT_WITHIN, |now| now.arrived >= begun.arrived + more),
            Self::Answered(more) => pulse.wait(EVENT_WITHIN, |now| now.answered >= begun.answered + more),
            Self::After(micros) => {
                pulse.wait(EVENT_WITHIN, |now| (now.accepted, now.arrived) != (begun.accepted, begun.arrived))
                    && pulse.wait(Duration::from_micros(micros), |_| false)
            }
        };
    }
}

/// Who strikes.
#[derive(Debug)]
pub(crate) struct Striker<'a> {
    pub(crate) host: &'a Host,
    pub(crate) sink: &'a Sink,
    pub(crate) admin: SocketAddr,
    pub(crate) clock: Clock,
    pub(crate) pulse: &'a Pulse,
    pub(crate) ledger: &'a Ledger<Fault>,
}

impl Striker<'_> {
    /// Lets the host live, and strikes.
    ///
    /// # Errors
    /// The host ended by itself, or not with 0 when it was asked to stop.
    pub(crate) fn strike(&self, strike: Strike) -> anyhow::Result<()> {
        if let Strike::KillAtStart(moments) = strike {
            return moments.iter().try_for_each(|micros| {
                let life = self.start()?;
                self.pulse.pause(Duration::from_micros(*micros));
                self.end(FaultKind::KillAtStart, || life.kill())
            });
        }
        let life = self.start()?;
        match strike {
            Strike::Kill(moment) => {
                moment.wait(self.pulse);
                self.end(FaultKind::Kill, || life.kill())
            }
            Strike::Stop(moment) => {
                moment.wait(self.pulse);
                self.end(FaultKind::Stop, || life.stop())
            }
            Strike::Freeze(moment, millis, then) => {
                moment.wait(self.pulse);
                let at_us = self.clock.now_us();
                life.signal(Signal::STOP)?;
                self.pulse.pause(Duration::from_millis(millis));
                life.signal(Signal::CONT)?;
                let ended_us = self.clock.now_us();
                self.ledger.append(&Fault { at_us, ended_us, kind: FaultKind::Freeze })?;
                then.wait(self.pulse);
                self.end(FaultKind::Kill, || life.kill())
            }
            Strike::KillAtStart(_) => Ok(()),
        }
    }

    /// A life that somebody else ends at that moment, by a kill.
    ///
    /// # Errors
    /// See [`Striker::strike`].
    pub(crate) fn kill(&self, moment: Moment, kill: impl FnOnce(Life) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let life = self.start()?;
        moment.wait(self.pulse);
        self.end(FaultKind::Kill, || kill(life))
    }

    /// A life without a strike: it ends when `work` is done, because it is asked to.
    ///
    /// # Errors
    /// It does not come up, or see [`Striker::strike`].
    pub(crate) fn rest(&self, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut life = self.start()?;
        ensure!(self.is_ready(&mut life)?, "the host is not ready within {READY_WITHIN:?}, or has ended");
        work()?;
        self.end(FaultKind::Stop, || life.stop())
    }

    /// Waits until it is ready or has ended; whether it is.
    pub(crate) fn is_ready(&self, life: &mut Life) -> anyhow::Result<bool> {
        let deadline = Instant::now() + READY_WITHIN;
        while life.ended()?.is_none() && Instant::now() < deadline {
            if http::get(self.admin, "/readyz") == Reply::Status(200) {
                return Ok(true);
            }
            self.pulse.pause(LOOK_EACH);
        }
        Ok(false)
    }

    /// Starts it.
    pub(crate) fn start(&self) -> anyhow::Result<Life> {
        let life = self.host.start()?;
        self.pulse.change(|counts| counts.started += 1);
        Ok(life)
    }

    /// Ends it so, and writes it down.
    pub(crate) fn end(&self, kind: FaultKind, end: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let at_us = self.clock.now_us();
        end()?;
        self.sink.settle()?;
        self.ledger.append(&Fault { at_us, ended_us: self.clock.now_us(), kind })
    }
}
