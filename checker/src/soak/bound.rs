//! What must not grow, and how much of it there may be: each bound with its reason.

use serde::Serialize;

use super::config::{BULK_BYTES, SANDBOX_BYTES};
use super::sample::Sample;

const MIB: u64 = 1 << 20;
/// A life settles in until then.
const SETTLED_US: u64 = 10_000_000;

/// A figure and its bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Bound {
    pub(super) what: &'static str,
    /// How often it was measured.
    pub(super) times: usize,
    pub(super) most: u64,
    pub(super) allowed: u64,
    /// Of both; empty for a plain number.
    pub(super) unit: &'static str,
    pub(super) why: &'static str,
}

impl Bound {
    /// Whether it was measured at all, and is kept.
    pub(super) fn holds(&self) -> bool {
        self.times > 0 && self.most <= self.allowed
    }
}

/// What the disk holds when everything is worked off and the host has stopped, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Disk {
    /// The whole data directory.
    pub(super) directory: u64,
    /// `ledger.db`.
    pub(super) ledger: u64,
    /// Its write-ahead log.
    pub(super) log: u64,
    /// Pages of it that hold nothing.
    pub(super) free: u64,
    /// What SQLite makes of it when it writes it anew.
    pub(super) anew: u64,
    /// The bodies of everything that is to be kept.
    pub(super) bodies: u64,
    /// Messages that are kept, dead letters included.
    pub(super) kept: u64,
    /// Messages that were accepted: the ledger remembers their ids for as long as `dedup` says.
    pub(super) accepted: u64,
}

/// All bounds.
pub(super) fn bounds(samples: &[Sample], disk: &Disk) -> Vec<Bound> {
    let most = |of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap_or(0);
    let times = samples.len();
    let bound = |what, most, allowed, unit, why| Bound { what, times, most, allowed, unit, why };
    let mib = |bytes: u64| bytes.div_ceil(MIB);
    let mut bounds = vec![
        bound(
            "resident memory",
            mib(most(|sample| sample.resident_bytes)),
            mib(SANDBOX_BYTES) + 128,
            "MiB",
            "`host.memory` for sandboxes, and 128 MiB for compiled plugins, caches of SQLite and bodies under way",
        ),
        bound(
            "threads",
            most(|sample| sample.threads),
            64,
            "",
            "a few for each core and each part of the host, however much is asked of it",
        ),
        bound(
            "descriptors",
            most(|sample| sample.descriptors),
            128,
            "",
            "one for each of the 19 that send and 13 that are sent to, and those of the ledger's readers and the runtime",
        ),
    ];
    bounds.extend(growth(samples));
    bounds.extend(of_disk(most(|sample| sample.disk_bytes), times, disk));
    bounds
}

/// What a life has in its last third more than in its second one, by the median of each: the most of all lives.
fn growth(samples: &[Sample]) -> Option<Bound> {
    let mut most: Option<u64> = None;
    let mut times = 0;
    for life in samples.chunk_by(|one, next| one.life == next.life) {
        let life: Vec<&Sample> = life.iter().filter(|sample| sample.age_us >= SETTLED_US).collect();
        let third = life.len() / 3;
        let (Some(second), Some(last)) = (median(&life[third..2 * third]), median(&life[2 * third..])) else {
            continue;
        };
        times += 1;
        most = most.max(Some(last.saturating_sub(second)));
    }
    let why = "the ledger's cache of 32 MiB may fill meanwhile, and 16 MiB for what is under way at a time";
    most.map(|most| Bound {
        what: "growth of resident memory within a life",
        times,
        most: most.div_ceil(MIB),
        allowed: 48,
        unit: "MiB",
        why,
    })
}

fn median(samples: &[&Sample]) -> Option<u64> {
    let mut resident: Vec<u64> = samples.iter().map(|sample| sample.resident_bytes).collect();
    resident.sort_unstable();
    resident.get(resident.len() / 2).copied()
}

fn of_disk(most: u64, times: usize, disk: &Disk) -> [Bound; 5] {
    let bound = |what, most: u64, allowed: u64, why| Bound {
        what,
        times,
        most: most.div_ceil(MIB),
        allowed: allowed.div_ceil(MIB),
        unit: "MiB",
        why,
    };
    [
        bound(
            "data directory at work",
            most,
            disk.anew + BULK_BYTES * 5 / 4 + 96 * MIB,
            "what is kept, full queues, and 32 MiB each for free pages, the log, and the audit record with compiled plugins",
        ),
        bound(
            "`ledger.db` after the end",
            disk.ledger,
            disk.anew * 5 / 4 + 33 * MIB,
            "what SQLite makes of it when it writes it anew, and the 4,096 free pages (32 MiB) that the host keeps",
        ),
        bound(
            "free pages of it",
            disk.free,
            33 * MIB,
            "the same 4,096 pages: others are given back while nothing is to be done",
        ),
        bound("write-ahead log after the end", disk.log, 0, "a clean stop empties it"),
        bound(
            "`ledger.db` written anew",
            disk.anew,
            disk.bodies * 3 / 2 + disk.kept * 1024 + disk.accepted * 256 + 8 * MIB,
            "bodies of what is kept with half of a page lost for each, 1 KiB beside each, 256 bytes for the id of each accepted message, 8 MiB",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(life: u32, resident: impl Fn(u64) -> u64) -> Vec<Sample> {
        let at =
            |second| Sample { life, age_us: second * 1_000_000, resident_bytes: resident(second), ..Sample::default() };
        (0..40).map(at).collect()
    }

    #[test]
    fn memory_that_grows_within_a_life_is_seen_and_what_it_takes_at_first_is_none() {
        let flat = life(1, |second| second.min(10) * 20 * MIB);
        assert_eq!(growth(&flat).map(|bound| (bound.most, bound.holds())), Some((0, true)));
        let leaks = [flat, life(2, |second| second * 8 * MIB)].concat();
        assert_eq!(growth(&leaks).map(|bound| (bound.most, bound.holds())), Some((80, false)));
        // A life that was too short says nothing.
        assert_eq!(growth(&life(1, |_| 0)[..10]), None);
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        assert!(bounds(&[], &Disk::default()).iter().all(|bound| !bound.holds()));
    }

    #[test]
    fn a_file_that_keeps_what_is_gone_is_seen() {
        let disk =
            Disk { ledger: 20 * MIB, anew: 10 * MIB, bodies: 5 * MIB, kept: 1_000, accepted: 9_000, ..Disk::default() };
        let holds = |disk: &Disk| of_disk(60 * MIB, 1, disk).map(|bound| bound.holds());
        assert_eq!(holds(&disk), [true; 5]);
        assert_eq!(holds(&Disk { ledger: 60 * MIB, ..disk }), [true, false, true, true, true]);
        assert_eq!(holds(&Disk { free: 46 * MIB, ..disk }), [true, true, false, true, true]);
        assert_eq!(holds(&Disk { log: 1, ..disk }), [true, true, true, false, true]);
        assert_eq!(holds(&Disk { anew: 40 * MIB, ..disk }), [true, true, true, true, false]);
    }
}
