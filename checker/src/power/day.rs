//! The day that is recorded: a new folder, sends and events through a stop and two kills, wide messages, and all of it
//! worked off.

use std::fs;
use std::path::Path;

use super::disk::Disk;
use super::journal::Record;
use super::recorder::{Recorder, Recording};
use crate::faults::{Moment, Strike, Striker};
use crate::host::Host;
use crate::record::Clock;
use crate::story::Story;
use crate::workload::{self, Places};
use crate::{Beside, CONFIG, Settings, Tickets, World};

/// How the day's lives end, before the last one.
const ENDS: [Strike; 3] =
    [Strike::Stop(Moment::Accepted(4)), Strike::Kill(Moment::Answered(6)), Strike::Kill(Moment::Begun(2, 1_000))];
/// Sends of each kind that are asked for in a life.
const SENDS: usize = 4;
/// Ticks of the day, in seconds: those that are missed are made up for, in each image.
const TICKS_S: u64 = 2;

/// What was recorded.
#[derive(Debug)]
pub(super) struct Day {
    /// The disk before all records.
    pub(super) disk: Disk,
    pub(super) records: Vec<Record>,
    pub(super) story: Story,
    pub(super) clock: Clock,
    /// See [`Places::ticks_end_s`].
    pub(super) ticks_end_s: u64,
}

impl Day {
    /// When the record after that many was made; never where it is the last.
    pub(super) fn at_us(&self, position: usize) -> u64 {
        self.records.get(position).map_or(u64::MAX, |record| self.clock.at_us(record.at_us))
    }

    /// Times of the story as the records have them.
    pub(super) fn clocked(&self, times_us: Vec<u64>) -> Vec<u64> {
        times_us.into_iter().map(|at_us| self.clock.monotonic_us(at_us)).collect()
    }
}

/// Records a day.
///
/// # Errors
/// See [`super::run`]; also where the host does not come up, or ends by itself.
pub(super) fn record(settings: &Settings, recorder: &Recorder) -> anyhow::Result<Day> {
    let folder = &settings.folder;
    let world = World::open(settings, Beside::Nobody)?;
    // The plugins are compiled: that is not what is recorded.
    world.striker().rest(|| Ok(()))?;
    empty(&folder.join("data"))?;
    let ticks_end_s = world.clock.now_us() / 1_000_000 + TICKS_S;
    let places = Places { ticks_end_s: Some(ticks_end_s), ..world.places(settings) };
    fs::write(folder.join(CONFIG), workload::toml(&places))?;
    let recording = recorder.record(folder, "the first boot")?;
    let host = Host { preload: Some(recording.preload.clone()), ..world.host.clone() };
    live(&world, &Striker { host: &host, ..world.striker() }, &recording)?;
    host.run_until_idle()?;
    world.sink.settle()?;
    let (disk, records) = recording.end()?;
    let clock = world.clock;
    drop(world);
    let story = Story::read(folder)?;
    Ok(Day { disk, records, story, clock, ticks_end_s })
}

fn live(world: &World, striker: &Striker<'_>, recording: &Recording) -> anyhow::Result<()> {
    let strikes = |striker: &Striker<'_>, tickets: &Tickets| {
        ENDS.into_iter().try_for_each(|end| {
            tickets.ask(SENDS);
            match end {
                Strike::Kill(moment) => striker.kill(moment, |life| recording.between(|| life.kill())?),
                other => striker.strike(other),
            }
        })
    };
    world.strike(striker, strikes, || world.producer.send_wide())?;
    Ok(())
}

/// Leaves what is compiled alone.
fn empty(data: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && !entry.file_name().to_string_lossy().starts_with("compiled") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
