//! Calls that fail: one that synchronises and never again, or every one from some moment on until that is over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::Signal;

use super::{Log, Sabotage, Swept, last_line, name_of};
use crate::chance::number;
use crate::faults::Striker;
use crate::host::Life;
use crate::record::{Fault, FaultKind};
use crate::saboteur::{Call, Failure, Saboteur};
use crate::{Beside, SENDS, Settings, Tickets, World, conclude};

/// For what a host does within a moment.
const SOON: Duration = Duration::from_secs(60);
/// For which calls go on failing.
const HOLDS: Duration = Duration::from_millis(150);
const LOOK_EACH: Duration = Duration::from_millis(2);
/// More calls than a life of a host makes.
const CALLS_MAX: u64 = 100_000;
/// Without this a host that cannot settle is waited for half a minute.
const GRACE: &str = "[host]\ngrace = '1s'\n";
/// What a host logs when its record cannot be written: that ends nothing.
const NOT_AUDITED: [&str; 2] = ["audit record", "audited"];

/// What fails from some call on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal<'a> {
    pub(super) calls: &'a [Call],
    pub(super) failure: Failure,
}

/// What a host should do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The calls fail while it starts.
    Start,
    /// They fail, and then no more.
    Recovery,
    /// They fail while it is asked to stop.
    Drain,
}

/// One call after the other that synchronises fails, until a life ends in which none is left.
pub(super) fn syncs(settings: &Settings, stride: u64) -> anyhow::Result<Swept> {
    sweep(settings, Sabotage::Sync, |stage| {
        for nth in points(settings.seed, "sync", stride) {
            stage.saboteur.arm(&[Call::Sync], nth..=nth, Failure::Broken)?;
            if !stage.life_without_sync()? {
                break;
            }
        }
        Ok(())
    })
}

/// The calls fail from one after the other on: while a host starts, until they do not fail any more, until it stops.
pub(super) fn refusals(
    settings: &Settings,
    what: Sabotage,
    refusal: &Refusal<'_>,
    stride: u64,
) -> anyhow::Result<Swept> {
    sweep(settings, what, |stage| {
        for way in [Way::Start, Way::Recovery, Way::Drain] {
            for nth in points(settings.seed, &format!("{way:?}"), stride) {
                if !stage.life_refused(refusal, nth, way)? {
                    break;
                }
            }
        }
        Ok(())
    })
}

/// The numbers of calls, beginning somewhere in the first stride.
fn points(seed: u64, purpose: &str, stride: u64) -> impl Iterator<Item = u64> {
    let stride = stride.max(1);
    let first = 1 + number(seed, &["sabotage", purpose]) % stride;
    (first..CALLS_MAX).step_by(usize::try_from(stride).unwrap_or(1))
}

fn sweep(
    settings: &Settings,
    what: Sabotage,
    lives: impl FnOnce(&mut Stage<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Swept> {
    let started = Instant::now();
    let world = World::open(settings, Beside::Saboteur)?;
    world.change_config(|toml| toml.replacen("[host]\n", GRACE, 1))?;
    let data = settings.folder.canonicalize()?.join("data");
    let (mut counts, mut wrongs) = (BTreeMap::new(), Vec::new());
    let attacked = world.attack(|striker, tickets| {
        let saboteur = world.saboteur.as_ref().context("there is a saboteur")?;
        let log = striker.host.log();
        let mut stage = Stage { striker, tickets, saboteur, data, log, counts: &mut counts, wrongs: &mut wrongs };
        let lived = lives(&mut stage);
        // Whatever happened: the last life is like any other.
        saboteur.lift()?;
        lived
    });
    let report = conclude(settings, world, attacked, started)?;
    Ok(Swept { what, counts, wrongs, report })
}

/// Where lives are lived.
struct Stage<'a> {
    striker: &'a Striker<'a>,
    tickets: &'a Tickets,
    saboteur: &'a Saboteur,
    data: PathBuf,
    log: PathBuf,
    counts: &'a mut BTreeMap<(String, String), u64>,
    wrongs: &'a mut Vec<String>,
}

impl Stage<'_> {
    /// A life that works, and is asked to stop if it has not ended by then; whether a call has failed in it.
    fn life_without_sync(&mut self) -> anyhow::Result<bool> {
        let log = Log::at_end(self.log.clone());
        let mut life = self.striker.start()?;
        let at_us = self.work(&mut life, |_| false)?;
        if life.ended()?.is_none() {
            life.signal(Signal::TERM)?;
        }
        let status = self.end(life, at_us)?;
        let Some(failed) = self.failed() else {
            if !status.success() {
                self.wrong(&format!("ended with {status} although nothing failed"), &log.text()?);
            }
            return Ok(false);
        };
        self.judge_end(&failed, status, &log.text()?);
        Ok(true)
    }

    /// A life in which calls fail from this one on; whether there was such a call.
    fn life_refused(&mut self, refusal: &Refusal<'_>, nth: u64, way: Way) -> anyhow::Result<bool> {
        let log = Log::at_end(self.log.clone());
        let saboteur = self.saboteur;
        let arm = || saboteur.arm(refusal.calls, nth..=u64::MAX, refusal.failure);
        if way == Way::Start {
            arm()?;
        }
        let mut life = self.striker.start()?;
        let is_ready = self.striker.is_ready(&mut life)?;
        if way == Way::Start {
            let failed = self.failed();
            self.saboteur.lift()?;
            return self.end_of_start(life, is_ready, failed, &log);
        }
        let refused_us = self.striker.clock.now_us();
        arm()?;
        self.work(&mut life, |_| saboteur.failed() > 0)?;
        let Some(failed) = self.failed() else {
            self.saboteur.lift()?;
            self.striker.end(FaultKind::Stop, || life.stop())?;
            return Ok(false);
        };
        self.striker.pulse.pause(HOLDS);
        if let Some(status) = life.ended()? {
            self.saboteur.lift()?;
            self.end(life, refused_us)?;
            self.judge_end_of(refusal, &failed, status, &log)?;
            return Ok(true);
        }
        if way == Way::Drain {
            life.signal(Signal::TERM)?;
            let status = self.end(life, refused_us)?;
            self.saboteur.lift()?;
            self.judge_drain(&failed, status, &log.text()?);
            return Ok(true);
        }
        self.saboteur.lift()?;
        self.recover(refusal, life, refused_us, &failed, &log)?;
        Ok(true)
    }

    /// It has to take and to do everything again, without another start.
    fn recover(
        &mut self,
        refusal: &Refusal<'_>,
        mut life: Life,
        refused_us: u64,
        failed: &Failed,
        log: &Log,
    ) -> anyhow::Result<()> {
        let before = self.striker.pulse.counts();
        let at_us =
            self.work(&mut life, |now| now.accepted >= before.accepted + 2 && now.answered > before.answered)?;
        let ended_us = self.striker.clock.now_us();
        self.striker.ledger.append(&Fault { at_us: refused_us, ended_us, kind: FaultKind::Held })?;
        if let Some(status) = life.ended()? {
            self.end(life, at_us)?;
            return self.judge_end_of(refusal, failed, status, log);
        }
        let now = self.striker.pulse.counts();
        if now.accepted < before.accepted + 2 {
            self.wrong(&format!("took nothing any more after {failed:?} was refused"), &log.text()?);
        }
        self.count(failed, "refuses, and goes on afterwards");
        let stopped = self.striker.end(FaultKind::Stop, || life.stop());
        if let Err(error) = stopped {
            self.wrong(&format!("{error:#}, after {failed:?} was refused"), &log.text()?);
        }
        Ok(())
    }

    fn end_of_start(&mut self, life: Life, is_ready: bool, failed: Option<Failed>, log: &Log) -> anyhow::Result<bool> {
        let at_us = self.striker.clock.now_us();
        if is_ready {
            life.signal(Signal::TERM)?;
        }
        let status = self.end(life, at_us)?;
        let Some(failed) = failed else { return Ok(false) };
        let text = log.text()?;
        if is_ready {
            self.count(&failed, "starts all the same");
        } else {
            self.judge_end(&failed, status, &text);
        }
        Ok(true)
    }

    /// Waits until everything that is asked for here was accepted, the host has ended, or `is_so`; when it was last seen
    /// with nothing wrong.
    fn work(&self, life: &mut Life, is_so: impl Fn(&crate::pulse::Counts) -> bool) -> anyhow::Result<u64> {
        let (pulse, deadline) = (self.striker.pulse, Instant::now() + SOON);
        self.tickets.ask(SENDS);
        let wanted = pulse.counts().accepted + 2 * SENDS as u64;
        let mut fine_us = self.striker.clock.now_us();
        while life.ended()?.is_none() && Instant::now() < deadline {
            let now = pulse.counts();
            if now.accepted >= wanted || is_so(&now) {
                break;
            }
            if self.saboteur.failed() == 0 {
                fine_us = self.striker.clock.now_us();
            }
            pulse.wait(LOOK_EACH, |_| false);
        }
        Ok(fine_us)
    }

    /// Waits for the end of a life, which a fault has cut off somewhere since then; one that ends with 0 has settled
    /// everything, whatever was refused.
    fn end(&self, life: Life, at_us: u64) -> anyhow::Result<ExitStatus> {
        let status = life.wait(SOON)?;
        self.striker.sink.settle()?;
        let ended_us = self.striker.clock.now_us();
        let kind = if status.success() { FaultKind::Stop } else { FaultKind::Refusal };
        self.striker.ledger.append(&Fault { at_us, ended_us, kind })?;
        Ok(status)
    }

    /// A host that ends says why and where, and not by a panic. Nothing ends for want of an audit record.
    fn judge_end(&mut self, failed: &Failed, status: ExitStatus, log: &str) {
        let name = name_of(&self.data, &failed.path);
        // Where calls go on failing, it may end for another one than the first.
        let others = (self.saboteur.failed() > 1).then(|| "data/".to_owned());
        let names: Vec<String> = others.into_iter().chain([name.clone()]).collect();
        if status.success() && failed.path == self.data {
            // SQLite does not look whether that was done, and the host does it once more by itself.
            return self.count(failed, "goes on, and synchronises it once more");
        }
        if status.success() && name == "audit" && NOT_AUDITED.iter().any(|words| log.contains(words)) {
            return self.count(failed, "goes on without a record, and says so");
        }
        match status.code() {
            Some(1 | 2) if log.contains("panicked") => self.wrong(&format!("panicked when {failed:?} failed"), log),
            Some(1 | 2) if !names.iter().any(|name| last_line(log).contains(name)) => {
                self.wrong(&format!("does not name `{name}` when {failed:?} failed"), log);
            }
            Some(1 | 2) => {}
            _ => self.wrong(&format!("ended with {status} when {failed:?} failed"), log),
        }
        self.count(failed, "ends");
    }

    /// It ends by itself where the disk has become read-only, and waits otherwise.
    fn judge_end_of(
        &mut self,
        refusal: &Refusal<'_>,
        failed: &Failed,
        status: ExitStatus,
        log: &Log,
    ) -> anyhow::Result<()> {
        self.judge_end(failed, status, &log.text()?);
        if refusal.failure != Failure::ReadOnly {
            self.wrong(&format!("ended when {failed:?} was refused, and should have waited"), &log.text()?);
        }
        Ok(())
    }

    /// Settled or cut off, it ends.
    fn judge_drain(&mut self, failed: &Failed, status: ExitStatus, log: &str) {
        if !matches!(status.code(), Some(0 | 1)) || log.contains("panicked") {
            self.wrong(&format!("stopped with {status} while {failed:?} was refused"), log);
        }
        self.count(failed, "stops when it is asked to");
    }

    fn failed(&self) -> Option<Failed> {
        self.saboteur.first_failed().map(|(call, path)| Failed { call, path })
    }

    fn count(&mut self, failed: &Failed, outcome: &str) {
        let place = format!("{} {}", failed.call, place_of(&self.data, &failed.path));
        *self.counts.entry((place, outcome.to_owned())).or_default() += 1;
    }

    fn wrong(&mut self, what: &str, log: &str) {
        self.wrongs.push(format!("the host {what}: {}", last_line(log)));
    }
}

/// A call, and its file.
struct Failed {
    call: String,
    path: PathBuf,
}

impl std::fmt::Debug for Failed {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} {}", self.call, self.path.file_name().unwrap_or_default().to_string_lossy())
    }
}

/// A file within the data directory, files that are alike under one name.
fn place_of(data: &Path, path: &Path) -> String {
    let below = path.strip_prefix(data).unwrap_or(path);
    let mut parts = below.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    match (parts.next(), parts.next()) {
        (None, _) => "the folder".to_owned(),
        (Some(file), None) => file,
        (Some(folder), Some(_)) => format!("{folder}/…"),
    }
}
