//! A reload of a host with 1,000 connectors of one plugin, of which one has changed: from the request until it runs.

use std::time::Instant;

use anyhow::ensure;
use bulkhead_tests::Bulkhead;

const CONNECTORS: usize = 1_000;
const ROUNDS: usize = 9;

/// Milliseconds of each reload.
pub(crate) fn rounds() -> anyhow::Result<Vec<f64>> {
    let bulkhead = Bulkhead::new(&toml(0));
    let running = bulkhead.start();
    let reload = |round| {
        bulkhead.configure(&toml(round));
        let started = Instant::now();
        let reply = running.api("POST", "reload", "{}");
        let elapsed = started.elapsed();
        let changed = reply.json()["changed"].as_array().map_or(0, Vec::len);
        ensure!((reply.status, changed) == (200, 1), "{}: {}", reply.status, reply.body);
        Ok(elapsed.as_secs_f64() * 1e3)
    };
    let rounds = (1..=ROUNDS).map(reload).collect();
    let _ = running.terminate().ok();
    rounds
}

fn toml(round: usize) -> String {
    let connector = |number| {
        let added = if number == CONNECTORS / 2 { round } else { 0 };
        format!(
            "[connectors.c{number}]\nplugin = \"builtin:jq\"\nconsume = \"q{number}\"\nconfig = {{ program = \". + {added}\", publish = \"out\" }}\nallow.publish = [\"out\"]\n"
        )
    };
    (0..CONNECTORS).map(connector).collect()
}
