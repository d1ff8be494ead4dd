//! Names to addresses, every one of them judged before it is used.
//!
//! The client connects to the very addresses that are answered here: nothing is looked up a second time. One refused
//! address refuses the name, so that a name which leads to both a public and a private place leads nowhere. The system's
//! resolver is asked, because an operator has told it which name servers, domains and files count on this machine.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::address::{Class, Listeners, Reach};
use super::client::Failure;

/// How long a lookup may take.
const LOOKUP_MAX: Duration = Duration::from_secs(5);
/// Lookups of one client under way at once. The system's resolver cannot be called off: each keeps a thread until it has
/// its answer or gives up, long after whoever asked has gone, and all clients share those threads.
const LOOKUPS_AT_ONCE_MAX: usize = 8;
/// Addresses of a name that are dialled. They share the time of one attempt to connect: a thousand would leave none a
/// chance. All of them are judged.
const DIALLED_MAX: usize = 16;

/// Why a place may not be reached. Its text names no address: the plugin may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address is not allowed")]
pub struct Refused {
    /// What the address is.
    pub class: Class,
}

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No answer in time.
    #[error("the name was not resolved in time")]
    Slow,
    /// There is no such name, or no name server.
    #[error("the name was not resolved")]
    Failed,
    /// The client's other names were in the way all the time: this one was not asked for.
    #[error("too many names wait for an answer")]
    Crowded,
}

/// The lookups of one client. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lookups(Arc<Semaphore>);

impl Default for Lookups {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOKUPS_AT_ONCE_MAX)))
    }
}

/// The resolver of one client.
pub(super) struct Resolver {
    pub(super) listeners: Arc<Listeners>,
    pub(super) reach: Reach,
    pub(super) lookups: Lookups,
}

/// The resolver of a client behind a proxy: it knows that one name, which an operator chose, and no other.
pub(super) struct ProxyResolver {
    pub(super) host: String,
    pub(super) lookups: Lookups,
}

impl Resolve for ProxyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (is_proxy, lookups) = (name.as_str() == self.host, self.lookups.clone());
        Box::pin(async move {
            if !is_proxy {
                return Err(LookupError::Failed.into());
            }
            Ok(dialled(lookups.look_up(name.as_str()).await?))
        })
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (listeners, reach, lookups) = (self.listeners.clone(), self.reach, self.lookups.clone());
        Box::pin(async move {
            let addresses = lookups.look_up(name.as_str()).await?;
            judge(&listeners, reach, &addresses)?;
            Ok(dialled(addresses))
        })
    }
}

impl Lookups {
    /// Judges what a name leads to; one that cannot be looked up leads nowhere from here.
    ///
    /// # Errors
    /// It leads to a place that may not be reached, or nobody has looked.
    pub(super) async fn judge_name(&self, listeners: &Listeners, reach: Reach, name: &str) -> Result<(), Failure> {
        match self.look_up(name).await {
            Ok(addresses) => judge(listeners, reach, &addresses).map_err(Failure::Refused),
            Err(LookupError::Slow | LookupError::Failed) => Ok(()),
            Err(LookupError::Crowded) => Err(Failure::Unreachable(LookupError::Crowded.because())),
        }
    }

    /// All addresses of a name, at least one.
    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let deadline = Instant::now() + LOOKUP_MAX;
        let place = timeout_at(deadline, self.0.clone().acquire_owned()).await;
        let place = place.map_err(|_| LookupError::Crowded)?.map_err(|_| LookupError::Failed)?;
        let name = name.to_owned();
        let asked = tokio::task::spawn_blocking(move || {
            let found = ask_system(&name);
            // Not before: whoever asked may have gone, the thread is taken all the same.
            drop(place);
            found
        });
        let found = timeout_at(deadline, asked).await.map_err(|_| LookupError::Slow)?;
        found.ok().flatten().ok_or(LookupError::Failed)
    }
}

impl LookupError {
    /// In the words of a failed request.
    pub(super) fn because(self) -> &'static str {
        match self {
            Self::Slow => "its name was not resolved in time",
            Self::Failed => "its name was not resolved",
            Self::Crowded => "too many names of the connector wait for an answer",
        }
    }
}

/// Port 0 stands for the port of the URL.
fn dialled(addresses: Vec<IpAddr>) -> Addrs {
    Box::new(addresses.into_iter().take(DIALLED_MAX).map(|address| SocketAddr::new(address, 0)))
}

#[expect(clippy::disallowed_methods, reason = "this is the resolver that the rule points to")]
fn ask_system(name: &str) -> Option<Vec<IpAddr>> {
    let found = (name, 0).to_socket_addrs().ok()?;
    let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    (!addresses.is_empty()).then_some(addresses)
}

fn judge(listeners: &Listeners, reach: Reach, addresses: &[IpAddr]) -> Result<(), Refused> {
    let classes = addresses.iter().map(|address| listeners.classify(*address));
    match classes.into_iter().find(|class| !reach.allows_by_name(*class)) {
        Some(class) => Err(Refused { class }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_private_address_among_public_ones_refuses_the_name() {
        let addresses: Vec<IpAddr> = ["8.8.8.8", "127.0.0.1"].map(|text| text.parse().unwrap()).to_vec();
        let listeners = Listeners::default();
        assert_eq!(judge(&listeners, Reach::Public, &addresses[..1]), Ok(()));
        assert_eq!(judge(&listeners, Reach::Public, &addresses), Err(Refused { class: Class::Loopback }));
        assert_eq!(judge(&listeners, Reach::Private, &addresses), Ok(()));
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_is_refused() {
        let lookups = Lookups::default();
        let resolver = Resolver { listeners: Arc::default(), reach: Reach::Public, lookups };
        let answer = resolver.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert_eq!(answer.downcast_ref::<Refused>(), Some(&Refused { class: Class::Loopback }));
    }

    #[test]
    fn of_many_addresses_few_are_dialled() {
        let addresses = (0..5_000).map(|nth| IpAddr::from(std::net::Ipv4Addr::from_bits(nth))).collect();
        assert_eq!(dialled(addresses).count(), DIALLED_MAX);
    }
}
