//! Which addresses are public, against a second classification that is made another way: a list of networks, as the
//! registries of special-purpose addresses write them, searched by prefix.

use std::net::{IpAddr, Ipv4Addr};

use bulkhead_host::egress::address::{Class, Reach, classify};

/// Not for the open internet.
pub const NOT_PUBLIC_V4: [&str; 17] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// Global unicast is handed out from here, except for what follows.
pub const PUBLIC_V6: &str = "2000::/3";
pub const NOT_PUBLIC_V6: [&str; 4] = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];
/// Ends with an IPv4 address that decides.
pub const CARRIES_V4: [&str; 3] = ["::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"];

fn is_in(address: IpAddr, network: &str) -> bool {
    let (base, bits) = network.split_once('/').unwrap();
    let shift = |width: u32| width - bits.parse::<u32>().unwrap();
    match (address, base.parse().unwrap()) {
        (IpAddr::V4(address), IpAddr::V4(base)) => {
            (address.to_bits() ^ base.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(base)) => {
            (address.to_bits() ^ base.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn is_public(address: IpAddr) -> bool {
    let is_in_any = |networks: &[&str]| networks.iter().any(|network| is_in(address, network));
    let IpAddr::V6(v6) = address else { return !is_in_any(&NOT_PUBLIC_V4) };
    let low = IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(v6.to_bits() & 0xffff_ffff).unwrap()));
    if is_in_any(&CARRIES_V4) {
        return is_public(low);
    }
    // An interface identifier of ISATAP, with the bit for global addresses or without.
    let is_isatap = (v6.to_bits() >> 32) & 0xfdff_ffff == 0x5efe;
    is_in(address, PUBLIC_V6) && !is_in_any(&NOT_PUBLIC_V6) && (!is_isatap || is_public(low))
}

/// Both ways come to the same.
pub fn check(address: IpAddr) {
    let class = classify(address);
    assert_eq!(class == Class::Public, is_public(address), "{address} is {class:?}");
    assert_eq!(Reach::Public.allows_by_name(class), class == Class::Public);
    // What a name may lead to, an operator may write out as well.
    assert!(!Reach::Private.allows_by_name(class) || Reach::Private.allows_literal(class));
}
