//! Delivery in time that does not pass: whole policies over the host's own decisions, for years in a moment.
//!
//! What decides is taken from the host as it is: which messages wait and which may be leased (`broker::local::lease`, by its
//! file, for nobody outside may use it), what a failure leads to (`delivery::outcome`, `delivery::retry`), what a rate and
//! a breaker hold back. What carries these out there (tasks, threads, the ledger, the lanes' own loops) is not here: a world
//! in memory stands for it (`world`). A judge that knows none of it looks at every call (`judge`).
//!
//! A world comes from one number. One that went wrong says its number, and stays in `seeds.txt`, which is tried first;
//! `SIMULATION_SEED=7` looks at one alone, `SIMULATION_WORLDS=100000` looks further.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "a test takes what it shall look at from its environment")]

mod broker;

/// Where the host's files look for these.
use bulkhead_host::{ledger, message, planted, settlement};

use std::time::Instant;

use broker::local::world::{self, Figures};

/// As many as take a few seconds in the profile of tests.
const WORLDS: u64 = 300;

fn seeds() -> Vec<u64> {
    if let Ok(seed) = std::env::var("SIMULATION_SEED") {
        return vec![seed.parse().unwrap()];
    }
    let failed = include_str!("seeds.txt").lines().filter(|line| !line.starts_with('#'));
    let worlds = std::env::var("SIMULATION_WORLDS").map_or(WORLDS, |worlds| worlds.parse().unwrap());
    failed.map(|line| line.trim().parse().unwrap()).chain(0..worlds).collect()
}

#[test]
fn every_message_ends_once_and_no_policy_is_broken_whatever_the_world_does() {
    let (seeds, began) = (seeds(), Instant::now());
    let mut all = Figures::default();
    for seed in &seeds {
        match world::run(*seed) {
            Ok(figures) => all.add(figures),
            Err(wrong) => panic!("{wrong}: look again with SIMULATION_SEED={seed}, and add it to seeds.txt"),
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!("{} worlds, {all:?}, {:.0} steps a second", seeds.len(), all.steps as f64 / took);
    // A world in which nothing happens shows nothing.
    assert!(seeds.len() < 100 || all.is_varied(), "{all:?}");
}
