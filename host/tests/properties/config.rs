//! A configuration is used or explained, whatever is in the file.

use std::fs;

use bulkhead_host::cli::check;
use bulkhead_host::cli::diagnostic::Colours;
use bulkhead_host::config;

/// Whoever makes a file may put it where a credential could stand: it is not shown.
const CANARY: &str = "c4n4ry";

/// Something is printed, and each problem says where it is, what it is, and lies in the file.
pub fn check(text: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bulkhead.toml");
    fs::write(&file, text).unwrap();
    let outcome = check::outcome(config::load(&[file], &|_| None), |_| Vec::new());
    let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
    for problem in &outcome.problems {
        assert!(!problem.message.is_empty(), "{problem:?}");
        assert!(problem.line <= lines, "{problem:?} of {lines} lines");
    }
    let printed = check::text(&outcome, Colours::Off);
    assert!(!printed.is_empty() && !check::json(&outcome).is_empty());
    assert!(!printed.to_lowercase().contains(CANARY), "{printed}");
}
