//! A ledger and its model, opened, closed and killed together.

use bulkhead_host::clock::Hand;
use bulkhead_host::settlement::ConnectorId;

use super::reference::{IN, Model, READERS};
use super::*;

/// Bound of the queue that is read.
pub(super) const BYTES_MAX: u64 = 4_000;
pub(super) const BEGIN_MS: u64 = 1_800_000_000_000;

/// A run under way.
pub(super) struct Run {
    pub(super) worker: Worker,
    pub(super) reader: usize,
    pub(super) deliveries: Vec<Delivery>,
    /// What it would be suspected of after a crash.
    pub(super) named: Vec<Origin>,
    pub(super) is_alone: bool,
}

/// The ledger and its model.
pub(super) struct Pair {
    dir: tempfile::TempDir,
    clock: Clock,
    pub(super) hand: Hand,
    pub(super) ledger: Ledger,
    pub(super) queues: [QueueId; 3],
    pub(super) connector: ConnectorId,
    /// Also of those who have left the configuration.
    pub(super) readers: [SubscriptionId; 3],
    with_b: bool,
    broker: Option<Broker>,
    pub(super) subscriptions: [Option<Subscription>; 3],
    pub(super) runs: Vec<Run>,
    pub(super) model: Model,
}

/// Where synchronising costs nothing, if there is such a place: this is not about the disk.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn layout(rules: &Rules, with_b: bool) -> Layout {
    let millis = |ms: Option<u64>| ms.map(Duration::from_millis);
    let ordering = if rules.is_by_key { Ordering::Key } else { Ordering::None };
    let retention = Duration::from_millis(rules.retention);
    let out = QueuePolicy { dedup: millis(rules.dedup), retention, ..QueuePolicy::default() };
    let read = QueuePolicy {
        ordering,
        keep: millis(rules.keep),
        expires: millis(rules.expires),
        max_bytes: BYTES_MAX,
        ..out.clone()
    };
    let inbox = QueuePolicy { marks: millis(Some(rules.marks)), retention, ..QueuePolicy::default() };
    let names: &[&str] = if with_b { &["a", "b"] } else { &["a"] };
    let mut connectors: Vec<_> = names.iter().map(|text| connector(text)).collect();
    for connector in &mut connectors {
        connector.dead_retention = Duration::from_millis(rules.dead_retention);
    }
    connectors[0].has_inbox = true;
    let queues = [(name("in"), read), (name("out"), out), (Name::inbox_of(&name("a")), inbox)].into();
    Layout { queues, connectors, routes: Vec::new() }
}

impl Pair {
    pub(super) async fn new(rules: Rules) -> Result<Self, String> {
        let (clock, hand) = Clock::by_hand(BEGIN_MS);
        let dir = folder();
        let ledger = ledger_in(dir.path(), &clock);
        let directory = ledger.configure(&layout(&rules, true)).unwrap();
        let queue = |name: &str| directory.queue(name).unwrap();
        let queues = [queue("in"), queue("out"), queue("@a")];
        let of =
            |(connector, place): (&str, usize)| directory.subscription(["in", "out", "@a"][place], connector).unwrap();
        let mut pair = Self {
            clock,
            hand,
            queues,
            connector: directory.connector("a").unwrap(),
            readers: READERS.map(of),
            with_b: true,
            broker: None,
            subscriptions: Default::default(),
            runs: Vec::new(),
            model: Model::new(rules, BEGIN_MS),
            dir,
            ledger,
        };
        pair.subscribe().await?;
        Ok(pair)
    }

    /// As a host does at its start: first it charges what took the last process down.
    async fn subscribe(&mut self) -> Result<(), String> {
        let broker = Broker::local(self.ledger.clone()).map_err(|error| format!("{error:#}"))?;
        for reader in (0..READERS.len()).filter(|reader| *reader != 1 || self.with_b) {
            let (subscription, queue) = (self.readers[reader], self.queues[READERS[reader].1]);
            let crashed = broker.crashed(subscription, queue).map_err(|error| format!("{error:#}"))?;
            let charge = |delivery: &Delivery| (delivery.origin, retry(self.model.now));
            let charged = self.settlement(reader, crashed.iter().map(charge).collect());
            self.ledger.settle(charged).await.map_err(|error| error.to_string())?;
            let settings = SubscriptionSettings { subscription, queue, pending_max: 1_000, keys: KeysInBatch::Several };
            self.subscriptions[reader] = Some(broker.subscribe(settings).map_err(|error| format!("{error:#}"))?);
        }
        self.broker = Some(broker);
        Ok(())
    }

    pub(super) fn settlement(&self, reader: usize, outcomes: Vec<(Origin, Outcome)>) -> Settlement {
        Settlement {
            subscription: self.readers[reader],
            connector: self.connector,
            outcomes,
            publishes: Vec::new(),
            state: StateChanges::default(),
            tick: None,
            mark: None,
        }
    }

    /// A clean stop: nothing is suspected afterwards, and what was held comes again at no attempt.
    pub(super) async fn reopen(&mut self, with_b: bool) -> Result<(), String> {
        self.stop();
        self.model.suspects.clear();
        self.start(with_b).await
    }

    pub(super) async fn crash(&mut self) -> Result<(), String> {
        let copy = copied(self.dir.path(), folder());
        let runs: Vec<_> = self.runs.iter().map(|run| (run.reader, run.named.clone(), run.is_alone)).collect();
        self.stop();
        self.dir = copy;
        self.model.crash(&runs);
        self.start(self.with_b).await
    }

    fn stop(&mut self) {
        self.runs.clear();
        self.subscriptions = Default::default();
        self.broker = None;
        self.ledger.close();
        self.model.leased.clear();
        self.model.readers.iter_mut().for_each(|reader| reader.expired.clear());
    }

    async fn start(&mut self, with_b: bool) -> Result<(), String> {
        self.with_b = with_b;
        self.ledger = ledger_in(self.dir.path(), &self.clock);
        self.ledger.configure(&layout(&self.model.rules, with_b)).map_err(|error| format!("{error:#}"))?;
        let now = self.model.now;
        let reader = &mut self.model.readers[1];
        if !with_b {
            reader.orphaned_ms.get_or_insert(now);
        } else if std::mem::take(&mut reader.is_forgotten) {
            self.begin_anew()?;
        }
        if with_b {
            self.model.readers[1].orphaned_ms = None;
        }
        self.subscribe().await
    }

    /// Whoever was forgotten begins at the oldest message that is kept: where that is, the ledger says.
    fn begin_anew(&mut self) -> Result<(), String> {
        let cursor = self.ledger.position(self.readers[1]).map_err(|error| format!("{error:#}"))?.cursor;
        let all = self.model.queues[IN].log.keys().filter(|seq| **seq > cursor);
        self.model.readers[1].unsettled = all.map(|seq| (*seq, Default::default())).collect();
        Ok(())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.stop();
    }
}

fn ledger_in(dir: &Path, clock: &Clock) -> Ledger {
    let settings = Settings { min_free: Some(0), ..Settings::new(dir.to_owned()) };
    Ledger::open(settings, clock.clone(), Metrics::default()).unwrap()
}
