//! Looks at every call and every end, and knows nothing of leases: what was promised to whoever sends.

use std::collections::{HashMap, VecDeque};

use bulkhead_host::delivery::retry::{Jitter, Policy};
use bulkhead_host::settlement::Outcome;

/// What a connector is held to.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    pub(super) policy: Policy,
    pub(super) is_by_key: bool,
    pub(super) workers: usize,
    /// So many calls in so many milliseconds.
    pub(super) rate: Option<(u32, u64)>,
    /// So many failures in a row hold calls back for so many milliseconds.
    pub(super) breaker: Option<(u32, u64)>,
}

/// One message, as it is promised to be delivered.
#[derive(Debug, Default)]
struct Case {
    key: Option<u8>,
    due_ms: u64,
    attempts: u32,
    is_running: bool,
    is_over: bool,
    expires_ms: Option<u64>,
}

/// The judge of one connector.
#[derive(Debug)]
pub(super) struct Judge {
    promise: Promise,
    cases: Vec<Case>,
    /// Of each key, those that are not over, in order.
    keys: HashMap<u8, VecDeque<usize>>,
    running: usize,
    calls: VecDeque<u64>,
    failures: u32,
    closed_until: Option<u64>,
    is_probed: bool,
}

type Verdict = Result<(), String>;

fn wrong<T>(text: impl Into<String>) -> Result<T, String> {
    Err(text.into())
}

impl Judge {
    pub(super) fn new(promise: Promise) -> Self {
        Self {
            promise,
            cases: Vec::new(),
            keys: HashMap::new(),
            running: 0,
            calls: VecDeque::new(),
            failures: 0,
            closed_until: None,
            is_probed: false,
        }
    }

    /// A message has come into the log.
    pub(super) fn accepted(&mut self, key: Option<u8>, expires_ms: Option<u64>) {
        if let Some(key) = key {
            self.keys.entry(key).or_default().push_back(self.cases.len());
        }
        self.cases.push(Case { key, expires_ms, ..Case::default() });
    }

    /// A worker holds it from now on. `before` are those that the same run holds before it.
    pub(super) fn leased(&mut self, seq: u64, attempt: u32, before: &[u64], now: u64) -> Verdict {
        let place = place(seq);
        let case = &mut self.cases[place];
        if case.is_over || case.is_running {
            return wrong(format!("{seq} runs twice, or is over: {case:?}"));
        }
        if now < case.due_ms || attempt != case.attempts + 1 {
            return wrong(format!("{seq} comes too soon at {now}, or as attempt {attempt}: {case:?}"));
        }
        case.is_running = true;
        match self.earlier(seq).find(|other| !before.contains(other)) {
            Some(other) => wrong(format!("{seq} comes before {other} of its key is settled")),
            None => Ok(()),
        }
    }

    /// Those before a message of its key that are not settled, where their order is kept.
    fn earlier(&self, seq: u64) -> impl Iterator<Item = u64> {
        let place = place(seq);
        let line = self.cases[place].key.filter(|_| self.promise.is_by_key).map(|key| &self.keys[&key]);
        line.into_iter().flatten().take_while(move |other| **other < place).map(|other| *other as u64 + 1)
    }

    /// It goes back: it never ran.
    pub(super) fn released(&mut self, seq: u64) {
        self.cases[place(seq)].is_running = false;
    }

    /// A call begins. `ended` is what its run has decided for good.
    pub(super) fn begun(&mut self, seq: u64, ended: &[u64], now: u64) -> Verdict {
        if let Some(other) = self.earlier(seq).find(|other| !ended.contains(other)) {
            return wrong(format!("{seq} is called although {other} of its key has not ended"));
        }
        self.running += 1;
        if self.running > self.promise.workers {
            return wrong("more calls at once than workers");
        }
        if let Some(until) = self.closed_until {
            if now < until || self.is_probed {
                return wrong(format!("a call at {now}, although the breaker is open until {until}"));
            }
            self.is_probed = true;
        }
        let Some((amount, per)) = self.promise.rate else { return Ok(()) };
        // What is saved up in one period, and what comes in it.
        let most = 2 * amount as usize;
        self.calls.push_back(now);
        if self.calls.len() > most && self.calls.pop_front().is_some_and(|first| now - first + 1 < per) {
            return wrong(format!("more than {most} calls in {per} ms"));
        }
        Ok(())
    }

    /// A call ends; `probed` where it was the one that tries whether the receiver is back.
    pub(super) fn ended(&mut self, is_failure: bool, probed: bool, now: u64) {
        self.running -= 1;
        let Some((failures, open_ms)) = self.promise.breaker else { return };
        match (self.closed_until, is_failure) {
            (None, true) => {
                self.failures += 1;
                if self.failures >= failures {
                    self.closed_until = Some(now + open_ms);
                }
            }
            (None, false) => self.failures = 0,
            (Some(_), true) if probed => (self.closed_until, self.is_probed) = (Some(now + open_ms), false),
            (Some(_), false) if probed => (self.closed_until, self.is_probed, self.failures) = (None, false, 0),
            (Some(_), _) => {}
        }
    }

    pub(super) fn is_probing(&self) -> bool {
        self.is_probed
    }

    /// What was decided is on disk.
    pub(super) fn settled(&mut self, seq: u64, outcome: &Outcome, is_final_failure: bool, decided_ms: u64) -> Verdict {
        let place = place(seq);
        let policy = &self.promise.policy;
        let case = &mut self.cases[place];
        case.is_running = false;
        match outcome {
            Outcome::Retry { due_ms, charged, .. } => {
                case.due_ms = *due_ms;
                case.attempts += u32::from(*charged);
                if *charged && case.attempts >= policy.attempts {
                    return wrong(format!("{seq} has another attempt after {}", case.attempts));
                }
                if *charged && !is_within(policy, case.attempts, due_ms - decided_ms) {
                    return wrong(format!("{seq} waits {} ms after attempt {}", due_ms - decided_ms, case.attempts));
                }
                return Ok(());
            }
            Outcome::Dead { .. } if !is_final_failure && case.attempts + 1 < policy.attempts => {
                return wrong(format!("{seq} dies after {} attempts", case.attempts + 1));
            }
            Outcome::Expired if case.expires_ms.is_none_or(|at| at > decided_ms) => {
                return wrong(format!("{seq} expires at {decided_ms}: {case:?}"));
            }
            _ => {}
        }
        if std::mem::replace(&mut case.is_over, true) {
            return wrong(format!("{seq} is over twice"));
        }
        if let Some(line) = case.key.and_then(|key| self.keys.get_mut(&key)) {
            line.retain(|other| *other != place);
        }
        Ok(())
    }

    /// Nothing happens any more.
    pub(super) fn end(&self) -> Verdict {
        match self.cases.iter().position(|case| !case.is_over) {
            Some(left) => wrong(format!("message {} is never settled: {:?}", left + 1, self.cases[left])),
            None => Ok(()),
        }
    }
}

fn place(seq: u64) -> usize {
    usize::try_from(seq).unwrap() - 1
}

/// Whether a delay is one that the policy can have meant, to a millisecond.
fn is_within(policy: &Policy, attempt: u32, delay_ms: u64) -> bool {
    let mut full = policy.first.as_secs_f64() * 1_000.0;
    for _ in 1..attempt {
        full *= policy.factor;
    }
    let full = full.min(policy.max.as_secs_f64() * 1_000.0);
    let least = match policy.jitter {
        Jitter::Full => 0.0,
        Jitter::Equal => full / 2.0,
        Jitter::None => full,
    };
    let delay = delay_ms as f64;
    least - 1.0 <= delay && delay <= full + 1.0
}
