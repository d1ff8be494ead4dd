//! What a guest's thread is to the system's scheduler: less than the host's own, and quickly relieved by its like.
//!
//! A plugin may compute for seconds while its neighbours' messages need a core for microseconds. Invariant: nothing here is
//! needed for anything to be right, so a system that knows no such thing, or refuses it, is left as it is.

/// How far guests stand behind the threads of sockets, timers and the ledger where there is work for more threads than
/// cores: a third of their weight. What computes without end then neither holds up an answer nor a commit. Other processes
/// notice nothing where the system weighs by control groups or sessions, as it does for services and containers.
const NICENESS: i32 = 5;
/// After so long a guest's thread is relieved where another one waits; the system's default is some milliseconds.
#[cfg(target_os = "linux")]
const SLICE_NS: u64 = 200_000;

/// Gives the calling thread a guest's place.
pub(super) fn stand_back() {
    // A process may always be nicer. Linux counts that by thread.
    if let Ok(nice) = rustix::process::nice(NICENESS) {
        #[cfg(target_os = "linux")]
        shorten_slice(nice);
    }
}

/// Since Linux 6.12 a thread has a slice of its own; earlier ones do not look at it.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no well-kept crate has this call yet")]
fn shorten_slice(nice: i32) {
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: 0,
        sched_flags: u64::from(libc::SCHED_FLAG_KEEP_POLICY.unsigned_abs()),
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: SLICE_NS,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the system reads `size` bytes of the structure, which lives until the call is over, and keeps no address.
    let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}
