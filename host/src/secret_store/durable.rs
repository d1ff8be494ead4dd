//! Replacing a small file so that a crash leaves the old one or the new one, on the disk.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

/// Writes `bytes` into a file of mode 0600 beside `path`, and moves it there when it is on the disk. Where that fails the
/// file is gone.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let context = || format!("cannot write {}", path.display());
    // What an earlier crash left there may have another mode.
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).with_context(context)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).with_context(context);
    drop(file);
    // What is half written on a full disk only takes room.
    written.and_then(|()| rename(Path::new(&draft), path)).inspect_err(|_| drop(std::fs::remove_file(&draft)))
}

/// Moves a file over another one in the same folder, on the disk.
pub(super) fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let moved = std::fs::rename(from, to).and_then(|()| File::open(folder)?.sync_all());
    moved.with_context(|| format!("cannot write {}", to.display()))
}
