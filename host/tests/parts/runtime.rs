//! Real plugins in real sandboxes: what they may do, what ends them, and what is counted.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bulkhead_host::ledger::QueuePolicy;
use bulkhead_host::limit::Limits;
use bulkhead_host::message::Tick;
use bulkhead_host::runtime::Scope;
use bulkhead_host::runtime::compile::Compiled;
use bulkhead_host::runtime::failure::Failure;

use crate::support::guest::guest;
use crate::support::runtime::{Fixture, compiled, configured, connector, delivery, published, scope};

fn hostile() -> &'static Compiled {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    COMPILED.get_or_init(|| compiled(&guest("hostile")).unwrap())
}

fn batching() -> &'static Compiled {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    COMPILED.get_or_init(|| compiled(&guest("batch")).unwrap())
}

async fn ordinary() -> Fixture {
    connector(hostile(), Limits::default()).await
}

async fn limited(limits: Limits) -> Fixture {
    connector(hostile(), limits).await
}

#[tokio::test]
async fn a_loop_ends_at_its_cpu_limit() {
    let fixture = limited(Limits { cpu: Duration::from_millis(50), ..Limits::default() }).await;
    let began = Instant::now();
    let reason = fixture.limited("spin", "cpu").await;
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(reason.contains("connectors.orders.limits.cpu"), "{reason}");
}

#[tokio::test]
async fn a_sleep_ends_at_its_wall_limit_and_costs_no_cpu() {
    let limits = Limits { wall: Duration::from_millis(100), cpu: Duration::from_millis(90), ..Limits::default() };
    let reason = limited(limits).await.limited("sleep 3600", "wall").await;
    assert!(reason.contains("connectors.orders.limits.wall"), "{reason}");
}

#[tokio::test]
async fn a_loop_that_burns_little_cpu_at_once_ends_at_its_wall_limit() {
    let limits = Limits { wall: Duration::from_millis(100), cpu: Duration::from_secs(60), ..Limits::default() };
    limited(limits).await.limited("spin", "wall").await;
}

#[tokio::test]
async fn growing_memory_ends_at_its_limit() {
    let fixture = limited(Limits { memory_bytes: 16 << 20, ..Limits::default() }).await;
    let reason = fixture.limited("grow", "memory").await;
    assert!(reason.contains("connectors.orders.limits.memory"), "{reason}");
}

#[tokio::test]
async fn a_trap_keeps_the_end_of_standard_error() {
    let failure = ordinary().await.handle("trap goodbye").await.unwrap_err();
    let Failure::Trap { reason } = failure else { panic!("{failure:?}") };
    assert!(reason.contains("last words: goodbye"), "{reason}");
}

#[tokio::test]
async fn a_panic_says_what_it_said() {
    let failure = ordinary().await.handle("panic oh dear").await.unwrap_err();
    assert!(matches!(&failure, Failure::Trap { reason } if reason.contains("oh dear")), "{failure:?}");
}

#[tokio::test]
async fn recursion_without_end_is_a_trap() {
    let failure = ordinary().await.handle("recurse").await.unwrap_err();
    assert!(matches!(&failure, Failure::Trap { .. }), "{failure:?}");
}

#[tokio::test]
async fn there_are_no_files_no_environment_no_sockets_and_no_names() {
    let fixture = ordinary().await;
    for verb in ["file", "environment", "socket", "lookup"] {
        assert!(fixture.handle(verb).await.is_ok(), "{verb}");
    }
    for effect in ["filesystem", "socket", "lookup"] {
        let labels = format!(r#"{{connector="orders",effect="{effect}",reason="not_offered"}}"#);
        fixture.counts(&format!("bulkhead_denied_total{labels}"));
    }
}

#[tokio::test]
async fn log_over_its_limit_is_dropped_and_counted_and_costs_nothing() {
    let fixture = limited(Limits { log_bytes: 4096, ..Limits::default() }).await;
    assert!(fixture.handle("print 100").await.is_ok());
    fixture.counts(r#"bulkhead_limit_hits_total{connector="orders",limit="log"} 1"#);
}

#[tokio::test]
async fn a_publish_is_staged_under_an_id_that_every_redelivery_repeats() {
    let fixture = ordinary().await;
    let first = fixture.handle("publish out").await.unwrap();
    let again = fixture.handle("publish out").await.unwrap();
    assert_eq!(published(&first), published(&again));
    let publish = &first.publishes[0];
    assert_eq!(publish.draft.body, b"hello");
    assert_eq!((publish.draft.parent.as_deref(), publish.draft.hops), (Some("m1"), 1));
}

#[tokio::test]
async fn a_publish_without_a_grant_names_the_key_that_would_grant_it() {
    let fixture = ordinary().await;
    let failure = fixture.handle("publish elsewhere").await.unwrap_err();
    assert!(matches!(&failure, Failure::Reject { .. }), "{failure:?}");
    assert!(failure.reason().contains("connectors.orders.allow.publish"), "{failure:?}");
    fixture.counts(r#"bulkhead_denied_total{connector="orders",effect="publish",reason="not_granted"} 1"#);
}

#[tokio::test]
async fn publishes_of_a_call_are_counted() {
    let fixture = limited(Limits { publishes: 100, ..Limits::default() }).await;
    let failure = fixture.handle("flood out").await.unwrap_err();
    assert!(failure.reason().contains("connectors.orders.limits.publishes"), "{failure:?}");
    fixture.counts(r#"bulkhead_limit_hits_total{connector="orders",limit="publishes"} 1"#);
}

#[tokio::test]
async fn published_bytes_of_a_call_are_counted() {
    let fixture = limited(Limits { publish_bytes: 50_000, ..Limits::default() }).await;
    let failure = fixture.handle("flood out").await.unwrap_err();
    assert!(failure.reason().contains("connectors.orders.limits.publish_bytes"), "{failure:?}");
    fixture.counts(r#"bulkhead_limit_hits_total{connector="orders",limit="publish_bytes"} 1"#);
}

#[tokio::test]
async fn a_message_larger_than_its_queue_takes_is_refused() {
    let fixture = ordinary().await;
    let failure = fixture.handle("large out").await.unwrap_err();
    assert!(matches!(&failure, Failure::Reject { .. }), "{failure:?}");
    fixture.counts(r#"bulkhead_limit_hits_total{connector="orders",limit="message"} 1"#);
}

#[tokio::test]
async fn a_hostcall_that_hands_over_too_much_ends_the_call() {
    let fixture = limited(Limits { hostcall_bytes: 64 << 10, ..Limits::default() }).await;
    fixture.limited("large out", "hostcall").await;
}

#[tokio::test]
async fn a_message_over_the_connectors_own_limit_is_never_handed_over() {
    let fixture = limited(Limits { message_bytes: 16, ..Limits::default() }).await;
    let failure = fixture.handle("ok, but rather too long").await.unwrap_err();
    assert!(matches!(&failure, Failure::Reject { .. }), "{failure:?}");
    fixture.counts(r#"bulkhead_limit_hits_total{connector="orders",limit="message"} 1"#);
}

#[tokio::test]
async fn a_full_queue_holds_the_call_back_at_no_attempt() {
    let out = QueuePolicy { max_bytes: 10, ..QueuePolicy::default() };
    let fixture = configured(hostile(), Limits::default(), out).await;
    let failure = fixture.handle("publish out").await.unwrap_err();
    assert!(matches!(&failure, Failure::Held { .. }), "{failure:?}");
    fixture.counts(r#"bulkhead_denied_total{connector="orders",effect="publish",reason="full"} 1"#);
}

#[tokio::test]
async fn what_a_plugin_answers_is_what_it_gets() {
    let fixture = ordinary().await;
    let retry = fixture.handle("retry later").await.unwrap_err();
    assert_eq!(retry, Failure::Retry { reason: "later".to_owned(), after: None });
    let reject = fixture.handle("reject never").await.unwrap_err();
    assert_eq!(reject, Failure::Reject { reason: "never".to_owned() });
}

#[tokio::test]
async fn a_sandbox_that_succeeds_goes_on_and_one_that_fails_is_finished() {
    let fixture = ordinary().await;
    let mut sandbox = fixture.sandbox().await;
    for id in ["a", "b"] {
        sandbox.handle(&scope(1), &delivery(id, "publish out")).await.unwrap();
        assert!(!sandbox.is_finished());
    }
    sandbox.handle(&scope(1), &delivery("c", "reject no")).await.unwrap_err();
    assert!(sandbox.is_finished());
}

#[tokio::test]
async fn a_call_that_is_dropped_half_way_finishes_its_sandbox() {
    let fixture = ordinary().await;
    let mut sandbox = fixture.sandbox().await;
    let (scope, delivery) = (scope(1), delivery("a", "sleep 3600"));
    let cut = tokio::time::timeout(Duration::from_millis(20), sandbox.handle(&scope, &delivery)).await;
    assert!(cut.is_err() && sandbox.is_finished());
}

#[tokio::test]
async fn state_is_seen_within_its_segment_and_after_its_commit() {
    let fixture = ordinary().await;
    let mut sandbox = fixture.sandbox().await;
    let first = sandbox.handle(&scope(1), &delivery("a", "count n")).await.unwrap();
    assert_eq!(first.state.seen, [("n".to_owned(), 0)]);
    assert_eq!(first.state.writes, [("n".to_owned(), Some(b"1".to_vec()))]);
    let second = sandbox.handle(&scope(1), &delivery("b", "count n")).await.unwrap();
    assert_eq!(second.state.writes, [("n".to_owned(), Some(b"2".to_vec()))]);
    let mut state = first.state;
    state.writes = second.state.writes;
    fixture.commit(bulkhead_host::runtime::Staged { state, ..Default::default() }).await;
    let third = sandbox.handle(&scope(2), &delivery("c", "count n")).await.unwrap();
    assert_eq!(third.state.writes, [("n".to_owned(), Some(b"3".to_vec()))]);
    assert_ne!(third.state.seen, [("n".to_owned(), 0)]);
}

#[tokio::test]
async fn state_has_a_bound() {
    let fixture = ordinary().await;
    let failure = fixture.handle("fill-state").await.unwrap_err();
    assert!(failure.reason().contains("state is full"), "{failure:?}");
    fixture.counts(r#"bulkhead_limit_hits_total{connector="orders",limit="state_keys"} 1"#);
}

async fn batch(bodies: &[&str]) -> (Vec<bool>, Vec<String>, bool) {
    let fixture = connector(batching(), Limits::default()).await;
    let deliveries: Vec<_> = bodies.iter().enumerate().map(|(at, body)| delivery(&format!("m{at}"), body)).collect();
    let batch = fixture.sandbox().await.handle_batch(&scope(1), &deliveries).await.unwrap();
    let bodies = batch.staged.publishes.iter().map(|it| String::from_utf8(it.draft.body.clone()).unwrap()).collect();
    (batch.results.iter().map(Result::is_ok).collect(), bodies, batch.rerun_succeeded)
}

#[tokio::test]
async fn in_a_batch_drafts_share_the_fate_of_their_cause() {
    let (results, published, rerun) = batch(&["ok", "bad", "ok"]).await;
    assert_eq!((results, published, rerun), (vec![true, false, true], vec!["ok".to_owned(), "ok".to_owned()], false));
}

#[tokio::test]
async fn in_a_batch_a_draft_of_all_commits_only_when_all_succeed() {
    let (results, published, rerun) = batch(&["ok", "shared"]).await;
    assert_eq!((results, published.len(), rerun), (vec![true, true], 2, false));
    let (results, published, rerun) = batch(&["ok", "shared", "bad"]).await;
    assert_eq!((results, published.len(), rerun), (vec![true, true, false], 0, true));
}

#[tokio::test]
async fn in_a_batch_a_message_that_is_too_large_is_rejected_alone() {
    let (results, published, rerun) = batch(&["ok", &"x".repeat((1 << 20) + 1), "ok"]).await;
    assert_eq!((results, published.len(), rerun), (vec![true, false, true], 2, false));
}

#[tokio::test]
async fn what_lies_in_an_inbox_is_a_tick() {
    let fixture = ordinary().await;
    let tick = |input: &str| {
        let input = Some(input.to_owned());
        Tick { schedule: "s".to_owned(), planned_at_ms: 7, input, by_hand: false }
    };
    let delivery = |input: &str| delivery("t1", std::str::from_utf8(&tick(input).to_json()).unwrap());
    let scope = Scope { queue: "@orders", previous_ms: Some(5), ..scope(1) };
    let staged = fixture.sandbox().await.deliver(&scope, &delivery("publish out")).await.unwrap();
    assert_eq!(staged.tick_done, Some(("s".to_owned(), 7)));
    assert_eq!(staged.publishes[0].draft.parent.as_deref(), Some("t1"));
    let shown = fixture.sandbox().await.deliver(&scope, &delivery("show")).await.unwrap_err();
    assert_eq!(shown.reason(), "schedule s, planned 7, attempt 1, previous Some(5)");
}

#[tokio::test]
async fn in_a_batch_a_draft_with_neither_id_nor_cause_is_invalid() {
    let (results, published, _) = batch(&["nameless", "ok"]).await;
    assert_eq!((results, published), (vec![false, true], vec!["ok".to_owned()]));
}
