//! Forbidden places in every spelling: a grant for everything does not reach them, and nobody there sees a connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bulkhead_host::bindings::bulkhead::connector::http::HttpError;
use bulkhead_host::capability::http::pattern::{AnyHost, UrlPattern};
use bulkhead_host::egress;
use bulkhead_host::limit::Limits;
use tokio::net::TcpListener;

use crate::support::gate::{Fixture, entry, get};
use crate::support::spellings::{ADDRESSES, hosts};

/// Listens on every address of this machine, in both protocols, and counts who comes.
struct Canary {
    port: u16,
    visitors: Arc<AtomicUsize>,
    _accepting: tokio::task::JoinSet<()>,
}

impl Canary {
    async fn start() -> Self {
        let (both, visitors) = (TcpListener::bind("[::]:0").await.unwrap(), Arc::<AtomicUsize>::default());
        let (port, counted) = (both.local_addr().unwrap().port(), visitors.clone());
        let mut accepting = tokio::task::JoinSet::new();
        accepting.spawn(async move {
            while both.accept().await.is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { port, visitors, _accepting: accepting }
    }
}

#[tokio::test]
async fn no_spelling_of_a_forbidden_place_is_reached() {
    let canary = Canary::start().await;
    let hosts = hosts();
    assert!(hosts.len() >= 150, "{}", hosts.len());
    let limits = Limits { requests: u32::MAX, ..Limits::default() };
    let own: SocketAddr = ([127, 0, 0, 1], canary.port).into();
    let way_out = egress::Settings { listeners: vec![own], ..egress::Settings::default() };
    let mut gate = Fixture::leaving_by(way_out, vec![entry("http://*", &["GET"])], limits);
    for host in &hosts {
        for url in [format!("http://{host}:{}/", canary.port), format!("http://{host}/")] {
            let answer = gate.send(get(&url)).await;
            assert!(matches!(answer, Err(HttpError::Denied(_) | HttpError::Invalid(_))), "{url}: {answer:?}");
        }
    }
    assert_eq!(canary.visitors.load(Ordering::Relaxed), 0);
}

/// What an operator may write out, `private = true` opens only when it is a place.
#[tokio::test]
async fn a_grant_that_spells_a_forbidden_place_out_does_not_reach_it_either() {
    let canary = Canary::start().await;
    let mut granted = 0;
    for host in hosts() {
        let url = format!("http://{host}:{}/", canary.port);
        // Most spellings are not even a pattern.
        if UrlPattern::parse(&url, AnyHost::Refused).is_err() {
            continue;
        }
        granted += 1;
        let public = bulkhead_host::capability::http::GrantSettings { private: false, ..entry(&url, &["GET"]) };
        let answer = Fixture::new(vec![public]).send(get(&url)).await;
        assert!(matches!(answer, Err(HttpError::Denied(_))), "{url}: {answer:?}");
    }
    assert!(granted > ADDRESSES.len());
    assert_eq!(canary.visitors.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_hosts_own_listeners_are_not_reached_by_a_public_address() {
    let own: SocketAddr = "8.8.8.8:9100".parse().unwrap();
    let way_out = egress::Settings { listeners: vec![own], ..egress::Settings::default() };
    let mut gate = Fixture::leaving_by(way_out, vec![entry("http://*", &["GET"])], Limits::default());
    for url in ["http://8.8.8.8:9100/", "http://[::ffff:8.8.8.8]:9100/", "http://[64:ff9b::808:808]:9100/"] {
        let answer = gate.send(get(url)).await;
        assert!(matches!(answer, Err(HttpError::Denied(_))), "{url}: {answer:?}");
    }
}
