//! Which addresses are public, at random and around the ends of every network, where mistakes are: the property is that
//! of the fuzzer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::properties::addresses::{self, CARRIES_V4, NOT_PUBLIC_V4, NOT_PUBLIC_V6, PUBLIC_V6};
use proptest::prelude::*;

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
        addresses::check(address);
    }
}
