//! The key of the sealed store: where it lies, and how it is read or made.
//!
//! `BULKHEAD_KEY_FILE` comes first, then the systemd credential `bulkhead.key`, then `DATA_DIR/sealed.key`, which the
//! first sealed secret makes. Invariant: only a file that nobody else may read is taken, and only the last place is
//! ever written to.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

use super::durable;
use crate::mask::Secret;

/// Bytes of a key of AES-256.
const KEY_BYTES: usize = 32;
/// More than a key in any spelling with a line break.
const FILE_BYTES_MAX: usize = 256;
/// The name of the systemd credential (`LoadCredential=bulkhead.key:/path`).
const CREDENTIAL: &str = "bulkhead.key";
/// Permission bits that nobody but the owner may have.
const MODE_OF_OTHERS: u32 = 0o077;
/// systemd lets the service in by an access list, which shows in the group's bits.
const MODE_OF_THE_WORLD: u32 = 0o007;

/// Where the key lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// `DATA_DIR/sealed.key`: the host's own, made when it is needed first.
    Own(PathBuf),
    /// The file that `BULKHEAD_KEY_FILE` names.
    File(PathBuf),
    /// A credential of systemd.
    Credential(PathBuf),
}

impl KeyPlace {
    /// The place that the process's environment asks for.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "where the key of secrets lies is read here and nowhere else")]
    pub fn of_environment(data_dir: &Path) -> Self {
        if let Some(path) = std::env::var_os("BULKHEAD_KEY_FILE") {
            return Self::File(path.into());
        }
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join(CREDENTIAL));
        match credential.filter(|path| path.exists()) {
            Some(path) => Self::Credential(path),
            None => Self::own(data_dir),
        }
    }

    /// The host's own place.
    #[must_use]
    pub fn own(data_dir: &Path) -> Self {
        Self::Own(data_dir.join("sealed.key"))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Own(path) | Self::File(path) | Self::Credential(path) => path,
        }
    }

    fn forbidden_mode(&self) -> u32 {
        match self {
            Self::Own(_) | Self::File(_) => MODE_OF_OTHERS,
            Self::Credential(_) => MODE_OF_THE_WORLD,
        }
    }
}

/// A key that seals and opens values.
pub struct Key {
    cipher: RandomizedNonceKey,
    bytes: Secret,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("<key>")
    }
}

impl Key {
    /// Reads the key of a place.
    ///
    /// # Errors
    /// The file is missing, open to others, or holds no key.
    pub fn load(place: &KeyPlace) -> anyhow::Result<Self> {
        let path = place.path();
        let context = || format!("cannot read the key of sealed secrets {}", path.display());
        let file = File::open(path).with_context(context)?;
        let metadata = file.metadata().with_context(context)?;
        let mode = metadata.mode() & 0o777;
        ensure!(metadata.is_file(), "the key of sealed secrets {} is not a file", path.display());
        if mode & place.forbidden_mode() != 0 {
            bail!(
                "the key of sealed secrets {0} is open to others (mode {mode:04o}): run `chmod 600 {0}`",
                path.display()
            );
        }
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
        file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut text).with_context(context)?;
        let what = "32 bytes, raw or as hex or base64, as `openssl rand -hex 32` makes them";
        parse(&text).with_context(|| format!("{} holds no key of sealed secrets: it takes {what}", path.display()))
    }

    /// Makes a key that nobody has seen.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn make() -> anyhow::Result<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(bytes.as_mut()).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        Self::of(bytes.as_ref()).context("the system's cryptography is not usable")
    }

    /// Puts it into a file of mode 0600, all of it or nothing.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let text = Zeroizing::new(BASE64URL_NOPAD.encode(self.bytes.expose()) + "\n");
        durable::replace(path, text.as_bytes())
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, bytes).ok()?;
        Some(Self { cipher, bytes: Secret::new(bytes.to_vec()) })
    }

    /// Encrypts `value` so that it opens under `name` only.
    ///
    /// # Errors
    /// The system's cryptography fails.
    pub(super) fn seal(&self, name: &[u8], value: &[u8]) -> anyhow::Result<Vec<u8>> {
        // Room for the tag: a vector that grows leaves a copy behind.
        let mut sealed = Zeroizing::new(Vec::with_capacity(value.len() + AES_256_GCM.tag_len()));
        sealed.extend_from_slice(value);
        let nonce = self.cipher.seal_in_place_append_tag(Aad::from(name), &mut *sealed);
        let nonce = nonce.map_err(|_| anyhow::anyhow!("the system's cryptography is not usable"))?;
        Ok([nonce.as_ref().as_slice(), sealed.as_slice()].concat())
    }

    /// The value that was sealed under `name` with this key; `None` if anything of it is otherwise.
    pub(super) fn open(&self, name: &[u8], sealed: &[u8]) -> Option<Secret> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut value = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.cipher.open_in_place(nonce, Aad::from(name), &mut value).ok()?;
        Some(Secret::new(opened.to_vec()))
    }
}

/// A key in any of its spellings; a line break may end those that are text.
fn parse(bytes: &[u8]) -> Option<Key> {
    if bytes.len() == KEY_BYTES {
        return Key::of(bytes);
    }
    let text = bytes.trim_ascii();
    let spellings = [HEXLOWER_PERMISSIVE, BASE64, BASE64URL_NOPAD];
    let decoded = spellings.iter().filter_map(|spelling| spelling.decode(text).ok().map(Zeroizing::new));
    decoded.into_iter().find(|bytes| bytes.len() == KEY_BYTES).and_then(|bytes| Key::of(&bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_read_in_every_spelling_and_only_while_it_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let place = KeyPlace::File(path.clone());
        let raw = [7_u8; KEY_BYTES];
        let spellings = [
            raw.to_vec(),
            (HEXLOWER_PERMISSIVE.encode(&raw) + "\n").into_bytes(),
            HEXLOWER_PERMISSIVE.encode(&raw).to_uppercase().into_bytes(),
            (BASE64.encode(&raw) + "\r\n").into_bytes(),
            BASE64URL_NOPAD.encode(&raw).into_bytes(),
        ];
        for spelling in spellings {
            std::fs::write(&path, &spelling).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(Key::load(&place).unwrap().bytes.expose(), raw);
        }
        for wrong in ["", "too short", &"0".repeat(63), &"0".repeat(300)] {
            std::fs::write(&path, wrong).unwrap();
            assert!(Key::load(&place).unwrap_err().to_string().contains("holds no key"), "{wrong}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Key::load(&place).unwrap_err().to_string().contains("chmod 600"));
        assert!(!Key::load(&KeyPlace::Credential(path)).unwrap_err().to_string().contains("chmod"));
    }

    #[test]
    fn a_value_opens_under_its_name_with_its_key_only() {
        let (key, other) = (Key::make().unwrap(), Key::make().unwrap());
        let sealed = key.seal(b"name", b"value").unwrap();
        assert_eq!(key.open(b"name", &sealed).unwrap().expose(), b"value");
        assert!(key.open(b"other", &sealed).is_none() && other.open(b"name", &sealed).is_none());
        assert!(key.open(b"name", b"short").is_none());
        assert_ne!(key.seal(b"name", b"value").unwrap(), sealed);
    }
}
