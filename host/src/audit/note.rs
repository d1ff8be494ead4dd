//! What verbs did beside a host that runs: notes in the folder of the record, which the host takes into it.
//!
//! A host alone adds to its record; a verb that does not go through the host (`lock`, `secrets rotate-key`) leaves a note.
//! Where the host has ended meanwhile, the next start takes it. Invariant: a note goes when it is in the record,
//! so a crash in between records it twice rather than not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::event::{Event, Kind, now};
use crate::id;

const ENDING: &str = "note";
/// Bytes of a note; it names the connectors of a configuration at most.
const NOTE_BYTES_MAX: u64 = 16 << 20;

/// Leaves a note; it is on disk when it returns.
pub(super) fn leave(folder: &Path, events: &[Event]) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let draft = folder.join(id::random());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let text = serde_json::to_vec(events)?;
    let written = file.write_all(&text).and_then(|()| file.sync_all());
    // The time first, so that they are taken in their order.
    let named = written.and_then(|()| fs::rename(&draft, folder.join(format!("{}-{}.{ENDING}", now(), id::random()))));
    if named.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&draft);
    }
    named.and_then(|()| File::open(folder)?.sync_all()).context("cannot leave a note for the host")
}

/// The notes, the oldest first.
pub(super) fn paths(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
    let mut paths: Vec<PathBuf> =
        paths.into_iter().filter(|path| path.extension().is_some_and(|it| it == ENDING)).collect();
    paths.sort();
    Ok(paths)
}

/// What a note says.
pub(super) fn read(path: &Path) -> std::io::Result<Vec<Event>> {
    let mut text = Vec::new();
    File::open(path)?.take(NOTE_BYTES_MAX).read_to_end(&mut text)?;
    let none = |error| vec![Event::new(Kind::Lost, "", &format!("a note of a verb cannot be read: {error}"))];
    Ok(serde_json::from_slice(&text).unwrap_or_else(none))
}
