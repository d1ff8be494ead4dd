//! Calls that are dropped at any moment, ten thousand times: whatever the guest was in the middle of, nothing stays behind.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fs;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bulkhead_host::ledger::QueuePolicy;
use bulkhead_host::limit::Limits;
use tokio::task::JoinSet;

use support::gate::entry;
use support::guest::guest;
use support::runtime::{Fixture, compiled, counts, delivery, engine, reaching, scope};
use support::server::{Server, ok};

/// Calls that are dropped after those that warm up.
const CALLS: usize = 10_000;
const WARM_UP: usize = 1_000;
/// Calls at once.
const LANES: usize = 4;
/// Polls after which a call is dropped, at most: each is a tick of the epoch or the end of a wait.
const POLLS_MAX: u64 = 4;

/// A future that is polled a few times only, and then not any more.
struct Cut<F> {
    future: Pin<Box<F>>,
    left: u64,
}

impl<F: Future> Future for Cut<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match self.future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The same numbers in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Calls of one lane; how many came to an end before they were dropped.
async fn lane(fixture: Arc<Fixture>, verbs: Arc<[String]>, seed: u64, calls: usize) -> usize {
    let mut dice = Dice(seed);
    let mut ended = 0;
    for _ in 0..calls {
        let verb = &verbs[usize::try_from(dice.below(verbs.len() as u64)).unwrap()];
        // On a busy machine a start may take longer than a call may.
        let Ok(mut sandbox) = fixture.try_sandbox().await else { continue };
        let (scope, delivery) = (scope(1), delivery("m1", verb));
        let call = Box::pin(sandbox.handle(&scope, &delivery));
        let cut = Cut { future: call, left: dice.below(POLLS_MAX + 1) }.await;
        ended += usize::from(cut.is_some());
    }
    ended
}

/// Lanes side by side on the guests' threads; how many calls came to an end.
async fn drop_calls(fixture: &Arc<Fixture>, verbs: &Arc<[String]>, calls: usize) -> usize {
    let mut lanes = JoinSet::new();
    for seed in 1..=LANES as u64 {
        let lane = lane(fixture.clone(), verbs.clone(), seed * 0x9e37_79b9, calls / LANES);
        lanes.spawn_on(lane, engine().guests());
    }
    lanes.join_all().await.into_iter().sum()
}

/// Bytes of memory, threads and open files of this process.
fn held() -> (u64, usize, usize) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    let count = |what: &str| fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    (kib << 10, count("task"), count("fd"))
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_dropped_at_any_moment_leave_nothing_behind() {
    let server = Server::start(|_| ok("x")).await;
    let limits = Limits { wall: Duration::from_millis(30), ..Limits::default() };
    let fixture = Arc::new(
        reaching(&compiled(&guest("hostile")).unwrap(), limits, vec![entry(&server.url("/*"), &["GET"])]).await,
    );
    let get = format!("get {}", server.url("/x"));
    let verbs: Arc<[String]> =
        ["spin", "sleep 60", "publish out", "flood out", "count n", "handles", "print 10", "trap x", "ok", &get]
            .map(str::to_owned)
            .into();
    drop_calls(&fixture, &verbs, WARM_UP).await;
    let before = held();
    let ended = drop_calls(&fixture, &verbs, CALLS).await;
    let after = held();
    assert!(ended > CALLS / 10 && ended < CALLS * 9 / 10, "{ended} of {CALLS} came to an end: some did, some did not");
    assert!(after.0 < before.0 + (32 << 20), "{before:?} became {after:?}");
    assert!(after.1 <= before.1 + 2 && after.2 <= before.2 + 8, "{before:?} became {after:?}");
    drop(tokio::time::timeout(Duration::from_secs(60), fixture.all_permits()).await.expect("every permit is free"));
    counts(&fixture.metrics, "bulkhead_sandbox_reserved_bytes 0");
    counts(&fixture.metrics, "bulkhead_panics_total 0");
    let staged = fixture.handle("publish out").await.unwrap();
    let [publish] = &staged.publishes[..] else { panic!("{staged:?}") };
    let out = publish.queue;
    drop(staged);
    // The room that dropped publishes had reserved is there again, to the last byte.
    assert!(fixture.ledger.reserve(out, QueuePolicy::default().max_bytes).is_ok());
}
