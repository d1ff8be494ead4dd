//! The figures of the last hour, step by step.
//!
//! Pure: totals at a moment in, differences between moments out. Invariant: every series has the same steps, whatever came
//! and went meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ring::{Ring, STEPS_MAX};
use crate::id::Name;
use crate::metrics::{ConnectorMetrics, Counts};

/// Steps over which the present rates are taken: five minutes.
const RECENT_STEPS: usize = 30;

/// What a connector has come to since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Settled with success.
    pub done: u64,
    /// Put off.
    pub retry: u64,
    /// Made dead letters.
    pub dead: u64,
    /// How long its attempts took.
    pub attempts: Counts,
}

/// How one subscription stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Messages not settled.
    pub backlog: u32,
    /// Age of the oldest of them.
    pub oldest_seconds: Option<u32>,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every connector that runs, with the queues that it reads.
    pub connectors: BTreeMap<Name, (Totals, Vec<Name>)>,
    /// Every subscription, by its queue and its connector.
    pub levels: BTreeMap<(Name, Name), Level>,
}

/// What a series is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All connectors together.
    Host,
    /// One connector.
    Connector(Name),
    /// One queue, with those who read it.
    Queue(Name),
}

/// What happened in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// Deliveries settled with success.
    pub done: u32,
    /// Put off.
    pub retry: u32,
    /// Made dead letters.
    pub dead: u32,
    /// The time that half of the attempts stayed within.
    pub p50_seconds: Option<f32>,
    /// The time that 99 of 100 stayed within.
    pub p99_seconds: Option<f32>,
}

/// The last hour, the oldest step first; the last one is under way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hour {
    /// How long the step under way is by now.
    pub last_step: Duration,
    /// What happened.
    pub flows: Vec<Flow>,
    /// How all subscriptions of the scope stood together.
    pub levels: Vec<Level>,
    /// Of a queue: how each connector stood that reads it.
    pub subscriptions: BTreeMap<Name, Vec<Level>>,
}

/// What a connector has done lately.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recent {
    /// In this time: five minutes, or since the host began.
    pub within: Duration,
    /// So much.
    pub totals: Totals,
}

/// One connector.
#[derive(Debug, Default)]
struct Tracked {
    /// When the step under way began.
    before: Arc<Totals>,
    flows: Ring<Flow>,
    /// When each of the last steps began, the oldest first; steps in which nothing happened share one.
    recent: VecDeque<Arc<Totals>>,
}

#[derive(Debug)]
pub(super) struct Book {
    /// Steps that have ended.
    steps: u64,
    step_began: Instant,
    connectors: BTreeMap<Name, Tracked>,
    queues: BTreeMap<Name, Ring<Flow>>,
    host: Ring<Flow>,
    levels: BTreeMap<(Name, Name), Ring<Level>>,
}

impl Totals {
    pub(super) fn of(metrics: &ConnectorMetrics) -> Self {
        let ConnectorMetrics { done, retry, put_off, dead, attempts, .. } = metrics;
        // Counted one after the other.
        let retry = retry.get().saturating_sub(put_off.get());
        Self { done: done.get(), retry, dead: dead.get(), attempts: attempts.counts() }
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            done: self.done.saturating_sub(before.done),
            retry: self.retry.saturating_sub(before.retry),
            dead: self.dead.saturating_sub(before.dead),
            attempts: self.attempts.since(&before.attempts),
        }
    }

    fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.retry += other.retry;
        self.dead += other.dead;
        self.attempts.add(&other.attempts);
    }

    fn flow(&self) -> Flow {
        let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        #[expect(clippy::cast_possible_truncation, reason = "a quantile is no more exact than its bucket")]
        let within = |part| self.attempts.quantile_seconds(part).map(|seconds| seconds as f32);
        let (done, retry, dead) = (count(self.done), count(self.retry), count(self.dead));
        Flow { done, retry, dead, p50_seconds: within(0.5), p99_seconds: within(0.99) }
    }
}

impl Level {
    fn and(self, other: Self) -> Self {
        Self {
            backlog: self.backlog.saturating_add(other.backlog),
            oldest_seconds: self.oldest_seconds.max(other.oldest_seconds),
        }
    }
}

impl Scope {
    fn covers(&self, (queue, connector): &(Name, Name)) -> bool {
        match self {
            Self::Host => true,
            Self::Connector(name) => connector == name,
            Self::Queue(name) => queue == name,
        }
    }
}

impl Book {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            steps: 0,
            step_began: now,
            connectors: BTreeMap::new(),
            queues: BTreeMap::new(),
            host: Ring::default(),
            levels: BTreeMap::new(),
        }
    }

    /// A step has ended.
    pub(super) fn step(&mut self, now: Instant, observed: &Observed) {
        let step = self.steps;
        let (mut host, mut queues) = (Totals::default(), BTreeMap::<&Name, Totals>::new());
        for name in observed.connectors.keys() {
            if !self.connectors.contains_key(name) {
                self.connectors.insert(name.clone(), Tracked::default());
            }
        }
        for (name, tracked) in &mut self.connectors {
            // One that has gone does nothing any more; what it had come to stays, for it may come back.
            let (totals, reads) =
                observed.connectors.get(name).map_or((*tracked.before, &[][..]), |(totals, reads)| (*totals, reads));
            let passed = totals.since(&tracked.before);
            host.add(&passed);
            reads.iter().for_each(|queue| queues.entry(queue).or_default().add(&passed));
            tracked.end_step(step, totals, &passed);
        }
        self.host.push(step, host.flow());
        for queue in queues.keys().filter(|queue| !self.queues.contains_key(**queue)).copied().collect::<Vec<_>>() {
            self.queues.insert(queue.clone(), Ring::default());
        }
        for (queue, ring) in &mut self.queues {
            ring.push(step, queues.get(queue).map(Totals::flow).unwrap_or_default());
        }
        for of in observed.levels.keys() {
            self.levels.entry(of.clone()).or_default();
        }
        for (of, ring) in &mut self.levels {
            ring.push(step, observed.levels.get(of).copied().unwrap_or_default());
        }
        self.queues.retain(|_, ring| !ring.is_empty());
        self.levels.retain(|_, ring| !ring.is_empty());
        (self.steps, self.step_began) = (step + 1, now);
    }

    /// The last hour of a scope, with the step under way as it is `observed` now.
    pub(super) fn hour(&self, scope: &Scope, now: Instant, observed: &Observed) -> Hour {
        let steps = self.steps.saturating_sub(STEPS_MAX as u64)..self.steps;
        let nothing = Ring::default();
        let passed = match scope {
            Scope::Host => &self.host,
            Scope::Connector(name) => self.connectors.get(name).map_or(&nothing, |tracked| &tracked.flows),
            Scope::Queue(name) => self.queues.get(name).unwrap_or(&nothing),
        };
        let mut hour = Hour { last_step: now.saturating_duration_since(self.step_began), ..Hour::default() };
        hour.flows = steps.clone().map(|step| passed.get(step)).chain([self.under_way(scope, observed)]).collect();
        hour.levels = vec![Level::default(); hour.flows.len()];
        let known = self.levels.keys().chain(observed.levels.keys().filter(|of| !self.levels.contains_key(*of)));
        let nothing = Ring::default();
        for of in known.filter(|of| scope.covers(of)) {
            let (ring, now) = (self.levels.get(of).unwrap_or(&nothing), observed.levels.get(of).copied());
            let own: Vec<Level> = steps.clone().map(|step| ring.get(step)).chain([now.unwrap_or_default()]).collect();
            hour.levels.iter_mut().zip(&own).for_each(|(all, own)| *all = all.and(*own));
            if matches!(scope, Scope::Queue(_)) {
                hour.subscriptions.insert(of.1.clone(), own);
            }
        }
        hour
    }

    fn under_way(&self, scope: &Scope, observed: &Observed) -> Flow {
        let mut all = Totals::default();
        for (name, (totals, reads)) in &observed.connectors {
            let is_meant = match scope {
                Scope::Host => true,
                Scope::Connector(own) => own == name,
                Scope::Queue(queue) => reads.contains(queue),
            };
            if is_meant {
                all.add(&totals.since(&self.before(name)));
            }
        }
        all.flow()
    }

    /// What the connector had come to when the step under way began.
    fn before(&self, connector: &Name) -> Totals {
        self.connectors.get(connector).map_or_else(Totals::default, |tracked| *tracked.before)
    }

    /// What a connector has done lately, given what it has come to by now.
    pub(super) fn recent(&self, connector: &Name, now: Instant, totals: &Totals) -> Recent {
        let steps = usize::try_from(self.steps).unwrap_or(usize::MAX).min(RECENT_STEPS);
        let tracked = self.connectors.get(connector);
        // Before it was seen first it had done nothing.
        let before = tracked.filter(|tracked| tracked.recent.len() == RECENT_STEPS);
        let before = before.and_then(|tracked| tracked.recent.front()).map_or_else(Totals::default, |before| **before);
        let whole = super::STEP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX));
        let within = whole + now.saturating_duration_since(self.step_began);
        Recent { within, totals: totals.since(&before) }
    }
}

impl Tracked {
    fn end_step(&mut self, step: u64, totals: Totals, passed: &Totals) {
        self.flows.push(step, passed.flow());
        self.recent.push_back(self.before.clone());
        if self.recent.len() > RECENT_STEPS {
            self.recent.pop_front();
        }
        if totals != *self.before {
            self.before = Arc::new(totals);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::series::STEP;
    use crate::metrics::Spread;

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a name")
    }

    /// `a` and `b` read `q`; `a` has done so much, each delivery in 100 ms.
    fn observed(done: u64, backlog: u32) -> Observed {
        let spread = Spread::default();
        (0..done).for_each(|_| spread.observe(0.1));
        let totals = Totals { done, dead: done / 10, attempts: spread.counts(), ..Totals::default() };
        let level = Level { backlog, oldest_seconds: (backlog > 0).then_some(backlog * 2) };
        Observed {
            connectors: [(name("a"), (totals, vec![name("q")])), (name("b"), (Totals::default(), vec![name("q")]))]
                .into(),
            levels: [((name("q"), name("a")), level), ((name("q"), name("b")), Level::default())].into(),
        }
    }

    fn done(hour: &Hour) -> Vec<u32> {
        hour.flows.iter().map(|flow| flow.done).collect()
    }

    #[test]
    fn steps_hold_what_happened_in_them_and_the_last_one_is_under_way() {
        let began = Instant::now();
        let mut book = Book::new(began);
        book.step(began + STEP, &observed(10, 3));
        book.step(began + STEP * 2, &observed(10, 0));
        let now = began + STEP * 2 + Duration::from_secs(4);
        let (scopes, current) = ([Scope::Host, Scope::Connector(name("a")), Scope::Queue(name("q"))], observed(15, 1));
        for scope in &scopes {
            let hour = book.hour(scope, now, &current);
            assert_eq!((done(&hour), hour.last_step), (vec![10, 0, 5], Duration::from_secs(4)), "{scope:?}");
            let dead: Vec<u32> = hour.flows.iter().map(|flow| flow.dead).collect();
            assert_eq!(dead, [1, 0, 0]);
            assert_eq!(hour.levels.iter().map(|level| level.backlog).collect::<Vec<_>>(), [3, 0, 1]);
            assert_eq!(hour.levels[0].oldest_seconds, Some(6));
            let quantiles: Vec<bool> = hour.flows.iter().map(|flow| flow.p99_seconds.is_some()).collect();
            assert_eq!(quantiles, [true, false, true]);
        }
        let of_queue = book.hour(&scopes[2], now, &current).subscriptions;
        assert_eq!(of_queue.keys().map(Name::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(done(&book.hour(&Scope::Connector(name("b")), now, &current)), [0, 0, 0]);
        let recent = book.recent(&name("a"), now, &current.connectors[&name("a")].0);
        assert_eq!((recent.totals.done, recent.within), (15, Duration::from_secs(24)));
    }

    #[test]
    fn what_is_older_is_forgotten_and_who_comes_back_begins_where_it_was() {
        let (began, mut book) = (Instant::now(), Book::new(Instant::now()));
        (1..=20).for_each(|_| book.step(began, &observed(100, 1)));
        (1..=STEPS_MAX).for_each(|_| book.step(began, &Observed::default()));
        let hour = book.hour(&Scope::Queue(name("q")), began, &observed(103, 0));
        assert_eq!((hour.flows.len(), hour.flows.iter().map(|flow| flow.done).sum::<u32>()), (STEPS_MAX + 1, 3));
        assert!(book.queues.is_empty() && book.levels.is_empty(), "nothing happened for an hour");
        assert_eq!(book.recent(&name("a"), began, &observed(103, 0).connectors[&name("a")].0).totals.done, 3);
    }
}
