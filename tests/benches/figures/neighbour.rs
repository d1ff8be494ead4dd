//! What a connector notices of an attacker beside it: queue, plugin, HTTP request, end to end.
//!
//! The built host, a message every few milliseconds through `builtin:http-request` to a server here. Rounds without and
//! with an attacker alternate in one run, and each pair of them gives one ratio: where the machine itself stands still for
//! a moment, one pair shows it. The attacker has as many workers as there are cores, and loops, allocates, recurses, floods
//! its log and its queue, traps, and asks for what it may not have, without end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_tests::{Answer, Bulkhead, Fixture, Request, Running};

use crate::report::{Figure, percentile};

/// Messages of one round, and the time between two of them.
const MESSAGES: usize = 400;
const EVERY: Duration = Duration::from_millis(10);
const ROUNDS: usize = 7;
const PATIENCE: Duration = Duration::from_secs(60);
/// What the attacker does, again and again.
const ATTACKS: [&str; 7] =
    ["spin", "grow", "recurse", "print 100000", "flood out", "trap now", "refused-requests 1000"];
/// Enough of it for rounds that take ten times as long as they should.
const ATTACK: usize = 20_000;

/// When each message arrived, by its number.
type Arrivals = Arc<Mutex<HashMap<usize, Instant>>>;

/// `neighbour_p99_ratio`.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let arrivals = Arrivals::default();
    let noted = arrivals.clone();
    let server = Fixture::start(move |request: &Request| {
        let number = String::from_utf8_lossy(&request.body).parse().unwrap_or(usize::MAX);
        noted.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Instant::now());
        Answer::status(200)
    });
    let host = Bulkhead::new(&toml(&server.url()));
    let running = host.start();
    let mut neighbour = Neighbour { arrivals, running: &running, sent: 0 };
    let attacker = |verb: &str| {
        let reply = running.api("POST", &format!("connectors/attacker/{verb}"), "");
        anyhow::ensure!(reply.status == 204, "the attacker cannot be told to {verb}: {}", reply.body);
        Ok(())
    };
    attacker("pause")?;
    let attack: Vec<&str> = ATTACKS.into_iter().cycle().take(ATTACK).collect();
    host.send("attack", &attack);
    // The first round warms up and is not counted.
    let _ = neighbour.round()?;
    let (mut quiet, mut attacked) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(neighbour.round()?);
        attacker("resume")?;
        attacked.push(neighbour.round()?);
        attacker("pause")?;
    }
    let left = running.metrics().value("bulkhead_queue_backlog", &[("queue", "attack")]);
    anyhow::ensure!(left > 0.0, "the attack ended before the measurement");
    let panics = running.metrics().value("bulkhead_panics_total", &[]);
    anyhow::ensure!(panics == 0.0, "{panics} panics");
    running.kill9();
    Ok(vec![compare(&quiet, &attacked)])
}

/// The median over the pairs of rounds, with what lies behind it.
fn compare(quiet: &[Vec<f64>], attacked: &[Vec<f64>]) -> Figure {
    let p99 = |rounds: &[Vec<f64>]| rounds.iter().map(|round| percentile(round, 99)).collect::<Vec<f64>>();
    let ratios: Vec<f64> = p99(attacked).iter().zip(p99(quiet)).map(|(attacked, quiet)| attacked / quiet).collect();
    let how = format!(
        "from `send` to the server, 99th percentile {:.2} ms with the attacker, {:.2} ms without; medians {:.2} and {:.2}",
        percentile(&p99(attacked), 50),
        percentile(&p99(quiet), 50),
        percentile(&attacked.concat(), 50),
        percentile(&quiet.concat(), 50)
    );
    Figure::of_rounds("neighbour_p99_ratio", "ratio", &ratios, &how)
}

struct Neighbour<'a> {
    arrivals: Arrivals,
    running: &'a Running,
    sent: usize,
}

impl Neighbour<'_> {
    /// Milliseconds from the moment at which each message should be sent until it arrived: one that waits for the host to
    /// take it waits, too.
    fn round(&mut self) -> anyhow::Result<Vec<f64>> {
        let first = self.sent;
        let mut due = Vec::new();
        let started = Instant::now();
        for place in 0..MESSAGES {
            let at = started + EVERY * u32::try_from(place)?;
            #[expect(clippy::disallowed_methods, reason = "a benchmark sends at a steady rate")]
            thread::sleep(at.saturating_duration_since(Instant::now()));
            let body = serde_json::json!({ "body": self.sent.to_string() }).to_string();
            let reply = self.running.api("POST", "queues/in/messages", &body);
            anyhow::ensure!(reply.status == 200, "{}", reply.body);
            due.push(at);
            self.sent += 1;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let arrived = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            if (first..self.sent).all(|number| arrived.contains_key(&number)) {
                let late = (first..self.sent).zip(&due).map(|(number, due)| arrived[&number] - *due);
                return Ok(late.map(|late| late.as_secs_f64() * 1e3).collect());
            }
            drop(arrived);
            anyhow::ensure!(Instant::now() < deadline, "messages are missing");
            #[expect(
                clippy::disallowed_methods,
                reason = "a benchmark looks now and then, so that looking costs nothing"
            )]
            thread::sleep(EVERY);
        }
    }
}

fn toml(url: &str) -> String {
    let plugin = bulkhead_tests::guest("hostile");
    format!(
        r#"
        [queues.out]
        max_bytes = "16GiB"
        [connectors.neighbour]
        plugin = "builtin:http-request"
        consume = "in"
        config = {{ method = "POST", url = "{url}/" }}
        allow.http = [{{ url = "{url}/*", methods = ["POST"], private = true }}]
        [connectors.attacker]
        plugin = "{}"
        consume = {{ queue = "attack", batch = 1, concurrency = 2 }}
        brake = 0
        retry = {{ attempts = 1 }}
        limits = {{ cpu = "200ms", wall = "1s", requests = 10000 }}
        allow.publish = ["out"]
        "#,
        plugin.display()
    )
}
