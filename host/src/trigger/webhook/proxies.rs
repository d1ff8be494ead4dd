//! Who sent a request, where proxies that the operator trusts stand in between.
//!
//! Invariant: what a request says of its own way (`X-Forwarded-*`) counts only as far as a trusted proxy has written it.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::listener::Peer;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// `host.trusted_proxies`; none is trusted by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Trusts these.
    #[must_use]
    pub fn new(trusted: Vec<IpNet>) -> Self {
        Self(trusted)
    }

    /// Reads an address, or a network such as `10.0.0.0/8`.
    ///
    /// # Errors
    /// The text says what is allowed.
    pub fn parse(text: &str) -> Result<IpNet, String> {
        let alone = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse()
            .or_else(|_| alone())
            .map_err(|_| "use an IP address, or a network such as \"10.0.0.0/8\"".to_owned())
    }

    /// The address that a request comes from: the last one on its way that is no trusted proxy's.
    #[must_use]
    pub fn sender(&self, peer: &Peer, headers: &HeaderMap) -> IpAddr {
        let mut sender = peer.address.ip().to_canonical();
        let values: Vec<&str> = headers.get_all(FOR).iter().filter_map(|value| value.to_str().ok()).collect();
        for hop in values.iter().rev().flat_map(|value| value.rsplit(',')) {
            if !self.trusts(sender) {
                break;
            }
            let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
            sender = hop.to_canonical();
        }
        sender
    }

    /// Scheme and host as the sender addressed them, as in `https://hooks.example`.
    #[must_use]
    pub fn origin(&self, peer: &Peer, headers: &HeaderMap, host: &str) -> String {
        let is_trusted = self.trusts(peer.address.ip().to_canonical());
        let last = |name| {
            let value = headers.get(name).filter(|_| is_trusted)?.to_str().ok()?;
            value.rsplit(',').next().map(str::trim)
        };
        let scheme = last(PROTO).unwrap_or(if peer.is_tls { "https" } else { "http" });
        format!("{scheme}://{}", last(HOST).unwrap_or(host))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|trusted| trusted.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer { address: (address.parse::<IpAddr>().expect("an address"), 1).into(), is_tls: false, is_ambiguous: false }
    }

    fn sender(trusted: &[&str], from: &str, forwarded: &[&str]) -> String {
        let proxies = Proxies::new(trusted.iter().map(|text| Proxies::parse(text).expect("a network")).collect());
        let headers = forwarded.iter().map(|value| (FOR, value.parse().expect("a value"))).collect();
        proxies.sender(&peer(from), &headers).to_string()
    }

    #[test]
    fn nobody_is_believed_by_default() {
        assert_eq!(sender(&[], "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
    }

    #[test]
    fn a_trusted_proxy_is_believed_for_one_hop() {
        let trusted = ["10.0.0.0/8", "::1"];
        assert_eq!(sender(&trusted, "10.1.2.3", &["203.0.113.5, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(sender(&trusted, "10.1.2.3", &["203.0.113.5", "198.51.100.7, 10.9.9.9"]), "198.51.100.7");
        assert_eq!(sender(&trusted, "::ffff:10.1.2.3", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(sender(&trusted, "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(sender(&trusted, "10.1.2.3", &["198.51.100.7, nonsense"]), "10.1.2.3");
    }

    #[test]
    fn the_origin_is_the_senders() {
        let proxies = Proxies::new(vec![Proxies::parse("10.0.0.1").expect("an address")]);
        let headers: HeaderMap = [(PROTO, "https"), (HOST, "hooks.example")]
            .into_iter()
            .map(|(name, value)| (name, value.parse().expect("a value")))
            .collect();
        assert_eq!(proxies.origin(&peer("10.0.0.1"), &headers, "inner:8080"), "https://hooks.example");
        assert_eq!(proxies.origin(&peer("10.0.0.2"), &headers, "inner:8080"), "http://inner:8080");
    }
}
