//! A panic of the host's own code in the middle of a run: caught at the run's border, counted, and charged to the one
//! delivery, which is tried again.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bulkhead_host::limit::Limits;
use bulkhead_host::runtime::failure::Failure;
use tracing_subscriber::fmt::MakeWriter;

use support::guest::guest;
use support::runtime::{compiled, connector, counts};

/// Where the log goes: it breaks once, at the first line, which the host writes for a guest in the middle of its call.
#[derive(Clone, Default)]
struct Broken(Arc<AtomicBool>);

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        assert!(self.0.swap(true, Relaxed), "the log is broken");
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Broken {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        self.clone()
    }
}

/// The call that `message` makes fails by the panic alone, and the next one does not notice.
async fn check(message: &str) {
    let fixture = connector(&compiled(&guest("hostile")).unwrap(), Limits::default()).await;
    let log = tracing_subscriber::fmt().with_writer(Broken::default()).finish();
    let _log = tracing::subscriber::set_default(log);
    let failure = fixture.handle(message).await.unwrap_err();
    let Failure::Trap { reason } = failure else { panic!("{failure:?}") };
    assert!(reason.starts_with("the host failed while it ran: the log is broken"), "{reason}");
    counts(&fixture.metrics, "bulkhead_panics_total 1");
    drop(fixture.all_permits().await);
    counts(&fixture.metrics, "bulkhead_sandbox_reserved_bytes 0");
    let _ = fixture.handle(message).await;
    assert!(fixture.handle("ok").await.is_ok());
    counts(&fixture.metrics, "bulkhead_panics_total 1");
}

#[tokio::test]
async fn a_panic_while_a_guest_logs_costs_its_call() {
    check("print 1").await;
}

#[tokio::test]
async fn a_panic_while_a_guest_is_refused_costs_its_call() {
    check("publish elsewhere").await;
}
