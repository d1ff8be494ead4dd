//! What the demo shows: one line while it works, and tables at the end.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::net::SocketAddr;
use std::time::Duration;

use super::figures::Figures;
use super::verdict::{Check, DELIVERER, Stats};
use super::{Outcome, Places, Surroundings};

/// Where no terminal shows the line again and again, it is printed this seldom.
const PRINT_EACH: Duration = Duration::from_secs(2);
const CONNECTORS: [&str; 3] = ["poll-orders", "to-shipment", DELIVERER];

/// The line that shows how far the demo is.
pub(crate) struct Progress {
    on_terminal: bool,
    printed: Option<Duration>,
}

impl Progress {
    /// Says what is about to happen.
    pub(crate) fn start(records: u32) -> Self {
        println!(
            "{records} orders: a third is in the shop now, the others come in over six seconds; some ship and change"
        );
        Self { on_terminal: stdout().is_terminal(), printed: None }
    }

    /// Shows the state after `elapsed`.
    pub(crate) fn show(&mut self, stats: &Stats, figures: &Figures, elapsed: Duration) {
        let (shop, warehouse) = (&stats.shop, &stats.warehouse);
        let line = format!(
            "{:>3} s  fetched {}/{} · shipments {} · delivered {} · retried {} · dead {} · waiting {}",
            elapsed.as_secs(),
            shop.versions,
            warehouse.expected,
            deliveries(figures, "to-shipment", "done"),
            warehouse.delivered,
            deliveries(figures, DELIVERER, "retry"),
            deliveries(figures, DELIVERER, "dead"),
            figures.backlog("orders") + figures.backlog("shipments"),
        );
        if self.on_terminal {
            print!("\r\x1b[2K{line}");
            // A line that is not shown is no reason to stop.
            let _ = stdout().flush();
        } else if self.printed.is_none_or(|printed| elapsed - printed >= PRINT_EACH) {
            println!("{line}");
            self.printed = Some(elapsed);
        }
    }

    /// The next output begins on a line of its own.
    pub(crate) fn end(&self) {
        if self.on_terminal {
            println!();
        }
    }
}

/// What happened, and what of it had to.
pub(crate) fn print(outcome: &Outcome, checks: &[Check]) {
    print_counts(outcome);
    print_times(&outcome.figures);
    println!();
    for check in checks {
        println!("  {} {}", if check.holds { "ok    " } else { "FAILED" }, check.says);
    }
    let accounted = checks.iter().all(|check| check.holds);
    let verdict = if accounted { "every record is accounted for" } else { "NOT every record is accounted for" };
    println!("\n{verdict}, after {:.1} s", outcome.took.as_secs_f64());
}

fn print_counts(outcome: &Outcome) {
    let (shop, warehouse, figures) = (&outcome.stats.shop, &outcome.stats.warehouse, &outcome.figures);
    let letters = outcome.dead.as_array().map_or(0, Vec::len);
    let repeats = figures.sum("bulkhead_duplicates_total", &[("queue", "orders")]);
    let shipments = deliveries(figures, "to-shipment", "done");
    println!("\nwhat happened");
    let row = |what: &str, count: u64, remark: String| println!("  {what:<12} {count:>7}   {remark}");
    row(
        "fetched",
        shop.versions,
        format!(
            "versions of orders in {} pages; {} requests: {} answered 304, {} answered 429",
            shop.pages, shop.requests, shop.not_modified, shop.rate_limited
        ),
    );
    row("shipments", shipments, format!("made of orders, one of each version ({repeats} fetched again and dropped)"));
    row(
        "delivered",
        warehouse.delivered,
        format!("shipments taken by the warehouse, in {} requests", warehouse.requests),
    );
    row(
        "retried",
        deliveries(figures, DELIVERER, "retry"),
        format!("{} answered 503, {} taken although the answer was 503", warehouse.busy, warehouse.answers_lost),
    );
    row("dead", letters as u64, "rejected with 422, kept with the reason".to_owned());
    row(
        "duplicates",
        warehouse.duplicates,
        "came again under the same Idempotency-Key, and were taken once".to_owned(),
    );
}

fn print_times(figures: &Figures) {
    println!("\n  {:<14} {:>8}  {:^29}  {:^19}", "", "", "time of an attempt", "enqueued to settled");
    let head = ["attempts", "mean", "p50", "p99", "p50", "p99"];
    println!(
        "  {:<14} {:>8} {:>9} {:>9} {:>9}  {:>9} {:>9}",
        "connector", head[0], head[1], head[2], head[3], head[4], head[5]
    );
    for connector in CONNECTORS {
        let labels = [("connector", connector)];
        let attempts = figures.sum("bulkhead_attempt_seconds_count", &labels);
        let at = |name, quantile| time(figures.quantile(name, &labels, quantile));
        println!(
            "  {connector:<14} {attempts:>8} {:>9} {:>9} {:>9}  {:>9} {:>9}",
            time(figures.mean("bulkhead_attempt_seconds", &labels)),
            at("bulkhead_attempt_seconds", 0.5),
            at("bulkhead_attempt_seconds", 0.99),
            at("bulkhead_delivery_seconds", 0.5),
            at("bulkhead_delivery_seconds", 0.99),
        );
    }
    let of = |name, quantile| time(figures.quantile(name, &[], quantile));
    let (sandbox, commit) = ("bulkhead_sandbox_seconds", "bulkhead_ledger_commit_seconds");
    println!("  a fresh sandbox: p50 {}, p99 {}", of(sandbox, 0.5), of(sandbox, 0.99));
    println!("  a commit with fsync: p50 {}, p99 {}", of(commit, 0.5), of(commit, 0.99));
}

/// Where to look next, as commands to copy.
pub(crate) fn print_next(places: &Places, surroundings: &Surroundings) {
    print!("{}", next(places, surroundings.admin));
}

/// The verbs ask the host that runs, if one does, at the address in its TOML: that is a variable of the demo's.
fn next(places: &Places, admin: SocketAddr) -> String {
    let bulkhead = format!("DEMO_ADMIN={admin} {} --config {}", places.bulkhead.display(), places.config.display());
    let lines = [
        ("the connectors", places.config.display().to_string()),
        ("the host's log", places.logs.join("host.log").display().to_string()),
        ("dead letters", format!("{bulkhead} dead list")),
        ("queues", format!("{bulkhead} queues")),
        ("metrics", format!("curl http://{admin}/metrics   (while it runs: --keep)")),
        ("your own connector", "README.md, \"Your first connector\"".to_owned()),
    ];
    let lines = lines.map(|(what, place)| format!("  {what:<18} {place}\n"));
    format!("\nwhere to look next\n{}", lines.concat())
}

fn deliveries(figures: &Figures, connector: &str, outcome: &str) -> u64 {
    let count = figures.sum("bulkhead_deliveries_total", &[("connector", connector), ("outcome", outcome)]);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of a demo")]
    {
        count as u64
    }
}

/// Seconds, in the unit that reads best.
fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "–".to_owned(),
        Some(seconds) if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        Some(seconds) if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_in_their_own_unit() {
        let shown = [None, Some(0.000_042), Some(0.0123), Some(2.5)].map(time);
        assert_eq!(shown, ["–", "42 µs", "12.3 ms", "2.50 s"]);
    }

    /// A kept host listens at an address of its own, and not at the one that its TOML falls back to.
    #[test]
    fn what_to_look_at_next_asks_the_host_that_was_started() {
        let places = Places {
            bulkhead: "/target/bulkhead".into(),
            server: "/target/server".into(),
            config: "/demo/bulkhead.toml".into(),
            data: "/demo/data".into(),
            logs: "/target/demo".into(),
        };
        let expected = "
where to look next
  the connectors     /demo/bulkhead.toml
  the host's log     /target/demo/host.log
  dead letters       DEMO_ADMIN=127.0.0.1:4321 /target/bulkhead --config /demo/bulkhead.toml dead list
  queues             DEMO_ADMIN=127.0.0.1:4321 /target/bulkhead --config /demo/bulkhead.toml queues
  metrics            curl http://127.0.0.1:4321/metrics   (while it runs: --keep)
  your own connector README.md, \"Your first connector\"
";
        assert_eq!(next(&places, SocketAddr::from(([127, 0, 0, 1], 4321))), expected);
    }
}
