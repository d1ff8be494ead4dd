//! `bulkhead.lock`: which plugins an operator has accepted, by their bytes and by what they need.
//!
//! Lies beside the configuration, belongs under version control, and is written by `bulkhead lock` alone. Knows nothing of
//! components: it compares texts. Invariant: what is written is there as a whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::document::{Place, read_text};
use super::{Connector, Loaded, Problem, Severity};

/// Beside the first configuration file.
const FILE: &str = "bulkhead.lock";
const HEAD: &str =
    "# Written by `bulkhead lock`: the plugins that were accepted. Keep it beside the configuration.\n\n";

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// By connector; those with built-in plugins need none.
    #[serde(default)]
    pub connectors: BTreeMap<String, Locked>,
}

/// A plugin as it was accepted for a connector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// Of its bytes, in hexadecimal.
    pub sha256: String,
    /// Interfaces that it asks for.
    pub imports: Vec<String>,
    /// Grants that it says it needs.
    pub wants: Vec<String>,
    /// What the connector was allowed when it was accepted: for whoever reads the file.
    pub granted: Vec<String>,
}

impl Locked {
    /// What this one needs and `accepted` does not. Another version of an interface is the same interface.
    #[must_use]
    pub fn needs_beyond(&self, accepted: &Self) -> Vec<String> {
        let plain = |import: &str| import.split('@').next().unwrap_or_default().to_owned();
        let known: Vec<String> = accepted.imports.iter().map(|import| plain(import)).collect();
        let imports = self.imports.iter().filter(|import| !known.contains(&plain(import)));
        let wants = self.wants.iter().filter(|want| !accepted.wants.contains(want));
        imports.map(|import| format!("import `{import}`")).chain(wants.map(|want| format!("wants `{want}`"))).collect()
    }
}

impl Lock {
    /// Writes the file beside `loaded`'s.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, loaded: &Loaded) -> io::Result<()> {
        let path = loaded.lock_path();
        let text = toml::to_string(self).map_err(io::Error::other)?;
        let draft = path.with_extension(format!("{}.tmp", crate::id::random()));
        let written = fs::write(&draft, format!("{HEAD}{text}")).and_then(|()| fs::rename(&draft, &path));
        if written.is_err() {
            // The draft may not exist; the first error is the one to tell.
            let _ = fs::remove_file(&draft);
        }
        written
    }
}

impl Loaded {
    /// Where the lock file belongs.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.sources.folder(Place::NOWHERE).join(FILE)
    }

    /// The lock file; `None` where there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn lock(&self) -> Result<Option<Lock>, Box<Problem>> {
        let path = self.lock_path();
        if !path.exists() {
            return Ok(None);
        }
        let read = read_text(&path).map_err(|unreadable| unreadable.message).and_then(|text| parse(&text));
        let problem = |message| Problem {
            severity: Severity::Error,
            file: path.display().to_string(),
            line: 0,
            column: 0,
            key: String::new(),
            message,
            help: "`bulkhead lock` writes it; put back the version that was accepted".to_owned(),
            marks: Vec::new(),
        };
        read.map(Some).map_err(|message| Box::new(problem(message)))
    }

    /// What there is to say about a lock file that is not there.
    #[must_use]
    pub fn unlocked(&self) -> Option<String> {
        let is_foreign = self.config.connectors.iter().any(Connector::is_foreign);
        let is_needed = is_foreign && !self.lock_path().exists();
        is_needed
            .then(|| format!("no {FILE}: plugins are not compared with what was accepted (`bulkhead lock` begins)"))
    }
}

fn parse(text: &str) -> Result<Lock, String> {
    toml::from_str(text).map_err(|error| format!("not a lock file: {}", error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(imports: &[&str], wants: &[&str]) -> Locked {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        Locked { imports: texts(imports), wants: texts(wants), ..Locked::default() }
    }

    #[test]
    fn a_new_import_and_a_new_want_are_more_and_a_new_version_is_not() {
        let accepted = locked(&["wasi:io/streams@0.2.3"], &["publish: orders"]);
        let check = |imports: &[&str], wants: &[&str], more: &[&str]| {
            assert_eq!(locked(imports, wants).needs_beyond(&accepted), more);
        };
        check(&[], &[], &[]);
        check(&["wasi:io/streams@0.2.6"], &["publish: orders"], &[]);
        check(&["wasi:io/streams-2@0.2.3"], &[], &["import `wasi:io/streams-2@0.2.3`"]);
        check(&[], &["publish: orders "], &["wants `publish: orders `"]);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut lock = Lock::default();
        lock.connectors.insert("x".to_owned(), locked(&["a:b/c@1.0.0"], &["a \"quoted\"\nline"]));
        let text = toml::to_string(&lock).expect("texts can be written");
        assert_eq!(parse(&text), Ok(lock));
        assert!(parse("[connectors.x]\nsha = 1").is_err());
    }
}
