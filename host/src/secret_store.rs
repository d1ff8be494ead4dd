//! Where secret values come from, and the only place that reads them.
//!
//! Variables are taken out of the process's environment before any thread starts; files are checked for their mode and
//! read again when they change, and so is the sealed store, so that a rotation needs no restart. Invariant: a value
//! leaves only as a [`Secret`].

mod durable;
pub mod key;
pub mod sealed;
pub mod token;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use key::KeyPlace;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use sealed::SealedStore;

use crate::mask::Secret;

/// Largest value: a key or a token, not a document.
pub const VALUE_BYTES_MAX: u64 = 64 * 1024;
/// Permission bits of group and others.
const MODE_OF_OTHERS: u32 = 0o077;

/// One entry of `[secrets]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An environment variable, removed from the process at start.
    Env(String),
    /// A file.
    File(PathBuf),
    /// The sealed store of the data directory.
    Sealed,
}

/// What the environment says about secrets.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Values that were taken out of it, by the variable's name.
    taken: BTreeMap<String, Secret>,
    /// Holds what is sealed.
    sealed: Arc<SealedStore>,
}

impl Environment {
    /// Reads the variables that `sources` name and removes them from the process, so that neither a child nor a plugin
    /// nor a dump of the environment has them. To be called in `main` before any thread is started.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "secrets are read from the environment here and nowhere else")]
    pub fn take(sources: &BTreeMap<String, Source>, data_dir: &Path) -> Self {
        let mut taken = BTreeMap::new();
        for variable in sources.values().filter_map(Source::variable) {
            let Some(value) = std::env::var_os(variable) else { continue };
            remove(variable);
            taken.insert(variable.to_owned(), Secret::new(value.into_encoded_bytes()));
        }
        Self { taken, sealed: SealedStore::new(data_dir, KeyPlace::of_environment(data_dir)) }
    }

    /// Without any variable: what is sealed in `data_dir` has the host's own key.
    #[must_use]
    pub fn empty(data_dir: &Path) -> Self {
        Self { taken: BTreeMap::new(), sealed: SealedStore::new(data_dir, KeyPlace::own(data_dir)) }
    }

    /// What is sealed in the data directory.
    #[must_use]
    pub fn sealed(&self) -> &Arc<SealedStore> {
        &self.sealed
    }
}

#[expect(unsafe_code, reason = "the library has no safe way to the memory of a variable")]
unsafe extern "C" {
    /// Where a variable's value lies.
    fn getenv(name: *const c_char) -> *mut c_char;
}

/// Removes a variable, and wipes the memory where the system has put its value: `/proc/PID/environ` shows that.
#[expect(clippy::disallowed_methods, reason = "this is the place that the rule points to")]
#[expect(unsafe_code, reason = "edition 2024 marks every change of the environment as unsafe")]
fn remove(variable: &str) {
    let Ok(name) = CString::new(variable) else { return };
    // SAFETY: `Environment::take` is called before any thread is started: nobody reads the environment meanwhile. The
    // value is a string of the process's own, in memory that may be written, and ends with a zero byte.
    unsafe {
        let value = getenv(name.as_ptr());
        if !value.is_null() {
            value.write_bytes(0, CStr::from_ptr(value).count_bytes());
        }
        std::env::remove_var(variable);
    }
}

/// Keeps the memory of this process out of core dumps, also of those that a program of the system collects, and closes
/// `/proc/PID/{mem,environ,fd}` to other processes of the same user.
pub fn forbid_core_dumps() {
    // A system that refuses even this has none to forbid.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}

/// All secrets of the configuration, by name.
#[derive(Debug)]
pub struct SecretStore {
    entries: BTreeMap<String, Entry>,
    sealed: Arc<SealedStore>,
}

#[derive(Debug)]
enum Entry {
    Fixed(Secret),
    Sealed { name: String, store: Arc<SealedStore> },
    File { path: PathBuf, read: Mutex<Option<(Stamp, Secret)>> },
}

/// What changes when a file is written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl SecretStore {
    /// Reads every secret once.
    ///
    /// # Errors
    /// Every secret that has no usable value, with what is wrong; never with a value.
    pub fn open(sources: &BTreeMap<String, Source>, environment: &Environment) -> Result<Self, Vec<(String, String)>> {
        let mut entries = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, source) in sources {
            match Entry::open(name, source, environment) {
                Ok(entry) => {
                    entries.insert(name.clone(), entry);
                }
                Err(problem) => problems.push((name.clone(), problem)),
            }
        }
        let sealed = environment.sealed.clone();
        if problems.is_empty() { Ok(Self { entries, sealed }) } else { Err(problems) }
    }

    /// A store without any secret.
    #[must_use]
    pub fn empty(data_dir: &Path) -> Self {
        Self { entries: BTreeMap::new(), sealed: Environment::empty(data_dir).sealed }
    }

    /// What is sealed in the data directory.
    #[must_use]
    pub fn sealed(&self) -> &Arc<SealedStore> {
        &self.sealed
    }

    /// The present value.
    ///
    /// # Errors
    /// There is no such secret, or its value has gone since the start: what is wrong, never with a value.
    pub fn get(&self, name: &str) -> Result<Secret, String> {
        let entry = self.entries.get(name).ok_or_else(|| "it is not in `[secrets]`".to_owned())?;
        entry.value()
    }
}

impl Source {
    fn variable(&self) -> Option<&str> {
        match self {
            Self::Env(variable) => Some(variable),
            Self::File(_) | Self::Sealed => None,
        }
    }
}

impl Entry {
    fn open(name: &str, source: &Source, environment: &Environment) -> Result<Self, String> {
        match source {
            Source::Sealed => {
                let entry = Self::Sealed { name: name.to_owned(), store: environment.sealed.clone() };
                entry.value().map(|_| entry)
            }
            Source::Env(variable) => match environment.taken.get(variable) {
                None => Err(format!("the environment variable `{variable}` is not set")),
                Some(value) if value.expose().is_empty() => {
                    Err(format!("the environment variable `{variable}` is empty"))
                }
                Some(value) => Ok(Self::Fixed(value.clone())),
            },
            Source::File(path) => {
                let (stamp, value) = read(path)?;
                Ok(Self::File { path: path.clone(), read: Mutex::new(Some((stamp, value))) })
            }
        }
    }

    fn value(&self) -> Result<Secret, String> {
        match self {
            Self::Fixed(value) => Ok(value.clone()),
            Self::Sealed { name, store } => {
                let missing = || format!("no value is sealed: run `bulkhead secrets set {name}`");
                store.get(name).map_err(|error| format!("{error:#}"))?.ok_or_else(missing)
            }
            Self::File { path, read } => {
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                let stamp = path.metadata().map_err(|error| unreadable(path, &error)).map(|found| Stamp::of(&found))?;
                if let Some((known, value)) = read.as_ref()
                    && *known == stamp
                {
                    return Ok(value.clone());
                }
                // Forgotten first: a file that became unusable must not go on as its old value.
                *read = None;
                let (stamp, value) = self::read(path)?;
                *read = Some((stamp, value.clone()));
                Ok(value)
            }
        }
    }
}

impl Stamp {
    /// The time of change, not of modification: it also moves with the mode, and nobody can set it.
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Checks and reads the one opened file, so that it cannot be swapped in between.
fn read(path: &Path) -> Result<(Stamp, Secret), String> {
    let opened = path.metadata().and_then(|found| if found.is_file() { File::open(path).map(Some) } else { Ok(None) });
    let Some(file) = opened.map_err(|error| unreadable(path, &error))? else {
        return Err(format!("`{}` is not a file", path.display()));
    };
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    let mode = metadata.mode() & 0o777;
    if mode & MODE_OF_OTHERS != 0 {
        return Err(format!("`{0}` is open to others (mode {mode:04o}): run `chmod 600 {0}`", path.display()));
    }
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut value = Vec::with_capacity(usize::try_from(metadata.len().min(VALUE_BYTES_MAX)).unwrap_or(0) + 1);
    file.take(VALUE_BYTES_MAX + 1).read_to_end(&mut value).map_err(|error| unreadable(path, &error))?;
    if value.len() as u64 > VALUE_BYTES_MAX {
        return Err(format!("`{}` is larger than 64 KiB", path.display()));
    }
    let kept = value.strip_suffix(b"\n").map_or(value.len(), |line| line.strip_suffix(b"\r").unwrap_or(line).len());
    value.truncate(kept);
    if value.is_empty() {
        return Err(format!("`{}` is empty", path.display()));
    }
    Ok((Stamp::of(&metadata), Secret::new(value)))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("`{}` cannot be read: {error}", path.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn write(path: &Path, value: &str, mode: u32) {
        fs::write(path, value).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn open(path: &Path) -> Result<SecretStore, Vec<(String, String)>> {
        let sources = BTreeMap::from([("token".to_owned(), Source::File(path.to_owned()))]);
        SecretStore::open(&sources, &Environment::empty(path))
    }

    fn value(store: &SecretStore) -> Option<Vec<u8>> {
        store.get("token").ok().map(|secret| secret.expose().to_vec())
    }

    #[test]
    fn neither_core_dumps_nor_debuggers_get_the_memory() {
        forbid_core_dumps();
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        let limit = rustix::process::getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_only_while_it_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, "first\n", 0o600);
        let store = open(&path).unwrap();
        assert_eq!(value(&store), Some(b"first".to_vec()));
        write(&path, "second\r\n", 0o600);
        assert_eq!(value(&store), Some(b"second".to_vec()));
        let next = folder.path().join("next");
        write(&next, "third", 0o400);
        fs::rename(&next, &path).unwrap();
        assert_eq!(value(&store), Some(b"third".to_vec()));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(value(&store), None);
        fs::remove_file(&path).unwrap();
        assert_eq!(value(&store), None);
        assert_eq!(store.get("other"), Err("it is not in `[secrets]`".to_owned()));
    }

    #[test]
    fn what_cannot_be_used_is_said_without_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let check = |expected: &str| {
            let problems = open(&path).unwrap_err();
            assert_eq!(problems[0].0, "token");
            assert!(problems[0].1.contains(expected) && !problems[0].1.contains("hidden"), "{problems:?}");
        };
        check("cannot be read");
        write(&path, "hidden", 0o640);
        check("chmod 600");
        write(&path, "hidden", 0o604);
        check("mode 0604");
        write(&path, "\n", 0o600);
        check("is empty");
        write(&path, &"hidden".repeat(20_000), 0o600);
        check("larger than 64 KiB");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        check("is not a file");
    }

    #[test]
    fn a_variable_comes_from_what_was_taken_at_start() {
        let sources = BTreeMap::from([("token".to_owned(), Source::Env("BULKHEAD_TEST_TOKEN".to_owned()))]);
        let folder = tempfile::tempdir().unwrap();
        let taken = |value: &str| Environment {
            taken: BTreeMap::from([("BULKHEAD_TEST_TOKEN".to_owned(), Secret::new(value.into()))]),
            ..Environment::empty(folder.path())
        };
        assert_eq!(value(&SecretStore::open(&sources, &taken("value")).unwrap()), Some(b"value".to_vec()));
        let problems = SecretStore::open(&sources, &taken("")).unwrap_err();
        assert!(problems[0].1.contains("is empty"));
        let problems = SecretStore::open(&sources, &Environment::take(&sources, folder.path())).unwrap_err();
        assert!(problems[0].1.contains("is not set"));
    }
}
