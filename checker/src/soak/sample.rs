//! The process and its data directory, looked at from outside every second: `/proc`, file sizes, `/metrics`.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::strike::Alive;
use crate::host::pause;
use crate::http;
use crate::record::Clock;

/// Between two samples.
const EACH: Duration = Duration::from_secs(1);
/// Between two looks at the metrics, in samples.
const METRICS_EACH: usize = 5;

/// How it stood at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sample {
    /// In microseconds since the Unix epoch.
    pub(super) at_us: u64,
    /// The number of the life.
    pub(super) life: u32,
    /// How old it was.
    pub(super) age_us: u64,
    pub(super) resident_bytes: u64,
    pub(super) threads: u64,
    pub(super) descriptors: u64,
    /// Of the data directory; 0 where it could not be read.
    pub(super) disk_bytes: u64,
}

/// Everything that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) samples: Vec<Sample>,
    /// Looks at the metrics, and in how many of them a connector was held, by its name and the reason.
    pub(super) looks: u64,
    pub(super) held: BTreeMap<String, u64>,
}

/// Looks until it is over.
pub(super) fn watch(alive: &Alive, clock: Clock, data: &Path, admin: SocketAddr, is_over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    while !is_over.load(Ordering::SeqCst) {
        let Some(sample) = sample(alive, clock, data) else {
            pause(EACH);
            continue;
        };
        seen.samples.push(sample);
        if seen.samples.len().is_multiple_of(METRICS_EACH)
            && let Some(metrics) = http::text(admin, "/metrics")
        {
            seen.looks += 1;
            held(&metrics).for_each(|who| *seen.held.entry(who).or_default() += 1);
        }
        pause(EACH);
    }
    seen
}

fn sample(alive: &Alive, clock: Clock, data: &Path) -> Option<Sample> {
    let process = alive.process.load(Ordering::SeqCst);
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let at_us = clock.now_us();
    Some(Sample {
        at_us,
        life: alive.lives.load(Ordering::SeqCst),
        age_us: at_us.saturating_sub(alive.since_us.load(Ordering::SeqCst)),
        resident_bytes: figure(&status, "VmRSS:")? << 10,
        threads: figure(&status, "Threads:")?,
        descriptors: fs::read_dir(format!("/proc/{process}/fd")).ok()?.count() as u64,
        disk_bytes: size(data),
    })
}

/// The number behind a name.
fn figure(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Bytes of all files below a folder; files that vanish meanwhile do not count.
pub(super) fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// What is held: `connector (reason)`.
fn held(metrics: &str) -> impl Iterator<Item = String> {
    metrics.lines().filter_map(|line| {
        let labels = line.strip_prefix("bulkhead_held{")?.strip_suffix("} 1")?;
        let value = |name: &str| labels.split(',').find_map(|label| label.strip_prefix(name))?.strip_prefix('=');
        let value = |name: &str| value(name).map(|text| text.trim_matches('"').to_owned());
        Some(format!("{} ({})", value("connector")?, value("reason")?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_read_from_the_metrics() {
        let metrics =
            "bulkhead_held{connector=\"a\",reason=\"full\"} 1\nbulkhead_held{connector=\"b\",reason=\"rate\"} 0\n";
        assert_eq!(held(metrics).collect::<Vec<_>>(), ["a (full)"]);
    }

    #[test]
    fn figures_of_a_process_are_read() {
        let status = "Name:\tbulkhead\nVmRSS:\t   1234 kB\nThreads:\t15\n";
        assert_eq!(
            (figure(status, "VmRSS:"), figure(status, "Threads:"), figure(status, "No:")),
            (Some(1234), Some(15), None)
        );
    }
}
