//! What `bulkhead check` prints: a case is a folder of `tests/config` with `bulkhead.toml`, perhaps `overlay.toml` and
//! `environment.txt`, and in `expected.txt` what is printed. `BLESS=1` writes what is printed now.
//!
//! Where there is `files.txt`, secrets are opened, and each line of it is a file with its mode; where there is
//! `config.schema.json`, that is what the plugin of every connector says of its `config`.

#![allow(clippy::disallowed_methods, reason = "BLESS is for whoever runs the tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bulkhead_host::cli::check;
use bulkhead_host::cli::diagnostic::Colours;
use bulkhead_host::config::{self, Loaded, Problem};
use bulkhead_host::host::{Moment, missing_secrets};
use bulkhead_host::secret_store::Environment;

/// A case, as it is printed and as it is expected.
pub(crate) struct Case {
    /// Where it lies.
    pub(crate) folder: PathBuf,
    /// What is found in it.
    pub(crate) outcome: check::Outcome,
}

/// In the order of their names.
pub(crate) fn all_cases() -> Vec<Case> {
    let mut folders: Vec<PathBuf> = fs::read_dir(cases()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let case = |folder: PathBuf| Case {
        outcome: check::outcome(load_case(&folder), |loaded| further(&folder, loaded)),
        folder: folder.clone(),
    };
    folders.into_iter().map(case).collect()
}

/// What is looked at in a valid configuration: the values of secrets, and what plugins say of their `config`.
fn further(folder: &Path, loaded: &Loaded) -> Vec<Problem> {
    let mut found = Vec::new();
    if let Ok(modes) = fs::read_to_string(folder.join("files.txt")) {
        for (file, mode) in modes.lines().filter_map(|line| line.split_once(' ')) {
            let mode = fs::Permissions::from_mode(u32::from_str_radix(mode, 8).unwrap());
            fs::set_permissions(folder.join(file), mode).unwrap();
        }
        found.extend(missing_secrets(loaded, &Environment::empty(&folder.join("data")), Moment::Start));
    }
    if let Ok(schema) = fs::read_to_string(folder.join("config.schema.json")) {
        found.extend(loaded.misfits(&loaded.config.connectors.iter().collect::<Vec<_>>(), &schema));
    }
    found
}

#[test]
fn every_case_prints_what_is_expected() {
    let mut wrong = Vec::new();
    let cases = all_cases();
    assert!(cases.iter().filter(|case| !case.outcome.is_ok()).count() >= 120, "the cases are there");
    for Case { folder, outcome } in cases {
        let printed = check::text(&outcome, Colours::Off).replace(&format!("{}/", folder.display()), "");
        let expected = folder.join("expected.txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &printed).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != printed {
            wrong.push(format!("{}:\n{printed}", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/config")
}

fn load_case(folder: &Path) -> Result<Loaded, Vec<Problem>> {
    let files = ["bulkhead.toml", "overlay.toml"].map(|name| folder.join(name));
    let files: Vec<PathBuf> = files.into_iter().filter(|path| path.exists()).collect();
    let environment = fs::read_to_string(folder.join("environment.txt")).unwrap_or_default();
    let environment: BTreeMap<&str, &str> = environment.lines().filter_map(|line| line.split_once('=')).collect();
    config::load(&files, &|name| environment.get(name).map(ToString::to_string))
}
