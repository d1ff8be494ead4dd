//! Files that are damaged while no host runs: a bit that is flipped, a tail that is cut off.
//!
//! Two data directories are made, one of a host that was stopped and one of a host that was killed, both with much to do.
//! Each damage is done to a copy. Invariant: what a host then delivers is what was sent, or it says what is damaged.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{Log, Sabotage, Swept, last_line, name_of};
use crate::chance::Chance;
use crate::ledger::Ledger;
use crate::left::Left;
use crate::record::{FaultKind, Receiving, Sending};
use crate::report::Report;
use crate::verdict::{self, Evidence, Violation};
use crate::workload::{COUNTS, ORDERS, Receiver, STEPS, TALLY};
use crate::{Beside, PRODUCER, SINK, Settings, World};

/// Damages of a small file, and of the ledger's two, without a stride.
const DAMAGES: u64 = 12;
const DAMAGES_OF_LEDGER: u64 = 120;
/// One in so many is a cut.
const CUT_EACH: u64 = 4;
/// Sends before the hosts that leave the two directories end.
const SENDS_BEFORE: usize = 12;
const SENDS_MEANWHILE: usize = 4;
/// More messages than the first of these make.
const MADE_BEFORE_MAX: u64 = 1_000;
/// A host has worked everything off long before.
const ENDED_WITHIN: Duration = Duration::from_secs(60);
/// Ticks are not looked at here.
const SELDOM: &str = "every = '1h'";

/// A data directory, and what had come to the sink when its host ended.
struct Pristine {
    kind: &'static str,
    folder: PathBuf,
    arrived: Vec<Receiving>,
}

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// This bit of this byte.
    Flip(u64, u32),
    /// So many bytes stay.
    Cut(u64),
}

/// Damages one file after the other.
pub(super) fn damage(settings: &Settings, stride: u64) -> anyhow::Result<Swept> {
    let started = Instant::now();
    let world = World::open(settings, Beside::Nobody)?;
    let every = format!("every = '{}ms'", crate::workload::PERIOD_MS);
    world.change_config(|toml| toml.replacen(&every, SELDOM, 1))?;
    world.sink.take_all();
    let mut bench = Bench { world: &world, settings, counts: BTreeMap::new(), wrongs: Vec::new() };
    let mut chance = Chance::new(settings.seed, "damage");
    for pristine in bench.make()? {
        for file in files(&pristine.folder)? {
            let path = pristine.folder.join(&file);
            let length = fs::metadata(&path)?.len();
            let is_ledger = file.to_string_lossy().starts_with("ledger.db");
            let most = if is_ledger { DAMAGES_OF_LEDGER } else { DAMAGES };
            for _ in 0..(most / stride.max(1)).max(1) {
                let damage = Damage::draw(&mut chance, length);
                bench.try_damage(&pristine, &file, damage)?;
            }
        }
    }
    let Bench { counts, wrongs, .. } = bench;
    let report = Report::new(settings, &Evidence::default(), Vec::new(), started.elapsed());
    Ok(Swept { what: Sabotage::Damage, counts, wrongs, report })
}

impl Damage {
    fn draw(chance: &mut Chance, length: u64) -> Self {
        let at = chance.below(length.max(1));
        if chance.below(CUT_EACH) == 0 {
            return Self::Cut(at);
        }
        Self::Flip(at, u32::try_from(chance.below(8)).unwrap_or(0))
    }

    fn do_to(self, path: &Path) -> anyhow::Result<()> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        match self {
            Self::Cut(length) => file.set_len(length)?,
            Self::Flip(at, bit) => {
                let mut byte = [0];
                // An empty file has none.
                if file.read_at(&mut byte, at)? == 1 {
                    file.write_all_at(&[byte[0] ^ (1 << bit)], at)?;
                }
            }
        }
        Ok(())
    }
}

/// Where it is done.
struct Bench<'a> {
    world: &'a World,
    settings: &'a Settings,
    counts: BTreeMap<(String, String), u64>,
    wrongs: Vec<String>,
}

impl Bench<'_> {
    /// Lets a host make the two directories.
    fn make(&self) -> anyhow::Result<[Pristine; 2]> {
        let World { host, producer, .. } = self.world;
        let striker = self.world.striker();
        let send = |queues: &[&str], made, count| {
            let (tickets, asked) = sync_channel(count);
            (0..count).try_for_each(|_| tickets.send(()))?;
            drop(tickets);
            producer.send_to(queues, made, &asked)
        };
        let connectors = || Receiver::usual().map(|receiver| receiver.name).chain([TALLY]);
        striker.rest(|| Ok(()))?;
        connectors().try_for_each(|name| host.verb(&["pause", name]))?;
        striker.rest(|| send(&[ORDERS, STEPS, COUNTS], 0, SENDS_BEFORE))?;
        connectors().try_for_each(|name| host.verb(&["resume", name]))?;
        let stopped = self.keep("stopped")?;
        let life = striker.start()?;
        send(&[ORDERS, COUNTS], MADE_BEFORE_MAX, SENDS_MEANWHILE)?;
        striker.end(FaultKind::Kill, || life.kill())?;
        Ok([stopped, self.keep("killed")?])
    }

    fn keep(&self, kind: &'static str) -> anyhow::Result<Pristine> {
        let folder = self.settings.folder.join(kind);
        copy(&self.data(), &folder)?;
        Ok(Pristine { kind, folder, arrived: Ledger::read(&self.settings.folder.join(SINK))? })
    }

    fn data(&self) -> PathBuf {
        self.settings.folder.join("data")
    }

    /// Starts a host on a copy that is damaged so.
    fn try_damage(&mut self, pristine: &Pristine, file: &Path, damage: Damage) -> anyhow::Result<()> {
        let (data, host) = (self.data(), &self.world.host);
        fs::remove_dir_all(&data)?;
        copy(&pristine.folder, &data)?;
        damage.do_to(&data.join(file))?;
        let before = Ledger::<Receiving>::read(&self.settings.folder.join(SINK))?.len();
        let log = Log::at_end(host.log());
        let mut life = host.start_until_idle()?;
        let deadline = Instant::now() + ENDED_WITHIN;
        while life.ended()?.is_none() && Instant::now() < deadline {
            self.world.pulse.pause(Duration::from_millis(2));
        }
        let status = life.ended()?;
        drop(life);
        self.world.sink.settle()?;
        let log = log.text()?;
        let place = format!("{} of a host that was {}", place_of(file), pristine.kind);
        let what = format!("{damage:?} in {place}");
        let arrived = Ledger::<Receiving>::read(&self.settings.folder.join(SINK))?.split_off(before);
        let found = self.judge(pristine, arrived, status.is_some_and(|status| status.success()))?;
        let altered: Vec<&Violation> = found.iter().filter(|found| !matches!(found, Violation::Lost { .. })).collect();
        for violation in &altered {
            self.wrongs.push(format!("{what}: {violation}"));
        }
        let name = name_of(&data, &data.join(file));
        let outcome = match status.map(|status| status.code()) {
            None => return self.wrong(&what, "does not end", &log),
            Some(None) => return self.wrong(&what, "was killed", &log),
            Some(_) if log.contains("panicked") => return self.wrong(&what, "panicked", &log),
            Some(Some(0)) if !altered.is_empty() => "something else is delivered",
            Some(Some(0)) if found.is_empty() => "everything is delivered",
            Some(Some(0)) => "what stands in it is lost",
            Some(Some(_)) if last_line(&log).contains(&name) => "the host says what is damaged",
            Some(Some(_)) => return self.wrong(&what, &format!("does not name `{name}`"), &log),
        };
        *self.counts.entry((place, outcome.to_owned())).or_default() += 1;
        Ok(())
    }

    /// What came, and what is left if the host has ended well.
    fn judge(&self, pristine: &Pristine, arrived: Vec<Receiving>, is_well: bool) -> anyhow::Result<Vec<Violation>> {
        let sendings: Vec<Sending> = Ledger::read(&self.settings.folder.join(PRODUCER))?;
        let receivings = pristine.arrived.iter().cloned().chain(arrived).collect();
        let mut evidence = Evidence::new(self.settings.seed, sendings, receivings, Vec::new());
        if pristine.kind == "stopped" {
            // What was sent to the other one is not in it.
            evidence.sends.truncate(SENDS_BEFORE);
        }
        if is_well {
            evidence.left = Left::read(&self.data()).context("a host ended well, and left this")?;
        }
        let found = verdict::acceptance(&evidence);
        Ok(found.into_iter().filter(|found| is_well || !matches!(found, Violation::Lost { .. })).collect())
    }

    fn wrong(&mut self, what: &str, is: &str, log: &str) -> anyhow::Result<()> {
        self.wrongs.push(format!("{what}: the host {is}: {}", last_line(log)));
        Ok(())
    }
}

/// Files below a folder that a host reads again, each by its path in it.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?.into_iter().map(|below| name.join(below)));
        } else {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

/// Copies a folder with everything below it, and who may read it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to).with_context(|| format!("cannot make {}", to.display()))?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// What files that are alike are called.
fn place_of(file: &Path) -> String {
    match (file.parent().and_then(Path::to_str), file.extension().and_then(|ending| ending.to_str())) {
        (Some(folder), Some(ending)) if !folder.is_empty() => format!("{folder}/*.{ending}"),
        _ => file.display().to_string(),
    }
}
