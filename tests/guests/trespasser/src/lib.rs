//! Goes for sockets, names, files and randomness through every entry that WASI has for them, and past the entries with
//! handles that nobody gave it. The body of a message is a verb and its arguments.

use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use bulkhead_sdk::prelude::*;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, DirectoryEntryStream, OpenFlags, PathFlags};
use wasip2::random::{insecure, random};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::{ResolveAddressStream, resolve_addresses};
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp::TcpSocket;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;
use wasip2::sockets::udp::{
    IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream, UdpSocket as RawUdpSocket,
};
use wasip2::sockets::udp_create_socket::create_udp_socket;

/// Names and addresses in the spellings that a resolver may take.
const NAMES: [&str; 10] =
    ["localhost", "example.com", "127.0.0.1", "::1", "[::1]", "2130706433", "m\u{fc}nchen.example", "a\0b", ".", ""];

struct Trespasser;

impl Consumer for Trespasser {
    fn handle(message: Message) -> Result<(), Failure> {
        let words: Vec<&str> = message.text()?.split(' ').collect();
        match words[..] {
            ["ok"] => Ok(()),
            ["sockets"] => sockets(),
            ["lookups"] => lookups(),
            ["directories"] => expect(get_directories().is_empty(), "a directory"),
            ["library", address] => library(address),
            ["forge", what, handle, address] => forge(what, handle.parse().or_reject("a handle")?, address),
            ["random", bytes] => drawn(random::get_random_bytes, bytes),
            ["insecure", bytes] => drawn(insecure::get_insecure_random_bytes, bytes),
            _ => Err(Failure::reject("no such verb")),
        }
    }
}

export!(Trespasser: Consumer);

fn expect(is_so: bool, what: &str) -> Result<(), Failure> {
    if is_so { Ok(()) } else { Err(Failure::reject(format!("the sandbox has a hole: {what}"))) }
}

fn sockets() -> Result<(), Failure> {
    for family in [IpAddressFamily::Ipv4, IpAddressFamily::Ipv6] {
        expect(create_tcp_socket(family).err() == Some(ErrorCode::AccessDenied), "TCP")?;
        expect(create_udp_socket(family).err() == Some(ErrorCode::AccessDenied), "UDP")?;
    }
    Ok(())
}

fn lookups() -> Result<(), Failure> {
    let network = instance_network();
    let long = "x".repeat(100_000);
    NAMES.into_iter().chain([&*long]).try_for_each(|name| {
        expect(resolve_addresses(&network, name).err() == Some(ErrorCode::AccessDenied), "a lookup")
    })
}

/// As any plugin would, through the standard library.
fn library(address: &str) -> Result<(), Failure> {
    let address: SocketAddr = address.parse().or_reject("an address")?;
    expect(TcpStream::connect(address).is_err(), "a connection")?;
    expect(TcpListener::bind("0.0.0.0:0").is_err(), "a listener")?;
    expect(UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"x", address)).is_err(), "a datagram")
}

/// Uses a number as if the host had given it: the host has to end the call.
fn forge(what: &str, handle: u32, address: &str) -> Result<(), Failure> {
    let Ok(SocketAddr::V4(address)) = address.parse() else { return Err(Failure::reject("an address")) };
    let [a, b, c, d] = address.ip().octets();
    let address = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) });
    // A handle of another kind, whose number may be the same.
    let network = ManuallyDrop::new(instance_network());
    // SAFETY: none, which is the point; nothing is dropped that is not there.
    unsafe {
        match what {
            "connect" => drop(forged(TcpSocket::from_handle(handle)).start_connect(&network, address)),
            "bind" => drop(forged(TcpSocket::from_handle(handle)).start_bind(&network, address)),
            "listen" => drop(forged(TcpSocket::from_handle(handle)).start_listen()),
            "accept" => drop(forged(TcpSocket::from_handle(handle)).accept()),
            "bind-udp" => drop(forged(RawUdpSocket::from_handle(handle)).start_bind(&network, address)),
            "stream" => drop(forged(RawUdpSocket::from_handle(handle)).stream(Some(address))),
            "receive" => drop(forged(IncomingDatagramStream::from_handle(handle)).receive(1)),
            "send" => {
                let datagram = OutgoingDatagram { data: b"x".to_vec(), remote_address: Some(address) };
                let _ = forged(OutgoingDatagramStream::from_handle(handle)).send(&[datagram]);
            }
            "next" => drop(forged(ResolveAddressStream::from_handle(handle)).resolve_next_address()),
            "open" => {
                let (path, open, flags) = (PathFlags::SYMLINK_FOLLOW, OpenFlags::empty(), DescriptorFlags::READ);
                drop(forged(Descriptor::from_handle(handle)).open_at(path, "/etc/passwd", open, flags));
            }
            "read" => drop(forged(Descriptor::from_handle(handle)).read(1, 0)),
            "write" => drop(forged(Descriptor::from_handle(handle)).write(b"x", 0)),
            "list" => drop(forged(DirectoryEntryStream::from_handle(handle)).read_directory_entry()),
            _ => return Err(Failure::reject("nothing to forge")),
        }
    }
    Err(Failure::reject("the sandbox has a hole: a forged handle was taken"))
}

fn forged<T>(value: T) -> ManuallyDrop<T> {
    ManuallyDrop::new(value)
}

fn drawn(draw: fn(u64) -> Vec<u8>, bytes: &str) -> Result<(), Failure> {
    let bytes = bytes.parse().or_reject("a number")?;
    expect(draw(bytes).len() as u64 == bytes, "too few random bytes")
}
