//! Names to addresses, every one of them judged before it is used.
//!
//! The client connects to the very addresses that are answered here: nothing is looked up a second time. One refused
//! address refuses the name, so that a name which leads to both a public and a private place leads nowhere.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{Class, Listeners, Reach};

/// How long a lookup may take.
const LOOKUP_MAX: Duration = Duration::from_secs(5);

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
}

/// The resolver of one client.
pub(super) struct Resolver {
    listeners: Arc<Listeners>,
    reach: Reach,
}

/// The resolver of a client behind a proxy: it knows that one name, which an operator chose, and no other.
pub(super) struct ProxyResolver {
    pub(super) host: String,
}

impl Resolver {
    pub(super) fn new(listeners: Arc<Listeners>, reach: Reach) -> Self {
        Self { listeners, reach }
    }
}

impl Resolve for ProxyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let is_proxy = name.as_str() == self.host;
        Box::pin(async move {
            if !is_proxy {
                return Err(LookupError::Failed.into());
            }
            Ok(dialled(look_up(name.as_str()).await?))
        })
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (listeners, reach) = (self.listeners.clone(), self.reach);
        Box::pin(async move {
            let addresses = look_up(name.as_str()).await?;
            judge(&listeners, reach, &addresses)?;
            Ok(dialled(addresses))
        })
    }
}

/// Judges what a name leads to; one that cannot be looked up leads nowhere from here.
pub(super) async fn judge_name(listeners: &Listeners, reach: Reach, name: &str) -> Result<(), Refused> {
    match look_up(name).await {
        Ok(addresses) => judge(listeners, reach, &addresses),
        Err(LookupError::Slow | LookupError::Failed) => Ok(()),
    }
}

/// Port 0 stands for the port of the URL.
fn dialled(addresses: Vec<IpAddr>) -> Addrs {
    Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)))
}

#[expect(clippy::disallowed_methods, reason = "this is the resolver that the rule points to")]
async fn look_up(name: &str) -> Result<Vec<IpAddr>, LookupError> {
    let lookup = tokio::time::timeout(LOOKUP_MAX, tokio::net::lookup_host((name, 0))).await;
    let found = lookup.map_err(|_| LookupError::Slow)?.map_err(|_| LookupError::Failed)?;
    let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    if addresses.is_empty() { Err(LookupError::Failed) } else { Ok(addresses) }
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
        let resolver = Resolver::new(Arc::new(Listeners::default()), Reach::Public);
        let answer = resolver.resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert_eq!(answer.downcast_ref::<Refused>(), Some(&Refused { class: Class::Loopback }));
    }
}
