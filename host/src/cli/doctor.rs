//! `bulkhead doctor`: whether a host would work here, looked at without starting one.
//!
//! Each finding is a line: what was looked at, how it is, and what to do. Invariant: nothing is changed, and what was not
//! looked at is said.

mod machine;
mod site;

use std::process::ExitCode;

use serde::Serialize;

use super::main::Outcome;
use super::output::{counted, plain, print};
use crate::config::{Loaded, Problem, Severity};
use crate::host::{self, Moment, missing_secrets};
use crate::ledger::sqlite_version;
use crate::metrics::Metrics;
use crate::secret_store::Environment;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    /// It works, and somebody should know.
    Warning,
    /// It does not work, or is not safe.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    about: &'static str,
    level: Level,
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    help: String,
}

impl Finding {
    pub(super) fn ok(about: &'static str, message: impl Into<String>) -> Self {
        Self { about, level: Level::Ok, message: message.into(), help: String::new() }
    }

    pub(super) fn warning(about: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { about, level: Level::Warning, message: message.into(), help: help.into() }
    }

    pub(super) fn problem(about: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { about, level: Level::Problem, message: message.into(), help: help.into() }
    }
}

/// What nobody should believe was looked at.
const NOTE: &str = "known advisories were not looked at: this program has no list of them and asks nobody; `cargo audit` \
                    on the Cargo.lock of this version does";

/// Looks at everything, also without a valid configuration, and prints what it found.
///
/// # Errors
/// Standard output is broken.
pub async fn run(loaded: Result<Loaded, Vec<Problem>>, environment: Option<Environment>, as_json: bool) -> Outcome {
    let mut findings = vec![versions(), configuration(&loaded)];
    findings.extend(machine::look(loaded.as_ref().ok().map(|loaded| &loaded.config)));
    if let Ok(loaded) = &loaded {
        findings.extend(site::look(&loaded.config));
        findings.extend(environment.map(|environment| secrets(loaded, &environment)));
        findings.extend(plugins(loaded).await);
    }
    let is_ok = findings.iter().all(|finding| finding.level != Level::Problem);
    print(&if as_json {
        serde_json::json!({ "ok": is_ok, "findings": findings, "notes": [NOTE] }).to_string()
    } else {
        plain(&text(&findings))
    })?;
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { about, level, message, help } in findings {
        let word = match level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        };
        text += &format!("{word:<8} {about}: {message}\n");
        if !help.is_empty() {
            text += &format!("         help: {help}\n");
        }
    }
    text + "note     " + NOTE
}

fn versions() -> Finding {
    Finding::ok("versions", format!("bulkhead {}, SQLite {}", env!("CARGO_PKG_VERSION"), sqlite_version()))
}

fn configuration(loaded: &Result<Loaded, Vec<Problem>>) -> Finding {
    const ABOUT: &str = "configuration";
    let help = "`bulkhead check` shows them";
    match loaded {
        Err(problems) => {
            let count = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
            let rest = "the data directory, secrets and plugins were not looked at";
            Finding::problem(ABOUT, format!("{}; {rest}", counted(count, "problem")), help)
        }
        Ok(loaded) if !loaded.warnings.is_empty() => {
            Finding::warning(ABOUT, counted(loaded.warnings.len(), "warning"), help)
        }
        Ok(loaded) => Finding::ok(ABOUT, counted(loaded.config.connectors.len(), "connector")),
    }
}

/// By their names alone.
fn secrets(loaded: &Loaded, environment: &Environment) -> Finding {
    const ABOUT: &str = "secrets";
    let missing = missing_secrets(loaded, environment, Moment::Start);
    if missing.is_empty() {
        let all = counted(loaded.config.secrets.len(), "secret");
        return Finding::ok(ABOUT, format!("{all}, each with a value"));
    }
    let each = missing.iter().map(|problem| format!("{}: {}", problem.key, problem.message));
    Finding::problem(ABOUT, each.collect::<Vec<_>>().join("; "), "give each a value, or take it out of `[secrets]`")
}

async fn plugins(loaded: &Loaded) -> Vec<Finding> {
    const ABOUT: &str = "plugins";
    let plugins = match host::prepare(loaded, &Metrics::default()).await {
        Err(problems) => {
            let each = problems.iter().filter(|problem| problem.severity == Severity::Error);
            let each: Vec<String> = each.map(|problem| format!("{}: {}", problem.key, problem.message)).collect();
            return vec![Finding::problem(ABOUT, each.join("; "), "`bulkhead check` says what to do about each")];
        }
        Ok(plugins) => plugins,
    };
    let (all, compiled) = plugins.counts();
    let (all_text, rest) = (counted(all, "plugin"), all - compiled);
    let loads = match rest {
        0 => Finding::ok(ABOUT, format!("{all_text}, compiled already")),
        rest => Finding::ok(ABOUT, format!("{all_text}, {rest} to be compiled by the next start")),
    };
    let unlocked = loaded
        .unlocked()
        .map(|note| Finding::warning("bulkhead.lock", note, "run `bulkhead lock` once you trust them"));
    std::iter::once(loads).chain(unlocked).collect()
}
