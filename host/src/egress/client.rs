//! One client for each (connector, policy): made on first use, dropped after five idle minutes.
//!
//! Pools, TLS sessions and HTTP/2 connections are never shared between connectors or policies; only the roots of trust
//! are. A client follows no redirect, keeps no cookie and knows no proxy of the environment.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use rustls::{AlertDescription, CertificateError, ClientConfig, PeerIncompatible, RootCertStore};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Egress;
use super::address::Reach;
use super::proxy::Proxy;
use super::resolver::{LookupError, Lookups, ProxyResolver, Refused, Resolver};
use super::trust::{self, Identity};
use crate::mask::Secret;

/// From the first packet out to the end of the TLS handshake, the lookup included.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A receiver that takes nothing of what it is sent for this long is not going to. The client closes a connection only when
/// what it has written is gone, also when nobody waits for the request any more.
const STALL_MAX: Duration = Duration::from_secs(60);
/// A connection that nobody uses; servers tend to close theirs after a minute or two.
const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(90);
/// Idle connections to one place, where so many requests are never under way at once.
pub const CONNECTIONS_IDLE: usize = 16;
/// A client that nobody uses.
const CLIENT_IDLE_MAX: Duration = Duration::from_secs(300);
/// All headers of a response together.
pub const RESPONSE_HEADER_BYTES_MAX: u32 = 64 * 1024;
/// Headers of a response.
const RESPONSE_HEADERS_MAX: usize = 128;
/// Bytes of an answer over HTTP/2 that may wait to be read: of one request, and of a connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// One frame of HTTP/2, the smallest bound that the protocol allows.
const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// Nothing here looks like a browser; receivers like to know who calls.
const USER_AGENT: &str = concat!("bulkhead/", env!("CARGO_PKG_VERSION"));

/// What keeps a client apart from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What it may reach.
    pub reach: Reach,
    /// The certificate that it shows.
    pub identity: Option<Identity>,
    /// Idle connections to one place. With fewer than there are requests at once, most of these would dial anew.
    pub connections_idle: usize,
}

/// What sends a request.
pub type Sender = reqwest::Client;

/// One policy's client of one connector.
pub struct Client {
    egress: Egress,
    policy: Policy,
    slot: Arc<Slot>,
    lookups: Lookups,
}

/// Where one client is kept while it is used.
#[derive(Default)]
pub(super) struct Slot {
    used: Mutex<Option<Used>>,
}

struct Used {
    client: Sender,
    last: Instant,
    /// What it was made with: another value makes another client.
    digests: Digests,
}

/// The present values of the secrets that a client is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keys<'a> {
    /// The private key of its identity, if it has one.
    pub private_key: Option<&'a Secret>,
    /// The password for its proxy, if that wants one: see [`Client::proxy_password`].
    pub proxy_password: Option<&'a Secret>,
}

type Digests = [Option<[u8; 32]>; 2];

impl Keys<'_> {
    fn digests(&self) -> Digests {
        [self.private_key, self.proxy_password].map(|key| key.map(|key| Sha256::digest(key.expose()).into()))
    }
}

/// Why there is no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The certificate or its key is missing, malformed, or they do not belong together.
    #[error("the client certificate or its key cannot be used")]
    Identity,
    /// The password for the proxy is missing, or not text.
    #[error("the password for the proxy cannot be used")]
    Proxy,
    /// The TLS library cannot be set up.
    #[error("TLS cannot be set up")]
    Tls,
}

/// Why a request got no answer; the parts of an error that anybody may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The address is not allowed: nothing was sent.
    #[error(transparent)]
    Refused(Refused),
    /// It is not a request that can be sent.
    #[error("it is not a request of HTTP")]
    Malformed,
    /// No connection: nothing was sent.
    #[error("{0}")]
    Unreachable(&'static str),
    /// It may have had its effect.
    #[error("{0}")]
    Interrupted(&'static str),
}

impl Client {
    /// A place for one more client.
    #[must_use]
    pub fn new(egress: &Egress, policy: Policy) -> Self {
        let slot = Arc::<Slot>::default();
        egress.watch(&slot);
        Self { egress: egress.clone(), policy, slot, lookups: Lookups::default() }
    }

    /// What keeps it apart from others.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Judges a name that a proxy will look up, as far as it can be looked up here. Without a proxy in between there is
    /// nothing to do: names are judged when they are dialled.
    ///
    /// # Errors
    /// It leads to a place that may not be reached, or nobody has looked.
    pub async fn judge_name(&self, name: &str) -> Result<(), Failure> {
        let reach = self.policy.reach;
        match self.egress.proxy(reach) {
            Some(_) => self.lookups.judge_name(&self.egress.listeners(), reach, name).await,
            None => Ok(()),
        }
    }

    /// The secret that is the password for the proxy, where its requests pass one that wants it.
    #[must_use]
    pub fn proxy_password(&self) -> Option<&str> {
        Some(&self.egress.proxy(self.policy.reach)?.credential()?.password)
    }

    /// This password in all that a proxy gets to see of it: what is sent is as good as the password, however short that is.
    #[must_use]
    pub fn shown_to_proxy(&self, password: &Secret) -> Vec<Secret> {
        let credential = self.egress.proxy(self.policy.reach).and_then(Proxy::credential);
        let pair = credential.map(|credential| {
            let pair = Zeroizing::new([credential.user.as_bytes(), b":", password.expose()].concat());
            Secret::new(BASE64.encode(&pair).into_bytes())
        });
        std::iter::once(password.clone()).chain(pair).collect()
    }

    /// The client.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn get(&self, keys: Keys<'_>) -> Result<Sender, Unusable> {
        let digests = keys.digests();
        let mut used = self.slot.used.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match used.take().filter(|used| used.digests == digests) {
            Some(used) => used.client,
            None => self.build(keys)?,
        };
        *used = Some(Used { client: client.clone(), last: Instant::now(), digests });
        Ok(client)
    }

    #[expect(clippy::disallowed_methods, reason = "egress makes the clients, with its own resolver")]
    fn build(&self, keys: Keys<'_>) -> Result<Sender, Unusable> {
        let (egress, reach, lookups) = (&self.egress, self.policy.reach, self.lookups.clone());
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls(keys.private_key)?)
            .redirect(reqwest::redirect::Policy::none())
            // Before any proxy of ours: it also forgets those of the environment.
            .no_proxy()
            .referer(false)
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_MAX)
            .pool_idle_timeout(CONNECTION_IDLE_MAX)
            .pool_max_idle_per_host(self.policy.connections_idle)
            .http1_max_headers(RESPONSE_HEADERS_MAX)
            .http2_max_header_list_size(RESPONSE_HEADER_BYTES_MAX)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_max_frame_size(FRAME_BYTES_MAX);
        let builder = match egress.proxy(reach) {
            Some(proxy) => {
                let resolver = ProxyResolver { host: proxy.host().to_owned(), lookups };
                builder.proxy(known_to(proxy, keys.proxy_password)?).dns_resolver(resolver)
            }
            None => builder.dns_resolver(Resolver { listeners: egress.listeners(), reach, lookups }),
        };
        ending_stalls(builder).build().map_err(|_| Unusable::Tls)
    }

    /// A configuration of its own for each client: resumed sessions must not cross from one connector to another.
    fn tls(&self, key: Option<&Secret>) -> Result<ClientConfig, Unusable> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|_| Unusable::Tls)?;
        let builder = match self.egress.trust(&provider) {
            Some(trust) => builder.dangerous().with_custom_certificate_verifier(trust),
            None => builder.with_root_certificates(RootCertStore::empty()),
        };
        let mut config = match (&self.policy.identity, key) {
            (Some(identity), Some(key)) => {
                let chain = trust::certificates(&identity.cert).map_err(|_| Unusable::Identity)?;
                let key = trust::private_key(key).ok_or(Unusable::Identity)?;
                builder.with_client_auth_cert(chain, key).map_err(|_| Unusable::Identity)?
            }
            (Some(_), None) => return Err(Unusable::Identity),
            (None, _) => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn ending_stalls(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    builder.tcp_user_timeout(STALL_MAX)
}

/// Other systems have no such option: there it is the receiver who ends it.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn ending_stalls(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    let _ = STALL_MAX;
    builder
}

impl Slot {
    pub(super) fn drop_if_idle(&self, now: Instant) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.as_ref().is_some_and(|used| now.saturating_duration_since(used.last) >= CLIENT_IDLE_MAX) {
            *used = None;
        }
    }
}

impl Failure {
    /// Reads an error of the client. Its own text is never shown: it may contain the URL, and that a credential.
    #[must_use]
    pub fn of(error: &reqwest::Error) -> Self {
        if let Some(refused) = find::<Refused>(error) {
            return Self::Refused(*refused);
        }
        if error.is_builder() {
            return Self::Malformed;
        }
        if error.is_connect() || error.is_dns() {
            return Self::Unreachable(unreachable_because(error));
        }
        Self::Interrupted(interrupted_because(error))
    }
}

fn unreachable_because(error: &reqwest::Error) -> &'static str {
    if let Some(lookup) = find::<LookupError>(error) {
        return lookup.because();
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return untrusted_because(tls);
    }
    // An error that wraps another is of no kind itself.
    let mut kinds = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    match kinds.find(|kind| *kind != io::ErrorKind::Other) {
        Some(io::ErrorKind::ConnectionRefused) => "the connection was refused",
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => "the connection broke off",
        _ if error.is_timeout() => "there was no connection in time",
        _ => "there was no connection",
    }
}

fn untrusted_because(error: &rustls::Error) -> &'static str {
    let problem = match error {
        rustls::Error::InvalidCertificate(problem) => problem,
        rustls::Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            return "it speaks no version of TLS that is safe";
        }
        _ => return "the TLS handshake failed",
    };
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name"
        }
        CertificateError::UnknownIssuer => "nobody who is trusted issued its certificate (see `host.tls.ca_file`)",
        CertificateError::Revoked => "its certificate was revoked",
        _ => "its certificate is not valid",
    }
}

fn interrupted_because(error: &reqwest::Error) -> &'static str {
    if error.is_decode() {
        "the answer broke off or could not be decoded"
    } else if error.is_timeout() {
        "the answer did not come in time"
    } else {
        "the answer broke off"
    }
}

fn find<Cause: Error + 'static>(error: &reqwest::Error) -> Option<&Cause> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |cause| cause_of(*cause))
}

/// The proxy with what it is shown: in the request for a tunnel, or with each request that is not encrypted.
fn known_to(proxy: &Proxy, password: Option<&Secret>) -> Result<reqwest::Proxy, Unusable> {
    let way = reqwest::Proxy::all(proxy.url().clone()).map_err(|_| Unusable::Tls)?;
    let Some(credential) = proxy.credential() else { return Ok(way) };
    let password = password.and_then(|password| std::str::from_utf8(password.expose()).ok()).ok_or(Unusable::Proxy)?;
    Ok(way.basic_auth(&credential.user, password))
}

/// What an `io::Error` wraps is not its source: that is the source of what it wraps.
fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_client_is_kept_while_used_and_dropped_when_idle() {
        let egress = Egress::start(tokio::runtime::Handle::current(), super::super::Settings::default());
        let client = |reach| Client::new(&egress, Policy { reach, identity: None, connections_idle: 1 });
        let (public, private) = (client(Reach::Public), client(Reach::Private));
        private.get(Keys::default()).unwrap();
        let is_kept = |client: &Client| client.slot.used.lock().unwrap().is_some();
        egress.0.sweep(Instant::now() + CLIENT_IDLE_MAX / 2);
        assert!(is_kept(&private));
        egress.0.sweep(Instant::now() + CLIENT_IDLE_MAX);
        assert!(!is_kept(&private));
        assert!(!is_kept(&public));
    }
}
