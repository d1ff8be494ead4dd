//! How requests leave the host: addresses are judged, connections kept apart, trust in TLS loaded once.
//!
//! Mechanism only: who may ask for what is decided in `capability::http`. It is the one place that connects to the
//! outside on behalf of plugins. Invariant: no connection is opened to an address that [`address::Reach`] does not allow.

pub mod address;
pub mod client;
pub mod own_admin;
pub mod proxy;
pub mod resolver;
pub mod trust;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};

use address::{Listeners, Reach};
use client::Slot;
use proxy::Proxy;
use resolver::Refused;
use trust::Roots;

/// How often idle clients are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Everything that all clients share. Cheap to clone; the last clone ends the task that drops idle clients.
#[derive(Clone)]
pub struct Egress(Arc<Shared>);

/// What the configuration says about the way out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The host's own addresses: to a plugin they are as private as the network behind them.
    pub listeners: Vec<SocketAddr>,
    /// Trusted beside the machine's roots.
    pub roots: Roots,
    /// Passed on the way to public places.
    pub proxy: Option<Proxy>,
}

struct Shared {
    runtime: Handle,
    listeners: Arc<Listeners>,
    roots: Roots,
    proxy: Option<Proxy>,
    trust: OnceLock<Arc<dyn ServerCertVerifier>>,
    slots: Mutex<Vec<Weak<Slot>>>,
    sweeper: OnceLock<AbortHandle>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(sweeper) = self.sweeper.get() {
            sweeper.abort();
        }
    }
}

impl Egress {
    /// Starts egress on `runtime`, where sockets and timers live, apart from guests.
    #[must_use]
    pub fn start(runtime: Handle, settings: Settings) -> Self {
        let shared = Arc::new(Shared {
            runtime: runtime.clone(),
            listeners: Arc::new(Listeners::new(settings.listeners)),
            roots: settings.roots,
            proxy: settings.proxy,
            trust: OnceLock::new(),
            slots: Mutex::default(),
            sweeper: OnceLock::new(),
        });
        let sweeper = runtime.spawn(sweep_until_dropped(Arc::downgrade(&shared))).abort_handle();
        shared.sweeper.get_or_init(|| sweeper);
        Self(shared)
    }

    /// Carries `work` out on egress's own runtime; dropping the future ends the work. `None` when that runtime stops.
    pub async fn run<Work>(&self, work: Work) -> Option<Work::Output>
    where
        Work: Future + Send + 'static,
        Work::Output: Send + 'static,
    {
        let mut task = AbortOnDrop(self.0.runtime.spawn(work));
        match (&mut task.0).await {
            Ok(output) => Some(output),
            Err(error) => match error.try_into_panic() {
                // A panic belongs to the run that asked, whose border catches and counts it.
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => None,
            },
        }
    }

    /// Judges an address that stands in a URL: it is never looked up.
    ///
    /// # Errors
    /// It may not be reached.
    pub fn judge(&self, reach: Reach, address: IpAddr) -> Result<(), Refused> {
        let class = self.0.listeners.classify(address);
        if reach.allows_literal(class) { Ok(()) } else { Err(Refused { class }) }
    }

    /// What requests of this reach pass.
    fn proxy(&self, reach: Reach) -> Option<&Proxy> {
        match reach {
            Reach::Public => self.0.proxy.as_ref(),
            Reach::Private => None,
        }
    }

    fn listeners(&self) -> Arc<Listeners> {
        self.0.listeners.clone()
    }

    /// The roots of the machine, loaded at the first use: parsing them takes as long as starting the rest of the host.
    fn trust(&self, provider: &Arc<CryptoProvider>) -> Option<Arc<dyn ServerCertVerifier>> {
        if let Some(trust) = self.0.trust.get() {
            return Some(trust.clone());
        }
        match self.0.roots.verifier(provider) {
            Ok(verifier) => Some(self.0.trust.get_or_init(|| Arc::new(verifier)).clone()),
            Err(error) => {
                tracing::warn!(%error, "no root certificates: every https request will fail until some are installed");
                None
            }
        }
    }

    fn watch(&self, slot: &Arc<Slot>) {
        let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(slot));
    }
}

impl Shared {
    fn sweep(&self, now: Instant) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in slots.iter().filter_map(Weak::upgrade) {
            slot.drop_if_idle(now);
        }
    }
}

async fn sweep_until_dropped(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.sweep(Instant::now());
    }
}

struct AbortOnDrop<Output>(JoinHandle<Output>);

impl<Output> Drop for AbortOnDrop<Output> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
