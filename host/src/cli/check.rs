//! `bulkhead check`: every problem at once, for people or as JSON, without starting anything.
//!
//! Owns the form of the report; whether plugins load and link is asked of the caller, because config knows no runtime.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::diagnostic::{Colours, render};
use super::main::complain;
use super::output::{counted, print};
use super::{Cli, unusable};
use crate::config::{Loaded, Problem, Severity};
use crate::host;
use crate::id::Name;
use crate::ledger::Ledger;

/// Checks the configuration, then what `further` finds in a valid one, and prints the outcome on standard output.
pub fn run(cli: &Cli, further: impl FnOnce(&Loaded) -> Vec<Problem>) -> ExitCode {
    let loaded = super::load(cli);
    let outcome = outcome(loaded, further);
    let colours = Colours::of(&std::io::stdout());
    let text = if cli.json { json(&outcome) } else { text(&outcome, colours) };
    match print(text.trim_end()) {
        Ok(()) if outcome.is_ok() => ExitCode::SUCCESS,
        Ok(()) => unusable(),
        Err(error) => {
            complain(&format!("error: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What keeps the configuration from being used, then what is most likely not meant.
    pub problems: Vec<Problem>,
    /// What a valid configuration holds, in words.
    pub summary: String,
    /// What an operator should know beside it.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Whether the configuration can be used.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.count(Severity::Error) == 0
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }
}

/// Puts together what loading and `further` checks found.
pub fn outcome(loaded: Result<Loaded, Vec<Problem>>, further: impl FnOnce(&Loaded) -> Vec<Problem>) -> Outcome {
    match loaded {
        Err(problems) => Outcome { problems, ..Outcome::default() },
        Ok(loaded) => {
            let (summary, found) = (summary(&loaded), further(&loaded));
            let all = loaded.warnings.iter().cloned().chain(found);
            let (problems, warnings): (Vec<_>, Vec<_>) = all.partition(|found| found.severity == Severity::Error);
            let notes = loaded.unlocked().into_iter().collect();
            Outcome { problems: [problems, warnings].concat(), summary, notes }
        }
    }
}

/// Messages of the ledger, if there is one, that nobody would read under this configuration. It is left as it is.
pub fn unread(loaded: &Loaded) -> Vec<Problem> {
    let key = |queue: &Name| {
        if loaded.config.queues.contains_key(queue) { format!("queues.{queue}") } else { "connectors".into() }
    };
    match Ledger::unread_under(&host::layout(&loaded.config), &loaded.config.host.data_dir) {
        Ok(all) => all
            .iter()
            .map(|of| {
                let (queue, connector) = (&of.queue, &of.connector);
                let waiting = counted(usize::try_from(of.messages).unwrap_or(usize::MAX), "message");
                let message = format!("{waiting} in `{queue}` for connector `{connector}`, which does not read it any more");
                let help = format!("kept for the queue's `retention`, or until `bulkhead queues forget {queue} {connector}`; if the connector has another name now, set its `was`");
                loaded.warning(&key(queue), message, help)
            })
            .collect(),
        Err(error) => vec![loaded.warning("host.data_dir", format!("{error:#}"), "")],
    }
}

/// The report for people: each finding with the line that it points at, then a count.
#[must_use]
pub fn text(outcome: &Outcome, colours: Colours) -> String {
    let mut text = problems_text(&outcome.problems, colours);
    let counts = counts(outcome);
    text.extend(outcome.notes.iter().map(|note| format!("note: {note}\n")));
    // Writing into a String cannot fail.
    let _ = if outcome.is_ok() {
        writeln!(text, "ok: {}{counts}", outcome.summary)
    } else {
        writeln!(text, "{}", counts.trim_start_matches(", "))
    };
    text
}

/// Problems and warnings for people, as `run` prints them too.
#[must_use]
pub fn problems_text(problems: &[Problem], colours: Colours) -> String {
    problems.iter().map(|problem| render(problem, colours) + "\n").collect()
}

/// The report as one JSON object; the `severity` of each finding says whether it keeps `ok` from being true.
#[must_use]
pub fn json(outcome: &Outcome) -> String {
    let mut object = serde_json::json!({ "ok": outcome.is_ok(), "problems": outcome.problems });
    if !outcome.notes.is_empty() {
        object["notes"] = outcome.notes.clone().into();
    }
    format!("{object}\n")
}

fn counts(outcome: &Outcome) -> String {
    [(Severity::Error, "problem"), (Severity::Warning, "warning")]
        .into_iter()
        .map(|(severity, what)| (outcome.count(severity), what))
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!(", {}", counted(count, what)))
        .collect()
}

fn summary(loaded: &Loaded) -> String {
    let connectors = counted(loaded.config.connectors.len(), "connector");
    format!("{connectors}, {}", counted(loaded.config.queues.len(), "queue"))
}
