//! What some tests need of other languages than Rust, and what happens where it is missing.

use std::io::Write as _;
use std::process::Command;

/// Set where nothing may be left out, as by `.ci/run`.
const REQUIRED: &str = "BULKHEAD_REQUIRE_TOOLCHAINS";

/// Whether a program is on the PATH. Where it is not, `untested` is said on standard error; with
/// `BULKHEAD_REQUIRE_TOOLCHAINS` set the test fails.
#[must_use]
#[track_caller]
pub fn has_program(program: &str, untested: &str) -> bool {
    let is_found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    has(is_found, &format!("`{program}` is not on the PATH"), untested)
}

/// The same for anything else: `missing` says what is not there.
#[must_use]
#[track_caller]
pub fn has(is_found: bool, missing: &str, untested: &str) -> bool {
    if !is_found {
        #[expect(clippy::disallowed_methods, reason = "it concerns the tests alone, which have no configuration")]
        let is_required = std::env::var_os(REQUIRED).is_some();
        assert!(!is_required, "{missing}, and {REQUIRED} is set");
        // Not by a macro: the harness hides what those print in a test that passes.
        let word = format!("\nSKIPPED: {missing}; {untested}\n");
        std::io::stderr().write_all(word.as_bytes()).expect("there is a standard error");
    }
    is_found
}
