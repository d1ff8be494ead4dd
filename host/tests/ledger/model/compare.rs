//! Reads everything that can be read of a ledger, and compares it with its model.

use std::collections::{BTreeMap, BTreeSet};

use super::pair::Pair;
use super::reference::{EXPIRED_LEFT_MS, IN, INBOX, READERS, Reader, Unsettled};
use super::*;

const ALL: usize = 100_000;

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: it has {found:?}, the model {expected:?}")) }
}

impl Pair {
    pub(super) fn compare(&mut self) -> Result<(), String> {
        for (reader, named) in READERS.iter().enumerate() {
            self.compare_reader(reader).map_err(|text| format!("{named:?}: {text}"))?;
        }
        for queue in 0..self.queues.len() {
            self.compare_queue(queue).map_err(|text| format!("queue {queue}: {text}"))?;
        }
        self.compare_letters()?;
        self.compare_state()?;
        self.compare_schedule()
    }

    fn compare_reader(&mut self, reader: usize) -> Result<(), String> {
        if self.model.readers[reader].is_forgotten {
            return Ok(());
        }
        let found = self.unsettled(reader).map_err(|error| format!("{error:#}"))?;
        self.take_in_expired(reader, &found)?;
        let of = &self.model.readers[reader];
        let expected: BTreeMap<u64, (u32, u64)> =
            of.unsettled.iter().map(|(seq, stands)| (*seq, (stands.attempts, stands.due_ms))).collect();
        same("unsettled", &found, &expected)?;
        self.compare_parked(reader)
    }

    /// Attempts and due time of what a subscription has not settled in the log.
    fn unsettled(&self, reader: usize) -> anyhow::Result<BTreeMap<u64, (u32, u64)>> {
        let (id, queue) = (self.readers[reader], self.queues[READERS[reader].1]);
        let position = self.ledger.position(id)?;
        let tail = self.ledger.tail(queue).borrow().seq;
        let unread = (position.cursor + 1..=tail).filter(|seq| !position.is_settled_ahead(*seq));
        let mut all: BTreeMap<_, _> = unread.map(|seq| (seq, (0, 0))).collect();
        for known in self.ledger.read_pending(id, 0)? {
            let Origin::Log(seq) = known.origin else { anyhow::bail!("{known:?} lies outside the log") };
            anyhow::ensure!(all.insert(seq, (known.attempts, known.due_ms)).is_none(), "{seq} is there twice");
        }
        Ok(all)
    }

    /// What a queue's `expires` has ended must have been past its time, and all that is past it ends.
    fn take_in_expired(&mut self, reader: usize, found: &BTreeMap<u64, (u32, u64)>) -> Result<(), String> {
        let queue = READERS[reader].1;
        let Some(expires) = self.model.rules.expires.filter(|_| queue == IN) else { return Ok(()) };
        let (now, log) = (self.model.now, &self.model.queues[queue].log);
        let is_over = |seq: &u64| log[seq].enqueued_at_ms + expires + EXPIRED_LEFT_MS <= now;
        let gone: Vec<u64> =
            self.model.readers[reader].unsettled.keys().filter(|seq| !found.contains_key(seq)).copied().collect();
        if let Some(lost) = gone.iter().find(|seq| !is_over(seq)) {
            return Err(format!("{lost} is lost"));
        }
        if log.keys().all(is_over) && !found.is_empty() {
            return Err(format!("all have expired, and these are left: {found:?}"));
        }
        let of = &mut self.model.readers[reader];
        for seq in gone {
            of.unsettled.remove(&seq);
            of.expired.insert(seq);
        }
        Ok(())
    }

    fn compare_parked(&mut self, reader: usize) -> Result<(), String> {
        let (id, queue) = (self.readers[reader], self.queues[READERS[reader].1]);
        let found = self.ledger.read_parked(id, 0).map_err(|error| format!("{error:#}"))?;
        let parked = &mut self.model.readers[reader].parked;
        same("redriven", &found.len(), &parked.len())?;
        for (known, parked) in found.iter().zip(parked) {
            let Origin::Parked(row) = known.origin else { return Err(format!("{known:?} lies in the log")) };
            same("redriven row", &row, parked.row.get_or_insert(row))?;
            same("redriven", &(known.attempts, known.due_ms), &(parked.stands.attempts, parked.stands.due_ms))?;
            let message = self.ledger.read_message(queue, known.origin).map_err(|error| format!("{error:#}"))?;
            same("redriven message", &message.as_ref(), &Some(&parked.message))?;
        }
        Ok(())
    }

    /// What must be there is, as it was accepted; what nobody needs goes as soon as all before it was looked at.
    fn compare_queue(&self, queue: usize) -> Result<(), String> {
        let page =
            self.ledger.read_log(self.queues[queue], 0, ALL, u64::MAX / 2).map_err(|error| format!("{error:#}"))?;
        let found: BTreeMap<u64, Message> = page.messages.into_iter().collect();
        let log = &self.model.queues[queue].log;
        same("tail", &self.ledger.tail(self.queues[queue]).borrow().seq, &(log.len() as u64))?;
        let mut is_front = true;
        for (seq, message) in log {
            let is_needed = self.model.is_needed(queue, *seq);
            is_front &= self.is_looked_at(queue, *seq, is_needed);
            match found.get(seq) {
                Some(found) => same("message", found, message)?,
                None if is_needed => return Err(format!("{seq} is lost")),
                None => {}
            }
            if is_front && !is_needed && found.contains_key(seq) {
                return Err(format!("{seq} stays, although nobody needs it"));
            }
        }
        if let Some(made_up) = found.keys().find(|seq| !log.contains_key(seq)) {
            return Err(format!("{made_up} is made up"));
        }
        self.compare_report(queue, &found)
    }

    /// Whether nothing about a message keeps those behind it.
    fn is_looked_at(&self, queue: usize, seq: u64, is_needed: bool) -> bool {
        let is_unsettled = |of: &Reader| of.unsettled.contains_key(&seq);
        let is_put_off = |of: &Reader| of.unsettled.get(&seq).is_none_or(|stands| stands.has_failed);
        let is_kept_for_age = is_needed && !self.model.readers_of(queue).any(is_unsettled);
        self.model.readers_of(queue).all(is_put_off) && !is_kept_for_age && !self.is_young(queue, seq)
    }

    fn is_young(&self, queue: usize, seq: u64) -> bool {
        let keep = self.model.rules.keep.filter(|_| queue == IN);
        keep.is_some_and(|keep| self.model.queues[queue].log[&seq].enqueued_at_ms + keep > self.model.now)
    }

    /// The counters, which are kept apart from what they count.
    fn compare_report(&self, queue: usize, found: &BTreeMap<u64, Message>) -> Result<(), String> {
        let name = ["in", "out", "@a"][queue];
        let reports = self.ledger.queues().map_err(|error| format!("{error:#}"))?;
        let report = reports.iter().find(|report| report.queue == name).ok_or("it is missing")?;
        let delayed = &self.model.queues[queue].delayed;
        let parked: Vec<_> = self.model.readers_of(queue).flat_map(|of| &of.parked).collect();
        let outside = delayed.iter().map(|(_, message)| message).chain(parked.iter().map(|parked| &parked.message));
        let bytes = found.values().chain(outside).map(|message| message.size_bytes()).sum::<u64>();
        same("messages", &report.messages, &((found.len() + delayed.len() + parked.len()) as u64))?;
        same("bytes", &report.bytes, &bytes)?;
        for (place, (connector, _)) in READERS.iter().enumerate().filter(|(_, (_, of))| *of == queue) {
            let of = &self.model.readers[place];
            if of.is_forgotten {
                continue;
            }
            let counted = report.subscriptions.iter().find(|counted| counted.connector == *connector);
            let counted = counted.map(|counted| (counted.backlog, counted.retrying, counted.dead));
            let stands = of.unsettled.values().chain(of.parked.iter().map(|parked| &parked.stands));
            let all: Vec<&Unsettled> = stands.collect();
            let retrying = all.iter().filter(|stands| stands.has_failed).count() as u64;
            let dead = self.model.letters.iter().filter(|letter| letter.reader == place).count() as u64;
            same("counters", &counted, &Some(((all.len() + delayed.len()) as u64, retrying, dead)))?;
        }
        Ok(())
    }

    fn compare_letters(&mut self) -> Result<(), String> {
        let found = self.ledger.dead_list(None, 0, ALL).map_err(|error| format!("{error:#}"))?;
        same("letters", &found.len(), &self.model.letters.len())?;
        for (summary, letter) in found.iter().zip(&mut self.model.letters) {
            same("letter", &summary.id, letter.id.get_or_insert(summary.id))?;
            let shown = self.ledger.dead_show(summary.id).map_err(|error| format!("{error:#}"))?.ok_or("not shown")?;
            let (connector, queue) = READERS[letter.reader];
            let found = (summary.connector.as_str(), summary.queue.as_str(), summary.died_ms, summary.reason.as_str());
            let expected = (connector, ["in", "out", "@a"][queue], letter.died_ms, letter.reason.as_str());
            same("letter", &found, &expected)?;
            same("letter's message", &shown.message, &letter.message)?;
            let attempts = usize::try_from(letter.attempts).unwrap();
            same("attempts", &(summary.attempts, shown.history.len()), &(letter.attempts, attempts))?;
        }
        Ok(())
    }

    fn compare_state(&self) -> Result<(), String> {
        let listed = self.ledger.state_list(self.connector, None).map_err(|error| format!("{error:#}"))?;
        let keys: Vec<String> = self.model.state.keys().cloned().collect();
        same("state", &(listed.keys, listed.version), &(keys, self.model.state_version))?;
        let mut bytes = 0;
        for (key, (version, value)) in &self.model.state {
            let found = self.ledger.state_get(self.connector, key).map_err(|error| format!("{error:#}"))?;
            same(key, &found, &(Some(value.clone()), *version))?;
            bytes += (key.len() + value.len()) as u64;
        }
        let usage = self.ledger.state_usage(self.connector).map_err(|error| format!("{error:#}"))?;
        same("state's size", &usage, &StateUsage { keys: self.model.state.len() as u64, bytes })
    }

    fn compare_schedule(&self) -> Result<(), String> {
        let found = self.ledger.schedule(self.connector, "s").map_err(|error| format!("{error:#}"))?;
        let expected = &self.model.schedule;
        same("last planned", &found.last_planned_ms, &expected.last_planned)?;
        same("last tick", &found.last_tick_ms, &expected.last_tick)?;
        same("last success", &found.previous_success_ms, &expected.success)?;
        let outcome = found.last_outcome.as_ref().map(|last| (last.planned_ms, last.outcome.as_str(), last.ended_ms));
        same("outcome", &outcome, &expected.outcome)?;
        let holds = self.ledger.holds(self.connector).map_err(|error| format!("{error:#}"))?;
        same("holds", &holds, &if self.model.is_paused { vec![Held::Paused] } else { Vec::new() })?;
        let bodies =
            self.ledger.unsettled(self.queues[INBOX], self.readers[2]).map_err(|error| format!("{error:#}"))?;
        let of = &self.model.readers[2];
        let logged = of.unsettled.keys().map(|seq| &self.model.queues[INBOX].log[seq]);
        let all = logged.chain(of.parked.iter().map(|parked| &parked.message));
        let expected: BTreeSet<Vec<u8>> =
            all.filter(|message| message.headers.is_empty()).map(|message| message.body.clone()).collect();
        same("ticks", &bodies.into_iter().collect(), &expected)
    }
}
