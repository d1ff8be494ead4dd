//! The power fails: a day of a host is recorded, and cut off at every moment that matters.
//!
//! A library between the host and the C library writes down what is done to the files of the data directory (`journal`). A
//! disk that loses what was not synchronised is built again from it (`disk`), the moments are drawn (`plan`), and of each
//! image a host starts and works off what is there. The verdict is that of all other attacks: what was accepted before that
//! moment is there, and so on. Of some images the recovery is recorded and cut off in the same way.

mod day;
mod disk;
mod image;
mod journal;
mod plan;
mod recorder;
mod report;
mod trial;

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Context as _;

use crate::Settings;
use crate::chance::Chance;
use crate::host::{self, Addresses};
use plan::Images;
use recorder::Recorder;
pub use report::{Failures, Finding, Report};
use trial::{Bench, Outcome, Tried};

/// After so many findings nobody needs more.
const FINDINGS_MAX: usize = 20;

/// Lets the power fail so often, or at all moments that there are, and judges; cuts of recoveries come on top.
///
/// # Errors
/// The checker itself cannot work, or the journal does not tell everything. What the host does wrong is a
/// [`Finding`].
pub fn run(settings: &Settings, images: Option<usize>) -> anyhow::Result<Report> {
    let started = Instant::now();
    fs::create_dir_all(&settings.folder).with_context(|| format!("cannot make {}", settings.folder.display()))?;
    let benches = thread::available_parallelism().map_or(2, |cores| cores.get() * 2);
    let recorder = Recorder::build(&settings.folder)?;
    let day = day::record(settings, &recorder)?;
    let addresses = host::free_addresses(benches)?;
    let mut chance = Chance::new(settings.seed, "power");
    let cuts = plan::cuts(&day.records, &day.clocked(day.story.acceptances_us()), &mut chance);
    let planned = cuts.len();
    let cuts = plan::sample(cuts, images.unwrap_or(usize::MAX), &mut chance);
    let failures = Failures { planned, drawn: cuts.len() };
    let events_us = day.clocked(day.story.events_us());
    let images = Mutex::new(Images::new(day.disk.clone(), &day.records, cuts, &events_us).enumerate());
    let outcomes: Mutex<Vec<Outcome>> = Mutex::default();
    let next = || images.lock().unwrap_or_else(PoisonError::into_inner).next();
    let note = |outcome: Outcome| {
        let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.push(outcome);
        outcomes.iter().map(|outcome| outcome.findings.len()).sum::<usize>() < FINDINGS_MAX
    };
    thread::scope(|scope| {
        let work = |addresses: Addresses| -> anyhow::Result<()> {
            let bench = Bench { settings, recorder: &recorder, addresses, ticks_end_s: day.ticks_end_s };
            while let Some((nth, (cut, image))) = next() {
                let tried = Tried { day: &day, cut, depth: 0, name: String::new() };
                if !note(bench.try_out(&tried, &image, nth)?) {
                    break;
                }
            }
            Ok(())
        };
        let workers: Vec<_> = addresses.into_iter().map(|addresses| scope.spawn(move || work(addresses))).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, anyhow::Result<()>>| {
            worker.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a bench has panicked")))
        };
        workers.into_iter().try_for_each(join)
    })?;
    let outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Report::new(settings, &day, failures, outcomes, started.elapsed()))
}
