//! `bulkhead check`: every problem at once, for people or as JSON, without starting anything.
//!
//! Owns the form of the report; whether plugins load and link is asked of the caller, because config knows no runtime.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use super::{Cli, unusable};
use crate::config::{Loaded, Problem, Severity};

/// Checks the configuration, then what `further` finds in a valid one, and prints the outcome on standard output.
pub fn run(cli: &Cli, further: impl FnOnce(&Loaded) -> Vec<Problem>) -> ExitCode {
    let loaded = super::load(cli);
    let outcome = outcome(loaded, further);
    let text = if cli.json { json(&outcome) } else { text(&outcome) };
    let printed = io::stdout().lock().write_all(text.as_bytes());
    if outcome.problems.is_empty() && printed.is_ok() { ExitCode::SUCCESS } else { unusable() }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What keeps the configuration from being used.
    pub problems: Vec<Problem>,
    /// What is most likely not meant, but works.
    pub warnings: Vec<Problem>,
    /// What a valid configuration holds, in words.
    pub summary: String,
}

/// Puts together what loading and `further` checks found.
pub fn outcome(loaded: Result<Loaded, Vec<Problem>>, further: impl FnOnce(&Loaded) -> Vec<Problem>) -> Outcome {
    match loaded {
        Err(problems) => Outcome { problems, ..Outcome::default() },
        Ok(loaded) => Outcome { problems: further(&loaded), summary: summary(&loaded), warnings: loaded.warnings },
    }
}

/// The report for people: each finding in two lines, then a count.
#[must_use]
pub fn text(outcome: &Outcome) -> String {
    let mut text = problems_text(&outcome.problems);
    for warning in &outcome.warnings {
        text.push_str(&(warning.render(Severity::Warning) + "\n"));
    }
    let counts = counts(outcome);
    // Writing into a String cannot fail.
    let _ = match outcome.problems.len() {
        0 => writeln!(text, "ok: {}{counts}", outcome.summary),
        _ => writeln!(text, "{}", counts.trim_start_matches(", ")),
    };
    text
}

/// Problems for people, each in two lines, as `run` prints them before it gives up.
#[must_use]
pub fn problems_text(problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.render(Severity::Fatal) + "\n").collect()
}

/// The report as one JSON object.
#[must_use]
pub fn json(outcome: &Outcome) -> String {
    let Outcome { problems, warnings, .. } = outcome;
    let object = serde_json::json!({ "ok": problems.is_empty(), "problems": problems, "warnings": warnings });
    format!("{object}\n")
}

fn counts(outcome: &Outcome) -> String {
    [(outcome.problems.len(), "problem"), (outcome.warnings.len(), "warning")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!(", {}", counted(count, what)))
        .collect()
}

fn summary(loaded: &Loaded) -> String {
    let connectors = counted(loaded.config.connectors.len(), "connector");
    format!("{connectors}, {}", counted(loaded.config.queues.len(), "queue"))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
