//! What an address is, in every spelling and every embedding, and who may reach it.
//!
//! The table follows the IANA special-purpose registries of both protocols. What is not known to be public is not public:
//! IPv6 outside `2000::/3` is refused as a whole. Invariant: an IPv6 address that carries an IPv4 address is never more
//! public than the address that it carries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// What kind of place an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The open internet.
    Public,
    /// This machine.
    Loopback,
    /// A private network (RFC 1918, unique local, site local).
    Private,
    /// Between a provider and its customers (RFC 6598).
    Shared,
    /// One of the host's own listeners.
    Own,
    /// This link only (RFC 3927, `fe80::/10`).
    LinkLocal,
    /// The metadata service of a cloud: it hands out credentials.
    Metadata,
    /// No place at all (`0.0.0.0`, `::`).
    Unspecified,
    /// Many receivers.
    Multicast,
    /// Every receiver.
    Broadcast,
    /// For documentation, benchmarks or the future, or a tunnel (6to4, Teredo) that nobody should use.
    Reserved,
}

/// What a request may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Public addresses.
    Public,
    /// Private ones too: the grant says `private = true` and names host and port.
    Private,
}

impl Reach {
    /// Whether a name may lead to `class`. Links and metadata services never: a name can be pointed at them by whoever
    /// runs its zone.
    #[must_use]
    pub fn allows_by_name(self, class: Class) -> bool {
        match class {
            Class::Public => true,
            Class::Loopback | Class::Private | Class::Shared | Class::Own => self == Self::Private,
            Class::LinkLocal
            | Class::Metadata
            | Class::Unspecified
            | Class::Multicast
            | Class::Broadcast
            | Class::Reserved => false,
        }
    }

    /// Whether an address that the operator wrote out may be of `class`: links and metadata services with
    /// `private = true`, since nobody else chose them.
    #[must_use]
    pub fn allows_literal(self, class: Class) -> bool {
        let is_near = matches!(class, Class::LinkLocal | Class::Metadata);
        self.allows_by_name(class) || (self == Self::Private && is_near)
    }
}

/// The addresses that the host itself listens on.
#[derive(Debug, Default)]
pub struct Listeners {
    addresses: Vec<IpAddr>,
    on_every_interface: bool,
}

impl Listeners {
    /// Takes the listeners' addresses as bound.
    #[must_use]
    pub fn new(bound: Vec<SocketAddr>) -> Self {
        let addresses: Vec<IpAddr> = bound.iter().map(|address| address.ip().to_canonical()).collect();
        let on_every_interface = addresses.iter().any(IpAddr::is_unspecified);
        Self { addresses, on_every_interface }
    }

    /// What `address` is, seen from this host.
    #[must_use]
    pub fn classify(&self, address: IpAddr) -> Class {
        match classify(address) {
            Class::Public if self.includes(carried(address)) => Class::Own,
            class => class,
        }
    }

    fn includes(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || (self.on_every_interface && is_of_this_machine(address))
    }
}

/// What `address` is, whatever this host listens on.
#[must_use]
pub fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

/// A socket can be bound to an address only where an interface has it; nothing is sent.
fn is_of_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

fn classify_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        // Azure's, on a public address; Alibaba's, within the shared range; Oracle's, within the protocol range.
        [169, 254, 169, 254] | [168, 63, 129, 16] | [100, 100, 100, 200] | [192, 0, 0, 192] => Class::Metadata,
        [0, 0, 0, 0] => Class::Unspecified,
        [255, 255, 255, 255] => Class::Broadcast,
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [100, 64..=127, ..] => Class::Shared,
        [169, 254, ..] => Class::LinkLocal,
        [224..=239, ..] => Class::Multicast,
        // "This network", protocol assignments, AMT, 6to4 relays.
        [0 | 240..=255, ..] | [192, 0, 0, _] | [192, 52, 193, _] | [192, 88, 99, _] => Class::Reserved,
        // Documentation and benchmarks.
        [192, 0, 2, _] | [198, 18..=19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Reserved,
        _ => Class::Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> Class {
    if let Some(embedded) = translated(address) {
        return classify_v4(embedded);
    }
    let own = classify_v6_itself(address);
    match (own, isatap(address).map(classify_v4)) {
        // The interface part names an IPv4 host behind a tunnel: that host decides where the prefix does not.
        (Class::Public, Some(embedded)) => embedded,
        _ => own,
    }
}

fn classify_v6_itself(address: Ipv6Addr) -> Class {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        // AWS and Google.
        [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254] => Class::Metadata,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Class::Private,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xff00..=0xffff, ..] => Class::Multicast,
        // Protocol assignments: Teredo, benchmarks, ORCHID. Then documentation, 6to4.
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] | [0x2002, ..] => Class::Reserved,
        [0x2000..=0x3fff, ..] => Class::Public,
        // Compatible, local translation (64:ff9b:1::/48), discard, segment routing, all that is not handed out.
        _ => Class::Reserved,
    }
}

/// The IPv4 address that packets to `address` end up at: mapped, translated (RFC 2765), NAT64's well-known prefix.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        _ => None,
    }
}

/// The address that answers in the end: the embedded one where there is one.
fn carried(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => translated(v6).or_else(|| isatap(v6)).map_or(address, IpAddr::V4),
    }
}

fn isatap(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [.., 0x0000 | 0x0200, 0x5efe, high, low] => Some(v4(high, low)),
        _ => None,
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(class: Class, addresses: &[&str]) {
        for address in addresses {
            assert_eq!(classify(address.parse().unwrap()), class, "{address}");
        }
    }

    #[test]
    fn ipv4_ranges_end_where_the_registry_says() {
        check(
            Class::Public,
            &[
                "1.0.0.0",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.0",
                "169.253.255.255",
                "169.255.0.0",
                "172.15.255.255",
                "172.32.0.0",
                "192.0.1.0",
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
                "223.255.255.255",
            ],
        );
        check(Class::Loopback, &["127.0.0.0", "127.0.0.1", "127.255.255.255"]);
        check(
            Class::Private,
            &["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"],
        );
        check(Class::Shared, &["100.64.0.0", "100.127.255.255"]);
        check(Class::LinkLocal, &["169.254.0.0", "169.254.170.2", "169.254.255.255"]);
        check(Class::Metadata, &["169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192"]);
        check(Class::Unspecified, &["0.0.0.0"]);
        check(Class::Broadcast, &["255.255.255.255"]);
        check(Class::Multicast, &["224.0.0.0", "239.255.255.255"]);
        check(
            Class::Reserved,
            &[
                "0.0.0.1",
                "0.255.255.255",
                "192.0.0.1",
                "192.0.2.1",
                "192.52.193.1",
                "192.88.99.1",
                "198.18.0.0",
                "198.19.255.255",
                "198.51.100.1",
                "203.0.113.1",
                "240.0.0.0",
                "255.255.255.254",
            ],
        );
    }

    #[test]
    fn ipv6_ranges_end_where_the_registry_says() {
        check(Class::Public, &["2000::1", "2001:200::1", "2606:4700::1111", "2a00::1", "3ffe::1", "3fff:1000::1"]);
        check(Class::Loopback, &["::1"]);
        check(Class::Unspecified, &["::"]);
        check(Class::Private, &["fc00::1", "fd12:3456::1", "fdff::1", "fec0::1", "feff::1"]);
        check(Class::LinkLocal, &["fe80::1", "febf::1"]);
        check(Class::Metadata, &["fd00:ec2::254", "fd20:ce::254"]);
        check(Class::Multicast, &["ff00::1", "ff02::1", "ffff::1"]);
        check(
            Class::Reserved,
            &[
                "::2",
                "100::1",
                "100:0:0:1::1",
                "1fff::1",
                "2001::1",
                "2001:2::1",
                "2001:10::1",
                "2001:20::1",
                "2001:1ff::1",
                "2001:db8::1",
                "2002::1",
                "3fff::1",
                "3fff:fff::1",
                "4000::1",
                "5f00::1",
                "fe00::1",
                "64:ff9b:1::1",
                "64:ff9b:2::1",
            ],
        );
    }

    #[test]
    fn an_embedded_ipv4_address_is_no_more_public_than_itself() {
        for (v4, class) in [
            ("127.0.0.1", Class::Loopback),
            ("10.0.0.1", Class::Private),
            ("169.254.169.254", Class::Metadata),
            ("100.64.0.1", Class::Shared),
            ("0.0.0.0", Class::Unspecified),
            ("8.8.8.8", Class::Public),
        ] {
            let [a, b, c, d] = v4.parse::<Ipv4Addr>().unwrap().octets();
            let hex = format!("{a:02x}{b:02x}:{c:02x}{d:02x}");
            for text in
                [format!("::ffff:{v4}"), format!("::ffff:{hex}"), format!("::ffff:0:{hex}"), format!("64:ff9b::{hex}")]
            {
                assert_eq!(classify(text.parse().unwrap()), class, "{text}");
            }
            assert_eq!(classify(format!("2606::5efe:{hex}").parse().unwrap()), class, "ISATAP");
            assert_eq!(classify(format!("2606::200:5efe:{hex}").parse().unwrap()), class, "ISATAP");
        }
    }

    #[test]
    fn tunnels_and_deprecated_embeddings_are_refused_whatever_they_carry() {
        check(
            Class::Reserved,
            &[
                "::127.0.0.1",
                "::10.0.0.1",
                "::8.8.8.8",
                "2002:7f00:1::",
                "2002:a9fe:a9fe::1",
                "2002:808:808::1",
                "2001:0:808:808::1",
                "64:ff9b:1:7f00:0:100::",
                "64:ff9b:1::a9fe:a9fe",
            ],
        );
        check(Class::LinkLocal, &["fe80::5efe:7f00:1", "fe80::200:5efe:808:808"]);
    }

    #[test]
    fn reach_decides_by_class() {
        for (class, public, private, literal) in [
            (Class::Public, true, true, true),
            (Class::Loopback, false, true, true),
            (Class::Private, false, true, true),
            (Class::Shared, false, true, true),
            (Class::Own, false, true, true),
            (Class::LinkLocal, false, false, true),
            (Class::Metadata, false, false, true),
            (Class::Unspecified, false, false, false),
            (Class::Multicast, false, false, false),
            (Class::Broadcast, false, false, false),
            (Class::Reserved, false, false, false),
        ] {
            assert_eq!(Reach::Public.allows_by_name(class), public, "{class:?}");
            assert_eq!(Reach::Public.allows_literal(class), public, "{class:?}");
            assert_eq!(Reach::Private.allows_by_name(class), private, "{class:?}");
            assert_eq!(Reach::Private.allows_literal(class), literal, "{class:?}");
        }
    }

    #[test]
    fn the_hosts_own_listeners_are_not_public() {
        let listeners = Listeners::new(vec!["8.8.8.8:80".parse().unwrap(), "[::ffff:9.9.9.9]:80".parse().unwrap()]);
        assert_eq!(listeners.classify("8.8.8.8".parse().unwrap()), Class::Own);
        assert_eq!(listeners.classify("::ffff:8.8.8.8".parse().unwrap()), Class::Own);
        assert_eq!(listeners.classify("9.9.9.9".parse().unwrap()), Class::Own);
        assert_eq!(listeners.classify("8.8.4.4".parse().unwrap()), Class::Public);
        let everywhere = Listeners::new(vec!["0.0.0.0:80".parse().unwrap()]);
        assert!(everywhere.includes("127.0.0.1".parse().unwrap()));
        assert!(!everywhere.includes("192.0.2.1".parse().unwrap()));
    }
}
