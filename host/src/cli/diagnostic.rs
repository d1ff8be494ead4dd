//! Problems of the configuration for people: where, which key, what is wrong, the line itself, what to do.
//!
//! The first line of each is `file:line:column: key: message`, which editors and `grep` know. Invariant: nothing of a file
//! or of a plugin steers the terminal.

use std::fmt::Write as _;
use std::io::IsTerminal;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::output::{is_steering, plain};
use crate::config::{Mark, Problem, Severity};

/// Whether a report is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// For a terminal.
    On,
    /// For files and programs.
    Off,
}

impl Colours {
    /// What suits `stream`: colours on a terminal that shows them, unless `NO_COLOR` is set.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "how a report looks is no configuration")]
    pub fn of(stream: &impl IsTerminal) -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if stream.is_terminal() && !is_unwanted && !is_dumb { Self::On } else { Self::Off }
    }

    fn paint(self, style: &str, text: &str) -> String {
        match self {
            Self::On => format!("\x1b[{style}m{text}\x1b[0m"),
            Self::Off => text.to_owned(),
        }
    }
}

const BOLD: &str = "1";
const RED: &str = "1;91";
const YELLOW: &str = "1;33";
const CYAN: &str = "1;96";

/// One problem: its first line, the lines that it points at, and the help.
#[must_use]
pub fn render(problem: &Problem, colours: Colours) -> String {
    let mut text = plain(&head(problem));
    text = colours.paint(BOLD, &text);
    let message = plain(&problem.message);
    let _ = match problem.severity {
        Severity::Error => write!(text, ": {}", colours.paint(RED, &message)),
        Severity::Warning => write!(text, ": {}: {message}", colours.paint(YELLOW, "warning")),
    };
    for (index, mark) in problem.marks.iter().enumerate() {
        if index > 0 {
            // Writing into a String cannot fail.
            let _ = write!(text, "\n  {}:{}:{}: {}", plain(&mark.file), mark.line, mark.column, plain(&mark.label));
        }
        text.push('\n');
        text.push_str(&excerpt(mark, problem.severity, index, colours));
    }
    if !problem.help.is_empty() {
        let _ = write!(text, "\n  {}: {}", colours.paint(CYAN, "help"), plain(&problem.help));
    }
    text
}

fn head(problem: &Problem) -> String {
    let mut text = problem.file.clone();
    if problem.line > 0 {
        let _ = write!(text, ":{}:{}", problem.line, problem.column);
    }
    if !problem.key.is_empty() {
        let _ = write!(text, ": {}", problem.key);
    }
    text
}

fn excerpt(mark: &Mark, severity: Severity, index: usize, colours: Colours) -> String {
    let renderer = match colours {
        Colours::On => Renderer::styled(),
        Colours::Off => Renderer::plain(),
    };
    let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
    let level = match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    // The renderer replaces what steers a terminal, and knows only some of what turns text round or hides it.
    let shown = |it: char| if is_steering(it) && !it.is_control() { '\u{fffd}' } else { it };
    let snippet = Snippet::<Annotation<'_>>::source(mark.text.as_str()).line_start(mark.line);
    let group = Group::with_level(level).element(snippet.annotation(kind.span(mark.span.clone())));
    let rendered = renderer.render(&[group]);
    // The empty line above says nothing, and a line of blanks is a trap for whoever compares texts.
    let lines = rendered.lines().skip(1).map(str::trim_end);
    lines.collect::<Vec<_>>().join("\n").chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str, span: std::ops::Range<usize>) -> Problem {
        let (file, message) = ("a.toml".to_owned(), "wr\u{1b}[2Jong".to_owned());
        let mark = Mark { file: file.clone(), line: 12, column: 5, text: text.to_owned(), span, label: String::new() };
        let severity = Severity::Error;
        Problem {
            severity,
            file,
            line: 12,
            column: 5,
            key: "a".into(),
            message,
            help: "mend it".into(),
            marks: vec![mark],
        }
    }

    #[test]
    fn nothing_of_a_file_steers_the_terminal() {
        let rendered = render(&problem("a = '\u{1b}[31m\u{202e}\u{200b}\u{7}'", 4..17), Colours::Off);
        let is_plain = |it: char| !is_steering(it) || it == '\n';
        assert!(rendered.chars().all(is_plain), "{rendered:?}");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let problem = problem("a = 1", 4..5);
        let expected = "a.toml:12:5: a: wr\\u{1b}[2Jong\n12 | a = 1\n   |     ^\n  help: mend it";
        assert_eq!(render(&problem, Colours::Off), expected);
        let coloured = render(&problem, Colours::On);
        let mut parts = coloured.split("\u{1b}[");
        let first = parts.next().unwrap_or_default().to_owned();
        let plain = parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest));
        assert!(coloured.contains("\u{1b}[") && plain == expected, "{plain:?}");
    }
}
