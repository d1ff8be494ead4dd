//! What is wrong in a configuration, where, and what to write instead.
//!
//! Checks report into a [`Report`] and go on, so that an operator sees everything at once. It knows nothing of TOML.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::document::{Place, Sources};
use super::excerpt::Mark;

/// One thing wrong in the configuration, or most likely not meant.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[schemars(rename = "ConfigProblem")]
pub struct Problem {
    /// Whether it keeps the configuration from being used.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: String,
    /// From 1; 0 where no place in a file is meant.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The TOML path, as in `connectors.issues.retry.attempts`.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What is allowed, or what to write instead.
    pub help: String,
    /// The lines to show, the place itself first; none where no place in a file is meant.
    #[serde(skip)]
    pub marks: Vec<Mark>,
}

impl Problem {
    /// One or two lines for the log and the audit record: `file:line:column: key: message`, then the help. It shows nothing
    /// of the file itself.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.file.clone();
        if self.line > 0 {
            // Writing into a String cannot fail.
            let _ = write!(text, ":{}:{}", self.line, self.column);
        }
        if !self.key.is_empty() {
            let _ = write!(text, ": {}", self.key);
        }
        let _ = write!(text, ": {}", self.message);
        if !self.help.is_empty() {
            let _ = write!(text, "\n  help: {}", self.help);
        }
        text
    }
}

/// Whether a problem keeps the configuration from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing starts.
    Error,
    /// Most likely not meant, but it works.
    Warning,
}

/// Where something is, and the TOML path of it.
pub(super) type At<'a> = (Place, &'a str);

/// Problems and warnings as they are found.
pub(super) struct Report<'a> {
    sources: &'a Sources,
    problems: Vec<(Place, Problem)>,
    warnings: Vec<(Place, Problem)>,
}

impl<'a> Report<'a> {
    pub(super) fn new(sources: &'a Sources) -> Self {
        Self { sources, problems: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn sources(&self) -> &'a Sources {
        self.sources
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Something that keeps the configuration from being used.
    pub(super) fn problem(&mut self, place: Place, key: &str, message: impl Into<String>, help: impl Into<String>) {
        let problem = self.sources.problem(place, Severity::Error, key, message.into(), help.into());
        self.problems.push((place, problem));
    }

    /// The same, where it takes two: `label` says what the other place has to do with it.
    pub(super) fn clash(
        &mut self,
        at: At<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
        other: (Place, &str),
    ) {
        self.problem(at.0, at.1, message, help);
        self.beside(Severity::Error, other);
    }

    /// A warning that takes two.
    pub(super) fn warn_of_clash(
        &mut self,
        at: At<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
        other: (Place, &str),
    ) {
        self.warning(at.0, at.1, message, help);
        self.beside(Severity::Warning, other);
    }

    /// Adds another place to what was reported last.
    fn beside(&mut self, severity: Severity, other: (Place, &str)) {
        let mark = self.sources.mark(other.0, other.1);
        let found = match severity {
            Severity::Error => self.problems.last_mut(),
            Severity::Warning => self.warnings.last_mut(),
        };
        if let Some((_, problem)) = found {
            problem.marks.extend(mark);
        }
    }

    /// Something that is most likely not meant, but works.
    pub(super) fn warning(&mut self, place: Place, key: &str, message: impl Into<String>, help: impl Into<String>) {
        let warning = self.sources.problem(place, Severity::Warning, key, message.into(), help.into());
        self.warnings.push((place, warning));
    }

    /// Problems and warnings, each in the order of the files.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        (in_order(self.problems), in_order(self.warnings))
    }
}

fn in_order(mut found: Vec<(Place, Problem)>) -> Vec<Problem> {
    found.sort_by(|(a, first), (b, second)| a.cmp(b).then_with(|| by_key(first, second)));
    found.into_iter().map(|(_, problem)| problem).collect()
}

fn by_key(first: &Problem, second: &Problem) -> Ordering {
    first.key.cmp(&second.key)
}

/// The name that was most likely meant, if one is near enough.
pub fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = plain(name);
    let near = |candidate: &&str| {
        let distance = strsim::damerau_levenshtein(&plain, &self::plain(candidate));
        let long = plain.chars().count().max(candidate.chars().count());
        (distance <= (long / 3).max(1) && distance < long).then_some(distance)
    };
    known.into_iter().filter_map(|candidate| Some((near(&candidate)?, candidate))).min().map(|(_, candidate)| candidate)
}

/// "did you mean `x`? allowed: …", for a name out of a known set.
pub fn suggestion(name: &str, known: &[&str]) -> String {
    let allowed = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    match closest(name, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`? allowed: {allowed}"),
        None => format!("allowed: {allowed}"),
    }
}

/// Spelling that carries no meaning is taken off before names are compared.
fn plain(name: &str) -> String {
    name.to_lowercase().replace(['-', '.', ' '], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<&str>) {
        assert_eq!(closest(name, ["attempts", "first", "max", "max_bytes", "url"]), expected, "{name}");
    }

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        check("atempts", Some("attempts"));
        check("Attempts", Some("attempts"));
        check("max-bytes", Some("max_bytes"));
        check("frist", Some("first"));
        check("colour", None);
        check("", None);
        check("x", None);
    }
}
