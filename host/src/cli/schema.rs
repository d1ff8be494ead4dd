//! `bulkhead schema`: the JSON Schema of the configuration, for editors.

use super::output::print;
use crate::config;

/// Prints it on standard output.
///
/// # Errors
/// Standard output is broken.
pub fn run() -> anyhow::Result<()> {
    print(text().trim_end())
}

/// What is printed: the content of `docs/bulkhead.schema.json`.
#[must_use]
pub fn text() -> String {
    // The alternate form of a JSON value is the indented one.
    format!("{:#}\n", config::json_schema())
}
