//! The listener's own certificate, read again when its files change.
//!
//! Invariant: a pair of files that cannot be used, or do not belong together, never takes the place of one that can.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::egress::trust;

/// How often the files are looked at, at most; a look is made when somebody connects.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bits that let others read a file.
const MODE_OF_OTHERS: u32 = 0o007;

/// `host.tls.cert` and `host.tls.key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and those that lead to its root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A certificate that is shown to who connects.
#[derive(Clone)]
pub struct Certificate(Arc<Shown>);

struct Shown {
    files: Files,
    provider: Arc<CryptoProvider>,
    key: RwLock<Arc<CertifiedKey>>,
    looked: Mutex<Look>,
}

struct Look {
    at: Instant,
    /// Device, file, size and times of change of both files.
    found: Option<Stamp>,
}

type Stamp = [(u64, u64, u64, i64, i64); 2];

impl std::fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shown").field("files", &self.files).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// The text says what is wrong with which file.
    pub fn load(files: Files) -> Result<Self, String> {
        let provider = Arc::new(default_provider());
        let found = stamp(&files);
        let key = RwLock::new(Arc::new(read(&files, &provider)?));
        let looked = Mutex::new(Look { at: Instant::now(), found });
        Ok(Self(Arc::new(Shown { files, provider, key, looked })))
    }

    /// Where it is read.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.0.files
    }

    /// Speaks TLS with this certificate, and says in the handshake which versions of HTTP there are.
    pub(super) fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let builder =
            ServerConfig::builder_with_provider(self.0.provider.clone()).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.0.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config).into())
    }

    /// Reads the files again if they have changed.
    pub(super) fn refresh(&self) {
        let shown = &self.0;
        let mut look = shown.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if look.at.elapsed() < LOOK_EVERY {
            return;
        }
        look.at = Instant::now();
        let found = stamp(&shown.files);
        if found == look.found {
            return;
        }
        look.found = found;
        match read(&shown.files, &shown.provider) {
            Ok(key) => {
                *shown.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                tracing::info!(cert = %shown.files.cert.display(), "the listener shows its new certificate");
            }
            Err(error) => tracing::error!(
                key = "host.tls",
                error,
                "the certificate has changed and cannot be used: the one before is shown"
            ),
        }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn read(files: &Files, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let certificates = trust::certificates(&files.cert)?;
    let path = files.key.display();
    let unreadable = |error: std::io::Error| format!("cannot read `{path}`: {error}");
    let mode = fs::metadata(&files.key).map_err(unreadable)?.mode() & 0o777;
    if mode & MODE_OF_OTHERS != 0 {
        return Err(format!("`{path}` is open to others (mode {mode:04o}): run `chmod 600 {path}`"));
    }
    let pem = Zeroizing::new(fs::read(&files.key).map_err(unreadable)?);
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| format!("`{path}` is not a private key in PEM"))?;
    let both = || format!("`{}` and `{path}` do not belong together", files.cert.display());
    CertifiedKey::from_der(certificates, key, provider).map_err(|_| both())
}

fn stamp(files: &Files) -> Option<Stamp> {
    let of = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    };
    Some([of(&files.cert)?, of(&files.key)?])
}
