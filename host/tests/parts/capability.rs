//! The gate's capabilities beside HTTP, as a plugin's calls reach them: allowed, denied, malformed, over a bound.

use std::time::{Duration, Instant};

use bulkhead_host::bindings::bulkhead::connector::metrics::Host as _;
use bulkhead_host::bindings::bulkhead::connector::queue::{Host as _, PublishError};
use bulkhead_host::bindings::bulkhead::connector::reveal::Host as _;
use bulkhead_host::bindings::bulkhead::connector::secrets::{self, HostSecret as _};
use bulkhead_host::bindings::bulkhead::connector::types::Draft;
use bulkhead_host::bindings::keyvalue_draft2::wasi::keyvalue::atomics::{CasError, Host as _, HostCas};
use bulkhead_host::bindings::keyvalue_draft2::wasi::keyvalue::batch::Host as _;
use bulkhead_host::bindings::keyvalue_draft2::wasi::keyvalue::store::{self, Error, HostBucket};
use bulkhead_host::bindings::logging_draft::wasi::logging::logging::{Host as _, Level};
use bulkhead_host::bindings::{Bucket, keyvalue_draft};
use bulkhead_host::capability::{Call, Cause, Session};
use bulkhead_host::ledger::QueuePolicy;
use bulkhead_host::limit::Limits;
use bulkhead_host::settlement::Barrier;
use wasmtime::component::Resource;

use crate::support::runtime::{Gate, counts, gate};

const CAUSE: Cause<'static> =
    Cause { id: "m1", hops: 3, attempt: 1, trace: None, state: None, headers: &[], body: &[] };

/// A session in the middle of a call.
fn begun(gate: &Gate) -> Session {
    let mut session = Session::new(gate.grants.clone());
    begin(&mut session, &[CAUSE], false);
    session
}

fn begin(session: &mut Session, causes: &[Cause<'_>], is_batch: bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    session.begin_call(&Call { queue: "in", causes, is_batch, segment: 1, barrier: Barrier::default(), deadline });
}

fn ordinary() -> Gate {
    gate(Limits::default(), QueuePolicy::default())
}

fn draft(body: &str) -> Draft {
    Draft {
        id: None,
        cause: None,
        key: None,
        headers: Vec::new(),
        body: body.as_bytes().to_vec(),
        delay_ms: None,
        expires_ms: None,
    }
}

fn publish(session: &mut Session, draft: Draft) -> Result<String, PublishError> {
    session.publish("out".to_owned(), vec![draft]).map(|mut ids| ids.remove(0))
}

#[tokio::test]
async fn a_draft_without_an_id_gets_one_by_its_place_among_all_drafts_of_the_call() {
    let gate = ordinary();
    let mut session = begun(&gate);
    let first = publish(&mut session, draft("a")).unwrap();
    let second = publish(&mut session, draft("b")).unwrap();
    let mut session = begun(&gate);
    session.publish("elsewhere".to_owned(), vec![draft("a")]).unwrap_err();
    assert_eq!(publish(&mut session, draft("b")).unwrap(), second, "a refused draft counts");
    assert_ne!(first, second);
    let ended = session.end_call();
    assert_eq!(ended.publishes.len(), 1);
    assert_eq!(ended.publishes[0].draft.hops, 4);
}

#[tokio::test]
async fn malformed_drafts_are_invalid_and_nothing_of_their_publish_is_staged() {
    let gate = ordinary();
    let mut session = begun(&gate);
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let malformed = [
        Draft { id: Some(String::new()), ..draft("a") },
        Draft { key: Some("a\nb".to_owned()), ..draft("a") },
        Draft { headers: header("Upper", "a"), ..draft("a") },
        Draft { headers: header("a", "b\r\nc: d"), ..draft("a") },
        Draft { cause: Some("another".to_owned()), ..draft("a") },
        Draft { delay_ms: Some(u64::MAX), ..draft("a") },
    ];
    for bad in malformed {
        let refused = session.publish("out".to_owned(), vec![draft("good"), bad]);
        assert!(matches!(refused, Err(PublishError::Invalid(_))), "{refused:?}");
    }
    assert!(session.end_call().publishes.is_empty());
}

#[tokio::test]
async fn outside_a_call_nothing_can_be_published() {
    let gate = ordinary();
    let refused = publish(&mut Session::new(gate.grants.clone()), draft("a"));
    assert!(matches!(refused, Err(PublishError::Invalid(_))), "{refused:?}");
}

#[tokio::test]
async fn in_a_batch_ordinals_count_for_each_cause_alone() {
    let gate = ordinary();
    let mut session = begun(&gate);
    let alone = publish(&mut session, draft("a")).unwrap();
    let causes = [Cause { id: "m0", hops: 0, ..CAUSE }, CAUSE];
    begin(&mut session, &causes, true);
    let of = |cause: &str| Draft { cause: Some(cause.to_owned()), ..draft("a") };
    publish(&mut session, of("m0")).unwrap();
    assert_eq!(publish(&mut session, of("m1")).unwrap(), alone);
    assert_eq!(session.end_call().causes, [Some(0), Some(1)]);
}

#[tokio::test]
async fn publishing_to_the_consumed_queue_may_exceed_its_bound() {
    let gate = gate(Limits::default(), QueuePolicy { max_bytes: 1, ..QueuePolicy::default() });
    let mut session = Session::new(gate.grants.clone());
    let deadline = Instant::now() + Duration::from_secs(60);
    let (causes, barrier) = ([CAUSE], Barrier::default());
    session.begin_call(&Call { queue: "out", causes: &causes, is_batch: false, segment: 1, barrier, deadline });
    assert!(publish(&mut session, draft("a")).is_ok());
}

#[tokio::test]
async fn a_granted_secret_is_seen_and_another_is_not_there() {
    let gate = ordinary();
    let mut session = begun(&gate);
    let secret = secrets::Host::get(&mut session, "token".to_owned()).unwrap().unwrap();
    let borrowed = || Resource::new_borrow(secret.rep());
    assert!(!session.placeholder(borrowed()).unwrap().contains("canary"));
    assert_eq!(session.reveal(borrowed()).unwrap().unwrap(), b"canary");
    let other = secrets::Host::get(&mut session, "other".to_owned()).unwrap();
    let none = secrets::Host::get(&mut session, "none".to_owned()).unwrap();
    let text = |refused: Result<_, _>| format!("{:?}", refused.map(drop).unwrap_err());
    assert_eq!(text(other).replace("other", ""), text(none).replace("none", ""));
    counts(&gate.metrics, r#"bulkhead_denied_total{connector="orders",effect="secret",reason="not_granted"} 2"#);
}

async fn open(session: &mut Session, name: &str) -> Result<Resource<Bucket>, Error> {
    store::Host::open(session, name.to_owned()).await.unwrap()
}

fn bucket() -> Resource<Bucket> {
    Resource::new_borrow(0)
}

async fn set(session: &mut Session, key: &str, value: &[u8]) -> Result<(), Error> {
    HostBucket::set(session, bucket(), key.to_owned(), value.to_vec()).await.unwrap()
}

async fn get(session: &mut Session, key: &str) -> Option<Vec<u8>> {
    HostBucket::get(session, bucket(), key.to_owned()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_connector_has_one_bucket() {
    let gate = ordinary();
    let mut session = begun(&gate);
    assert!(open(&mut session, "").await.is_ok());
    assert!(open(&mut session, "default").await.is_ok());
    assert!(matches!(open(&mut session, "another").await, Err(Error::NoSuchStore)));
    counts(&gate.metrics, r#"bulkhead_denied_total{connector="orders",effect="state",reason="not_granted"} 1"#);
}

#[tokio::test]
async fn a_call_reads_what_it_wrote_and_lists_it() {
    let gate = ordinary();
    let mut session = begun(&gate);
    set(&mut session, "b", b"1").await.unwrap();
    set(&mut session, "a", b"2").await.unwrap();
    HostBucket::delete(&mut session, bucket(), "b".to_owned()).await.unwrap().unwrap();
    assert_eq!((get(&mut session, "a").await, get(&mut session, "b").await), (Some(b"2".to_vec()), None));
    let page = HostBucket::list_keys(&mut session, bucket(), None).await.unwrap().unwrap();
    assert_eq!((page.keys, page.cursor), (vec!["a".to_owned()], None));
    let state = session.end_call().state;
    assert_eq!(state.listed, Some(0));
    assert_eq!(state.writes, [("a".to_owned(), Some(b"2".to_vec())), ("b".to_owned(), None)]);
    assert_eq!(state.seen, [("a".to_owned(), 0), ("b".to_owned(), 0)]);
}

#[tokio::test]
async fn keys_and_values_have_bounds() {
    let gate = ordinary();
    let mut session = begun(&gate);
    assert!(matches!(set(&mut session, "", b"").await, Err(Error::Other(_))));
    assert!(matches!(set(&mut session, &"k".repeat(513), b"").await, Err(Error::Other(_))));
    assert!(matches!(set(&mut session, "k", &vec![0; (1 << 20) + 1]).await, Err(Error::Other(_))));
    assert!(set(&mut session, "k", &vec![0; 1 << 20]).await.is_ok());
    counts(&gate.metrics, r#"bulkhead_limit_hits_total{connector="orders",limit="state"} 1"#);
    let keys = vec!["k".to_owned(); 9];
    let many = session.get_many(bucket(), keys).await.unwrap();
    assert!(matches!(many, Err(Error::Other(_))), "nine times a mebibyte at once");
}

#[tokio::test]
async fn numbers_are_added_to_as_decimal_text() {
    let gate = ordinary();
    let mut session = begun(&gate);
    let number = session.increment(bucket(), "n".to_owned(), -5).await.unwrap();
    assert_eq!(number.unwrap(), -5);
    assert_eq!(get(&mut session, "n").await, Some(b"-5".to_vec()));
    assert!(session.increment(bucket(), "n".to_owned(), i64::MIN).await.unwrap().is_err());
    set(&mut session, "n", b"text").await.unwrap();
    assert!(session.increment(bucket(), "n".to_owned(), 1).await.unwrap().is_err());
    let unsigned = keyvalue_draft::wasi::keyvalue::atomics::Host::increment;
    assert_eq!(unsigned(&mut session, bucket(), "m".to_owned(), u64::MAX).await.unwrap().unwrap(), u64::MAX);
    assert!(unsigned(&mut session, bucket(), "m".to_owned(), 1).await.unwrap().is_err());
}

#[tokio::test]
async fn a_swap_fails_where_the_call_wrote_in_between_and_gives_a_fresh_handle() {
    let gate = ordinary();
    let mut session = begun(&gate);
    let cas = HostCas::new(&mut session, bucket(), "k".to_owned()).await.unwrap().unwrap();
    set(&mut session, "k", b"1").await.unwrap();
    let Err(CasError::CasFailed(again)) = session.swap(cas, b"2".to_vec()).await.unwrap() else { panic!("it changed") };
    let seen = HostCas::current(&mut session, Resource::new_borrow(again.rep())).await.unwrap().unwrap();
    assert_eq!(seen, Some(b"1".to_vec()));
    assert!(session.swap(again, b"2".to_vec()).await.unwrap().is_ok());
    assert_eq!(get(&mut session, "k").await, Some(b"2".to_vec()));
}

#[tokio::test]
async fn figures_of_a_plugin_carry_its_connectors_name_and_malformed_ones_change_nothing() {
    let gate = ordinary();
    let mut session = begun(&gate);
    session.count("rows".to_owned(), 2, vec![("kind".to_owned(), "new".to_owned())]);
    session.gauge("not a name".to_owned(), 1.0, Vec::new());
    counts(&gate.metrics, r#"bulkhead_plugin_rows_total{connector="orders",kind="new"} 2"#);
    assert!(!gate.metrics.text().contains("not a name"));
}

#[tokio::test]
async fn a_line_of_the_log_names_its_connector_and_delivery_and_cannot_forge_another() {
    let (lines, _guard) = crate::support::log::capture();
    let gate = ordinary();
    let mut session = begun(&gate);
    session.log(Level::Error, "context".to_owned(), "one\ntwo\u{1b}[31m".to_owned());
    let line = lines.take().remove(0);
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["fields"]["connector"], "orders");
    assert_eq!(line["fields"]["delivery"], "m1");
    assert_eq!(line["fields"]["message"], r"one\ntwo\u{1b}[31m");
}
