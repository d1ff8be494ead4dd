//! The world outside: takes what the host delivers, writes it down, and answers by the rules.
//!
//! An arrival is on disk before it is answered. Invariant: after [`Sink::settle`] nothing that a dead host has sent is
//! still under way.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Builder;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::chance::digest;
use crate::http::{self, Reply, Request};
use crate::ledger::Ledger;
use crate::pulse::Pulse;
use crate::record::{Arrival, Clock, Receiving};
use crate::workload::{Answer, LATER, Rule, hold_ms};

/// Asked for by the checker itself.
const PROBE: &str = "/probe";
/// Until connections of a dead host are gone.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// A running sink, which listens until it is dropped; its threads end with the connections.
#[derive(Debug)]
pub(crate) struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    seed: u64,
    clock: Clock,
    pulse: Arc<Pulse>,
    ledger: Ledger<Receiving>,
    arrivals: AtomicU64,
    /// Whether it takes everything at once, whatever the rules say.
    takes_all: AtomicBool,
    is_over: AtomicBool,
}

impl Sink {
    /// Listens on a port that the system picks.
    pub(crate) fn start(seed: u64, clock: Clock, pulse: Arc<Pulse>, ledger: Ledger<Receiving>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("the sink cannot listen")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            seed,
            clock,
            pulse,
            ledger,
            arrivals: AtomicU64::new(0),
            takes_all: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        Builder::new().name("sink".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.is_over.load(Ordering::SeqCst) {
                    return;
                }
                accepting.pulse.change(|counts| counts.open += 1);
                let serving = accepting.clone();
                let serve = move || {
                    // A connection that breaks is a host that died.
                    let _ = serving.serve(&stream);
                    drop(stream);
                    serving.pulse.change(|counts| counts.open -= 1);
                };
                if Builder::new().name("sink-connection".to_owned()).spawn(serve).is_err() {
                    accepting.pulse.change(|counts| counts.open -= 1);
                }
            }
        })?;
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it takes everything at once, whatever the rules say.
    pub(crate) fn take_all(&self) {
        self.shared.takes_all.store(true, Ordering::SeqCst);
    }

    /// Waits until everything that a host which is dead now has sent is dealt with.
    ///
    /// # Errors
    /// It takes too long.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        // Whoever connected before was accepted before.
        ensure!(http::post(self.address, PROBE, &[], b"") == Reply::Status(200), "the sink does not answer");
        let is_settled = self.shared.pulse.wait(SETTLED_WITHIN, |counts| counts.open == 0);
        ensure!(is_settled, "connections of a dead host stay open");
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Who waits for connections sees one more, and ends.
        let _ = http::post(self.address, PROBE, &[], b"");
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some(request) = http::read(&mut reader)? {
            if request.path == PROBE {
                return Ok(write(stream, Answer { status: 200, traps: false })?);
            }
            let at_us = self.clock.now_us();
            let arrival = self.note(at_us, &request)?;
            let takes_all = self.takes_all.load(Ordering::SeqCst);
            let rule = if takes_all { Rule::Takes } else { Rule::of(self.seed, &arrival.receiver, &arrival.name) };
            let answer = rule.answer(arrival.attempt);
            let hold_ms = if takes_all { 0 } else { hold_ms(self.seed, &arrival.name, arrival.attempt) };
            if hold_ms > 0 {
                self.pulse.pause(Duration::from_millis(hold_ms));
            }
            let at_us = self.clock.now_us();
            write(stream, answer)?;
            self.pulse.change(|counts| counts.answered += 1);
            let Answer { status, traps } = answer;
            self.ledger.append(&Receiving::Answer { at_us, nth: arrival.nth, status, traps })?;
        }
        Ok(())
    }

    fn note(&self, at_us: u64, request: &Request) -> anyhow::Result<Arrival> {
        let text = |name: &str| request.header(name).map(str::to_owned);
        let receiver = request.path.trim_start_matches('/').to_owned();
        let id = text("x-id").context("a request names its message")?;
        let name = if receiver == LATER { String::from_utf8_lossy(&request.body).into_owned() } else { id.clone() };
        let arrival = Arrival {
            at_us,
            nth: self.arrivals.fetch_add(1, Ordering::SeqCst),
            receiver,
            id,
            name,
            key: text("x-key"),
            attempt: text("x-attempt").context("a request names its attempt")?.parse()?,
            body: digest(&request.body),
        };
        self.ledger.append(&Receiving::Arrival(arrival.clone()))?;
        self.pulse.change(|counts| counts.arrived += 1);
        Ok(arrival)
    }
}

fn write(mut stream: &TcpStream, answer: Answer) -> std::io::Result<()> {
    let then = if answer.traps { "x-then: trap\r\n" } else { "" };
    let status = answer.status;
    stream.write_all(format!("HTTP/1.1 {status} by the rule\r\n{then}content-length: 0\r\n\r\n").as_bytes())
}
