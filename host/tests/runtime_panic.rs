//! A panic of the host's own code in the middle of a run: caught at the run's border, counted, and charged to the one
//! delivery, which is tried again.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use bulkhead_host::limit::Limits;
use bulkhead_host::runtime::failure::Failure;

use support::guest::guest;
use support::runtime::{compiled, connector, counts};

/// The sleep of a guest panics in the host where the threads that run it keep no time, as a broken host would.
fn without_time<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work);
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_run_is_counted_and_costs_one_attempt() {
    let fixture = connector(&compiled(&guest("hostile")).unwrap(), Limits::default()).await;
    let failure = without_time(fixture.handle("sleep 1")).unwrap_err();
    let Failure::Trap { reason } = failure else { panic!("{failure:?}") };
    assert!(reason.starts_with("the host failed while it ran: ") && reason.contains("timers are disabled"), "{reason}");
    counts(&fixture.metrics, "bulkhead_panics_total 1");
    drop(fixture.all_permits().await);
    counts(&fixture.metrics, "bulkhead_sandbox_reserved_bytes 0");
    assert!(fixture.handle("ok").await.is_ok(), "the next message does not notice");
}
