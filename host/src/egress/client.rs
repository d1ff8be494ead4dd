//! One client for each (connector, reach): made on first use, dropped after five idle minutes.
//!
//! Pools, TLS sessions and HTTP/2 connections are never shared between connectors; only the roots of trust are. A client
//! follows no redirect, keeps no cookie and knows no proxy of the environment.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::{ClientConfig, RootCertStore};

use super::Egress;
use super::address::Reach;
use super::resolver::{LookupError, Refused, Resolver};

/// From the first packet out to the end of the TLS handshake, the lookup included.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A connection that nobody uses; servers tend to close theirs after a minute or two.
const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(90);
/// Idle connections to one place.
const CONNECTIONS_IDLE_MAX: usize = 16;
/// A client that nobody uses.
const CLIENT_IDLE_MAX: Duration = Duration::from_secs(300);
/// All headers of a response together.
pub const RESPONSE_HEADER_BYTES_MAX: u32 = 64 * 1024;
/// Headers of a response.
const RESPONSE_HEADERS_MAX: usize = 128;
/// Nothing here looks like a browser; receivers like to know who calls.
const USER_AGENT: &str = concat!("bulkhead/", env!("CARGO_PKG_VERSION"));

/// The clients of one connector.
pub struct Clients {
    egress: Egress,
    public: Arc<Slot>,
    private: Arc<Slot>,
}

/// Where one client is kept while it is used.
#[derive(Default)]
pub(super) struct Slot {
    used: Mutex<Option<(reqwest::Client, Instant)>>,
}

/// Why a request got no answer; the parts of an error that anybody may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The address is not allowed: nothing was sent.
    Refused(Refused),
    /// It is not a request that can be sent.
    Malformed,
    /// No connection: nothing was sent.
    Unreachable(&'static str),
    /// It may have had its effect.
    Interrupted(&'static str),
}

impl Clients {
    /// A place for the clients of one more connector.
    #[must_use]
    pub fn new(egress: &Egress) -> Self {
        let slot = || {
            let slot = Arc::<Slot>::default();
            egress.watch(&slot);
            slot
        };
        Self { public: slot(), private: slot(), egress: egress.clone() }
    }

    /// The client for `reach`.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn get(&self, reach: Reach) -> Result<reqwest::Client, reqwest::Error> {
        let slot = match reach {
            Reach::Public => &self.public,
            Reach::Private => &self.private,
        };
        let mut used = slot.used.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match used.take() {
            Some((client, _)) => client,
            None => build(&self.egress, reach)?,
        };
        *used = Some((client.clone(), Instant::now()));
        Ok(client)
    }

    /// Judges an address that stands in a URL: it is never looked up.
    ///
    /// # Errors
    /// It may not be reached.
    pub fn judge(&self, reach: Reach, address: IpAddr) -> Result<(), Refused> {
        let class = self.egress.listeners().classify(address);
        if reach.allows_literal(class) { Ok(()) } else { Err(Refused { class }) }
    }

    /// Where the work of these clients is carried out.
    #[must_use]
    pub fn egress(&self) -> &Egress {
        &self.egress
    }
}

impl Slot {
    pub(super) fn drop_if_idle(&self, now: Instant) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.as_ref().is_some_and(|(_, last)| now.saturating_duration_since(*last) >= CLIENT_IDLE_MAX) {
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
        return match lookup {
            LookupError::Slow => "its name was not resolved in time",
            LookupError::Failed => "its name was not resolved",
        };
    }
    if find::<rustls::Error>(error).is_some() {
        return "the TLS handshake failed";
    }
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "the connection was refused",
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => "the connection broke off",
        _ if error.is_timeout() => "there was no connection in time",
        _ => "there was no connection",
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
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |cause| cause_of(*cause)).find_map(|cause| cause.downcast_ref())
}

/// What an `io::Error` wraps is not its source: that is the source of what it wraps.
fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

#[expect(clippy::disallowed_methods, reason = "egress makes the clients, with its own resolver")]
fn build(egress: &Egress, reach: Reach) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls(egress))
        .dns_resolver(Resolver::new(egress.listeners(), reach))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_MAX)
        .pool_idle_timeout(CONNECTION_IDLE_MAX)
        .pool_max_idle_per_host(CONNECTIONS_IDLE_MAX)
        .http1_max_headers(RESPONSE_HEADERS_MAX)
        .http2_max_header_list_size(RESPONSE_HEADER_BYTES_MAX)
        .build()
}

/// A configuration of its own for each client: resumed sessions must not cross from one connector to another.
fn tls(egress: &Egress) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for the protocol versions of the library");
    let mut config = match egress.trust(&provider) {
        Some(trust) => builder.dangerous().with_custom_certificate_verifier(trust).with_no_client_auth(),
        None => builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_client_is_kept_while_used_and_dropped_when_idle() {
        let egress = Egress::start(tokio::runtime::Handle::current(), Vec::new());
        let clients = Clients::new(&egress);
        clients.get(Reach::Private).unwrap();
        let is_kept = |clients: &Clients| clients.private.used.lock().unwrap().is_some();
        egress.0.sweep(Instant::now() + CLIENT_IDLE_MAX / 2);
        assert!(is_kept(&clients));
        egress.0.sweep(Instant::now() + CLIENT_IDLE_MAX);
        assert!(!is_kept(&clients));
        assert!(clients.public.used.lock().unwrap().is_none());
    }
}
