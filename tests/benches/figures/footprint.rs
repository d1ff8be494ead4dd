//! What a host takes that has nothing to do: its memory, what each further connector adds to it, and how long a scrape of
//! its figures takes.
//!
//! Each round is a fresh process. Memory is what the system counts as resident a while after the start, when nothing of it
//! moves any more.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bulkhead_tests::{Bulkhead, Running};

use crate::report::Figure;

const CONNECTORS: usize = 1_000;
const ROUNDS: usize = 5;
const SCRAPES: usize = 21;
/// Between two looks at the memory.
const LOOK_EACH: Duration = Duration::from_millis(200);
/// Looks at which it must have been the same.
const STEADY_LOOKS: usize = 5;
/// Looks after which it counts as it is.
const LOOKS_MAX: usize = 100;
/// A change that is none, in kibibytes.
const STEADY_KIB: u64 = 256;

/// All of them.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let (small, large) = (Bulkhead::new(&toml(1)), Bulkhead::new(&toml(CONNECTORS)));
    // The first start compiles the plugin.
    for bulkhead in [&small, &large] {
        let _ = bulkhead.start().terminate().ok();
    }
    let (mut base, mut each, mut scrapes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let running = small.start();
        let small_kib = settled_kib(&small)?;
        let _ = running.terminate().ok();
        let running = large.start();
        let large_kib = settled_kib(&large)?;
        scrapes.extend(scrape(&running)?);
        let _ = running.terminate().ok();
        base.push(small_kib as f64 / 1024.0);
        each.push((large_kib as f64 - small_kib as f64) / (CONNECTORS - 1) as f64);
    }
    Ok(vec![
        Figure::of_rounds("base_rss_mib", "MiB", &base, "resident memory of a host with 1 idle connector"),
        Figure::of_rounds(
            "idle_connector_kib",
            "KiB",
            &each,
            "what each of 1,000 idle connectors of one plugin adds to it, with a queue of its own",
        ),
        Figure::of_rounds(
            "scrape_1000_ms",
            "ms",
            &scrapes,
            "`GET /metrics` with 1,000 connectors, from the request to the end of the answer",
        ),
    ])
}

/// Milliseconds of each scrape after the first.
fn scrape(running: &Running) -> anyhow::Result<Vec<f64>> {
    let mut rounds = Vec::new();
    for _ in 0..=SCRAPES {
        let started = Instant::now();
        let text = running.scrape();
        rounds.push(started.elapsed().as_secs_f64() * 1e3);
        let lines = text.lines().filter(|line| line.starts_with("bulkhead_queue_backlog{")).count();
        ensure!(lines == CONNECTORS, "{lines} connectors are in the figures");
    }
    Ok(rounds.split_off(1))
}

/// Resident memory when it has come to rest.
#[expect(clippy::disallowed_methods, reason = "nothing tells when an allocator has given its pages back")]
fn settled_kib(bulkhead: &Bulkhead) -> anyhow::Result<u64> {
    let (mut last, mut steady) = (resident_kib(bulkhead)?, 0);
    for _ in 0..LOOKS_MAX {
        thread::sleep(LOOK_EACH);
        let now = resident_kib(bulkhead)?;
        steady = if now.abs_diff(last) <= STEADY_KIB { steady + 1 } else { 0 };
        last = now;
        if steady == STEADY_LOOKS {
            break;
        }
    }
    Ok(last)
}

fn resident_kib(bulkhead: &Bulkhead) -> anyhow::Result<u64> {
    let process = fs::read_to_string(bulkhead.data().join("lock"))?;
    let status = fs::read_to_string(format!("/proc/{}/status", process.trim()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the system counts it")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

fn toml(connectors: usize) -> String {
    let connector = |number| {
        format!(
            "[connectors.c{number}]\nplugin = \"builtin:jq\"\nconsume = \"q{number}\"\nconfig = {{ program = \".\", publish = \"out\" }}\nallow.publish = [\"out\"]\n"
        )
    };
    (0..connectors).map(connector).collect()
}
