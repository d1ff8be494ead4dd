//! Forbidden places in every spelling, from a real plugin that writes scheme, authority and path into `wasi:http` itself:
//! each is refused and counted, and nobody there hears of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use bulkhead_tests::{Bulkhead, Canaries, Found, NAME_SERVER, NameServer, guest, secluded};
use serde_json::json;

#[path = "../../host/tests/support/spellings.rs"]
#[allow(unreachable_pub, reason = "the tests of the gate share it")]
mod spellings;

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(120);
/// Where somebody listens on every address of the machine.
const PORTS: [u16; 3] = [80, 443, 8080];
/// Schemes of other protocols, and of none.
const SCHEMES: [&str; 8] = ["HTTP", "ftp", "file", "gopher", "ws", "unix", "http+unix", ""];
/// Paths that some parser somewhere takes for a place.
const PATHS: [&str; 9] = [
    "",
    "@10.0.0.1/",
    ":80@10.0.0.1/",
    "//10.0.0.1/",
    "http://10.0.0.1/",
    "/../..//10.0.0.1/",
    "/%2f%2f10.0.0.1/",
    "\\\\10.0.0.1\\",
    "/ HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n",
];

/// What addresses of the table a machine can have.
fn addresses() -> Vec<IpAddr> {
    let addresses = spellings::ADDRESSES.iter().map(|address| address.parse::<Ipv4Addr>().unwrap());
    addresses.filter(|it| matches!(it.octets()[0], 1..=126 | 128..=223)).map(IpAddr::V4).collect()
}

/// Scheme, authority and path.
fn targets() -> Vec<[String; 3]> {
    let hosts = spellings::hosts().into_iter().flat_map(|host| {
        [("http", String::new()), ("http", format!(":{}", PORTS[2])), ("https", format!(":{}", PORTS[2]))]
            .map(|(scheme, port)| [scheme.to_owned(), format!("{host}{port}"), "/".to_owned()])
    });
    let odd = |scheme: &str, path: &str| {
        ["127.0.0.1", "localhost:8080", ""].map(|place| [scheme, place, path].map(str::to_owned))
    };
    let schemes = SCHEMES.iter().flat_map(|scheme| odd(scheme, "/"));
    let paths = PATHS.iter().flat_map(|path| odd("http", path));
    hosts.chain(schemes).chain(paths).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "visits the test's own listeners, in a network that leads nowhere")]
fn no_spelling_of_a_forbidden_place_that_a_plugin_writes_is_reached() {
    let _built = guest("stream");
    secluded(module_path!(), "no_spelling_of_a_forbidden_place_that_a_plugin_writes_is_reached", &addresses(), || {
        let _names = NameServer::start(NAME_SERVER.parse().unwrap(), |_, _| Found::NoSuchName);
        let canaries = PORTS.map(|port| Canaries::at(&[IpAddr::V6(Ipv6Addr::UNSPECIFIED)], port));
        let plugin = guest("stream");
        let host = Bulkhead::new(&format!(
            "[connectors.knocker]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 1 }}\nretry = {{ attempts = 1 }}\n\
             limits = {{ requests = 100000, cpu = '1m', wall = '2m' }}\nallow.publish = ['seen']\nallow.http = [\n\
             {{ url = 'http://*', any = true, methods = ['GET'] }}, {{ url = 'https://*', any = true, methods = ['GET'] }}]\n",
            plugin.display()
        ));
        let (targets, running) = (targets(), host.start());
        host.send("in", &[json!(targets).to_string()]);
        running.wait_until("end", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &[]) == 1.0);
        let denied = |reason| {
            let labels = [("connector", "knocker"), ("effect", "http"), ("reason", reason)];
            running.metrics().value("bulkhead_denied_total", &labels)
        };
        let (address, invalid) = (denied("address"), denied("invalid"));
        let _ = running.terminate().ok();
        let dead = host.ledger().dead();
        assert!(dead.is_empty(), "{}", dead[0].reason);
        let seen = String::from_utf8(host.ledger().messages("seen").remove(0).body).unwrap();
        let counts: Vec<usize> = seen.split(' ').map(|count| count.parse().unwrap()).collect();
        assert_eq!(counts.iter().sum::<usize>(), targets.len());
        // Most of them can be written, and those are the gate's to refuse.
        assert!(counts[2] >= 1_000 && address >= 150.0 && invalid >= 150.0, "{seen}: {address} {invalid}");
        assert_eq!(counts[2] as f64, address + invalid, "{seen}");
        for (canaries, port) in canaries.iter().zip(PORTS) {
            assert_eq!(canaries.visited(), [], "{port}");
            assert!(addresses().iter().all(|place| TcpStream::connect(SocketAddr::new(*place, port)).is_ok()));
            assert_eq!(canaries.visited().len(), 1, "somebody could have come to {port}");
        }
    });
}
