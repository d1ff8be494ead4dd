//! One image: a host starts on it, works off what is there, and is judged.

use std::fs;
use std::sync::Arc;

use super::day::Day;
use super::image::Image;
use super::plan::{self, Cut, Images};
use super::recorder::{Recorder, Recording};
use super::report::Finding;
use crate::chance::Chance;
use crate::host::{Addresses, Host};
use crate::ledger::Ledger;
use crate::left::Left;
use crate::pulse::Pulse;
use crate::record::{FaultKind, Receiving};
use crate::sink::Sink;
use crate::verdict::{self, Evidence, Violation};
use crate::workload::{self, Places, TICKS};
use crate::{CONFIG, SINK, Settings};

/// Of one image in so many the recovery is recorded.
const NESTED_EACH: usize = 16;
/// Recoveries of recoveries.
const DEPTH_MAX: usize = 2;
/// Cuts of a recovery.
const NESTED_CUTS: usize = 6;

/// Where images are tried, one after another.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) settings: &'a Settings,
    pub(super) recorder: &'a Recorder,
    pub(super) addresses: Addresses,
    pub(super) ticks_end_s: u64,
}

/// What is tried: a cut of a day, or of a recovery.
#[derive(Debug)]
pub(super) struct Tried<'a> {
    pub(super) day: &'a Day,
    pub(super) cut: Cut,
    /// Power failures before this one.
    pub(super) depth: usize,
    /// What they are called.
    pub(super) name: String,
}

/// What came of an image, and of those that followed from it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Images, by the number of power failures before.
    pub(super) images: [usize; DEPTH_MAX + 1],
    pub(super) findings: Vec<Finding>,
}

impl Bench<'_> {
    /// Tries an image, the `nth` one; what is found stays in its folder.
    ///
    /// # Errors
    /// See [`super::run`].
    pub(super) fn try_out(&self, tried: &Tried<'_>, image: &Image, nth: usize) -> anyhow::Result<Outcome> {
        let Cut { position, fate } = tried.cut;
        let name = format!("{}{position}-{fate}", tried.name);
        let folder = self.settings.folder.join("images").join(&name);
        image.write(&folder.join("data"))?;
        let boot = format!("boot after {name}");
        let is_recorded = tried.depth < DEPTH_MAX && nth.is_multiple_of(NESTED_EACH);
        let recording = if is_recorded { Some(self.recorder.record(&folder, &boot)?) } else { None };
        let preload = match &recording {
            Some(recording) => recording.preload.clone(),
            None => self.recorder.boot(&folder, &boot)?,
        };
        let Settings { host: binary, fault, .. } = self.settings;
        let host = Host { binary: binary.clone(), folder, fault: fault.clone(), preload: Some(preload) };
        let failed_us = tried.day.clock.now_us();
        let (ran, receivings) = self.run(tried.day, &host)?;
        let recovery = recording.map(Recording::end).transpose()?;
        let story =
            tried.day.story.until(tried.day.at_us(position)).and_then(FaultKind::PowerCut, failed_us, receivings);
        let violations = match ran {
            Ok(()) => {
                let evidence = story.evidence(self.settings.seed);
                self.judge(Evidence { left: Left::read(&host.folder.join("data"))?, ..evidence }, failed_us)
            }
            Err(error) => vec![host.failed(&error)],
        };
        let mut outcome = Outcome::default();
        outcome.images[tried.depth] += 1;
        if violations.is_empty() {
            fs::remove_dir_all(&host.folder)?;
        }
        outcome.findings.extend(violations.into_iter().map(|violation| Finding { cut: name.clone(), violation }));
        if let (Some((disk, records)), true) = (recovery, outcome.findings.is_empty()) {
            let Day { clock, ticks_end_s, .. } = *tried.day;
            self.go_on(&Day { disk, records, story, clock, ticks_end_s }, tried.depth + 1, &name, &mut outcome)?;
        }
        Ok(outcome)
    }

    /// Lets a host run; what came to the sink meanwhile.
    fn run(&self, day: &Day, host: &Host) -> anyhow::Result<(anyhow::Result<()>, Vec<Receiving>)> {
        let path = host.folder.join(SINK);
        let sink = Sink::start(self.settings.seed, day.clock, Arc::new(Pulse::default()), Ledger::create(&path)?)?;
        let Addresses { admin, hooks } = self.addresses;
        let (tally, parcel) = (self.settings.tally.as_path(), self.settings.parcel.as_path());
        let ticks_end_s = Some(self.ticks_end_s);
        let places = Places { admin, hooks, sink: sink.address(), tally, parcel, ticks_end_s };
        fs::write(host.folder.join(CONFIG), workload::toml(&places))?;
        let ran = host.run_until_idle();
        sink.settle()?;
        drop(sink);
        Ok((ran, Ledger::read(&path)?))
    }

    fn judge(&self, evidence: Evidence, failed_us: u64) -> Vec<Violation> {
        // A host without a history of ticks has none to make up for when their end has come.
        let has_ticks = !evidence.left.queue(TICKS).is_empty();
        let last_life_us = if has_ticks { failed_us.min(self.ticks_end_s * 1_000_000 - 1) } else { 0 };
        verdict::judge(&Evidence { last_life_us, ..evidence })
    }

    /// Cuts a recovery off, too.
    fn go_on(&self, recovery: &Day, depth: usize, name: &str, outcome: &mut Outcome) -> anyhow::Result<()> {
        let mut chance = Chance::new(self.settings.seed, name);
        let cuts = plan::cuts(&recovery.records, &[], &mut chance);
        let cuts = plan::sample(cuts, NESTED_CUTS, &mut chance);
        let events_us = recovery.clocked(recovery.story.events_us());
        let images = Images::new(recovery.disk.clone(), &recovery.records, cuts, &events_us);
        for (nth, (cut, image)) in images.enumerate() {
            let tried = Tried { day: recovery, cut, depth, name: format!("{name}-then-") };
            let then = self.try_out(&tried, &image, nth)?;
            outcome.images.iter_mut().zip(then.images).for_each(|(sum, images)| *sum += images);
            outcome.findings.extend(then.findings);
        }
        Ok(())
    }
}
