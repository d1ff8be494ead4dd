//! The record as a backup takes it: whole lines of files that a host may be writing.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;

use super::FOLDER;
use super::chain::files;

/// A file that was rotated away meanwhile lets it begin again, so often at most.
const TRIES: u32 = 5;

/// How many bytes the record has.
///
/// # Errors
/// It cannot be looked at.
pub fn bytes(data_dir: &Path) -> anyhow::Result<u64> {
    let files = files(&data_dir.join(FOLDER)).context("cannot read the audit record")?;
    Ok(files.iter().filter_map(|(_, path)| path.metadata().ok()).map(|found| found.len()).sum())
}

/// Hands out every file by its name below the data directory, the oldest first; a line that is being written is left out.
/// One that goes meanwhile may have been handed out already: more than the record needs does it no harm.
///
/// # Errors
/// It cannot be read, or `take` fails.
pub fn each_file(data_dir: &Path, take: &mut dyn FnMut(&str, &[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let folder = data_dir.join(FOLDER);
    let mut tries = 0;
    'again: loop {
        tries += 1;
        for (_, path) in files(&folder).context("cannot read the audit record")? {
            let mut text = match fs::read(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => continue 'again,
                text => text.with_context(|| format!("cannot read {}", path.display()))?,
            };
            text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            take(&format!("{FOLDER}/{name}"), &text)?;
        }
        return Ok(());
    }
}

/// Whether a name below the data directory is that of a file of the record.
#[must_use]
pub fn is_file(name: &str) -> bool {
    let number = name.strip_prefix("audit/").and_then(|name| name.strip_suffix(".jsonl"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
