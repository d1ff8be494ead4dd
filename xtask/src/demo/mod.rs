//! `cargo xtask demo`: the main job with real servers, watched from outside, and every record accounted for.
//!
//! Drives the built binary as an operator would: its command line, its TOML, its signals, its metrics. Succeeds only if
//! each version of each order was delivered, or is the dead letter that it should be.

mod figures;
mod process;
mod report;
mod verdict;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::{cargo, toolchain};
use figures::Figures;
use process::{Process, get};
use verdict::Stats;

/// Between two looks at what happens.
const LOOK_EACH: Duration = Duration::from_millis(250);
/// Until the host answers; the first start compiles the plugins.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// For each thousand of records, beside a first minute.
const DONE_WITHIN_PER_THOUSAND: Duration = Duration::from_secs(30);
/// After SIGTERM: the host's own grace time and some.
const STOPPED_WITHIN: Duration = Duration::from_secs(45);

/// `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave everything running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Orders in the shop
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    records: u32,
}

/// Where everything lies.
struct Places {
    bulkhead: PathBuf,
    server: PathBuf,
    config: PathBuf,
    data: PathBuf,
    logs: PathBuf,
}

/// What the host's configuration takes from its environment.
struct Surroundings {
    admin: SocketAddr,
    variables: Vec<(&'static str, String)>,
}

/// The addresses that the demo's server prints.
#[derive(Deserialize)]
struct Addresses {
    shop: String,
    warehouse: String,
}

/// Everything that runs.
struct Running {
    places: Places,
    surroundings: Surroundings,
    addresses: Addresses,
    server: Process,
    host: Process,
    started: Instant,
}

/// What is known when all is done.
pub(crate) struct Outcome {
    figures: Figures,
    stats: Stats,
    queues: Value,
    dead: Value,
    took: Duration,
    /// Whether the host ended with success; `None` while it still runs.
    stopped: Option<bool>,
}

/// Builds, runs, reports; whether every record is accounted for.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    toolchain::require_plugin_target()?;
    let places = build()?;
    let mut running = start(places, options.records)?;
    let within = Duration::from_secs(60) + DONE_WITHIN_PER_THOUSAND * options.records.div_ceil(1_000);
    let figures = running.watch(options.records, within)?;
    let outcome = running.conclude(figures, options.keep)?;
    let checks = verdict::checks(&outcome);
    report::print(&outcome, &checks);
    report::print_next(&running.places, &running.surroundings);
    if options.keep {
        println!("\nall of it keeps running: press Ctrl-C to stop");
        running.host.wait(Duration::MAX)?;
    }
    Ok(checks.iter().all(|check| check.holds))
}

fn build() -> anyhow::Result<Places> {
    println!("building the host and the demo's servers");
    let packages = ["--package", "bulkhead-host", "--package", "bulkhead-demo-server"];
    cargo::must(cargo::command(&["build", "--locked", "--bins"]).args(packages))?;
    let folder = cargo::root().join("demo");
    let logs = cargo::target_folder()?.join("demo");
    fs::create_dir_all(&logs)?;
    Ok(Places {
        bulkhead: cargo::binary("bulkhead")?,
        server: cargo::binary("bulkhead-demo-server")?,
        config: folder.join("bulkhead.toml"),
        data: folder.join("data"),
        logs,
    })
}

/// Starts the servers, and then the host on an empty data folder.
fn start(places: Places, records: u32) -> anyhow::Result<Running> {
    if places.data.exists() {
        fs::remove_dir_all(&places.data).context("the data of the demo before cannot be removed")?;
    }
    let mut variables = vec![
        ("DEMO_SHOP_TOKEN", "token-of-the-shop".to_owned()),
        ("DEMO_WAREHOUSE_TOKEN", "token-of-the-warehouse".to_owned()),
    ];
    let log = places.logs.join("server.log");
    let (server, line) = Process::start_talking(&places.server, &[&records.to_string()], &variables, &log)?;
    let addresses: Addresses = serde_json::from_str(&line).context("the demo's server prints its addresses")?;
    let admin = free_address()?;
    variables.push(("DEMO_SHOP", addresses.shop.clone()));
    variables.push(("DEMO_WAREHOUSE", addresses.warehouse.clone()));
    variables.push(("DEMO_ADMIN", admin.to_string()));
    let surroundings = Surroundings { admin, variables };
    let config = places.config.to_str().context("the workspace's path is UTF-8")?;
    let log = places.logs.join("host.log");
    let host = Process::start(&places.bulkhead, &["--config", config, "run"], &surroundings.variables, &log)?;
    println!("shop {}   warehouse {}   host {admin}", addresses.shop, addresses.warehouse);
    Ok(Running { places, surroundings, addresses, server, host, started: Instant::now() })
}

/// An address that is free now. The host takes it a moment later.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Running {
    /// Shows progress until the warehouse has everything and the queues are empty; the last figures.
    fn watch(&mut self, records: u32, within: Duration) -> anyhow::Result<Figures> {
        self.until_ready()?;
        let start = Instant::now();
        let mut progress = report::Progress::start(records);
        loop {
            let stats = self.stats()?;
            let figures = self.figures()?;
            progress.show(&stats, &figures, start.elapsed());
            if stats.is_complete() && figures.backlog("orders") + figures.backlog("shipments") == 0.0 {
                progress.end();
                return Ok(figures);
            }
            if start.elapsed() > within {
                progress.end();
                bail!("after {} s this is missing: {}\n{}", within.as_secs(), stats.missing(), self.host.log_tail());
            }
            self.look_later()?;
        }
    }

    fn until_ready(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        while get(self.surroundings.admin, "/readyz").is_err() {
            if start.elapsed() > READY_WITHIN {
                bail!("the host is not ready after {} s: see {}", READY_WITHIN.as_secs(), self.host.log().display());
            }
            self.look_later()?;
        }
        println!("ready {} ms after its start", self.started.elapsed().as_millis());
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "other processes are looked at from outside, a few times a second")]
    fn look_later(&mut self) -> anyhow::Result<()> {
        std::thread::sleep(LOOK_EACH);
        self.host.must_run()?;
        self.server.must_run()
    }

    fn stats(&self) -> anyhow::Result<Stats> {
        let address = self.addresses.warehouse.trim_start_matches("http://").parse()?;
        Ok(serde_json::from_str(&get(address, "/stats")?)?)
    }

    fn figures(&self) -> anyhow::Result<Figures> {
        Ok(Figures::read(&get(self.surroundings.admin, "/metrics")?))
    }

    /// Stops the host (unless it is kept) and asks it, as an operator would, what is left.
    fn conclude(&mut self, figures: Figures, keep: bool) -> anyhow::Result<Outcome> {
        let took = self.started.elapsed();
        let stopped = if keep { None } else { Some(self.host.terminate(STOPPED_WITHIN)?) };
        Ok(Outcome {
            figures,
            stats: self.stats()?,
            queues: self.ask(&["queues", "--json"])?,
            dead: self.ask(&["dead", "list", "--json"])?,
            took,
            stopped,
        })
    }

    fn ask(&self, verb: &[&str]) -> anyhow::Result<Value> {
        let config = self.places.config.to_str().context("the workspace's path is UTF-8")?;
        let arguments = [&["--config", config], verb].concat();
        let answer = process::answer(&self.places.bulkhead, &arguments, &self.surroundings.variables)?;
        serde_json::from_str(&answer).with_context(|| format!("`bulkhead {}` prints JSON", verb.join(" ")))
    }
}
