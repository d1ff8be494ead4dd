//! Certificates: whom the host trusts beside the machine's own roots, and who it says it is.
//!
//! Files are read here; the private key of an identity is a secret and comes from elsewhere. Invariant: a certificate of
//! a server is always verified; nothing in the configuration turns that off.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_platform_verifier::Verifier;

use crate::mask::Secret;

/// A file of certificates: a chain or some roots, not the world's.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Roots of trust beside the machine's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots(Vec<CertificateDer<'static>>);

/// Who the host says it is to a server that asks for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The file with the certificate and those that lead to its root.
    pub cert: PathBuf,
    /// Name of the secret that is the private key.
    pub key: String,
}

impl Roots {
    /// Reads a PEM file.
    ///
    /// # Errors
    /// The text says what is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, String> {
        certificates(path).map(Self)
    }

    /// Verifies servers by the machine's roots and these.
    pub(super) fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Verifier, rustls::Error> {
        if self.0.is_empty() {
            return Verifier::new(provider.clone());
        }
        Verifier::new_with_extra_roots(self.0.iter().cloned(), provider.clone())
    }
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// The text says what is wrong with the file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| format!("cannot read `{shown}`: {error}");
    let found = std::fs::metadata(path).map_err(unreadable)?;
    if !found.is_file() || found.len() > FILE_BYTES_MAX {
        return Err(format!("`{shown}` is not a file of certificates"));
    }
    let pem = std::fs::read(path).map_err(unreadable)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("`{shown}` has no certificate in it: write it as PEM")),
        Err(error) => Err(format!("`{shown}` is not well-formed PEM: {error}")),
    }
}

/// A private key in PEM. Its text is never shown: neither the value nor what is wrong with it.
pub(super) fn private_key(value: &Secret) -> Option<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(value.expose()).ok()
}
