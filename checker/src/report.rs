//! What came of a run, for people.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::record::{FaultKind, Sent};
use crate::verdict::{Evidence, Violation};
use crate::workload::{COUNTED, EVENTS, TICKS};
use crate::{Settings, workload};

/// More violations than this are only counted.
const SHOWN_MAX: usize = 30;

/// The figures, and what is wrong.
#[derive(Clone, Debug)]
pub struct Report {
    /// From which it was drawn.
    pub seed: u64,
    /// Where everything lies.
    pub folder: PathBuf,
    /// Strikes.
    pub cycles: u64,
    /// Kills while it worked.
    pub kills: usize,
    /// Kills while it started.
    pub kills_at_start: usize,
    /// Clean stops.
    pub stops: usize,
    /// Times for which the process stood still.
    pub freezes: usize,
    /// Messages and events that were accepted.
    pub accepted: usize,
    /// Sends that were never answered, by attempt.
    pub unanswered: usize,
    /// Messages and receipts that were delivered, to the sink or as copies.
    pub delivered: usize,
    /// Deliveries that came again after a kill.
    pub repeated: usize,
    /// Dead letters.
    pub dead: usize,
    /// Ticks.
    pub ticks: usize,
    /// What is wrong.
    pub violations: Vec<Violation>,
    took: Duration,
}

impl Report {
    pub(crate) fn new(settings: &Settings, evidence: &Evidence, violations: Vec<Violation>, took: Duration) -> Self {
        let faults = |kind| evidence.faults.iter().filter(|fault| fault.kind == kind).count();
        let sends = |sent| evidence.sends.iter().filter(move |send| send.sent == sent);
        let accepted = sends(Sent::Accepted).flat_map(|send| send.items.iter().map(|item| (&send.queue, &item.id)));
        let delivered =
            evidence.requests.iter().filter(|request| request.answer.is_some_and(|(_, it)| it.is_success()));
        let delivered_times = delivered.clone().count();
        let delivered = delivered.map(|request| (&request.arrival.receiver, &request.arrival.name));
        let delivered = delivered.collect::<std::collections::HashSet<_>>().len();
        Self {
            seed: settings.seed,
            folder: settings.folder.clone(),
            cycles: settings.cycles,
            kills: faults(FaultKind::Kill),
            kills_at_start: faults(FaultKind::KillAtStart),
            stops: faults(FaultKind::Stop),
            freezes: faults(FaultKind::Freeze),
            accepted: accepted.collect::<std::collections::HashSet<_>>().len(),
            unanswered: sends(Sent::Unanswered).count(),
            delivered: delivered + evidence.left.queue(COUNTED).len(),
            repeated: delivered_times - delivered,
            dead: evidence.left.dead.len(),
            ticks: evidence.left.queue(TICKS).len(),
            violations,
            took,
        }
    }

    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, each_ms) = (self.took.as_secs_f64(), workload::PERIOD_MS);
        writeln!(to, "seed             {}", self.seed)?;
        writeln!(to, "cycles           {} in {seconds:.0} s", self.cycles)?;
        writeln!(to, "kills            {} at work, {} at the start", self.kills, self.kills_at_start)?;
        writeln!(to, "stops, freezes   {}, {}", self.stops, self.freezes)?;
        writeln!(to, "accepted         {} messages; {} sends without an answer", self.accepted, self.unanswered)?;
        writeln!(to, "delivered        {}, and {} of them again after a kill", self.delivered, self.repeated)?;
        writeln!(to, "dead letters     {}", self.dead)?;
        writeln!(to, "ticks            {}, one each {each_ms} ms; events are kept in `{EVENTS}`", self.ticks)?;
        write!(to, "violations       {}", self.violations.len())?;
        for violation in self.violations.iter().take(SHOWN_MAX) {
            write!(to, "\n  {violation}")?;
        }
        if self.violations.len() > SHOWN_MAX {
            write!(to, "\n  … and {} more", self.violations.len() - SHOWN_MAX)?;
        }
        if !self.violations.is_empty() {
            write!(to, "\neverything lies in {}", self.folder.display())?;
        }
        Ok(())
    }
}
