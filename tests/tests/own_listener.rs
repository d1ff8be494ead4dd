//! The host's own listener on a public address: to a connector it is as private as the network behind it. Each test has a
//! network to itself, with a name server of the test's own.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bulkhead_tests::{
    Answer, Bulkhead, Family, Fixture, Found, NAME_SERVER, NameServer, Question, Record, guest, secluded,
};

/// This machine's, where its listener is.
const OWN: Ipv4Addr = Ipv4Addr::new(93, 184, 215, 14);
/// Of this machine as well, where the world outside is.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
const PORT: u16 = 9100;
const ANY: &str = "{ url = 'http://*', any = true, methods = ['GET'] }";

/// `own.test` leads to the listener, in one way or another.
fn lead(question: &Question, _: usize) -> Found {
    match (question.name.as_str(), question.family) {
        ("own.test", Family::V4) => Found::Records(vec![Record::V4(OWN)]),
        ("mapped.test", Family::V6) => Found::Records(vec![Record::V6(OWN.to_ipv6_mapped())]),
        ("both.test", Family::V4) => Found::Records(vec![Record::V4(OUTSIDE), Record::V4(OWN)]),
        _ => Found::NoSuchName,
    }
}

/// A host that listens there, after a connector with these grants was told to ask these hosts for `/healthz`, which is
/// open to everybody; the reasons of its dead letters.
fn ask(admin: &str, grants: &str, hosts: &[&str]) -> Vec<String> {
    let host = Bulkhead::new(&format!(
        "[host]\nadmin = '{admin}'\n[connectors.caller]\nplugin = '{}'\nconsume = {{ queue = 'in', batch = 1 }}\n\
         brake = 0\nretry = {{ attempts = 1 }}\nallow.http = [{grants}]\n",
        guest("hostile").display()
    ));
    host.send("in", &hosts.iter().map(|host| format!("get http://{host}/healthz")).collect::<Vec<_>>());
    let log = host.run_until_idle().errors();
    let reasons: Vec<String> = host.ledger().dead().into_iter().map(|letter| letter.reason).collect();
    assert!(reasons.is_empty() || log.contains(r#""reason":"address""#), "{log}");
    reasons
}

/// Whatever a grant without `private` says, and however the address is spelled, it is refused for what it is.
fn check_refused(admin: &str) {
    let _names = NameServer::start(NAME_SERVER.parse().unwrap(), lead);
    let spellings =
        ["93.184.215.14", "[::ffff:93.184.215.14]", "[64:ff9b::5db8:d70e]", "own.test", "mapped.test", "both.test"];
    let hosts = spellings.map(|host| format!("{host}:{PORT}"));
    let written_out = hosts.iter().map(|host| format!("{{ url = 'http://{host}/*', methods = ['GET'] }}"));
    for grants in [ANY.to_owned(), written_out.collect::<Vec<_>>().join(", ")] {
        let reasons = ask(admin, &grants, &hosts.each_ref().map(String::as_str));
        let is_refused = |reason: &&String| reason.contains("which is on a private network or this machine");
        assert_eq!(reasons.iter().filter(is_refused).count(), hosts.len(), "{grants}: {reasons:#?}");
    }
}

fn addresses() -> [IpAddr; 2] {
    [OWN, OUTSIDE].map(IpAddr::V4)
}

#[test]
fn no_grant_without_private_leads_to_the_hosts_own_listener() {
    let _built = guest("hostile");
    secluded("no_grant_without_private_leads_to_the_hosts_own_listener", &addresses(), || {
        let admin = format!("{OWN}:{PORT}");
        check_refused(&admin);
        // What is not the host's is reached, on the same port.
        let outside = Fixture::start_at(SocketAddr::from((OUTSIDE, PORT)), |_| Answer::status(200));
        assert_eq!(ask(&admin, ANY, &[&format!("{OUTSIDE}:{PORT}")]), Vec::<String>::new());
        assert_eq!(outside.requests().len(), 1);
    });
}

/// Then it listens on every address of the machine, its public ones too.
#[test]
fn nor_does_one_where_the_host_listens_everywhere() {
    let _built = guest("hostile");
    secluded("nor_does_one_where_the_host_listens_everywhere", &addresses(), || {
        check_refused(&format!("0.0.0.0:{PORT}"));
    });
}

/// An operator's own decision, as with everything on a private network.
#[test]
fn a_private_grant_that_writes_address_and_port_out_leads_to_it() {
    let _built = guest("hostile");
    secluded("a_private_grant_that_writes_address_and_port_out_leads_to_it", &addresses(), || {
        let own = format!("{OWN}:{PORT}");
        let private = format!("{{ url = 'http://{own}/*', methods = ['GET'], private = true }}");
        assert_eq!(ask(&own, &private, &[&own]), Vec::<String>::new());
    });
}
