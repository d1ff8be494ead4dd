//! Forbidden places in every spelling: what a hostile plugin may write in the place of a host.
//!
//! A table, nothing else: which of them are refused for what is the tests' business, those of the gate and of the boundary.

use std::net::Ipv4Addr;

/// One and more of each range that is not for everybody.
pub const ADDRESSES: [&str; 30] = [
    "127.0.0.1",
    "127.1.2.3",
    "127.255.255.254",
    "0.0.0.0",
    "0.0.0.1",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "169.254.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "168.63.129.16",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
];

/// Places of their own protocol, and names.
const OTHERS: [&str; 35] = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::0001]",
    "[::1%25lo]",
    "[::1%lo]",
    "[::]",
    "[0::0]",
    "::1",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[febf::1]",
    "[fc00::1]",
    "[fd12:3456:789a::1]",
    "[fec0::1]",
    "[fd00:ec2::254]",
    "[FD00:EC2::254]",
    "[fd00:0ec2:0:0:0:0:0:254]",
    "[fd20:ce::254]",
    "[ff02::1]",
    "[ff05::2]",
    "[2001:db8::1]",
    "[2001:2::1]",
    "[2001:10::1]",
    "[3fff::1]",
    "[100::1]",
    "[5f00::1]",
    "[4000::1]",
    "[::ffff:ffff:ffff]",
    "1.2.3.4.5",
    "0",
    "0x",
];

/// All that may stand in the place of a host.
pub fn hosts() -> Vec<String> {
    let addresses = ADDRESSES.iter().flat_map(|address| spellings(address.parse().unwrap()));
    addresses.chain(OTHERS.map(str::to_owned)).collect()
}

/// One address in every way that some parser somewhere understands.
fn spellings(address: Ipv4Addr) -> Vec<String> {
    let ([a, b, c, d], number) = (address.octets(), address.to_bits());
    let (high, low) = (number >> 16, number & 0xffff);
    let mut all = vec![
        format!("{a}.{b}.{c}.{d}"),
        format!("{a}.{b}.{c}.{d}."),
        // Whole, in parts, and in other bases.
        format!("{number}"),
        format!("{number:#x}"),
        format!("{number:#X}"),
        format!("0{number:o}"),
        format!("{a}.{}", number & 0xff_ffff),
        format!("{a}.{b}.{}", number & 0xffff),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("{a:#04x}.{b:#04x}.{c:#04x}.{d:#04x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a:03}.{b:03}.{c:03}.{d:03}"),
        format!("{a:#x}.{b}.{c}.0{d:o}"),
        format!("{}", u64::from(number) + (1 << 32)),
        format!("{}.{b}.{c}.{d}", u32::from(a) + 256),
        // Encoded, with invisible or wide characters, with odd dots.
        format!("%{:02x}{}", format!("{a}").as_bytes()[0], &format!("{a}.{b}.{c}.{d}")[1..]),
        format!("{a}%2e{b}%2e{c}%2e{d}"),
        format!("{a}。{b}。{c}。{d}"),
        format!("{a}\u{ff0e}{b}\u{ff0e}{c}\u{ff0e}{d}"),
        format!("{a}.{b}.{c}.{d}\u{200b}"),
        wide(&format!("{a}.{b}.{c}.{d}")),
        // Around it.
        format!("user@{a}.{b}.{c}.{d}"),
        format!("public.example@{a}.{b}.{c}.{d}"),
        format!("public.example\\@{a}.{b}.{c}.{d}"),
        format!("{a}.{b}.{c}.{d}\t"),
    ];
    // In IPv6: mapped, compatible, translated, NAT64 (well-known and local), 6to4, Teredo, ISATAP, zones.
    let hex = format!("{high:x}:{low:x}");
    for prefix in
        ["::ffff:", "::", "::ffff:0:", "64:ff9b::", "64:ff9b:1::", "0:0:0:0:0:ffff:", "0000:0000:0000:0000:0000:FFFF:"]
    {
        all.push(format!("[{prefix}{hex}]"));
        all.push(format!("[{prefix}{address}]"));
    }
    all.extend([
        format!("[64:ff9b:1:{high:x}:{:x}:{:x}::]", low >> 8, (low & 0xff) << 8),
        format!("[2002:{hex}::1]"),
        format!("[2001:0:{hex}::]"),
        format!("[2001::{:x}:{:x}]", !high & 0xffff, !low & 0xffff),
        format!("[2001:0:4136:e378:8000:63bf:{:x}:{:x}]", !high & 0xffff, !low & 0xffff),
        format!("[fe80::5efe:{hex}]"),
        format!("[2606:4700::5efe:{hex}]"),
        format!("[2606:4700::200:5efe:{hex}]"),
        format!("[::ffff:{hex}%25lo]"),
        format!("[::ffff:{hex}%lo]"),
        format!("::ffff:{hex}"),
        format!("[v1.{a}.{b}.{c}.{d}]"),
        format!("[{a}.{b}.{c}.{d}]"),
    ]);
    all
}

/// In full-width characters, which some parsers fold to ASCII.
fn wide(text: &str) -> String {
    text.chars().filter_map(|it| char::from_u32(u32::from(it) + 0xfee0)).collect()
}
