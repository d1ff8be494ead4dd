//! Attacks a running host, and proves from records of its own that nothing was lost, doubled or made up.
//!
//! Shares no code with the host: it knows the binary, its TOML, the admin API, the webhook listener and signals, as any
//! user does. A producer and a sink write down what they do, each line on disk before it counts; in the meantime the host
//! is killed, stopped and held; at the end the verdict compares the records with what lies in the ledger's file, read with
//! plain SQLite. What a run draws comes from one seed.

mod chance;
mod faults;
mod host;
mod http;
mod ledger;
mod left;
mod producer;
mod pulse;
mod record;
mod report;
mod sink;
mod verdict;
mod witness;
mod workload;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use anyhow::Context as _;

use chance::Chance;
use faults::{Strike, Striker};
use host::Host;
use ledger::Ledger;
use left::Left;
use producer::Producer;
use pulse::Pulse;
use record::{Clock, Fault, Receiving, Sending};
pub use report::Report;
use sink::Sink;
use verdict::Evidence;
pub use verdict::Violation;
use witness::Witness;
use workload::Places;

/// Sends of each kind that are asked for in a cycle, at least.
const SENDS: usize = 3;
/// And that wait from cycles before, at most.
const SENDS_WAITING_MAX: usize = 8;

/// A run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The binary `bulkhead`.
    pub host: PathBuf,
    /// The plugin of `tests/guests/tally`.
    pub tally: PathBuf,
    /// The plugin of `tests/guests/parcel`.
    pub parcel: PathBuf,
    /// A folder in which everything lies afterwards. Nothing is in it before, or the data directory of a host that ended
    /// without any work, whose compiled plugins save time.
    pub folder: PathBuf,
    /// Strikes.
    pub cycles: u64,
    /// From which everything is drawn.
    pub seed: u64,
    /// A planted bug that the host is to have, if it was built with them.
    pub fault: Option<String>,
}

/// Runs it, and judges.
///
/// # Errors
/// The checker itself cannot work: a folder, a port, a plugin or the C compiler is missing. What the host does wrong is a
/// [`Violation`].
pub fn run(settings: &Settings) -> anyhow::Result<Report> {
    let started = Instant::now();
    let world = World::open(settings)?;
    let attacked = world.attack(settings).and_then(|last_life_us| world.host.run_until_idle().map(|()| last_life_us));
    drop(world);
    let folder = &settings.folder;
    let sendings: Vec<Sending> = Ledger::read(&folder.join(PRODUCER))?;
    let receivings: Vec<Receiving> = Ledger::read(&folder.join(SINK))?;
    let faults: Vec<Fault> = Ledger::read(&folder.join(FAULTS))?;
    let evidence = Evidence::new(settings.seed, sendings, receivings, faults);
    let (evidence, violations) = match attacked {
        Ok(last_life_us) => {
            let evidence = Evidence { left: Left::read(&folder.join("data"))?, last_life_us, ..evidence };
            let violations = verdict::judge(&evidence);
            (evidence, violations)
        }
        // Where the work did not come to its end, most of it would seem lost.
        Err(error) => (evidence, vec![Violation::Failed { text: format!("{error:#}") }]),
    };
    Ok(Report::new(settings, &evidence, violations, started.elapsed()))
}

const PRODUCER: &str = "producer.jsonl";
const SINK: &str = "sink.jsonl";
const FAULTS: &str = "faults.jsonl";

/// Everything but the host.
struct World {
    host: Host,
    clock: Clock,
    pulse: Arc<Pulse>,
    sink: Sink,
    producer: Producer,
    faults: Ledger<Fault>,
}

impl World {
    fn open(settings: &Settings) -> anyhow::Result<Self> {
        let folder = &settings.folder;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (clock, pulse) = (Clock::start(), Arc::new(Pulse::default()));
        let sink = Sink::start(settings.seed, clock, pulse.clone(), Ledger::create(&folder.join(SINK))?)?;
        let (admin, hooks) = host::free_addresses(folder)?;
        let places = Places { admin, hooks, sink: sink.address(), tally: &settings.tally, parcel: &settings.parcel };
        fs::write(folder.join("bulkhead.toml"), workload::toml(&places))?;
        let producer = Producer {
            seed: settings.seed,
            clock,
            pulse: pulse.clone(),
            ledger: Ledger::create(&folder.join(PRODUCER))?,
            witness: Some(Witness::build(folder)?),
            admin,
            hooks,
            token: folder.join("data").join("admin.token"),
            sends: AtomicU64::new(0),
        };
        let host = Host { binary: settings.host.clone(), folder: folder.clone(), fault: settings.fault.clone() };
        Ok(Self { host, clock, pulse, sink, producer, faults: Ledger::create(&folder.join(FAULTS))? })
    }

    /// Strikes again and again while others send; when the last life began, in which everything was accepted at last.
    fn attack(&self, settings: &Settings) -> anyhow::Result<u64> {
        let Self { host, clock, pulse, sink, producer, faults } = self;
        let witness = producer.witness.as_ref();
        let striker = Striker { host, witness, sink, admin: producer.admin, clock: *clock, pulse, ledger: faults };
        // The first start compiles the plugins: that is not what is attacked.
        striker.rest(|| Ok(()))?;
        let mut chance = Chance::new(settings.seed, "faults");
        thread::scope(|scope| {
            let (messages, message_tickets) = sync_channel(SENDS_WAITING_MAX);
            let (events, event_tickets) = sync_channel(SENDS_WAITING_MAX);
            let senders = [
                scope.spawn(move || producer.send_messages(&message_tickets)),
                scope.spawn(move || producer.send_events(&event_tickets)),
            ];
            for cycle in 0..settings.cycles {
                let strike = Strike::draw(&mut chance, cycle);
                let sends = SENDS.max(usize::try_from(strike.sends())?);
                [&messages, &events].into_iter().for_each(|tickets| ask(tickets, sends));
                striker.strike(strike)?;
            }
            drop((messages, events));
            let last_life_us = clock.now_us();
            striker.rest(|| {
                senders.into_iter().try_for_each(|sender| {
                    sender.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a producer has panicked")))
                })
            })?;
            Ok(last_life_us)
        })
    }
}

/// Asks for sends; some may be left over from the cycle before.
fn ask(tickets: &SyncSender<()>, sends: usize) {
    for _ in 0..sends {
        let _ = tickets.try_send(());
    }
}
