//! Which addresses are public, against a second classification that is made another way: a list of networks, as the
//! registries of special-purpose addresses write them, searched by prefix.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bulkhead_host::egress::address::{Class, Reach, classify};
use proptest::prelude::*;

/// Not for the open internet.
const NOT_PUBLIC_V4: [&str; 17] = [
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
const PUBLIC_V6: &str = "2000::/3";
const NOT_PUBLIC_V6: [&str; 4] = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];
/// Ends with an IPv4 address that decides.
const CARRIES_V4: [&str; 3] = ["::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"];

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

/// Random ones, and those around the ends of every network, where mistakes are.
fn v4() -> impl Strategy<Value = Ipv4Addr> {
    let edges = NOT_PUBLIC_V4.map(|network| {
        let (base, bits) = network.split_once('/').unwrap();
        let size = 1_u64 << (32 - bits.parse::<u32>().unwrap());
        (base.parse::<Ipv4Addr>().unwrap().to_bits(), size)
    });
    let near =
        (proptest::sample::select(edges.to_vec()), any::<bool>(), -2_i64..3).prop_map(|((base, size), end, off)| {
            let at = i64::from(base) + if end { i64::try_from(size).unwrap() } else { 0 } + off;
            Ipv4Addr::from_bits(u32::try_from(at.clamp(0, i64::from(u32::MAX))).unwrap())
        });
    prop_oneof![any::<u32>().prop_map(Ipv4Addr::from_bits), near]
}

fn v6() -> impl Strategy<Value = Ipv6Addr> {
    let networks: Vec<&str> = NOT_PUBLIC_V6.iter().chain(&CARRIES_V4).chain([&PUBLIC_V6]).copied().collect();
    let near = (proptest::sample::select(networks), any::<bool>(), -2_i128..3).prop_map(|(network, end, off)| {
        let (base, bits) = network.split_once('/').unwrap();
        let base = base.parse::<Ipv6Addr>().unwrap().to_bits();
        let size = if end { 1_u128 << (128 - bits.parse::<u32>().unwrap()) } else { 0 };
        Ipv6Addr::from_bits(base.wrapping_add(size).wrapping_add_signed(off))
    });
    let carrying = (proptest::sample::select(CARRIES_V4.to_vec()), v4()).prop_map(|(network, v4)| {
        let base = network.split_once('/').unwrap().0.parse::<Ipv6Addr>().unwrap().to_bits();
        Ipv6Addr::from_bits(base | u128::from(v4.to_bits()))
    });
    let isatap = (any::<u64>(), any::<bool>(), v4()).prop_map(|(prefix, global, v4)| {
        let identifier = if global { 0x0200_5efe } else { 0x5efe };
        Ipv6Addr::from_bits(u128::from(prefix) << 64 | identifier << 32 | u128::from(v4.to_bits()))
    });
    let global = any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(0x2 << 124 | bits >> 3));
    prop_oneof![any::<u128>().prop_map(Ipv6Addr::from_bits), global, near, carrying, isatap]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_is_public_is_public_by_both(address in prop_oneof![v4().prop_map(IpAddr::V4), v6().prop_map(IpAddr::V6)]) {
        let class = classify(address);
        prop_assert_eq!(class == Class::Public, is_public(address), "{} is {:?}", address, class);
        prop_assert_eq!(Reach::Public.allows_by_name(class), class == Class::Public);
        // What a name may lead to, an operator may write out as well.
        prop_assert!(!Reach::Private.allows_by_name(class) || Reach::Private.allows_literal(class));
    }
}
