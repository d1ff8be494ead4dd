//! Twice as much work as the host lets through, for minutes, with a strike every while and plugins that mean harm among
//! the others.
//!
//! `config` says what the host is to do, `load` offers the work, `strike` does the harm from outside, `sample` looks at
//! the process. At the end the host works off what it took, and everything is judged as after any other attack; `verdict`
//! judges what only a soak has, `bound` what must not grow, `latency` says how long messages took.

mod bound;
mod config;
mod latency;
mod load;
mod report;
mod sample;
mod strike;
mod verdict;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use crate::host::pause;
use crate::ledger::Ledger;
use crate::left::{Left, rewritten};
use crate::record::{Fault, FaultKind, Receiving, Sending};
use crate::verdict::{Evidence, judge};
use crate::{Beside, CONFIG, FAULTS, PRODUCER, SINK, Settings, World};
use bound::Disk;
use config::Pace;
use load::{ASKS, Load, STREAMS, Told};
pub use report::Soaked;
use sample::Seen;
use strike::{Alive, Around, Front};

/// The file has shrunk when it has not changed for so long.
const SHRUNK: Duration = Duration::from_secs(3);
const SHRUNK_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EACH: Duration = Duration::from_millis(100);

/// A soak; the plugins `hostile`, `hook` and `discard` lie beside the ones that the settings name.
#[derive(Clone, Debug)]
pub struct Soak {
    /// What it has in common with an attack; cycles do not count.
    pub settings: Settings,
    /// For how long work is offered.
    pub length: Duration,
    /// Between two strikes.
    pub strike_every: Duration,
}

/// What was seen meanwhile.
#[derive(Debug, Default)]
struct Found {
    seen: Seen,
    told: Told,
    around: Vec<Around>,
}

/// Runs it, and judges.
///
/// # Errors
/// The checker itself cannot work, as in [`run`](crate::run).
pub fn soak(soak: &Soak) -> anyhow::Result<Soaked> {
    let started = Instant::now();
    let world = World::open(&soak.settings, Beside::Nobody)?;
    let mut found = Found::default();
    let worked = work(&world, soak, &mut found);
    let host = world.host.clone();
    drop(world);
    let evidence = Evidence { seed: soak.settings.seed, ..Evidence::default() };
    match worked {
        Ok(last_life_us) => conclude(soak, &found, Evidence { last_life_us, ..evidence }, started),
        // Where the work did not come to its end, most of it would seem lost.
        Err(error) => {
            let failed = vec![host.failed(&error)];
            Ok(Soaked::new(soak, &found, &evidence, failed, started.elapsed()))
        }
    }
}

/// All of it; when the last life began in which anything was sent.
fn work(world: &World, soak: &Soak, found: &mut Found) -> anyhow::Result<u64> {
    configure(world, &soak.settings, Pace::Held)?;
    // The first start compiles the plugins: that is not what is attacked.
    let striker = world.striker();
    striker.rest(|| Ok(()))?;
    let last_life_us = offer(world, soak, found)?;
    configure(world, &soak.settings, Pace::Free)?;
    world.host.run_until_idle()?;
    configure(world, &soak.settings, Pace::Rest)?;
    striker.rest(|| {
        shrink(world);
        Ok(())
    })?;
    Ok(last_life_us)
}

fn configure(world: &World, settings: &Settings, pace: Pace) -> anyhow::Result<()> {
    Ok(fs::write(world.host.folder.join(CONFIG), config::toml(&world.places(settings), pace)?)?)
}

/// Offers work while strikes happen, and lets the last life end when everybody was answered.
fn offer(world: &World, soak: &Soak, found: &mut Found) -> anyhow::Result<u64> {
    let World { host, clock, producer, .. } = world;
    let (is_over, is_gone, is_seen) = (&AtomicBool::new(false), &AtomicBool::new(false), &AtomicBool::new(false));
    let (alive, door, data) = (Alive::default(), &Mutex::new(()), host.folder.join("data"));
    let load = &Load { producer, host, is_over, is_gone, door, told: Mutex::default() };
    let front = Front { striker: world.striker(), alive: &alive, door };
    let last_life_us = thread::scope(|scope| {
        let looking = scope.spawn(|| sample::watch(&alive, *clock, &data, producer.admin, is_seen));
        let each = STREAMS.iter().flat_map(|stream| (0..stream.threads).map(move |thread| (stream, thread)));
        let senders: Vec<_> = each.map(|(stream, thread)| scope.spawn(move || load.offer(stream, thread))).collect();
        let struck = front.strike(soak.length, soak.strike_every, soak.settings.seed);
        is_over.store(true, Ordering::SeqCst);
        is_gone.store(struck.is_err(), Ordering::SeqCst);
        let sent: Vec<_> = senders.into_iter().map(joined).collect();
        is_seen.store(true, Ordering::SeqCst);
        found.seen = looking.join().map_err(|_| anyhow!("a thread has panicked"))?;
        let (life, around) = struck?;
        found.around = around;
        sent.into_iter().collect::<anyhow::Result<()>>()?;
        let last_life_us = clock.now_us();
        front.end(FaultKind::Stop, || life.stop())?;
        Ok(last_life_us)
    });
    found.told = load.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    last_life_us
}

fn joined(sender: ScopedJoinHandle<'_, anyhow::Result<()>>) -> anyhow::Result<()> {
    sender.join().unwrap_or_else(|_| Err(anyhow!("a thread that sends has panicked")))
}

/// Waits until the ledger's file is as small as it will get.
fn shrink(world: &World) {
    let ledger = world.host.folder.join("data/ledger.db");
    let look = || fs::metadata(&ledger).map_or(0, |file| file.len());
    let deadline = Instant::now() + SHRUNK_WITHIN;
    let (mut last, mut since) = (look(), Instant::now());
    while since.elapsed() < SHRUNK && Instant::now() < deadline {
        pause(LOOK_EACH);
        let now = look();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// Puts everything together that was written down, and judges it.
fn conclude(soak: &Soak, found: &Found, evidence: Evidence, started: Instant) -> anyhow::Result<Soaked> {
    let Settings { folder, seed, .. } = &soak.settings;
    let sendings: Vec<Sending> = Ledger::read(&folder.join(PRODUCER))?;
    let receivings: Vec<Receiving> = Ledger::read(&folder.join(SINK))?;
    let faults: Vec<Fault> = Ledger::read(&folder.join(FAULTS))?;
    let latencies = latency::read(*seed, &sendings, &receivings, &found.around);
    let Evidence { last_life_us, .. } = evidence;
    let mut evidence = Evidence { last_life_us, ..Evidence::new(*seed, sendings, receivings, faults) };
    let mut left = Left::read(&folder.join("data"))?;
    let mut disk = disk(folder, &left)?;
    let (asks, sends): (Vec<_>, Vec<_>) = evidence.sends.into_iter().partition(|send| send.queue == ASKS);
    evidence.sends = sends;
    let answered = left.queues.remove(config::ANSWERED).unwrap_or_default();
    let (harm, mut violations) = verdict::harm(&mut left.dead);
    evidence.left = left;
    violations.extend(verdict::asked(&asks, &answered));
    violations.extend(judge(&evidence));
    let soaked = Soaked::new(soak, found, &evidence, violations, started.elapsed());
    disk.accepted = soaked.accepted() + answered.len() as u64;
    Ok(soaked.with(latencies, &found.seen.samples, disk, harm.len(), answered.len()))
}

/// What the disk holds.
fn disk(folder: &Path, left: &Left) -> anyhow::Result<Disk> {
    let data = folder.join("data");
    let length = |name: &str| fs::metadata(data.join(name)).map_or(0, |file| file.len());
    let kept = || left.queues.values().flatten();
    let bodies = kept().map(|kept| kept.body.len()).chain(left.dead.iter().map(|letter| letter.text.len()));
    let bodies = bodies.sum::<usize>() as u64;
    let kept = (kept().count() + left.dead.len()) as u64;
    let (ledger, log, directory) = (length("ledger.db"), length("ledger.db-wal"), sample::size(&data));
    let (free, anew) = rewritten(&data, &folder.join("anew.db")).context("the ledger cannot be written anew")?;
    Ok(Disk { directory, ledger, log, free, anew, bodies, kept, accepted: 0 })
}
