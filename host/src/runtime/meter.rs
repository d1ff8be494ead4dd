//! What a call uses: CPU time and wall time, and the future that ends it when either is spent.
//!
//! All guest work happens inside polls of the call's future, all waiting between them: so the sum over the polls is the
//! call's CPU time, and no host call can reset it. Polls are timed with the monotonic clock (18 ns) until the first epoch
//! callback, with the thread's CPU clock (a system call) from then on: short calls stay cheap, long ones are exact.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Sleep;

use super::epoch::Ticking;
use super::failure::panic_text;
use crate::limit::Limit;

/// The meter of one sandbox. Shared by the call's future and the epoch callback, which never work at the same time.
#[derive(Debug)]
pub(super) struct Meter {
    base: Instant,
    cpu_max_ns: u64,
    /// CPU time of the polls that are over.
    spent_ns: AtomicU64,
    /// When the current poll began, by the clock that `is_long` names.
    poll_began_ns: AtomicU64,
    /// Whether this poll is timed with the thread's CPU clock.
    poll_is_long: AtomicBool,
    /// Whether an epoch has passed in this call.
    is_long: AtomicBool,
    /// Wall deadline, since `base`.
    deadline_ns: AtomicU64,
    /// Whether the call's first poll is yet to come: its time counts from the call's beginning.
    is_new: AtomicBool,
}

/// How a call ended without an answer.
#[derive(Debug)]
pub(super) enum Cut {
    /// Its CPU or wall time was spent.
    Limit(Limit),
    /// Host code panicked.
    Panic(String),
}

impl Meter {
    pub(super) fn new(cpu: Duration) -> Self {
        Self {
            base: Instant::now(),
            cpu_max_ns: nanos(cpu),
            spent_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
            poll_is_long: AtomicBool::new(false),
            is_long: AtomicBool::new(false),
            deadline_ns: AtomicU64::new(u64::MAX),
            is_new: AtomicBool::new(false),
        }
    }

    /// A call begins: nothing is spent yet. Answers its deadline.
    pub(super) fn begin(&self, wall: Duration) -> Instant {
        let now = Instant::now();
        let began_ns = nanos(now - self.base);
        self.spent_ns.store(0, Relaxed);
        self.is_long.store(false, Relaxed);
        self.poll_began_ns.store(began_ns, Relaxed);
        self.is_new.store(true, Relaxed);
        self.deadline_ns.store(began_ns.saturating_add(nanos(wall)), Relaxed);
        now + wall
    }

    /// From the epoch callback: which limit is spent, if any.
    pub(super) fn check(&self) -> Option<Limit> {
        self.is_long.store(true, Relaxed);
        let spent = self.spent_ns.load(Relaxed).saturating_add(self.current_poll_ns());
        if spent >= self.cpu_max_ns {
            return Some(Limit::Cpu);
        }
        self.is_late().then_some(Limit::Wall)
    }

    /// Runs a call until it answers or a limit is spent.
    /// Dropping a call ends its waits in host calls.
    pub(super) async fn run<F: Future>(&self, ticking: Ticking<'_>, call: F) -> Result<F::Output, Cut> {
        let _ticking = ticking;
        Metered { meter: self, call: pin!(call), alarm: None }.await
    }

    fn poll_begins(&self) {
        let is_long = self.is_long.load(Relaxed);
        self.poll_is_long.store(is_long, Relaxed);
        // The clock was read when the call began: for one that does not wait, one reading of three is saved.
        if self.is_new.load(Relaxed) {
            self.is_new.store(false, Relaxed);
            return;
        }
        self.poll_began_ns.store(self.read(is_long), Relaxed);
    }

    fn poll_ends(&self) {
        let spent = self.spent_ns.load(Relaxed).saturating_add(self.current_poll_ns());
        self.spent_ns.store(spent, Relaxed);
    }

    fn current_poll_ns(&self) -> u64 {
        let now = self.read(self.poll_is_long.load(Relaxed));
        now.saturating_sub(self.poll_began_ns.load(Relaxed))
    }

    fn read(&self, is_long: bool) -> u64 {
        if is_long { thread_cpu_ns() } else { nanos(self.base.elapsed()) }
    }

    fn is_late(&self) -> bool {
        nanos(self.base.elapsed()) >= self.deadline_ns.load(Relaxed)
    }

    fn deadline(&self) -> Instant {
        let deadline = Duration::from_nanos(self.deadline_ns.load(Relaxed));
        // No sum of a start and a configured limit lies so far ahead; if one did, a day is late enough.
        self.base.checked_add(deadline).unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400))
    }

    fn spent(&self) -> Option<Limit> {
        if self.spent_ns.load(Relaxed) >= self.cpu_max_ns {
            return Some(Limit::Cpu);
        }
        self.is_late().then_some(Limit::Wall)
    }
}

/// A call under its meter.
struct Metered<'a, F> {
    meter: &'a Meter,
    call: Pin<&'a mut F>,
    /// Made at the first wait only: most calls never wait.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = Result<F::Output, Cut>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let meter = self.meter;
        meter.poll_begins();
        let polled = catch_unwind(AssertUnwindSafe(|| self.call.as_mut().poll(context)));
        meter.poll_ends();
        match polled {
            Err(panic) => Poll::Ready(Err(Cut::Panic(panic_text(&*panic).to_owned()))),
            Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
            Ok(Poll::Pending) => {
                if let Some(limit) = meter.spent() {
                    return Poll::Ready(Err(Cut::Limit(limit)));
                }
                let alarm = self.alarm.get_or_insert_with(|| {
                    Box::pin(tokio::time::sleep_until(tokio::time::Instant::from_std(meter.deadline())))
                });
                alarm.as_mut().poll(context).map(|()| Err(Cut::Limit(Limit::Wall)))
            }
        }
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos.unwrap_or(0))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::epoch::Ticker;
    use super::*;

    async fn run<F: Future>(meter: &Meter, call: F) -> Result<F::Output, Cut> {
        let ticker = Ticker::start(wasmtime::Engine::default()).expect("a thread");
        meter.run(ticker.ticking(), call).await
    }

    #[tokio::test]
    async fn a_wait_ends_at_the_wall_deadline() {
        let meter = Meter::new(Duration::from_secs(5));
        meter.begin(Duration::from_millis(20));
        let waiting = std::future::pending::<()>();
        assert!(matches!(run(&meter, waiting).await, Err(Cut::Limit(Limit::Wall))));
    }

    #[tokio::test]
    async fn cpu_time_adds_up_over_polls_and_starts_anew_with_each_call() {
        let meter = Meter::new(Duration::from_millis(5));
        for _ in 0..2 {
            meter.begin(Duration::from_secs(60));
            let spinning = async {
                loop {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_millis(1) {}
                    meter.check();
                    tokio::task::yield_now().await;
                }
            };
            assert!(matches!(run(&meter, spinning).await, Err::<(), _>(Cut::Limit(Limit::Cpu))));
        }
    }

    #[tokio::test]
    async fn a_panic_ends_the_call_alone() {
        let meter = Meter::new(Duration::from_secs(5));
        meter.begin(Duration::from_secs(60));
        let broken = async { panic!("oh") };
        let ended: Result<(), Cut> = run(&meter, broken).await;
        assert!(matches!(ended, Err(Cut::Panic(text)) if text == "oh"));
    }
}
