//! The file of `bulkhead backup`: made as a whole, received, and taken back as a whole.
//!
//! Puts together what another machine needs: the ledger, the sealed secrets as they are (encrypted), and the audit record.
//! Never a key or a token: who has the file can read messages, and use no secret. Invariant: under its own name a backup is
//! there only after it was opened and found sound, and a data directory that holds anything is not restored into.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;

use crate::audit::{self, Audit, Event};
use crate::clock::Clock;
use crate::egress::own_admin::OwnAdmin;
use crate::ledger::{Backup, Contents, Ledger, NoRoom, STAGED, Settings};
use crate::metrics::Metrics;
use crate::secret_store::sealed;

/// Bytes that go to whoever asked for a backup at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// What an empty data directory may hold: the lock that is taken, and what a new file system has of itself.
const OF_NOBODY: [&str; 2] = ["lock", "lost+found"];

/// Refuses to write over a file.
///
/// # Errors
/// Something lies there, or cannot be looked for.
pub fn refuse_existing(to: &Path) -> anyhow::Result<()> {
    let is_there = to.try_exists().with_context(|| format!("cannot look for {}", to.display()))?;
    ensure!(!is_there, "{} exists: name another file, nothing is written over", to.display());
    Ok(())
}

/// Makes a backup of a ledger that this process has open, beside everything that works on it.
///
/// # Errors
/// The disk has no room ([`NoRoom`]), something cannot be read or written, or what was written is not sound; there is no
/// file then.
pub fn make(ledger: &Ledger, to: &Path) -> anyhow::Result<Contents> {
    let draft = draft_of(to);
    let made = write(ledger, &draft).and_then(|contents| place(&draft, to).map(|()| contents));
    made.inspect_err(|_| drop(fs::remove_file(&draft)))
}

/// Asks the host that runs for a backup.
///
/// # Errors
/// It does not answer or has no room, the file cannot be written, or what has come is not sound; there is no file then.
pub async fn receive(admin: &OwnAdmin, settings: &Settings, to: &Path) -> anyhow::Result<Contents> {
    let (data_dir, min_free) = (&settings.dir, settings.min_free);
    let draft = draft_of(to);
    let received = async {
        let mut file = create(&draft)?;
        let begin = |bytes| NoRoom::check(folder_of(to), bytes, data_dir, min_free).map_err(anyhow::Error::from);
        admin.download("backup", begin, |chunk| Ok(file.write_all(chunk)?)).await?;
        file.sync_all().with_context(|| format!("cannot write {}", draft.display()))?;
        let contents = Backup::open(&draft)?.contents().clone();
        place(&draft, to).map(|()| contents)
    };
    received.await.inspect_err(|_| drop(fs::remove_file(&draft)))
}

/// A backup on its way out: a file without a name, so that nothing of it stays.
#[derive(Debug)]
pub struct Staged {
    file: File,
    contents: Contents,
}

impl Staged {
    /// Makes a backup in the data directory, one at a time.
    ///
    /// # Errors
    /// As [`make`].
    pub fn make(ledger: &Ledger) -> anyhow::Result<Self> {
        let path = ledger.settings().dir.join(STAGED);
        let _ = fs::remove_file(&path);
        let made = write(ledger, &path).and_then(|contents| Ok(Self { file: File::open(&path)?, contents }));
        let _ = fs::remove_file(&path);
        made
    }

    /// What it holds.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The next bytes of it; none at its end. Blocks.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        (&self.file).take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        Ok(if chunk.is_empty() { None } else { Some(chunk.into()) })
    }
}

/// A sound backup and an empty data directory, which nobody else works on.
#[derive(Debug)]
pub struct Restore {
    backup: Backup,
    settings: Settings,
    lock: File,
}

impl Restore {
    /// Looks at both; nothing is changed but that the directory is made where it is missing.
    ///
    /// # Errors
    /// The backup is not sound, the directory holds something or is in use, or its disk has no room.
    pub fn prepare(file: &Path, settings: Settings) -> anyhow::Result<Self> {
        let backup = Backup::open(file)?;
        refuse_full(&settings.dir)?;
        let lock = Ledger::lock(&settings.dir)?;
        NoRoom::check(&settings.dir, 2 * backup.contents().bytes, &settings.dir, settings.min_free)?;
        Ok(Self { backup, settings, lock })
    }

    /// Fills the directory, and opens the ledger as a start would.
    ///
    /// # Errors
    /// Something cannot be written or is not sound: the directory has to be emptied.
    pub fn carry_out(self) -> anyhow::Result<Contents> {
        let Self { backup, settings, lock } = self;
        let dir = &settings.dir;
        backup.files(|name, bytes| put(dir, name, bytes))?;
        backup.unpack(dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        drop(lock);
        let contents = backup.contents().clone();
        let ledger = Ledger::open(settings.clone(), Clock::default(), Metrics::default())?;
        Audit::note_alone(dir, Event::action("restore", &format!("of {}", contents.made_at)));
        ledger.close();
        Ok(contents)
    }
}

/// Whether a backup holds secrets, which open with their key alone.
#[must_use]
pub fn has_secrets(contents: &Contents) -> bool {
    contents.files.iter().any(|name| name == sealed::FILE)
}

fn write(ledger: &Ledger, path: &Path) -> anyhow::Result<Contents> {
    let Settings { dir, min_free, .. } = ledger.settings();
    let bytes = ledger.copy_bytes()?.saturating_add(audit::bytes(dir)?);
    NoRoom::check(folder_of(path), bytes, dir, *min_free)?;
    ledger.copy_into(path, |attach| {
        if let Some(sealed) = read_if_there(&dir.join(sealed::FILE))? {
            attach(sealed::FILE, &sealed)?;
        }
        audit::each_file(dir, attach)
    })?;
    Ok(Backup::open(path)?.contents().clone())
}

fn read_if_there(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// What a file is called until it is whole; what a crash left of an earlier one is removed.
fn draft_of(to: &Path) -> PathBuf {
    let mut draft = to.as_os_str().to_owned();
    draft.push(".unfinished");
    let draft = PathBuf::from(draft);
    let _ = fs::remove_file(&draft);
    draft
}

/// Gives a whole file its name, on the disk.
fn place(draft: &Path, to: &Path) -> anyhow::Result<()> {
    refuse_existing(to)?;
    let placed = fs::rename(draft, to).and_then(|()| File::open(folder_of(to))?.sync_all());
    placed.with_context(|| format!("cannot write {}", to.display()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn create(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}

fn refuse_full(dir: &Path) -> anyhow::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot look into {}", dir.display()))?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if !OF_NOBODY.iter().any(|it| name == *it) {
            bail!(
                "{0} is not empty (it has `{1}`): move it away, or set another `host.data_dir`; nothing is written over",
                dir.display(),
                name.display()
            );
        }
    }
    Ok(())
}

/// Writes a file that goes with the ledger, if it is one that a backup may have: its name is whatever the backup says.
fn put(dir: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    ensure!(
        name == sealed::FILE || audit::is_file(name),
        "the backup has a file `{}`, which is none of ours",
        name.escape_debug()
    );
    let path = dir.join(name);
    DirBuilder::new().recursive(true).mode(0o700).create(folder_of(&path))?;
    let mut file = create(&path)?;
    let written =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| File::open(folder_of(&path))?.sync_all());
    written.with_context(|| format!("cannot write {}", path.display()))
}
