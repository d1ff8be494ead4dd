//! One connector: its log, its workers, the receiver that it calls, and the host's parts that decide for it.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bulkhead_host::capability::breaker::{Breakers, Passage, Settings};
use bulkhead_host::capability::rate::{Bucket, Rate};
use bulkhead_host::delivery::behind::FailedKeys;
use bulkhead_host::delivery::retry::{Jitter, Policy};
use bulkhead_host::id::Name;
use bulkhead_host::ledger::{LogPage, Ordering, Position, Tail};
use bulkhead_host::message::Message;
use bulkhead_host::metrics::Metrics;
use bulkhead_host::settlement::{Delivery, Origin, Outcome};

use super::chance::Chance;
use super::judge::{Judge, Promise};
use super::lease::{KeysInBatch, Leases, Rules, Want};

/// A page of the log.
const PAGE: usize = 512;
/// What was decided about a delivery.
pub(super) struct Decided {
    pub(super) origin: Origin,
    pub(super) outcome: Outcome,
    /// Whether the receiver wants it never again.
    pub(super) is_final: bool,
    pub(super) at_ms: u64,
}

/// A worker's run.
pub(super) struct Run {
    pub(super) waiting: Vec<Delivery>,
    pub(super) current: Option<(Delivery, Option<Passage>, bool)>,
    pub(super) decided: Vec<Decided>,
    pub(super) failed_keys: FailedKeys,
    pub(super) back: Vec<Delivery>,
}

impl Run {
    pub(super) fn new(waiting: Vec<Delivery>, is_ordered: bool) -> Self {
        let failed_keys = FailedKeys::new(is_ordered);
        Self { waiting, current: None, decided: Vec::new(), failed_keys, back: Vec::new() }
    }

    /// What it has decided for good, though it is not on disk yet.
    pub(super) fn ended(&self) -> Vec<u64> {
        let ends = |decided: &&Decided| !matches!(decided.outcome, Outcome::Retry { .. });
        self.decided.iter().filter(ends).map(|decided| seq_of(decided.origin)).collect()
    }
}

pub(super) struct Connector {
    pub(super) promise: Promise,
    pub(super) batch: usize,
    pub(super) log: Vec<Message>,
    pub(super) leases: Leases,
    pub(super) judge: Judge,
    pub(super) runs: Vec<Option<Run>>,
    pub(super) bucket: Option<Bucket>,
    pub(super) breakers: Arc<Breakers>,
    pub(super) settings: Settings,
    /// The receiver is down in these times.
    pub(super) outage: Option<(u64, u64)>,
    /// Where what it publishes goes.
    pub(super) to: Option<usize>,
    pub(super) failing_percent: u64,
    pub(super) look_at: Option<u64>,
    /// By ticket: what is on its way to disk.
    pub(super) handed_in: HashMap<u64, Vec<Decided>>,
    /// Of each worker: one that broke is another one afterwards.
    pub(super) numbers: Vec<u64>,
}

impl Connector {
    pub(super) fn new(number: usize, last: usize, chance: &mut Chance) -> Self {
        let promise = promise(chance);
        let ordering = if promise.is_by_key { Ordering::Key } else { Ordering::None };
        let keys = if chance.percent(70) { KeysInBatch::Several } else { KeysInBatch::One };
        let pending_max = if chance.percent(20) { 8 } else { 1_000 };
        let bucket = promise
            .rate
            .map(|(amount, per)| Bucket::new(Rate::new(NonZeroU32::new(amount).unwrap(), Duration::from_millis(per))));
        let (failures, open_ms) = promise.breaker.unwrap_or((u32::MAX, 1));
        let outage_ms = chance.between(0, 60_000);
        Self {
            batch: usize::try_from(chance.between(1, 33)).unwrap(),
            log: Vec::new(),
            leases: Leases::new(Rules { ordering, keys, pending_max }, Position::default(), HashSet::new()),
            judge: Judge::new(promise.clone()),
            runs: (0..promise.workers).map(|_| None).collect(),
            bucket,
            breakers: Breakers::new(Name::parse("simulated").unwrap(), Metrics::default()),
            settings: Settings { failures, open: Duration::from_millis(open_ms) },
            outage: chance.percent(50).then(|| (outage_ms, outage_ms + chance.between(1, 100_000))),
            to: (number < last && chance.percent(70)).then_some(number + 1),
            failing_percent: chance.between(0, 40),
            look_at: None,
            handed_in: HashMap::new(),
            numbers: (0..promise.workers as u64).collect(),
            promise,
        }
    }

    fn tail(&self) -> Tail {
        Tail { seq: self.log.len() as u64, redriven: 0 }
    }

    /// Reads what is wanted, as the thread does that reads ahead.
    pub(super) fn read(&mut self, now: u64) {
        let tail = self.tail();
        while let Some(want) = self.leases.want(tail) {
            match want {
                Want::Pending { .. } => self.leases.pending(Vec::new(), now),
                Want::Parked { .. } => self.leases.parked(Vec::new(), tail.redriven, now),
                Want::Log { after } => {
                    let page = (after + 1..=tail.seq).take(PAGE).map(|seq| (seq, self.message(seq).clone()));
                    let messages: Vec<_> = page.collect();
                    let is_last = messages.len() < PAGE;
                    self.leases.logged(LogPage { messages, is_last }, tail.seq, now);
                }
                Want::Contents(origins) => {
                    for origin in origins {
                        let message = self.message(seq_of(origin)).clone();
                        self.leases.contents(origin, Some(message), now);
                    }
                }
            }
        }
    }

    pub(super) fn message(&self, seq: u64) -> &Message {
        &self.log[usize::try_from(seq).unwrap() - 1]
    }
}

pub(super) fn promise(chance: &mut Chance) -> Promise {
    let jitter = [Jitter::Full, Jitter::Equal, Jitter::None][usize::try_from(chance.between(0, 3)).unwrap()];
    let policy = Policy {
        attempts: u32::try_from(chance.between(1, 7)).unwrap(),
        first: Duration::from_millis(chance.between(0, 5_000)),
        factor: 1.0 + 2.0 * chance.fraction(),
        max: Duration::from_secs(chance.between(1, 600)),
        jitter,
        ..Policy::default()
    };
    Promise {
        policy,
        is_by_key: chance.percent(50),
        workers: usize::try_from(chance.between(1, 6)).unwrap(),
        rate: chance.percent(30).then(|| (u32::try_from(chance.between(1, 50)).unwrap(), chance.between(100, 60_000))),
        breaker: chance
            .percent(40)
            .then(|| (u32::try_from(chance.between(1, 6)).unwrap(), chance.between(500, 60_000))),
    }
}

pub(super) fn seq_of(origin: Origin) -> u64 {
    let Origin::Log(seq) = origin else { panic!("nothing is redriven here") };
    seq
}

pub(super) fn key_of(message: &Message) -> Option<u8> {
    message.key.as_ref().map(|key| key.parse().unwrap())
}

pub(super) fn outcomes_of(decided: &[Decided]) -> Vec<(Origin, Outcome)> {
    decided.iter().map(|decided| (decided.origin, decided.outcome.clone())).collect()
}
