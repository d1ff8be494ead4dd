//! What came of a soak: Markdown for people, JSON for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::bound::{Bound, Disk, bounds};
use super::latency::{Latency, Spread};
use super::load::STREAMS;
use super::sample::Sample;
use super::{Found, Soak};
use crate::report::Report;
use crate::verdict::{Evidence, Violation};

/// More violations than this are only counted.
const SHOWN_MAX: usize = 30;
/// Stops that are no strikes: after the first start, after the last send, and when the file has shrunk.
const STOPS_BESIDE: usize = 3;

/// The figures, and what is wrong.
#[derive(Clone, Debug)]
pub struct Soaked {
    /// What a soak has in common with an attack.
    pub report: Report,
    length: Duration,
    strike_every: Duration,
    strikes: usize,
    told: BTreeMap<&'static str, BTreeMap<String, u64>>,
    held: BTreeMap<String, u64>,
    looks: u64,
    latencies: Vec<Latency>,
    bounds: Vec<Bound>,
    disk: Disk,
    harm_dead: usize,
    /// Requests to a webhook that a plugin has answered.
    pub answered: usize,
}

impl Soaked {
    pub(super) fn new(
        soak: &Soak,
        found: &Found,
        evidence: &Evidence,
        violations: Vec<Violation>,
        took: Duration,
    ) -> Self {
        let mut told: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for ((stream, what), count) in &found.told {
            told.entry(*stream).or_default().insert(what.clone(), *count);
        }
        Self {
            report: Report::new(&soak.settings, evidence, violations, took),
            length: soak.length,
            strike_every: soak.strike_every,
            strikes: found.around.len(),
            told,
            held: found.seen.held.clone(),
            looks: found.seen.looks,
            latencies: Vec::new(),
            bounds: Vec::new(),
            disk: Disk::default(),
            harm_dead: 0,
            answered: 0,
        }
    }

    pub(super) fn with(
        self,
        latencies: Vec<Latency>,
        samples: &[Sample],
        disk: Disk,
        harm_dead: usize,
        answered: usize,
    ) -> Self {
        Self { latencies, bounds: bounds(samples, &disk), disk, harm_dead, answered, ..self }
    }

    pub(super) fn accepted(&self) -> u64 {
        self.report.accepted as u64
    }

    /// Whether every promise was kept, and everything stayed within its bounds.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.report.is_clean() && !self.bounds.is_empty() && self.bounds.iter().all(Bound::holds)
    }

    /// All of it as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let report = &self.report;
        json!({
            "seed": report.seed,
            "seconds": self.length.as_secs_f64(),
            "is_clean": self.is_clean(),
            "violations": report.violations.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "strikes": self.strikes,
            "kills": report.kills,
            "kills_at_start": report.kills_at_start,
            "stops": report.stops,
            "freezes": report.freezes,
            "accepted": report.accepted,
            "unanswered": report.unanswered,
            "delivered": report.delivered,
            "repeated": report.repeated,
            "dead": report.dead,
            "ticks": report.ticks,
            "answered": self.answered,
            "harm_dead": self.harm_dead,
            "told": self.told,
            "held": self.held,
            "looks": self.looks,
            "latencies": self.latencies,
            "bounds": self.bounds,
            "disk": self.disk,
        })
    }

    fn intake(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            to,
            "| work | offered, in a second | accepted, in a second | refused: 429 or 503 | else |\n| --- | --- | --- | --- | --- |"
        )?;
        for stream in STREAMS {
            let Some(told) = self.told.get(stream.name) else { continue };
            let sum = |is_it: fn(&str) -> bool| {
                told.iter().filter(|(what, _)| is_it(what)).map(|(_, count)| count).sum::<u64>()
            };
            let is_refused = |what: &str| what == "429" || what == "503" || what.ends_with("full");
            let is_accepted = |what: &str| what.starts_with('2') || what == "exit code 0";
            let (accepted, refused) = (sum(is_accepted), sum(is_refused));
            let all: u64 = told.values().sum();
            let others = told.iter().filter(|(what, _)| !is_refused(what) && !is_accepted(what));
            let others: Vec<String> = others.map(|(what, count)| format!("{what}: {count}")).collect();
            let each = |count: u64| count as f64 / self.length.as_secs_f64();
            let (name, others) = (stream.name, others.join(", "));
            writeln!(
                to,
                "| {name} | {all}, {:.1} | {accepted}, {:.1} | {refused} | {others} |",
                each(all),
                each(accepted)
            )?;
        }
        Ok(())
    }

    fn outcome(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report;
        writeln!(to, "| | |\n| --- | --- |")?;
        writeln!(
            to,
            "| strikes | {}, one each {} s: {} kills at work, {} at the start, {} stops, {} times of standing still |",
            self.strikes,
            self.strike_every.as_secs(),
            report.kills,
            report.kills_at_start,
            report.stops.saturating_sub(STOPS_BESIDE),
            report.freezes
        )?;
        writeln!(
            to,
            "| accepted | {} messages and events; {} sends without an answer |",
            report.accepted, report.unanswered
        )?;
        writeln!(to, "| delivered | {}, and {} of them again after a kill |", report.delivered, report.repeated)?;
        writeln!(to, "| answered by a plugin | {} |", self.answered)?;
        writeln!(
            to,
            "| dead letters | {} of the good connectors, as the policy says; {} of those that mean harm |",
            report.dead, self.harm_dead
        )?;
        writeln!(to, "| ticks | {} |", report.ticks)?;
        let held: Vec<String> = self.held.iter().map(|(who, count)| format!("{who} {count}")).collect();
        writeln!(to, "| held, in so many of {} looks | {} |", self.looks, held.join(", "))?;
        writeln!(to, "| **violations** | **{}** |", report.violations.len())
    }

    fn figures(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "| what | most | allowed | because |\n| --- | --- | --- | --- |")?;
        for bound in &self.bounds {
            let Bound { what, most, allowed, unit, why, .. } = bound;
            let mark = if bound.holds() { "" } else { " **too much**" };
            let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
            writeln!(to, "| {what} | {most}{unit}{mark} | {allowed}{unit} | {why} |")?;
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let Disk { directory, ledger, free, anew, bodies, kept, .. } = self.disk;
        writeln!(
            to,
            "\nAfter the end the data directory has {:.1} MiB, of which `ledger.db` {:.1} MiB with {:.1} MiB of free pages. \
             Written anew by SQLite it has {:.1} MiB: {kept} messages and dead letters that are kept, with bodies of {:.1} MiB.",
            mib(directory),
            mib(ledger),
            mib(free),
            mib(anew),
            mib(bodies)
        )
    }

    fn times(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            to,
            "| in milliseconds | without a fault: median, 99th, most (of) | around faults |\n| --- | --- | --- |"
        )?;
        for Latency { what, quiet, around_faults } in &self.latencies {
            writeln!(to, "| {what} | {} | {} |", shown(quiet), shown(around_faults))?;
        }
        Ok(())
    }
}

fn shown(spread: &Spread) -> String {
    let ms = |us: u64| format!("{:.1}", us as f64 / 1e3);
    let Spread { count, median_us, p99_us, most_us } = *spread;
    format!("{}, {}, {} ({count})", ms(median_us), ms(p99_us), ms(most_us))
}

impl fmt::Display for Soaked {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.length.as_secs_f64() / 60.0;
        writeln!(to, "## {minutes:.1} minutes with seed {}\n", self.report.seed)?;
        self.outcome(to)?;
        for violation in self.report.violations.iter().take(SHOWN_MAX) {
            writeln!(to, "- {violation}")?;
        }
        if self.report.violations.len() > SHOWN_MAX {
            writeln!(to, "- … and {} more", self.report.violations.len() - SHOWN_MAX)?;
        }
        if !self.is_clean() {
            writeln!(to, "\nEverything lies in {}.", self.report.folder.display())?;
        }
        writeln!(to, "\n### Offered\n")?;
        self.intake(to)?;
        writeln!(to, "\n### Bounds\n")?;
        self.figures(to)?;
        writeln!(to, "\n### Latencies\n")?;
        self.times(to)?;
        write!(
            to,
            "\n{}",
            if self.is_clean() { "Every promise was kept, within every bound." } else { "**Not** clean." }
        )
    }
}
