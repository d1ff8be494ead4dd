//! Plugins' bytes (files and the built-in ones), and the folder of what was compiled from them.
//!
//! Does not know how to compile or run them. Invariant: what [`PluginStore::cached`] answers is byte for byte what
//! [`PluginStore::keep`] was given by a host with the same key: it carries a MAC, is read once, and checked as read.

mod builtin;
pub mod compiler;
pub mod signature;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::limit::PLUGIN_BYTES_MAX;

pub use builtin::{builtin, builtin_names};

/// Compiled code is some three times as large as the plugin.
const CODE_PER_PLUGIN_MAX: u64 = 8;
/// That of the largest plugin that can be allowed.
const CODE_BYTES_MAX: u64 = CODE_PER_PLUGIN_MAX * PLUGIN_BYTES_MAX;
/// Bytes of all compiled plugins that are kept; past it the oldest go.
const FOLDER_BYTES_MAX: u64 = 1 << 30;
/// Where they lie in the data directory, and the key of their MACs.
const FOLDER: &str = "compiled";
const KEY: &str = "compiled.key";
const MAC_BYTES: usize = 32;
const KEY_BYTES: usize = 32;

/// Why a plugin's bytes are not there.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such file.
    #[error("there is no file `{}`", .0.display())]
    Missing(PathBuf),
    /// Larger than a plugin may be.
    #[error("`{}` is larger than {size_max} bytes, the most that a plugin may have", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most, in bytes.
        size_max: u64,
    },
    /// The system says no.
    #[error("`{}` cannot be read: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// Reads a plugin of at most `size_max` bytes from a file.
///
/// # Errors
/// When it is not there, not readable or too large.
pub fn read(path: &Path, size_max: u64) -> Result<Vec<u8>, ReadError> {
    let bytes = read_bounded(path, size_max).map_err(|error| unreadable(path, error))?;
    bytes.ok_or_else(|| ReadError::TooLarge { path: path.to_owned(), size_max })
}

fn unreadable(path: &Path, error: std::io::Error) -> ReadError {
    match error.kind() {
        ErrorKind::NotFound => ReadError::Missing(path.to_owned()),
        _ => ReadError::Unreadable { path: path.to_owned(), error },
    }
}

/// What compiled code belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheKey {
    /// Hash of the plugin, in hexadecimal.
    pub sha256: String,
    /// Hash of the engine and its settings, in hexadecimal.
    pub engine: String,
}

/// The folder of compiled plugins.
pub struct PluginStore {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
}

impl std::fmt::Debug for PluginStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PluginStore").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl PluginStore {
    /// Opens the store in a data directory that exists; makes its folder and its key at the first start.
    ///
    /// # Errors
    /// When either cannot be made or read.
    pub fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let folder = data_dir.join(FOLDER);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("no folder `{}`", folder.display()))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("`{}` cannot be kept from other users", folder.display()))?;
        let key = load_or_make_key(&data_dir.join(KEY))?;
        Ok(Self { folder, key })
    }

    /// The store of an earlier start, to be read; `None` where there is none. Makes nothing.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find(data_dir: &Path) -> anyhow::Result<Option<Self>> {
        let key = data_dir.join(KEY);
        let is_there = key.try_exists().with_context(|| format!("`{}` cannot be read", key.display()))?;
        is_there.then(|| Ok(Self { folder: data_dir.join(FOLDER), key: load_key(&key)? })).transpose()
    }

    /// What was compiled before, if it is there and untouched.
    #[must_use]
    pub fn cached(&self, key: &CacheKey) -> Option<Vec<u8>> {
        let path = self.path(key);
        let Ok(Some(mut bytes)) = read_bounded(&path, CODE_BYTES_MAX) else { return None };
        let code_at = MAC_BYTES.min(bytes.len());
        let code = bytes.split_off(code_at);
        if self.mac(key, &code).verify_slice(&bytes).is_err() {
            tracing::warn!(file = %path.display(), "a compiled plugin was changed: it is ignored and compiled again");
            return None;
        }
        Some(code)
    }

    /// Keeps compiled code; replaces what is there at once or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, key: &CacheKey, code: &[u8]) -> std::io::Result<()> {
        let path = self.path(key);
        let draft = self.folder.join(format!("{}.tmp", crate::id::random()));
        let written = self.write(&draft, key, code).and_then(|()| fs::rename(&draft, &path));
        if written.is_err() {
            // The draft may not exist; the first error is the one to tell.
            let _ = fs::remove_file(&draft);
        }
        written?;
        self.prune(FOLDER_BYTES_MAX)
    }

    /// Removes the oldest files until the rest fits: versions of plugins come and go.
    fn prune(&self, bytes_max: u64) -> std::io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        // The newest is the one that was just kept.
        files.pop();
        for (_, size, path) in files {
            if bytes <= bytes_max {
                break;
            }
            fs::remove_file(path)?;
            bytes -= size;
        }
        Ok(())
    }

    fn write(&self, draft: &Path, key: &CacheKey, code: &[u8]) -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
        file.write_all(&self.mac(key, code).finalize().into_bytes())?;
        file.write_all(code)
    }

    fn path(&self, key: &CacheKey) -> PathBuf {
        self.folder.join(format!("{}-{}.cwasm", key.sha256, key.engine))
    }

    /// Over the key too: code of one plugin must not pass under the name of another.
    fn mac(&self, key: &CacheKey, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        for part in [key.sha256.as_bytes(), key.engine.as_bytes(), code] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }
}

/// Reads the key, or makes it. Written aside: whoever dies or finds no room half way leaves no half a key.
fn load_or_make_key(path: &Path) -> anyhow::Result<[u8; KEY_BYTES]> {
    if !path.exists() {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let draft = path.with_extension(format!("{}.tmp", crate::id::random()));
        let made = write_new(&draft, &key).and_then(|()| fs::rename(&draft, path));
        if made.is_err() {
            // The draft may not exist; the first error is the one to tell.
            let _ = fs::remove_file(&draft);
        }
        made.with_context(|| format!("`{}` cannot be made", path.display()))?;
    }
    load_key(path)
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn load_key(path: &Path) -> anyhow::Result<[u8; KEY_BYTES]> {
    let bytes = fs::read(path).with_context(|| format!("`{}` cannot be read", path.display()))?;
    let damaged = || anyhow::anyhow!("`{}` is damaged: remove it, and plugins are compiled again", path.display());
    bytes.try_into().map_err(|_| damaged())
}

/// `None` where the file is larger.
fn read_bounded(path: &Path, bytes_max: u64) -> std::io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    if size > bytes_max {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= bytes_max).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sha256: &str) -> CacheKey {
        CacheKey { sha256: sha256.to_owned(), engine: "e".to_owned() }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it exists").permissions().mode() & 0o777
    }

    #[test]
    fn what_is_kept_comes_back_and_nobody_else_reads_it() {
        let data_dir = tempfile::tempdir().expect("a folder");
        let store = PluginStore::open(data_dir.path()).expect("a store");
        store.keep(&key("a"), b"code").expect("it is written");
        let again = PluginStore::open(data_dir.path()).expect("a store");
        assert_eq!(again.cached(&key("a")).as_deref(), Some(&b"code"[..]));
        assert_eq!(again.cached(&key("b")), None);
        assert_eq!(mode(&store.folder), 0o700);
        assert_eq!(mode(&store.path(&key("a"))), 0o600);
        assert_eq!(mode(&data_dir.path().join("compiled.key")), 0o600);
    }

    #[test]
    fn changed_code_is_ignored_wherever_it_was_changed() {
        let data_dir = tempfile::tempdir().expect("a folder");
        let store = PluginStore::open(data_dir.path()).expect("a store");
        store.keep(&key("a"), b"code").expect("it is written");
        let path = store.path(&key("a"));
        let good = fs::read(&path).expect("it is there");
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            fs::write(&path, bad).expect("it is written");
            assert_eq!(store.cached(&key("a")), None);
        }
        fs::write(&path, &good[..10]).expect("it is written");
        assert_eq!(store.cached(&key("a")), None);
        fs::write(store.path(&key("b")), &good).expect("it is written");
        assert_eq!(store.cached(&key("b")), None, "another plugin's name");
        let other = CacheKey { engine: "f".to_owned(), ..key("a") };
        fs::write(store.path(&other), &good).expect("it is written");
        assert_eq!(store.cached(&other), None, "another engine's name");
        fs::write(&path, &good).expect("it is written");
        assert_eq!(store.cached(&key("a")).as_deref(), Some(&b"code"[..]), "its own name");
    }

    #[test]
    fn the_oldest_go_when_the_folder_is_full() {
        let data_dir = tempfile::tempdir().expect("a folder");
        let store = PluginStore::open(data_dir.path()).expect("a store");
        for (age, sha256) in ["a", "b", "c"].into_iter().enumerate() {
            store.keep(&key(sha256), b"code").expect("it is written");
            let file = File::options().write(true).open(store.path(&key(sha256))).expect("it is there");
            let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(age as u64);
            file.set_modified(modified).expect("it is set");
        }
        store.prune(80).expect("it is pruned");
        let kept = ["a", "b", "c"].map(|sha256| store.cached(&key(sha256)).is_some());
        assert_eq!(kept, [false, true, true]);
        store.prune(1).expect("it is pruned");
        assert!(store.cached(&key("c")).is_some(), "the newest stays");
    }

    #[test]
    fn a_plugin_that_is_missing_or_too_large_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.wasm");
        assert!(matches!(read(&path, 5), Err(ReadError::Missing(_))));
        fs::write(&path, "12345").expect("it is written");
        assert_eq!(read(&path, 5).expect("it fits"), b"12345");
        assert!(matches!(read(&path, 4), Err(ReadError::TooLarge { size_max: 4, .. })));
    }
}
