//! Signatures of plugins: minisign, in a file beside the plugin.
//!
//! Owns reading and checking. Invariant: what is checked are the bytes that are handed over, never a file that is read
//! once more.

use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};

use super::{ReadError, read_bounded, unreadable};

/// A signature with its comments has some three hundred bytes.
const SIGNATURE_BYTES_MAX: u64 = 16 << 10;

/// Why a plugin does not count as signed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The file with the signature.
    #[error("its signature is not there to be checked: {0}")]
    Read(#[from] ReadError),
    /// What was configured is no key.
    #[error("`key` is not a public key of minisign: {0}")]
    Key(minisign_verify::Error),
    /// Wrong key, wrong bytes, or no signature at all.
    #[error("its signature `{}` does not fit the plugin and the key: {error}", .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Why.
        error: minisign_verify::Error,
    },
}

/// Checks the bytes of a plugin that was read from `plugin` against the signature beside it.
///
/// # Errors
/// There is none, or it is not that of these bytes under this key.
pub fn check(plugin: &Path, bytes: &[u8], key: &str) -> Result<(), SignatureError> {
    let key = PublicKey::from_base64(key.trim()).map_err(SignatureError::Key)?;
    let path = beside(plugin);
    let wrong = |error| SignatureError::Wrong { path: path.clone(), error };
    let read = read_bounded(&path, SIGNATURE_BYTES_MAX).map_err(|error| unreadable(&path, error))?;
    let text = read.and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or_else(|| wrong(minisign_verify::Error::InvalidEncoding))?;
    let signature = Signature::decode(&text).map_err(wrong)?;
    // The old kind of signature, which is not over a hash, is as good; it is what old tools make.
    key.verify(bytes, &signature, true).map_err(wrong)
}

/// `PATH.minisig`, where minisign puts it.
fn beside(plugin: &Path) -> PathBuf {
    let mut path = plugin.as_os_str().to_owned();
    path.push(".minisig");
    path.into()
}
