//! The sealed store: values that `bulkhead secrets set` keeps encrypted in the data directory.
//!
//! One file, `sealed.json`, holds every value under AES-256-GCM with the secret's name as associated data, and a seal
//! over the list of names. Invariant: a store that does not open in every part with the key at hand is neither used nor
//! written to. Changes take a lock on a file of their own, and replace the whole file at once; a host that runs reads
//! it again when it changes.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail, ensure};
use data_encoding::BASE64;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::key::{Key, KeyPlace};
use super::{Stamp, VALUE_BYTES_MAX, durable};
use crate::mask::Secret;

/// The store's file, below the data directory.
pub const FILE: &str = "sealed.json";
/// Of the file's form.
const VERSION: u32 = 1;
/// Secrets in the store: all of them are read into memory.
const SECRETS_MAX: usize = 1_000;
/// The largest store, encoded.
const FILE_BYTES_MAX: u64 = 2 * SECRETS_MAX as u64 * VALUE_BYTES_MAX;
/// Stands before the list of names where it is sealed; no name begins with it.
const NAMES_MARK: u8 = 0;
/// Stands in names that the host itself has made; no operator's name has it.
const OWN_MARK: char = ':';

/// The sealed store of a data directory.
#[derive(Debug)]
pub struct SealedStore {
    file: PathBuf,
    lock: PathBuf,
    key: KeyPlace,
    read: Mutex<Option<(Stamps, Values)>>,
}

type Values = BTreeMap<String, Secret>;
/// Of the store's file and of the key's.
type Stamps = (Option<Stamp>, Option<Stamp>);

/// A store that has opened.
struct Opened {
    key: Key,
    values: Values,
    by: By,
}

/// Which key opened it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Key,
    /// The one that a rotation was about to put in place.
    NextKey,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    /// Nothing, sealed under the list of names: says whether a key is the right one, and that no name is missing.
    names: String,
    secrets: BTreeMap<String, String>,
}

impl SealedStore {
    /// The store of `data_dir`; nothing is read or made yet.
    #[must_use]
    pub fn new(data_dir: &Path, key: KeyPlace) -> Arc<Self> {
        let (file, lock) = (data_dir.join(FILE), data_dir.join("sealed.lock"));
        Arc::new(Self { file, lock, key, read: Mutex::default() })
    }

    /// A value; `None` where none of this name is sealed.
    ///
    /// # Errors
    /// The store does not open: another key, or a file that was damaged.
    pub fn get(&self, name: &str) -> anyhow::Result<Option<Secret>> {
        let mut read = self.read();
        let stamps = self.stamps();
        if let Some((known, values)) = read.as_ref()
            && *known == stamps
        {
            return Ok(values.get(name).cloned());
        }
        // Forgotten first: a store that became unusable must not go on as its old values.
        *read = None;
        let values = self.load()?.map(|opened| opened.values).unwrap_or_default();
        let value = values.get(name).cloned();
        *read = Some((stamps, values));
        Ok(value)
    }

    /// The names that an operator has sealed, in their order. Needs no key.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn names(&self) -> anyhow::Result<Vec<String>> {
        let names = self.document()?.map(|document| document.secrets.into_keys()).into_iter().flatten();
        Ok(names.filter(|name| !name.contains(OWN_MARK)).collect())
    }

    /// Seals a value; it is on the disk when this returns.
    ///
    /// # Errors
    /// The value is empty or too large, or the store does not open or cannot be written: nothing has changed then.
    pub fn set(&self, name: &str, value: &Secret) -> anyhow::Result<()> {
        ensure!(!value.expose().is_empty(), "the value is empty");
        ensure!(value.expose().len() as u64 <= VALUE_BYTES_MAX, "the value is larger than 64 KiB");
        self.change(|values| {
            values.insert(name.to_owned(), value.clone());
            ensure!(values.len() <= SECRETS_MAX, "the store holds {SECRETS_MAX} secrets already: remove some");
            Ok(())
        })
    }

    /// Removes a value for ever; whether there was one.
    ///
    /// # Errors
    /// The store does not open or cannot be written: nothing has changed then.
    pub fn remove(&self, name: &str) -> anyhow::Result<bool> {
        let mut was_there = false;
        self.change(|values| {
            was_there = values.remove(name).is_some();
            Ok(())
        })?;
        Ok(was_there)
    }

    /// Seals everything anew: with a new key of the host's own, or with the key in `to`. Answers how many secrets.
    ///
    /// # Errors
    /// The store does not open or cannot be written, or `to` is needed and missing.
    pub fn rotate_key(&self, to: Option<&Path>) -> anyhow::Result<usize> {
        let _lock = self.lock()?;
        let Some((_, values)) = self.load_to_change()? else { return Ok(0) };
        match (to, &self.key) {
            (Some(path), _) => self.save(&Key::load(&KeyPlace::File(path.to_owned()))?, &values)?,
            (None, KeyPlace::Own(path)) => {
                self.save_under_new_key(path, &values)?;
            }
            (None, KeyPlace::File(path) | KeyPlace::Credential(path)) => {
                bail!("the key in {} is not the host's own: name the file of the new key with `--to`", path.display())
            }
        }
        self.read().take();
        Ok(values.keys().filter(|name| !name.contains(OWN_MARK)).count())
    }

    fn change(&self, change: impl FnOnce(&mut Values) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let _lock = self.lock()?;
        let (key, mut values) =
            self.load_to_change()?.map_or_else(|| (None, Values::new()), |(key, values)| (Some(key), values));
        let before = values.clone();
        change(&mut values)?;
        if values != before {
            match (key, &self.key) {
                (Some(key), _) => self.save(&key, &values)?,
                (None, KeyPlace::Own(path)) if !path.exists() => self.save_under_new_key(path, &values)?,
                (None, place) => self.save(&Key::load(place)?, &values)?,
            }
        }
        self.read().take();
        Ok(())
    }

    /// Makes the key in `path`, or another one there, and seals everything with it. Three steps, each of which leaves a
    /// store that opens, or none: see [`SealedStore::load`].
    fn save_under_new_key(&self, path: &Path, values: &Values) -> anyhow::Result<()> {
        let (key, next) = (Key::make()?, next(path));
        key.save(&next)?;
        self.save(&key, values).inspect_err(|_| {
            // A store that is there may be sealed with it already.
            if !self.file.exists() {
                let _ = std::fs::remove_file(&next);
            }
        })?;
        durable::rename(&next, path)
    }

    /// As [`SealedStore::load`], after a rotation that was cut off has been brought to its end.
    fn load_to_change(&self) -> anyhow::Result<Option<(Key, Values)>> {
        let Some(opened) = self.load()? else { return Ok(None) };
        if let (By::NextKey, KeyPlace::Own(path)) = (opened.by, &self.key) {
            durable::rename(&next(path), path)?;
        }
        Ok(Some((opened.key, opened.values)))
    }

    /// Everything, and the key that opened it; `None` where nothing is sealed.
    fn load(&self) -> anyhow::Result<Option<Opened>> {
        let Some(document) = self.document()? else { return Ok(None) };
        let open = |key: Key, by| document.open(&key).map(|values| Opened { key, values, by });
        let opened = Key::load(&self.key).and_then(|key| {
            let (file, place) = (self.file.display(), self.key.path().display());
            let otherwise = "it is another key, or the file was damaged";
            open(key, By::Key).with_context(|| {
                format!("the sealed secrets in {file} do not open with the key in {place}: {otherwise}")
            })
        });
        let opened = match (opened, &self.key) {
            // A rotation that was cut off has replaced the store and not yet the key.
            (Err(error), KeyPlace::Own(path)) => {
                let next = Key::load(&KeyPlace::Own(next(path))).ok();
                next.and_then(|key| open(key, By::NextKey)).ok_or(error)
            }
            (opened, _) => opened,
        };
        opened.map(Some)
    }

    fn document(&self) -> anyhow::Result<Option<Document>> {
        let context = || format!("cannot read the sealed secrets {}", self.file.display());
        let file = match File::open(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.with_context(context)?,
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).with_context(context)?;
        // The parser's own words may repeat what stands there.
        let document: Option<Document> = serde_json::from_slice(&bytes).ok();
        let document = document.filter(|document| document.version == VERSION);
        let damaged = || format!("{} is damaged, or of a newer version", self.file.display());
        Ok(Some(document.with_context(damaged)?))
    }

    fn save(&self, key: &Key, values: &Values) -> anyhow::Result<()> {
        let mut secrets = BTreeMap::new();
        for (name, value) in values {
            secrets.insert(name.clone(), BASE64.encode(&key.seal(name.as_bytes(), value.expose())?));
        }
        let names = BASE64.encode(&key.seal(&list(secrets.keys()), b"")?);
        let document = serde_json::to_vec(&Document { version: VERSION, names, secrets })?;
        durable::replace(&self.file, &document)
    }

    /// Held while the store changes; the folder is made where it is missing.
    fn lock(&self) -> anyhow::Result<File> {
        let context = || format!("cannot lock the sealed secrets: {}", self.lock.display());
        if let Some(folder) = self.lock.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(context)?;
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.lock);
        let file = file.with_context(context)?;
        flock(&file, FlockOperation::LockExclusive).with_context(context)?;
        Ok(file)
    }

    fn stamps(&self) -> Stamps {
        let stamp = |path: &Path| path.metadata().ok().map(|metadata| Stamp::of(&metadata));
        (stamp(&self.file), stamp(self.key.path()))
    }

    fn read(&self) -> MutexGuard<'_, Option<(Stamps, Values)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Document {
    /// All values, or nothing at all.
    fn open(&self, key: &Key) -> Option<Values> {
        key.open(&list(self.secrets.keys()), &BASE64.decode(self.names.as_bytes()).ok()?)?;
        let open = |(name, sealed): (&String, &String)| {
            let sealed = BASE64.decode(sealed.as_bytes()).ok()?;
            Some((name.clone(), key.open(name.as_bytes(), &sealed)?))
        };
        self.secrets.iter().map(open).collect()
    }
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> Vec<u8> {
    let mut list = vec![NAMES_MARK];
    for name in names {
        list.extend_from_slice(name.as_bytes());
        list.push(b'\n');
    }
    list
}

fn next(key: &Path) -> PathBuf {
    key.with_extension("key.next")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    fn store(folder: &Path) -> Arc<SealedStore> {
        SealedStore::new(folder, KeyPlace::own(folder))
    }

    fn value(store: &SealedStore, name: &str) -> Option<String> {
        store.get(name).unwrap().map(|value| String::from_utf8(value.expose().to_vec()).unwrap())
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (store, file) = (store(folder.path()), folder.path().join("sealed.json"));
        store.set("a", &secret("first")).unwrap();
        store.set("c", &secret("second")).unwrap();
        let sound = std::fs::read(&file).unwrap();
        assert!(!sound.windows(5).any(|bytes| bytes == b"first"));
        for byte in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[byte] ^= 1 << (byte % 8);
            std::fs::write(&file, &damaged).unwrap();
            assert!(self::store(folder.path()).get("a").is_err(), "byte {byte}");
            assert!(store.set("b", &secret("third")).is_err() && store.rotate_key(None).is_err(), "byte {byte}");
            assert_eq!(std::fs::read(&file).unwrap(), damaged, "byte {byte}");
        }
    }

    #[test]
    fn another_process_sees_what_was_set_removed_and_rotated() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (store(folder.path()), store(folder.path()));
        assert_eq!((value(&other, "a"), other.names().unwrap()), (None, Vec::new()));
        one.set("a", &secret("first")).unwrap();
        assert_eq!(value(&other, "a").as_deref(), Some("first"));
        one.set("a", &secret("second")).unwrap();
        one.set("own:x", &secret("hidden")).unwrap();
        let key = std::fs::read(folder.path().join("sealed.key")).unwrap();
        assert_eq!(one.rotate_key(None).unwrap(), 1);
        assert_ne!(std::fs::read(folder.path().join("sealed.key")).unwrap(), key);
        assert_eq!((value(&other, "a").as_deref(), other.names().unwrap()), (Some("second"), vec!["a".to_owned()]));
        assert!(one.remove("a").unwrap() && !one.remove("a").unwrap());
        assert_eq!((value(&other, "a"), value(&other, "own:x").as_deref()), (None, Some("hidden")));
    }

    #[test]
    fn a_rotation_that_was_cut_off_at_any_step_leaves_a_store_that_opens() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        store(folder.path()).set("a", &secret("value")).unwrap();
        // After the first step: a next key that nothing was sealed with.
        Key::make().unwrap().save(&path("sealed.key.next")).unwrap();
        assert_eq!(value(&store(folder.path()), "a").as_deref(), Some("value"));
        // After the second: the store is sealed with the next key already.
        let old = std::fs::read(path("sealed.key")).unwrap();
        store(folder.path()).rotate_key(None).unwrap();
        std::fs::rename(path("sealed.key"), path("sealed.key.next")).unwrap();
        std::fs::write(path("sealed.key"), &old).unwrap();
        let store = store(folder.path());
        assert_eq!(value(&store, "a").as_deref(), Some("value"));
        store.set("b", &secret("other")).unwrap();
        assert!(!path("sealed.key.next").exists());
        assert_eq!((value(&store, "a").as_deref(), value(&store, "b").as_deref()), (Some("value"), Some("other")));
    }

    #[test]
    fn a_missing_key_of_a_store_that_exists_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        store.set("a", &secret("value")).unwrap();
        std::fs::remove_file(folder.path().join("sealed.key")).unwrap();
        assert!(store.set("b", &secret("value")).unwrap_err().to_string().contains("cannot read the key"));
        assert!(!folder.path().join("sealed.key").exists());
    }

    #[test]
    fn a_key_from_elsewhere_is_replaced_by_one_that_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        Key::make().unwrap().save(&path("old")).unwrap();
        Key::make().unwrap().save(&path("new")).unwrap();
        let store = SealedStore::new(folder.path(), KeyPlace::File(path("old")));
        store.set("a", &secret("value")).unwrap();
        assert!(store.rotate_key(None).unwrap_err().to_string().contains("--to"));
        assert_eq!(store.rotate_key(Some(&path("new"))).unwrap(), 1);
        assert!(store.get("a").is_err());
        let store = SealedStore::new(folder.path(), KeyPlace::File(path("new")));
        assert_eq!(value(&store, "a").as_deref(), Some("value"));
        assert!(!path("sealed.key").exists());
    }
}
