//! The token of the admin listener: `DATA_DIR/admin.token`, mode 0600, made at the first start.

use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::mask::Secret;

/// Bytes of the token: 256 bits.
const TOKEN_BYTES: usize = 32;

/// Where the token lies.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.token")
}

/// The permission bits of its file, if there is one.
#[must_use]
pub fn mode(data_dir: &Path) -> Option<u32> {
    path(data_dir).metadata().ok().map(|found| found.permissions().mode() & 0o7777)
}

/// Reads the token, or makes it at the first start (file mode 0600).
///
/// # Errors
/// The file cannot be read or written, or holds no token.
pub fn load_or_make(data_dir: &Path) -> anyhow::Result<Secret> {
    let path = path(data_dir);
    if !path.exists() {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let token = data_encoding::BASE64URL_NOPAD.encode(&bytes);
        write(&path, &token).with_context(|| format!("cannot write {}", path.display()))?;
    }
    load(data_dir)
}

/// Written aside first: whoever dies or finds no room half way leaves no half a token.
fn write(path: &Path, token: &str) -> std::io::Result<()> {
    let draft = path.with_extension("tmp");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(token.as_bytes()).and_then(|()| file.sync_all())?;
    std::fs::rename(&draft, path)
}

/// Reads the token of a host that has run before.
///
/// # Errors
/// The file cannot be read, or holds no token.
pub fn load(data_dir: &Path) -> anyhow::Result<Secret> {
    let path = path(data_dir);
    let mut text = String::new();
    std::fs::File::open(&path)
        .and_then(|mut file| file.read_to_string(&mut text))
        .with_context(|| format!("cannot read the admin token {}", path.display()))?;
    let token = text.trim();
    ensure!(token.len() >= TOKEN_BYTES, "{} holds no token: remove it, the next start makes a new one", path.display());
    Ok(Secret::new(token.as_bytes().to_vec()))
}
