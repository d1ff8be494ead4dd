//! Folders of files that a verb writes: `bulkhead docs` and `bulkhead generate`.
//!
//! Invariant: of pages, a file that does not begin with [`MARK`] is somebody else's, and stays as it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use anyhow::{Context, ensure};

/// The first line of every page.
pub const MARK: &str = "<!-- Written by `bulkhead docs`. Do not edit by hand: it is written again. -->";

/// Writes pages by the names of their files, and removes those that were written before and are gone.
///
/// # Errors
/// A file of that name is somebody else's, then nothing is written; or one cannot be written.
pub fn write(folder: &Path, pages: &BTreeMap<String, String>) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for name in pages.keys() {
        let path = folder.join(name);
        ensure!(!is_foreign(&path)?, "{} was not written by `bulkhead docs`: name another folder", path.display());
    }
    for (name, text) in pages {
        let (path, draft) = (folder.join(name), folder.join(format!("{name}.new")));
        let written = File::create(&draft).and_then(|mut file| write!(file, "{MARK}\n\n{text}"));
        written.and_then(|()| fs::rename(&draft, &path)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    for entry in fs::read_dir(folder).with_context(|| format!("cannot look into {}", folder.display()))? {
        let path = entry?.path();
        let is_page = path.extension().is_some_and(|ending| ending == "md");
        let is_kept = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| pages.contains_key(name));
        if is_page && !is_kept && path.is_file() && !is_foreign(&path)? {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Writes files by their paths below a folder, over those that are there.
///
/// # Errors
/// One cannot be written.
pub fn write_files(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    for (name, bytes) in files {
        let path = folder.join(name);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, bytes));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn is_foreign(path: &Path) -> anyhow::Result<bool> {
    let mut beginning = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MARK.len() as u64).read_to_end(&mut beginning),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => Err(error),
    }
    .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(beginning != MARK.as_bytes())
}
