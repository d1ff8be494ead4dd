//! What hosts of the tests have compiled: a plugin is compiled once, and not by each of hundreds of hosts.
//!
//! Each data directory begins with what lies here, and what its host adds comes back. Which of it a host may use is its
//! own matter: it has a name for the plugin's hash and the engine's, and a MAC.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// As the host names them.
const KEY: &str = "compiled.key";
const FOLDER: &str = "compiled";

/// Beside what cargo builds, for the next run of the tests too.
fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/compiled-for-tests")
}

/// Gives a data directory, before its first start, what other hosts have compiled. Without it there is more to do.
pub(crate) fn lend(data: &Path) {
    if !data.join(KEY).exists() {
        let _ = try_lend(data);
    }
}

fn try_lend(data: &Path) -> std::io::Result<()> {
    let shared = shared();
    fs::create_dir_all(shared.join(FOLDER))?;
    let key = shared.join(KEY);
    if !key.exists() {
        // Whoever is first makes it, whole.
        let draft = tempfile::NamedTempFile::new_in(&shared)?;
        fs::write(draft.path(), [7; 32])?;
        let _ = draft.persist_noclobber(&key);
    }
    DirBuilder::new().recursive(true).create(data)?;
    DirBuilder::new().mode(0o700).create(data.join(FOLDER))?;
    link_all(&shared.join(FOLDER), &data.join(FOLDER))?;
    let mut own = OpenOptions::new().write(true).create_new(true).mode(0o600).open(data.join(KEY))?;
    own.write_all(&fs::read(&key)?)?;
    own.set_permissions(Permissions::from_mode(0o600))
}

/// Takes in what a host has compiled under the same key.
pub(crate) fn take_back(data: &Path) {
    let is_same = matches!((fs::read(data.join(KEY)), fs::read(shared().join(KEY))), (Ok(own), Ok(key)) if own == key);
    if is_same {
        // Another run does it again.
        let _ = link_all(&data.join(FOLDER), &shared().join(FOLDER));
    }
}

fn link_all(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let target = to.join(name);
        // What is there already is the same; what a host has not ended to write has another ending.
        if path.extension().is_some_and(|ending| ending == "cwasm") && !target.exists() {
            let linked = fs::hard_link(&path, &target);
            linked.or_else(|_| fs::copy(&path, &target).map(drop))?;
        }
    }
    Ok(())
}
