//! `cargo xtask test`: everything that must hold before a merge, and one line at the end that counts.
//!
//! What fails soonest comes first. Every step runs, also after a failure: one pass shows all that is wrong.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Read, Write, stderr};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{cargo, toolchain};

/// With what a test begins its line on standard error when it returns at once, for want of something on this machine.
const SKIPPED: &[u8] = b"SKIPPED";

/// Tests, or steps that are no tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    /// The harness calls them passed.
    skipped: u64,
}

struct Step {
    name: &'static str,
    command: Command,
}

struct Outcome {
    name: &'static str,
    count: Count,
    succeeded: bool,
    took: Duration,
}

/// Runs all steps; whether all succeeded.
pub(crate) fn run() -> anyhow::Result<bool> {
    toolchain::require_component("rustfmt", "fmt")?;
    toolchain::require_component("clippy", "clippy")?;
    toolchain::require_plugin_target()?;
    let outcomes = steps().into_iter().map(Step::run).collect::<anyhow::Result<Vec<Outcome>>>()?;
    println!();
    for outcome in &outcomes {
        let verdict = if outcome.succeeded { "ok" } else { "FAILED" };
        println!("{:>6} s  {:<18} {verdict}", outcome.took.as_secs(), outcome.name);
    }
    let total = total(&outcomes);
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    Ok(outcomes.iter().all(|outcome| outcome.succeeded))
}

fn steps() -> Vec<Step> {
    let step = |name, arguments: &[&str]| Step { name, command: cargo::command(arguments) };
    let guests = "tests/guests/Cargo.toml";
    // Where the host and the tests build plugins: what generates their bindings is built once.
    let folder = ["--profile", "plugin", "--target", toolchain::PLUGIN_TARGET, "--target-dir", "target/builtin"];
    let lint_guests =
        [&["clippy", "--locked", "--manifest-path", guests][..], &folder, &["--", "-D", "warnings"]].concat();
    let mut docs = step("documentation", &["doc", "--locked", "--workspace", "--no-deps"]);
    docs.command.env("RUSTDOCFLAGS", "-D warnings");
    let threads = threads().to_string();
    let tests = ["test", "--locked", "--workspace", "--no-fail-fast", "--", "--test-threads", &threads];
    vec![
        step("format", &["fmt", "--all", "--check"]),
        step("format of guests", &["fmt", "--manifest-path", guests, "--all", "--check"]),
        // They are a workspace of their own, which nothing here builds: what the host depends on must not leave it behind.
        step("lock of fuzz", &["tree", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--depth", "0"]),
        step("lints", &["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        step("lints of guests", &lint_guests),
        step("tests", &tests),
        docs,
    ]
}

/// Most tests wait for a host that waits for something itself: twice as many as there are cores keep the cores at work.
fn threads() -> usize {
    thread::available_parallelism().map_or(2, |cores| cores.get() * 2)
}

impl Step {
    /// Runs the command, shows its output, and counts the tests in it.
    fn run(mut self) -> anyhow::Result<Outcome> {
        println!("\n== {}", self.name);
        let start = Instant::now();
        if stderr().is_terminal() {
            self.command.env("CARGO_TERM_COLOR", "always");
        }
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().context("cargo cannot be started")?;
        let errors = child.stderr.take().context("standard error is piped")?;
        let skipped = thread::Builder::new().name("errors".to_owned()).spawn(move || show_errors(errors, stderr()))?;
        let mut count = Count::default();
        for line in BufReader::new(child.stdout.take().context("standard output is piped")?).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            count = count.plus(Count::of_line(&line).unwrap_or_default());
        }
        count.skipped = skipped.join().expect("it only copies lines")?;
        let succeeded = child.wait()?.success();
        Ok(Outcome { name: self.name, count, succeeded, took: start.elapsed() })
    }
}

impl Count {
    /// What a line such as `test result: ok. 3 passed; 0 failed; …` says.
    fn of_line(line: &str) -> Option<Self> {
        let (_, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let number = |word: &str| {
            let part = counts.split(';').find_map(|part| part.trim().strip_suffix(word))?;
            part.trim().parse().ok()
        };
        Some(Self { passed: number("passed")?, failed: number("failed")?, skipped: 0 })
    }

    fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

/// Shows what a step writes to standard error; how many tests say there that they were skipped.
fn show_errors(errors: impl Read, mut shown: impl Write) -> std::io::Result<u64> {
    let mut skipped = 0;
    for line in BufReader::new(errors).split(b'\n') {
        let mut line = line?;
        skipped += u64::from(line.starts_with(SKIPPED));
        line.push(b'\n');
        shown.write_all(&line)?;
    }
    Ok(skipped)
}

/// All tests; a step that broke without a failed test counts as one failure, and a test that was skipped has not passed,
/// so that the last line never lies.
fn total(outcomes: &[Outcome]) -> Count {
    let broken = outcomes.iter().filter(|outcome| !outcome.succeeded && outcome.count.failed == 0).count();
    let tests = outcomes.iter().fold(Count::default(), |sum, outcome| sum.plus(outcome.count));
    Count {
        passed: tests.passed.saturating_sub(tests.skipped),
        failed: tests.failed + broken as u64,
        skipped: tests.skipped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(passed: u64, failed: u64, succeeded: bool) -> Outcome {
        Outcome { name: "step", count: Count { passed, failed, skipped: 0 }, succeeded, took: Duration::ZERO }
    }

    #[test]
    fn a_result_line_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(Count::of_line(line), Some(Count { passed: 12, failed: 3, skipped: 0 }));
    }

    #[test]
    fn other_lines_are_not() {
        assert_eq!(Count::of_line("test a::b ... ok"), None);
        assert_eq!(Count::of_line("test result: nonsense"), None);
    }

    #[test]
    fn a_broken_step_is_one_failure_and_failed_tests_are_not_counted_twice() {
        let total = total(&[outcome(5, 0, true), outcome(0, 0, false), outcome(7, 2, false)]);
        assert_eq!(total, Count { passed: 12, failed: 3, skipped: 0 });
    }

    #[test]
    fn a_skipped_test_has_not_passed() {
        let errors = "   Compiling tests\nSKIPPED: no mount\nnote: SKIPPED\n\nSKIPPED: no python\n";
        let skipped = show_errors(errors.as_bytes(), std::io::sink()).expect("it can be read");
        let outcome = outcome(5, 0, true);
        let total = total(&[Outcome { count: Count { skipped, ..outcome.count }, ..outcome }]);
        assert_eq!(total, Count { passed: 3, failed: 0, skipped: 2 });
    }
}
