//! What came of a run, for people.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::day::Day;
use super::journal::Change;
use super::trial::Outcome;
use crate::Settings;
use crate::verdict::Violation;

/// A promise that was not kept after a power failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which: after how many records of the journal, and what was on the disk; the same of the recovery before it, if
    /// that was cut off. So is the folder called in which everything lies.
    pub cut: String,
    /// What is wrong.
    pub violation: Violation,
}

/// Power failures of the recorded day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// Those that there are.
    pub planned: usize,
    /// Those that were drawn of them.
    pub drawn: usize,
}

/// The figures, and what is wrong.
#[derive(Clone, Debug)]
pub struct Report {
    /// From which it was drawn.
    pub seed: u64,
    /// Where everything lies.
    pub folder: PathBuf,
    /// Changes of files that were recorded, and synchronisations.
    pub records: usize,
    /// Synchronisations alone.
    pub syncs: usize,
    /// Sends and events that were accepted on the recorded day.
    pub accepted: usize,
    /// Power failures; some of them leave the same image.
    pub failures: Failures,
    /// Images that a host was started on: of the day, of recoveries, and of recoveries of recoveries.
    pub images: Vec<usize>,
    /// What is wrong.
    pub findings: Vec<Finding>,
    took: Duration,
}

impl Report {
    pub(super) fn new(
        settings: &Settings,
        day: &Day,
        failures: Failures,
        outcomes: Vec<Outcome>,
        took: Duration,
    ) -> Self {
        let is_sync = |change: &Change| matches!(change, Change::Synced { .. });
        let mut images = vec![0; outcomes.first().map_or(1, |outcome| outcome.images.len())];
        for outcome in &outcomes {
            images.iter_mut().zip(outcome.images).for_each(|(sum, images)| *sum += images);
        }
        Self {
            seed: settings.seed,
            folder: settings.folder.clone(),
            records: day.records.len(),
            syncs: day.records.iter().filter(|record| is_sync(&record.change)).count(),
            accepted: day.story.acceptances_us().len(),
            failures,
            images,
            findings: outcomes.into_iter().flat_map(|outcome| outcome.findings).collect(),
            took,
        }
    }

    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images: Vec<String> = self.images.iter().map(ToString::to_string).collect();
        writeln!(to, "seed             {}", self.seed)?;
        writeln!(to, "recorded         {} changes of files, {} synchronisations", self.records, self.syncs)?;
        writeln!(to, "accepted         {} sends and events", self.accepted)?;
        writeln!(to, "power failures   {} planned, {} drawn", self.failures.planned, self.failures.drawn)?;
        writeln!(to, "images           {} in {:.0} s", images.join(" + "), self.took.as_secs_f64())?;
        write!(to, "violations       {}", self.findings.len())?;
        for Finding { cut, violation } in &self.findings {
            write!(to, "\n  {cut}: {violation}")?;
        }
        if !self.findings.is_empty() {
            write!(to, "\neverything lies in {}", self.folder.display())?;
        }
        Ok(())
    }
}
