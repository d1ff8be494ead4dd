//! Who offers work: twice as much as goes through, in every way that there is, and never more than a moment behind its pace.
//!
//! What was not answered is sent again, with the same ids; what was refused is counted and left, but for steps, whose
//! order has no gaps. Everything but what means harm is in the producer's ledger before it is sent.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::config::{
    ASK, ASKS_RATE, BULK_RATE, COUNTS_RATE, EVENTS_RATE, HOSTILE, ORDERS_RATE, PARCELS_RATE, STEPS_RATE,
};
use crate::chance::{Chance, digest};
use crate::host::{Host, pause};
use crate::http::{Reply, post};
use crate::producer::{Outgoing, Producer};
use crate::record::{Item, Sending, Sent};
use crate::workload::{BULK, COUNTS, EVENT_HEADER, EVENTS, HOOK, ORDERS, PARCELS, STEPS};

/// Before somebody who was not heard, or refused, tries again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// A host is there again long before.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(120);
/// Who is further behind does not catch up.
const BEHIND_MAX: Duration = Duration::from_millis(200);
/// Keys of `steps`.
const KEYS: usize = 5;
/// What large messages have in addition.
const LARGE_BYTES: usize = 64 << 10;
/// What a message can ask of the plugin that means harm: loops, memory, traps, prints, floods, and what is refused.
const HARM: [&str; 20] = [
    "spin",
    "grow",
    "recurse",
    "trap",
    "panic out",
    "print 400",
    "flood flood",
    "publish flood",
    "publish flood",
    "publish flood",
    "publish flood",
    "sleep 5",
    "handles",
    "file",
    "environment",
    "socket",
    "lookup",
    "refused-requests 20",
    "retry no",
    "reject no",
];
/// What a request can ask of the plugin that answers.
const HARM_OF_REQUESTS: [&str; 2] = ["spin", "trap"];

/// The queue by which requests are called that a plugin answers.
pub(super) const ASKS: &str = "asks";

/// How messages come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The admin API.
    Api,
    /// `bulkhead send`.
    Verb,
    /// A webhook that stores.
    Event,
    /// A webhook that a plugin answers.
    Ask,
    /// The API; the message means harm.
    Harm,
    /// The webhook that a plugin answers; the request means harm.
    HarmfulAsk,
}

/// Work of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) name: &'static str,
    queue: &'static str,
    way: Way,
    /// What ids begin with.
    prefix: &'static str,
    /// Sends in a second.
    pub(super) offered: u32,
    /// Who send.
    pub(super) threads: u32,
    /// Messages of a send, at most.
    together_max: u64,
}

const PLAIN: Stream =
    Stream { name: "", queue: "", way: Way::Api, prefix: "", offered: 1, threads: 1, together_max: 1 };

/// All of them. Two thirds of the sends of counts are offered, for each has one to two messages.
pub(super) const STREAMS: [Stream; 10] = [
    Stream { name: "orders", queue: ORDERS, prefix: "o", offered: 2 * ORDERS_RATE, threads: 4, ..PLAIN },
    Stream { name: "orders, `bulkhead send`", queue: ORDERS, way: Way::Verb, prefix: "v", offered: 2, ..PLAIN },
    Stream { name: "steps", queue: STEPS, prefix: "k", offered: 2 * STEPS_RATE, ..PLAIN },
    Stream { name: "parcels", queue: PARCELS, prefix: "p", offered: 2 * PARCELS_RATE, threads: 2, ..PLAIN },
    Stream {
        name: "counts",
        queue: COUNTS,
        prefix: "c",
        offered: COUNTS_RATE * 4 / 3,
        threads: 2,
        together_max: 2,
        ..PLAIN
    },
    Stream {
        name: "events",
        queue: EVENTS,
        way: Way::Event,
        prefix: "e",
        offered: 2 * EVENTS_RATE,
        threads: 3,
        ..PLAIN
    },
    Stream { name: "asks", queue: ASKS, way: Way::Ask, prefix: "a", offered: 2 * ASKS_RATE, threads: 2, ..PLAIN },
    Stream { name: "bulk", queue: BULK, prefix: "b", offered: 2 * BULK_RATE, threads: 2, ..PLAIN },
    Stream { name: "harm", queue: HOSTILE, way: Way::Harm, prefix: "h", offered: 12, ..PLAIN },
    Stream { name: "harmful asks", queue: ASKS, way: Way::HarmfulAsk, prefix: "x", offered: 1, ..PLAIN },
];

/// How often each stream was told what.
pub(super) type Told = BTreeMap<(&'static str, String), u64>;

/// What those who send have in common.
#[derive(Debug)]
pub(super) struct Load<'a> {
    pub(super) producer: &'a Producer,
    pub(super) host: &'a Host,
    /// Nothing more is begun.
    pub(super) is_over: &'a AtomicBool,
    /// There is no host any more.
    pub(super) is_gone: &'a AtomicBool,
    /// Held while `bulkhead send` runs, which works on the data directory itself where no host does: none may start then.
    pub(super) door: &'a Mutex<()>,
    pub(super) told: Mutex<Told>,
}

impl Load<'_> {
    /// Sends until it is over.
    ///
    /// # Errors
    /// The ledger cannot be written, or the host does not come back.
    pub(super) fn offer(&self, stream: &Stream, thread: u32) -> anyhow::Result<()> {
        let every = Duration::from_secs(1) * stream.threads / stream.offered;
        let mut maker = Maker::new(self.producer, stream, thread);
        let (mut due, mut started, mut last) = (Instant::now(), 0, Vec::new());
        while !self.is_over.load(Ordering::SeqCst) {
            let now = Instant::now();
            pause(due.saturating_duration_since(now));
            due = (due + every).max(now.checked_sub(BEHIND_MAX).unwrap_or(now));
            let now_started = self.producer.pulse.counts().started;
            if now_started != started && !last.is_empty() && stream.way == Way::Event {
                // As senders of webhooks do after a restart.
                self.place(stream, &last)?;
            }
            started = now_started;
            last = maker.next();
            self.place(stream, &last)?;
        }
        Ok(())
    }

    /// Sends the same until it is known what became of it.
    fn place(&self, stream: &Stream, together: &[Outgoing]) -> anyhow::Result<()> {
        if matches!(stream.way, Way::Harm | Way::HarmfulAsk) {
            let (_, told) = self.send(stream, together);
            self.count(stream, told);
            return Ok(());
        }
        let deadline = Instant::now() + ACCEPTED_WITHIN;
        loop {
            let sent = self.try_once(stream, together, deadline)?;
            let is_done = match sent {
                Sent::Accepted => true,
                Sent::Refused => stream.queue != STEPS,
                Sent::Unanswered => stream.queue == COUNTS,
                Sent::Unheard => false,
            };
            if is_done || self.is_gone.load(Ordering::SeqCst) {
                return Ok(());
            }
            let name = stream.name;
            ensure!(Instant::now() < deadline, "nothing has become of a send ({name}) within {ACCEPTED_WITHIN:?}");
            pause(AGAIN_AFTER);
        }
    }

    fn try_once(&self, stream: &Stream, together: &[Outgoing], deadline: Instant) -> anyhow::Result<Sent> {
        let Producer { clock, pulse, ledger, sends, .. } = self.producer;
        let number = sends.fetch_add(1, Ordering::SeqCst);
        let items = together.iter().map(|outgoing| outgoing.item.clone()).collect();
        let queue = stream.queue.to_owned();
        ledger.append(&Sending::Intent { at_us: clock.now_us(), send: number, queue, items, synced: None })?;
        pulse.change(|counts| counts.begun += 1);
        let (mut reply, mut told) = self.send(stream, together);
        while is_unheard(&reply) && Instant::now() < deadline && !self.is_gone.load(Ordering::SeqCst) {
            pause(AGAIN_AFTER);
            (reply, told) = self.send(stream, together);
        }
        let sent = match reply {
            Reply::Status(200..=299) => Sent::Accepted,
            Reply::Status(429 | 503) => Sent::Refused,
            Reply::NotSent | Reply::Status(401) => Sent::Unheard,
            Reply::Status(_) | Reply::Unanswered => Sent::Unanswered,
        };
        let at_us = clock.now_us();
        pulse.change(|counts| counts.accepted += u64::from(sent == Sent::Accepted));
        ledger.append(&Sending::Outcome { at_us, send: number, sent, synced: None })?;
        self.count(stream, told);
        Ok(sent)
    }

    /// Sends once; what it was told, and in which words.
    fn send(&self, stream: &Stream, together: &[Outgoing]) -> (Reply, String) {
        let Producer { hooks, .. } = *self.producer;
        let [first, ..] = together else { return (Reply::NotSent, String::new()) };
        let event = [(EVENT_HEADER, first.item.id.as_str())];
        let reply = match stream.way {
            Way::Api | Way::Harm => self.producer.post_lines(stream.queue, together),
            Way::Event => post(hooks, HOOK, &event, first.body.as_bytes()),
            Way::Ask => post(hooks, ASK, &event, format!("publish {}", first.body).as_bytes()),
            Way::HarmfulAsk => post(hooks, ASK, &event, first.body.as_bytes()),
            Way::Verb => return self.verb(stream.queue, first),
        };
        let told = match reply {
            Reply::Status(status) => status.to_string(),
            Reply::Unanswered => "no answer".to_owned(),
            Reply::NotSent => "not heard".to_owned(),
        };
        (reply, told)
    }

    /// What `bulkhead send` says with its exit code, and of a full queue with a word.
    fn verb(&self, queue: &str, Outgoing { item, body }: &Outgoing) -> (Reply, String) {
        let _inside = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = Command::new(&self.host.binary);
        command.args(["--config", "bulkhead.toml", "send", queue, "--id", &item.id, "--body", body]);
        let Ok(output) = command.current_dir(&self.host.folder).output() else {
            return (Reply::NotSent, "not started".to_owned());
        };
        let told = output.status.code().map_or("killed".to_owned(), |code| format!("exit code {code}"));
        let is_full = String::from_utf8_lossy(&output.stderr).contains("is full");
        match (output.status.success(), is_full) {
            (true, _) => (Reply::Status(200), told),
            (false, true) => (Reply::Status(503), format!("{told}, full")),
            (false, false) => (Reply::Unanswered, told),
        }
    }

    fn count(&self, stream: &Stream, told: String) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner).entry((stream.name, told)).or_default() += 1;
    }
}

/// Nobody listens, or nobody knows the token yet: nothing was sent.
fn is_unheard(reply: &Reply) -> bool {
    matches!(reply, Reply::NotSent | Reply::Status(401))
}

/// Makes the messages of one who sends.
struct Maker<'a> {
    producer: &'a Producer,
    stream: &'a Stream,
    chance: Chance,
    /// The number of the next one.
    next: u64,
    steps: [u64; KEYS],
}

impl<'a> Maker<'a> {
    fn new(producer: &'a Producer, stream: &'a Stream, thread: u32) -> Self {
        let chance = Chance::new(producer.seed, &format!("{} {thread}", stream.prefix));
        Self { producer, stream, chance, next: u64::from(thread), steps: [0; KEYS] }
    }

    fn next(&mut self) -> Vec<Outgoing> {
        (0..=self.chance.below(self.stream.together_max)).map(|_| self.one()).collect()
    }

    fn one(&mut self) -> Outgoing {
        if self.stream.queue == STEPS {
            let key = self.chance.below(KEYS as u64);
            let step = &mut self.steps[usize::try_from(key).unwrap_or(0)];
            *step += 1;
            return self.producer.outgoing(format!("k{key}-{step}"), Some(format!("k{key}")));
        }
        let id = format!("{}{}", self.stream.prefix, self.next);
        self.next += u64::from(self.stream.threads);
        let mut pick =
            |from: &[&str]| from[usize::try_from(self.chance.below(from.len() as u64)).unwrap_or(0)].to_owned();
        let body = match self.stream.way {
            Way::Harm => pick(&HARM),
            Way::HarmfulAsk => pick(&HARM_OF_REQUESTS),
            Way::Api | Way::Verb | Way::Event | Way::Ask if self.stream.queue == BULK => {
                format!("{id} {}", "x".repeat(LARGE_BYTES))
            }
            Way::Api | Way::Verb | Way::Event | Way::Ask => return self.producer.outgoing(id, None),
        };
        Outgoing { item: Item { id, key: None, body: digest(body.as_bytes()) }, body }
    }
}
