//! Those who send: messages over the API, and events to the webhook.
//!
//! What is about to be sent is on disk first. Whoever gets no answer sends the same again, with the same ids, until the
//! host has accepted it; where the queue has no `dedup`, a send without an answer is left as it is. Events that were
//! accepted are sent again after a restart, as senders of webhooks do.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use crate::chance::{Chance, WIDE, digest, payload};
use crate::http::{Reply, post};
use crate::ledger::Ledger;
use crate::pulse::Pulse;
use crate::record::{Clock, Item, Sending, Sent};
use crate::witness::Witness;
use crate::workload::{COUNTS, EVENT_HEADER, EVENTS, HOOK, ORDERS, PARCELS, STEPS};

/// Before somebody who was not heard tries again.
const AGAIN_AFTER: Duration = Duration::from_millis(2);
/// A host is there again long before.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(120);
/// Messages of one send, at most.
const TOGETHER_MAX: u64 = 6;
/// Wide messages of one send: together more than what lets the host write its log into its file while it works.
const WIDE_TOGETHER: u64 = 8;
/// Keys of `steps`.
const KEYS: usize = 5;

/// What both have in common.
#[derive(Debug)]
pub(crate) struct Producer {
    pub(crate) seed: u64,
    pub(crate) clock: Clock,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) ledger: Ledger<Sending>,
    pub(crate) witness: Option<Witness>,
    pub(crate) admin: SocketAddr,
    pub(crate) hooks: SocketAddr,
    /// The file that the host writes its token to.
    pub(crate) token: PathBuf,
    pub(crate) sends: AtomicU64,
}

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) item: Item,
    pub(crate) body: String,
}

impl Producer {
    /// Sends over the API, once for each ticket, until there are no more.
    ///
    /// # Errors
    /// The ledger cannot be written, or the host does not come back.
    pub(crate) fn send_messages(&self, tickets: &Receiver<()>) -> anyhow::Result<()> {
        self.send_to(&[ORDERS, STEPS, STEPS, PARCELS, COUNTS, COUNTS], 0, tickets)
    }

    /// The same to one of these queues each time; the numbers of its messages follow `made`, the steps of its keys begin
    /// at the first.
    ///
    /// # Errors
    /// See [`Producer::send_messages`].
    pub(crate) fn send_to(&self, queues: &[&str], made: u64, tickets: &Receiver<()>) -> anyhow::Result<()> {
        let mut chance = Chance::new(self.seed, "messages");
        // So many of each queue were made, and of each key.
        let (mut made, mut steps) = (made, [0; KEYS]);
        while tickets.recv().is_ok() {
            let queue = queues[usize::try_from(chance.below(queues.len() as u64))?];
            let mut together = Vec::new();
            for _ in 0..=chance.below(TOGETHER_MAX) {
                together.push(if queue == STEPS {
                    let key = chance.below(KEYS as u64);
                    let step = &mut steps[usize::try_from(key)?];
                    *step += 1;
                    self.outgoing(format!("k{key}-{step}"), Some(format!("k{key}")))
                } else {
                    made += 1;
                    self.outgoing(format!("{}{made}", &queue[..1]), None)
                });
            }
            self.insist(queue, &together, |producer| producer.post_lines(queue, &together))?;
        }
        Ok(())
    }

    /// Sends events, once for each ticket, until there are no more; after a restart two old ones as well.
    ///
    /// # Errors
    /// See [`Producer::send_messages`].
    pub(crate) fn send_events(&self, tickets: &Receiver<()>) -> anyhow::Result<()> {
        let mut chance = Chance::new(self.seed, "events");
        let (mut made, mut started) = (0, 0);
        while tickets.recv().is_ok() {
            let mut ids = Vec::new();
            let now_started = self.pulse.counts().started;
            if now_started != started && made > 0 {
                started = now_started;
                // The one before is the one that a fault may have torn.
                ids.extend([made, 1 + chance.below(made)]);
            }
            made += 1;
            ids.push(made);
            for id in ids {
                let event = [self.outgoing(format!("e{id}"), None)];
                self.insist(EVENTS, &event, |producer| {
                    let [event] = &event;
                    post(producer.hooks, HOOK, &[(EVENT_HEADER, &event.item.id)], event.body.as_bytes())
                })?;
            }
        }
        Ok(())
    }

    /// Sends several messages that are so wide that the ledger's log has to be written into its file at once.
    ///
    /// # Errors
    /// See [`Producer::send_messages`].
    pub(crate) fn send_wide(&self) -> anyhow::Result<()> {
        let together: Vec<Outgoing> =
            (0..WIDE_TOGETHER).map(|nth| self.outgoing(format!("{WIDE}{nth}"), None)).collect();
        self.insist(ORDERS, &together, |producer| producer.post_lines(ORDERS, &together))
    }

    /// A message with the body that follows from its id.
    pub(crate) fn outgoing(&self, id: String, key: Option<String>) -> Outgoing {
        let body = payload(self.seed, &id);
        Outgoing { item: Item { id, key, body: digest(body.as_bytes()) }, body }
    }

    /// Sends the same until it is accepted, and writes down each time what became of it.
    fn insist(&self, queue: &str, together: &[Outgoing], send: impl Fn(&Self) -> Reply) -> anyhow::Result<()> {
        let deadline = Instant::now() + ACCEPTED_WITHIN;
        loop {
            let number = self.sends.fetch_add(1, Ordering::SeqCst);
            let items = together.iter().map(|outgoing| outgoing.item.clone()).collect();
            let (at_us, synced) = (self.clock.now_us(), self.synced());
            self.ledger.append(&Sending::Intent { at_us, send: number, queue: queue.to_owned(), items, synced })?;
            self.pulse.change(|counts| counts.begun += 1);
            let mut reply = send(self);
            // Nobody listens, or nobody knows the token yet: nothing was sent, and nothing is to be written down.
            while matches!(reply, Reply::NotSent | Reply::Status(401)) && Instant::now() < deadline {
                self.pulse.pause(AGAIN_AFTER);
                reply = send(self);
            }
            let sent = match reply {
                Reply::Status(200..=299) => Sent::Accepted,
                Reply::NotSent | Reply::Status(401) => Sent::Unheard,
                Reply::Status(_) | Reply::Unanswered => Sent::Unanswered,
            };
            // Whoever waits for an acceptance strikes as soon as there is one.
            let synced = self.synced();
            let at_us = self.clock.now_us();
            self.pulse.change(|counts| counts.accepted += u64::from(sent == Sent::Accepted));
            self.ledger.append(&Sending::Outcome { at_us, send: number, sent, synced })?;
            if sent == Sent::Accepted || (sent == Sent::Unanswered && queue == COUNTS) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the host has not accepted {queue} within {ACCEPTED_WITHIN:?}");
            self.pulse.pause(AGAIN_AFTER);
        }
    }

    /// Sends them over the API, in one request.
    pub(crate) fn post_lines(&self, queue: &str, together: &[Outgoing]) -> Reply {
        let lines: String = together
            .iter()
            .map(|Outgoing { item, body }| format!("{}\n", json!({ "id": item.id, "key": item.key, "body": body })))
            .collect();
        // Made at the first start, so it may not be there yet.
        let token = format!("Bearer {}", fs::read_to_string(&self.token).unwrap_or_default().trim());
        let headers = [("Authorization", token.as_str()), ("Content-Type", "application/x-ndjson")];
        post(self.admin, &format!("/api/v1/queues/{queue}/messages"), &headers, lines.as_bytes())
    }

    fn synced(&self) -> Option<u64> {
        self.witness.as_ref().map(Witness::synced)
    }
}
