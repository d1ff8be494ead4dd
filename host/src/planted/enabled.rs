//! A build with bugs: which one it has, the environment says.

use std::sync::OnceLock;

use super::Bug;

/// The variable that names the bug.
const VARIABLE: &str = "BULKHEAD_FAULT";

/// Whether this process was given the bug.
///
/// # Panics
/// The variable names none: a test would find nothing, and think that there was something to find.
#[must_use]
pub fn has(bug: Bug) -> bool {
    static GIVEN: OnceLock<Option<Bug>> = OnceLock::new();
    *GIVEN.get_or_init(given) == Some(bug)
}

#[expect(clippy::disallowed_methods, reason = "a bug is no setting of the host, and no release reads it")]
fn given() -> Option<Bug> {
    let name = std::env::var(VARIABLE).ok()?;
    let bug = Bug::ALL.into_iter().find(|bug| bug.name() == name);
    Some(bug.unwrap_or_else(|| panic!("{VARIABLE} names no bug: {name}")))
}
