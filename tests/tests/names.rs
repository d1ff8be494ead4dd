//! Names that lie: a name server of the test's own, public and private addresses on one machine, and listeners on the
//! forbidden ones that must see nobody. Each test has a network to itself, in which the host asks the system's resolver.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use bulkhead_tests::{
    Answer, Authority, Bulkhead, Canaries, Family, Fixture, Flaw, Found, NAME_SERVER, NameServer, Question, Record,
    TlsServer, guest, secluded,
};

/// Long enough for a busy machine; every wait ends with the event itself.
const PATIENCE: Duration = Duration::from_secs(120);
const PUBLIC: Ipv4Addr = Ipv4Addr::new(93, 184, 215, 14);
const PUBLIC_V6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x2800, 0x21f, 0, 0, 0, 0, 0x14);
/// The proxy's: on a private network, as they are.
const PROXY: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
/// One for each kind of place where nobody may come.
const FORBIDDEN: [&str; 14] = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "198.18.0.1",
    "::1",
    "fd00::1",
    "fd00:ec2::254",
    "64:ff9b::7f00:1",
    "2002:7f00:1::1",
    "2001:0:5db8:d70e::1",
    "2001:db8::1",
];

const PRIVATE: &str = "on a private network or this machine";
const NEAR: &str = "on the local link or a metadata service";
const NO_HOST: &str = "not the address of one host";

fn forbidden() -> Vec<IpAddr> {
    FORBIDDEN.iter().map(|text| text.parse().expect("an address")).collect()
}

/// All addresses of the machine within, beside those that every machine has.
fn addresses() -> Vec<IpAddr> {
    let others = [IpAddr::V4(PUBLIC), IpAddr::V6(PUBLIC_V6), IpAddr::V4(PROXY)];
    forbidden().into_iter().filter(|address| !address.is_loopback()).chain(others).collect()
}

fn address(text: &str) -> Record {
    match text.parse().expect("an address") {
        IpAddr::V4(address) => Record::V4(address),
        IpAddr::V6(address) => Record::V6(address),
    }
}

/// Many public addresses, of which only the one that is given exists.
fn crowd(one: &str) -> Vec<Record> {
    let public = |nth: u16| Record::V4(Ipv4Addr::from_bits(PUBLIC.to_bits() + 0x10000 + u32::from(nth)));
    (0..2_000).map(public).chain([address(one)]).collect()
}

/// What a name leads to, and what becomes of a request there: `None` where it is answered.
fn liars() -> Vec<(&'static str, Vec<Record>, Option<&'static str>)> {
    let one = |text| vec![address(text)];
    let public = "93.184.215.14";
    vec![
        ("honest.test", one(public), None),
        ("both.test", vec![address(public), address("10.0.0.1")], Some(PRIVATE)),
        ("families.test", vec![address(public), address("fd00::1")], Some(PRIVATE)),
        ("loopback.test", one("127.0.0.1"), Some(PRIVATE)),
        ("loopback6.test", one("::1"), Some(PRIVATE)),
        ("shared.test", one("100.64.0.1"), Some(PRIVATE)),
        ("metadata.test", one("169.254.169.254"), Some(NEAR)),
        ("metadata6.test", one("fd00:ec2::254"), Some(NEAR)),
        ("mapped.test", one("::ffff:127.0.0.1"), Some(PRIVATE)),
        ("compatible.test", one("::127.0.0.1"), Some(NO_HOST)),
        ("nat64.test", one("64:ff9b::7f00:1"), Some(PRIVATE)),
        ("6to4.test", one("2002:7f00:1::1"), Some(NO_HOST)),
        ("teredo.test", one("2001:0:5db8:d70e::1"), Some(NO_HOST)),
        ("documentation.test", one("2001:db8::1"), Some(NO_HOST)),
        ("benchmark.test", one("198.18.0.1"), Some(NO_HOST)),
        ("unspecified.test", one("0.0.0.0"), Some(NO_HOST)),
        ("broadcast.test", one("255.255.255.255"), Some(NO_HOST)),
        (
            "alias.test",
            vec![Record::Alias("hop.test"), Record::Alias("inside.test"), address("192.168.0.1")],
            Some(PRIVATE),
        ),
        ("this.test", vec![Record::Alias("localhost"), address("127.0.0.1")], Some(PRIVATE)),
        ("dangling.test", vec![Record::Alias("localhost")], Some("its name was not resolved")),
        ("nothing.test", Vec::new(), Some("its name was not resolved")),
        ("crowd.test", crowd(public), None),
        ("infiltrated.test", crowd("172.16.0.1"), Some(PRIVATE)),
    ]
}

/// The records of one kind; aliases belong to both.
fn of_family(records: &[Record], family: Family) -> Found {
    let is_asked = |record: &&Record| match record {
        Record::V4(_) => family == Family::V4,
        Record::V6(_) => family == Family::V6,
        Record::Alias(_) => true,
    };
    Found::Records(records.iter().filter(is_asked).cloned().collect())
}

/// Answers for the liars, and for names that change, that do not exist, and that nobody answers for.
fn lie(question: &Question, before: usize) -> Found {
    if let Some((_, records, _)) = liars().into_iter().find(|(name, ..)| *name == question.name) {
        return of_family(&records, question.family);
    }
    let (first, then) = ([address("93.184.215.14")], [address("127.0.0.1")]);
    match question.name.as_str() {
        "rebind.test" if before == 0 => of_family(&first, question.family),
        "rebind.test" => of_family(&then, question.family),
        "redirect.test" => of_family(&first, question.family),
        "silent.test" => Found::Silence,
        name if name.ends_with(".dead.test") => Found::Silence,
        _ => Found::NoSuchName,
    }
}

fn name_server() -> NameServer {
    NameServer::start(NAME_SERVER.parse().expect("an address and a port"), lie)
}

/// Connectors that may ask everybody for everything.
fn toml(names: &[&str], head: &str) -> String {
    let connector = |name: &&str| {
        format!(
            "[connectors.{name}]\nplugin = '{}'\nconsume = {{ queue = '{name}', batch = 1 }}\nbrake = 0\n\
             retry = {{ attempts = 1 }}\nallow.http = [\n\
             {{ url = 'http://*', any = true, methods = ['GET'] }}, {{ url = 'https://*', any = true, methods = ['GET'] }}]\n",
            guest("hostile").display()
        )
    };
    names.iter().map(connector).fold(head.to_owned(), |toml, connector| toml + &connector)
}

fn reasons(host: &Bulkhead) -> Vec<String> {
    host.dead().iter().map(|letter| letter["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Answers everybody, and keeps no connection: each request looks its name up anew.
fn public_server(at: Ipv4Addr) -> Fixture {
    Fixture::start_at(SocketAddr::from((at, 80)), |request| {
        let answer = Answer::status(if request.uri == "/away" { 302 } else { 200 });
        answer.with("location", "http://127.0.0.1/").with("connection", "close")
    })
}

/// That nobody came, and that somebody could have.
#[expect(clippy::disallowed_methods, reason = "visits the test's own listeners, in a network that leads nowhere")]
fn check_unvisited(canaries: &[Canaries]) {
    for (canaries, port) in canaries.iter().zip([80, 443]) {
        assert_eq!(canaries.visited(), []);
        let places: Vec<SocketAddr> = forbidden().into_iter().map(|address| SocketAddr::new(address, port)).collect();
        assert!(places.iter().all(|place| TcpStream::connect(place).is_ok()));
        assert_eq!(canaries.visited(), places);
    }
}

fn canaries() -> [Canaries; 2] {
    [80, 443].map(|port| Canaries::at(&forbidden(), port))
}

#[test]
fn no_lie_of_a_name_server_leads_to_a_forbidden_place() {
    let _built = guest("hostile");
    secluded(module_path!(), "no_lie_of_a_name_server_leads_to_a_forbidden_place", &addresses(), || {
        let (names, canaries, server) = (name_server(), canaries(), public_server(PUBLIC));
        let host = Bulkhead::new(&toml(&["caller"], ""));
        let urls: Vec<String> = liars().iter().map(|(name, ..)| format!("get http://{name}/{name}")).collect();
        host.send("caller", &urls);
        host.send(
            "caller",
            &[
                "get http://honest.test/away",
                "get http://silent.test/",
                "get http://gone.test/",
                "get http://rebind.test/1",
                "get http://rebind.test/2",
            ],
        );
        let _ = host.run_until_idle();
        let reasons = reasons(&host);
        let asked: Vec<String> = server.requests().into_iter().map(|request| request.uri).collect();
        let told = |name: &str| reasons.iter().find(|reason| reason.contains(&format!("{name}`")));
        for (name, _, because) in liars() {
            let reason = told(name);
            assert_eq!(asked.contains(&format!("/{name}")), because.is_none(), "{name}: {reason:?} of {reasons:#?}");
            assert!(
                because.is_none_or(|because| reason.is_some_and(|reason| reason.contains(because))),
                "{name}: {reason:?} of {reasons:#?}"
            );
        }
        assert!(reasons.iter().any(|reason| reason.contains("302")), "{reasons:#?}");
        assert!(asked.contains(&"/1".to_owned()) && !asked.contains(&"/2".to_owned()), "{asked:?}");
        // Once a request: what is judged is what is dialled.
        assert_eq!(names.times("rebind.test"), 2);
        for (name, because) in
            [("rebind.test", PRIVATE), ("gone.test", "not resolved"), ("silent.test", "not resolved in time")]
        {
            assert!(told(name).is_some_and(|reason| reason.contains(because)), "{name} in {reasons:#?}");
        }
        check_unvisited(&canaries);
    });
}

#[test]
fn a_redirect_over_http_2_leads_nowhere() {
    let _built = guest("hostile");
    secluded(module_path!(), "a_redirect_over_http_2_leads_nowhere", &addresses(), || {
        let (_names, canaries, authority) = (name_server(), canaries(), Authority::new());
        let certified = authority.issue_for("redirect.test", Flaw::None);
        let server = TlsServer::redirecting(SocketAddr::from((PUBLIC, 443)), &certified, "https://10.0.0.1/");
        let host = Bulkhead::new("");
        fs::write(host.path("roots.pem"), authority.pem()).expect("the folder can be written");
        host.configure(&toml(&["caller"], "[host.tls]\nca_file = 'roots.pem'\n"));
        host.send("caller", &["get https://redirect.test/x"; 2]);
        let _ = host.run_until_idle();
        assert_eq!(server.requests(), ["GET /x HTTP/2.0"; 2]);
        let mut names = server.handshakes().into_iter().map(|handshake| handshake.name);
        assert!(names.all(|name| name.as_deref() == Some("redirect.test")), "{:?}", server.handshakes());
        assert!(reasons(&host).iter().all(|reason| reason.contains("302")), "{:?}", reasons(&host));
        check_unvisited(&canaries);
    });
}

#[test]
fn a_proxy_is_asked_for_no_name_that_leads_to_a_forbidden_place() {
    let _built = guest("hostile");
    secluded(module_path!(), "a_proxy_is_asked_for_no_name_that_leads_to_a_forbidden_place", &addresses(), || {
        let (_names, canaries, proxy) = (name_server(), canaries(), public_server(PROXY));
        let host = Bulkhead::new(&toml(&["caller"], &format!("[host.proxy]\nurl = 'http://{PROXY}:80'\n")));
        let urls: Vec<String> = liars().iter().map(|(name, ..)| format!("get http://{name}/")).collect();
        host.send("caller", &urls);
        let _ = host.run_until_idle();
        let asked: Vec<String> = proxy.requests().into_iter().map(|request| request.uri).collect();
        let is_open = |because: &Option<&str>| because.is_none_or(|because| because.contains("not resolved"));
        let expected = liars().into_iter().filter(|(_, _, because)| is_open(because));
        assert_eq!(asked, expected.map(|(name, ..)| format!("http://{name}/")).collect::<Vec<_>>());
        check_unvisited(&canaries);
    });
}

#[test]
fn names_that_nobody_answers_for_hold_up_no_neighbour() {
    let _built = guest("hostile");
    secluded(module_path!(), "names_that_nobody_answers_for_hold_up_no_neighbour", &addresses(), || {
        let (names, server) = (name_server(), public_server(PUBLIC));
        let host = Bulkhead::new(&toml(&["hostile", "neighbour"], ""));
        host.send("hostile", &["seek 1000 dead.test"]);
        let running = host.start();
        let ended = |connector: &'static str, outcome: &'static str| {
            let labels = [("connector", connector), ("outcome", outcome)];
            running.wait_until("end", PATIENCE, |metrics| metrics.value("bulkhead_deliveries_total", &labels) == 1.0);
        };
        // All of them are asked for by now, and none of them is answered as long as the test lasts.
        ended("hostile", "done");
        host.send("neighbour", &["get http://honest.test/"]);
        ended("neighbour", "done");
        assert_eq!(server.requests().len(), 1);
        assert!((1..=8).contains(&names.names_below(".dead.test")), "{}", names.names_below(".dead.test"));
        // It does not wait for them either.
        let _ = running.terminate().ok();
    });
}

/// Where the host cannot look, it does not let pass: the proxy looks names up elsewhere.
#[test]
fn names_that_nobody_answers_for_lead_no_other_past_the_judge() {
    let _built = guest("hostile");
    secluded(module_path!(), "names_that_nobody_answers_for_lead_no_other_past_the_judge", &addresses(), || {
        let (_names, proxy) = (name_server(), public_server(PROXY));
        let host = Bulkhead::new(&toml(&["caller"], &format!("[host.proxy]\nurl = 'http://{PROXY}:80'\n")));
        host.send("caller", &["seek 1000 dead.test", "get http://loopback.test/"]);
        let running = host.start();
        running.wait_for_log("too many names of the connector wait for an answer", PATIENCE);
        let _ = running.terminate().ok();
        assert_eq!(proxy.requests().len(), 0);
    });
}
