//! Attacks a running host, and proves from records of its own that nothing was lost, doubled or made up.
//!
//! Shares no code with the host: it knows the binary, its TOML, the admin API, the webhook listener and signals, as any
//! user does. A producer and a sink write down what they do, each line on disk before it counts; in the meantime the host
//! is killed, stopped and held; at the end the verdict compares the records with what lies in the ledger's file, read with
//! plain SQLite. What a run draws comes from one seed.

mod backup;
mod chance;
mod faults;
mod host;
mod http;
mod ledger;
mod left;
pub mod power;
mod preload;
mod producer;
mod pulse;
mod record;
mod report;
mod sabotage;
mod saboteur;
mod sink;
mod soak;
mod story;
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

pub use backup::{BackedUp, backup};
use chance::Chance;
use faults::{Strike, Striker};
use host::{Addresses, Host};
use ledger::Ledger;
use left::Left;
use producer::Producer;
use pulse::Pulse;
use record::{Clock, Fault, Receiving, Sending};
pub use report::Report;
pub use sabotage::{Sabotage, Swept, sabotage};
pub use saboteur::{Call, Failure, Saboteur};
use sink::Sink;
pub use soak::{Soak, Soaked, soak};
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
    let world = World::open(settings, Beside::Witness)?;
    let mut chance = Chance::new(settings.seed, "faults");
    let attacked = world.attack(|striker, tickets| {
        (0..settings.cycles).try_for_each(|cycle| {
            let strike = Strike::draw(&mut chance, cycle);
            tickets.ask(SENDS.max(usize::try_from(strike.sends())?));
            striker.strike(strike)
        })
    });
    conclude(settings, world, attacked, started)
}

/// Lets the host work off what is left, and judges. `attacked` is when the last life began.
fn conclude(
    settings: &Settings,
    world: World,
    attacked: anyhow::Result<u64>,
    started: Instant,
) -> anyhow::Result<Report> {
    let attacked = attacked.and_then(|last_life_us| world.host.run_until_idle().map(|()| last_life_us));
    let host = world.host.clone();
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
        Err(error) => (evidence, vec![host.failed(&error)]),
    };
    Ok(Report::new(settings, &evidence, violations, started.elapsed()))
}

const PRODUCER: &str = "producer.jsonl";
const SINK: &str = "sink.jsonl";
const FAULTS: &str = "faults.jsonl";
const CONFIG: &str = "bulkhead.toml";

/// Everything but the host.
struct World {
    host: Host,
    saboteur: Option<Saboteur>,
    clock: Clock,
    pulse: Arc<Pulse>,
    sink: Sink,
    producer: Producer,
    faults: Ledger<Fault>,
}

/// What stands between the host and the C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nobody,
    Witness,
    Saboteur,
}

/// How the producers are asked for sends.
struct Tickets {
    messages: SyncSender<()>,
    events: SyncSender<()>,
}

impl Tickets {
    /// Asks each for so many; some may be left over from the time before.
    fn ask(&self, sends: usize) {
        for _ in 0..sends {
            let _ = self.messages.try_send(());
            let _ = self.events.try_send(());
        }
    }
}

impl World {
    fn open(settings: &Settings, beside: Beside) -> anyhow::Result<Self> {
        let folder = &settings.folder;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let (clock, pulse) = (Clock::start(), Arc::new(Pulse::default()));
        let sink = Sink::start(settings.seed, clock, pulse.clone(), Ledger::create(&folder.join(SINK))?)?;
        let Addresses { admin, hooks } = host::free_addresses(1)?[0];
        let producer = Producer {
            seed: settings.seed,
            clock,
            pulse: pulse.clone(),
            ledger: Ledger::create(&folder.join(PRODUCER))?,
            witness: (beside == Beside::Witness).then(|| Witness::build(folder)).transpose()?,
            admin,
            hooks,
            token: folder.join("data").join("admin.token"),
            sends: AtomicU64::new(0),
        };
        let under = folder.canonicalize()?.join("data");
        let saboteur = (beside == Beside::Saboteur).then(|| Saboteur::build(folder, &under)).transpose()?;
        let preload = match (&producer.witness, &saboteur) {
            (Some(witness), _) => Some(witness.preload().clone()),
            (None, saboteur) => saboteur.as_ref().map(|saboteur| saboteur.preload().clone()),
        };
        let host =
            Host { binary: settings.host.clone(), folder: folder.clone(), fault: settings.fault.clone(), preload };
        let world =
            Self { host, saboteur, clock, pulse, sink, producer, faults: Ledger::create(&folder.join(FAULTS))? };
        fs::write(folder.join(CONFIG), workload::toml(&world.places(settings)))?;
        Ok(world)
    }

    /// Where the host finds everything.
    fn places<'a>(&self, settings: &'a Settings) -> Places<'a> {
        let Producer { admin, hooks, .. } = self.producer;
        let (tally, parcel) = (settings.tally.as_path(), settings.parcel.as_path());
        Places { admin, hooks, sink: self.sink.address(), tally, parcel, ticks_end_s: None }
    }

    /// Changes the host's configuration, before its first start.
    fn change_config(&self, change: impl FnOnce(&str) -> String) -> anyhow::Result<()> {
        let path = self.host.folder.join(CONFIG);
        let toml = fs::read_to_string(&path)?;
        let changed = change(&toml);
        anyhow::ensure!(changed != toml, "nothing was changed in {}", path.display());
        Ok(fs::write(&path, changed)?)
    }

    /// Who strikes at the host.
    fn striker(&self) -> Striker<'_> {
        let Self { host, clock, pulse, sink, producer, faults, .. } = self;
        Striker { host, sink, admin: producer.admin, clock: *clock, pulse, ledger: faults }
    }

    /// Lets `strikes` happen while others send; when the last life began, in which everything was accepted at last.
    fn attack(&self, strikes: impl FnOnce(&Striker<'_>, &Tickets) -> anyhow::Result<()>) -> anyhow::Result<u64> {
        let striker = self.striker();
        // The first start compiles the plugins: that is not what is attacked.
        striker.rest(|| Ok(()))?;
        self.strike(&striker, strikes, || Ok(()))
    }

    /// The same from the first strike on; `last` is done in the last life, when everything was accepted.
    fn strike(
        &self,
        striker: &Striker<'_>,
        strikes: impl FnOnce(&Striker<'_>, &Tickets) -> anyhow::Result<()>,
        last: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<u64> {
        let producer = &self.producer;
        thread::scope(|scope| {
            let (messages, message_tickets) = sync_channel(SENDS_WAITING_MAX);
            let (events, event_tickets) = sync_channel(SENDS_WAITING_MAX);
            let senders = [
                scope.spawn(move || producer.send_messages(&message_tickets)),
                scope.spawn(move || producer.send_events(&event_tickets)),
            ];
            let tickets = Tickets { messages, events };
            strikes(striker, &tickets)?;
            drop(tickets);
            let last_life_us = self.clock.now_us();
            striker.rest(|| {
                senders.into_iter().try_for_each(|sender| {
                    sender.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a producer has panicked")))
                })?;
                last()
            })?;
            Ok(last_life_us)
        })
    }
}
