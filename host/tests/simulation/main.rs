//! Delivery in time that does not pass: whole policies over the host's own decisions, for years in a moment.
//!
//! What decides is taken from the host as it is: which messages wait and which may be leased (`broker::local::lease`, by its
//! file, for nobody outside may use it), what a failure leads to (`delivery::outcome`, `delivery::retry`), what a rate and
//! a breaker hold back. What carries these out there (tasks, threads, the ledger, the lanes' own loops) is not here: a world
//! in memory stands for it (`world`). A judge that knows none of it looks at every call (`judge`).
//!
//! A world comes from one number, its seed. Each run looks at others, says from which one on, and adds the seed of one that
//! went wrong to `seeds.txt`, which is tried first. `SIMULATION_SEED=7` looks at one alone, `SIMULATION_WORLDS=100000` at more.
#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stdout, reason = "a test says which worlds it looks at")]
#![allow(clippy::disallowed_methods, reason = "a test takes what it shall look at from its environment")]

mod broker;

/// Where the host's files look for these.
use bulkhead_host::{ledger, message, planted, settlement};

use std::fs::OpenOptions;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Write as _;
use std::time::Instant;

use broker::local::world::{self, Figures};

/// As many as take a few seconds in the profile of tests.
const WORLDS: u64 = 60;
/// In so many worlds everything happens that may.
const WORLDS_VARIED: usize = 20;
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simulation/seeds.txt");

fn seeds() -> Vec<u64> {
    if let Ok(seed) = std::env::var("SIMULATION_SEED") {
        return vec![seed.parse().unwrap()];
    }
    let worlds = std::env::var("SIMULATION_WORLDS").map_or(WORLDS, |worlds| worlds.parse().unwrap());
    let first = RandomState::new().build_hasher().finish() >> 1;
    println!("{worlds} worlds from seed {first} on");
    kept().into_iter().chain(first..first + worlds).collect()
}

/// Those that went wrong once.
fn kept() -> Vec<u64> {
    let text = std::fs::read_to_string(KEPT).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.trim().parse().unwrap()).collect()
}

/// The next run tries it first.
fn keep(seed: u64) {
    if !kept().contains(&seed) {
        let mut file = OpenOptions::new().append(true).open(KEPT).unwrap();
        writeln!(file, "{seed}").unwrap();
    }
}

#[test]
fn every_message_ends_once_and_no_policy_is_broken_whatever_the_world_does() {
    let (seeds, began) = (seeds(), Instant::now());
    let mut all = Figures::default();
    for &seed in &seeds {
        match world::run(seed) {
            Ok(figures) => all.add(figures),
            Err(wrong) => {
                keep(seed);
                panic!("{wrong}: look at it again with SIMULATION_SEED={seed}");
            }
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!("{} worlds, {all:?}, {:.0} steps a second", seeds.len(), all.steps as f64 / took);
    // A world in which nothing happens shows nothing.
    assert!(seeds.len() < WORLDS_VARIED || all.is_varied(), "{all:?}");
}
