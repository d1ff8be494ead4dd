//! Carries a step out, on the ledger and on its model.

use bulkhead_host::ledger::{NewTick, Planned};
use bulkhead_host::message::Tick;
use bulkhead_host::settlement::{Mark, TickEnd, TickOutcome};

use super::pair::{BEGIN_MS, BYTES_MAX, Pair, Run};
use super::reference::{IN, INBOX, OUT, READERS, Reader};
use super::step::{How, Note, Settling, Touch};
use super::*;

const SCHEDULE: &str = "s";

pub(super) async fn run(rules: Rules, steps: &[Step]) -> Result<(), String> {
    let mut pair = Pair::new(rules).await?;
    for (number, step) in steps.iter().enumerate() {
        let wrong = |text: String| format!("step {number}, {step:?}: {text}");
        pair.step(step).await.map_err(wrong)?;
        pair.ledger.look_after().await.map_err(|error| wrong(format!("{error:#}")))?;
        pair.model.look_after();
        pair.compare().map_err(wrong)?;
    }
    Ok(())
}

impl Pair {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Send { queue, notes } => self.send(*queue, notes).await,
            Step::Receive { id, keys } => self.receive(*id, keys).await,
            Step::Lease { reader, max } => self.lease(*reader, *max).await,
            Step::Settle(settling) if !self.runs.is_empty() => self.settle(settling).await,
            Step::Release { run } if !self.runs.is_empty() => {
                let run = self.runs.remove(run.index(self.runs.len()));
                self.give_up(&run);
                run.worker.release(run.deliveries);
                Ok(())
            }
            Step::Abandon { run } if !self.runs.is_empty() => {
                let run = self.runs.remove(run.index(self.runs.len()));
                self.give_up(&run);
                Ok(())
            }
            Step::Redrive { letters, to, body } => self.redrive(letters, *to, *body).await,
            Step::Drop { letters } => self.drop_letters(letters).await,
            Step::Plan { at, by_hand } => self.plan(*at, *by_hand).await,
            Step::Skip { at } => {
                let planned = Planned { schedule: SCHEDULE.to_owned(), planned_ms: planned_ms(*at), tick: None };
                self.model.schedule.last_planned = Some(planned.planned_ms);
                self.ledger.enqueue_tick(self.connector, planned).await.map_err(|error| format!("{error:#}"))
            }
            Step::Pass { seconds } => {
                self.model.now += seconds * 1_000;
                self.hand.advance(Duration::from_secs(*seconds));
                Ok(())
            }
            Step::Pause { is_on } => {
                self.model.is_paused = *is_on;
                let done = match is_on {
                    true => self.ledger.hold(self.connector, Held::Paused).await,
                    false => self.ledger.release_holds(self.connector).await,
                };
                done.map_err(|error| format!("{error:#}"))
            }
            Step::Forget => self.forget().await,
            Step::Reopen { with_b } => self.reopen(*with_b).await,
            Step::Crash => self.crash().await,
            Step::Settle(_) | Step::Release { .. } | Step::Abandon { .. } => Ok(()),
        }
    }

    async fn send(&mut self, queue: usize, notes: &[Note]) -> Result<(), String> {
        let drafts: Vec<_> = notes.iter().map(draft_of).collect();
        let bytes: u64 = drafts.iter().map(Draft::size_bytes).sum();
        let is_full = queue == IN && self.bytes_in(IN) + bytes > BYTES_MAX;
        let answer = self.ledger.append(drafts.iter().map(|draft| (self.queues[queue], draft.clone())).collect()).await;
        match answer {
            Err(AppendError::Full { .. }) if is_full => Ok(()),
            Err(error) => Err(format!("refused: {error}")),
            Ok(_) if is_full => Err("went over the bound".to_owned()),
            Ok(appended) => {
                let repeats: Vec<_> = drafts.iter().map(|draft| self.model.accept(queue, draft)).collect();
                let is_right = |(one, (draft, repeat)): (&bulkhead_host::ledger::Appended, (&Draft, &bool))| {
                    one.id == draft.id && one.duplicate == *repeat
                };
                let all =
                    appended.len() == drafts.len() && appended.iter().zip(drafts.iter().zip(&repeats)).all(is_right);
                if all { Ok(()) } else { Err(format!("answered {appended:?}, not {repeats:?}")) }
            }
        }
    }

    fn bytes_in(&self, queue: usize) -> u64 {
        let name = ["in", "out", "@a"][queue];
        let reports = self.ledger.queues().unwrap();
        reports.iter().find(|report| report.queue == name).map_or(0, |report| report.bytes)
    }

    async fn receive(&mut self, id: u8, keys: &[u8]) -> Result<(), String> {
        let keys: Vec<String> = keys.iter().map(|key| format!("event-{key}")).collect();
        let headers = vec![("from".to_owned(), "outside".to_owned())];
        let draft = Draft { headers, ..draft(&format!("request-{id}"), None) };
        let (inbox, message_id) = (self.queues[INBOX], draft.id.clone());
        let mark = Mark { inbox, keys: keys.clone(), message_id, answer: None };
        let received =
            self.ledger.receive(inbox, draft.clone(), Some(mark)).await.map_err(|error| error.to_string())?;
        let first = self.model.receive(&draft, &keys);
        let (is_repeat, id) = (first.is_some(), first.unwrap_or(draft.id));
        if (received.duplicate, &received.id) == (is_repeat, &id) {
            return Ok(());
        }
        Err(format!("answered {received:?}, not {id}, which is a repeat: {is_repeat}"))
    }

    async fn lease(&mut self, reader: usize, max: usize) -> Result<(), String> {
        let Some(worker) = self.subscriptions[reader].as_ref().map(Subscription::worker) else { return Ok(()) };
        loop {
            let heads = self.model.heads(reader);
            let batch = if heads.is_empty() {
                let Some(batch) = worker.try_lease(max) else { return Ok(()) };
                batch
            } else {
                let leased = tokio::time::timeout(Duration::from_secs(20), worker.lease(max, NO_WAIT)).await;
                leased.map_err(|_| format!("nothing comes, although these could: {heads:?}"))?
            };
            worker.begin(&batch);
            let Batch { deliveries, alone } = batch;
            let named: Vec<_> = deliveries.iter().map(|delivery| delivery.origin).collect();
            let expired = &self.model.readers[reader].expired;
            let is_over = |delivery: &Delivery| matches!(delivery.origin, Origin::Log(seq) if expired.contains(&seq));
            let (over, deliveries): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(is_over);
            self.model.lease(reader, &deliveries, alone && over.is_empty())?;
            if !over.is_empty() {
                let settlement = self.settlement(reader, outcomes(&over, &Outcome::Expired));
                worker.settle(settlement).await.map_err(|error| error.to_string())?;
            }
            if !deliveries.is_empty() {
                self.runs.push(Run { worker, reader, deliveries, named, is_alone: alone });
                return Ok(());
            }
        }
    }

    fn give_up(&mut self, run: &Run) {
        for delivery in &run.deliveries {
            self.model.leased.remove(&(run.reader, delivery.origin));
        }
    }

    async fn settle(&mut self, how: &Settling) -> Result<(), String> {
        let place = how.run.index(self.runs.len());
        let mut run = self.runs.remove(place);
        let (decided, has_failed) = self.decide(&run, &how.hows);
        let rest = run.deliveries.split_off(decided.len());
        let mut settlement = self.settlement(run.reader, decided.clone());
        self.stage(&run, how, &mut settlement);
        let (state, publishes) = (settlement.state.clone(), settlement.publishes.clone());
        let tick = settlement.tick.clone();
        // One that has failed ends the run, as in a lane: the others of its key must not come before it.
        let releases = how.releases || has_failed;
        if releases {
            for delivery in &rest {
                self.model.leased.remove(&(run.reader, delivery.origin));
            }
            run.worker.release(rest.clone());
        }
        match (run.worker.settle(settlement).await, self.model.conflicts(&state)) {
            (Ok(()), false) => {
                decided.iter().for_each(|(origin, outcome)| self.model.decide(run.reader, *origin, outcome));
                for publish in &publishes {
                    self.model.accept(OUT, &publish.draft);
                }
                self.model.write(&state);
                if let Some(TickEnd { planned_ms, outcome, .. }) = tick {
                    self.note(planned_ms, outcome);
                }
                if !releases && !rest.is_empty() {
                    run.deliveries = rest;
                    self.runs.push(run);
                }
                Ok(())
            }
            (Err(SettleError::Conflict), true) => {
                run.worker.begin_again(&run.deliveries);
                if releases || rest.is_empty() {
                    run.named = run.deliveries.iter().map(|delivery| delivery.origin).collect();
                } else {
                    run.deliveries.extend(rest);
                }
                self.runs.push(run);
                Ok(())
            }
            (answer, is_stale) => Err(format!("answered {answer:?}, stale: {is_stale}")),
        }
    }

    /// What is decided of a run, up to its first failure.
    fn decide(&self, run: &Run, hows: &[How]) -> (Vec<(Origin, Outcome)>, bool) {
        let mut decided = Vec::new();
        for (delivery, how) in run.deliveries.iter().zip(hows) {
            let outcome = match how {
                How::Done => Outcome::Done,
                How::Dead => dead(),
                How::Expired => Outcome::Expired,
                How::Retry { after_s, charged } => {
                    let due_ms = self.model.now + after_s * 1_000;
                    Outcome::Retry { due_ms, charged: *charged, reason: "no luck".to_owned() }
                }
            };
            let has_failed = matches!(outcome, Outcome::Retry { .. });
            decided.push((delivery.origin, outcome));
            if has_failed {
                return (decided, true);
            }
        }
        (decided, false)
    }

    fn stage(&self, run: &Run, how: &Settling, settlement: &mut Settlement) {
        let connector = READERS[run.reader].0;
        for (delivery, (_, outcome)) in run.deliveries.iter().zip(&settlement.outcomes) {
            if how.publishes && *outcome == Outcome::Done {
                let id = &delivery.message.id;
                let parent = Some(id.clone());
                let child =
                    Draft { parent, hops: delivery.message.hops + 1, ..draft(&format!("{connector}/{id}"), None) };
                let copies = if how.twice { 2 } else { 1 };
                let publish = Publish { queue: self.queues[OUT], draft: child };
                settlement.publishes.extend(std::iter::repeat_n(publish, copies));
            }
        }
        if let Some(Touch { key, value, is_stale, lists }) = &how.touch {
            let key = format!("key-{key}");
            let seen = self.model.state.get(&key).map_or(0, |(version, _)| *version) + u64::from(*is_stale);
            let value = value.map(|byte| vec![byte; usize::from(byte)]);
            let listed = lists.then_some(self.model.state_version);
            settlement.state = StateChanges { seen: vec![(key.clone(), seen)], listed, writes: vec![(key, value)] };
        }
        settlement.tick = run.deliveries.iter().zip(&settlement.outcomes).find_map(|(delivery, (_, outcome))| {
            let outcome = match outcome {
                Outcome::Done => TickOutcome::Done,
                Outcome::Retry { .. } => TickOutcome::Retry,
                Outcome::Dead { .. } => TickOutcome::Dead,
                Outcome::Expired | Outcome::Superseded => TickOutcome::Cancelled,
            };
            let tick = Tick::of(&delivery.message).filter(|_| run.reader == INBOX)?;
            Some(TickEnd { schedule: tick.schedule, planned_ms: tick.planned_at_ms, outcome })
        });
    }

    fn note(&mut self, planned_ms: u64, outcome: TickOutcome) {
        let schedule = &mut self.model.schedule;
        schedule.outcome = Some((planned_ms, outcome.label(), self.model.now));
        // Somebody may have fired one of a schedule that the clock has not planned yet: nothing is known of it then.
        if outcome == TickOutcome::Done && schedule.last_planned.is_some() {
            schedule.success = schedule.success.max(Some(planned_ms));
        }
    }

    fn letter_ids(&self, letters: &[proptest::sample::Index]) -> Vec<i64> {
        let all: Vec<i64> = self.model.letters.iter().filter_map(|letter| letter.id).collect();
        if all.is_empty() { Vec::new() } else { letters.iter().map(|letter| all[letter.index(all.len())]).collect() }
    }

    async fn redrive(
        &mut self,
        letters: &[proptest::sample::Index],
        to: Option<usize>,
        body: Option<u8>,
    ) -> Result<(), String> {
        let ids = self.letter_ids(letters);
        let body = body.map(|byte| vec![byte; usize::from(byte % 50)]);
        let how = Redrive { to: to.map(|to| self.readers[to]), spacing: NO_WAIT, body: body.clone() };
        let count = self.ledger.dead_retry(&ids, how).await.map_err(|error| format!("{error:#}"))?;
        let redriven = ids.iter().filter(|id| self.model.redrive(**id, to, body.as_deref())).count();
        if count == redriven { Ok(()) } else { Err(format!("redrove {count}, not {redriven}")) }
    }

    async fn drop_letters(&mut self, letters: &[proptest::sample::Index]) -> Result<(), String> {
        let ids = self.letter_ids(letters);
        let count = self.ledger.dead_drop(&ids).await.map_err(|error| format!("{error:#}"))?;
        let before = self.model.letters.len();
        self.model.letters.retain(|letter| letter.id.is_none_or(|id| !ids.contains(&id)));
        let dropped = before - self.model.letters.len();
        if count == dropped { Ok(()) } else { Err(format!("dropped {count}, not {dropped}")) }
    }

    async fn plan(&mut self, at: u8, by_hand: bool) -> Result<(), String> {
        let planned_ms = planned_ms(at);
        let tick = Tick { schedule: SCHEDULE.to_owned(), planned_at_ms: planned_ms, input: None, by_hand };
        let draft = Draft { id: format!("tick-{at}"), body: tick.to_json(), ..Draft::default() };
        let inbox = self.queues[INBOX];
        let is_new = self.model.plan(planned_ms, &draft, by_hand);
        if by_hand {
            let fired = self.ledger.fire_tick(self.connector, SCHEDULE, planned_ms, (inbox, draft)).await;
            let fired = fired.map_err(|error| error.to_string())?;
            return if fired == is_new { Ok(()) } else { Err(format!("fired: {fired}")) };
        }
        let tick = NewTick { inbox, due_ms: self.model.now, draft, remember_ms: 3_600_000 };
        let planned = Planned { schedule: SCHEDULE.to_owned(), planned_ms, tick: Some(tick) };
        self.ledger.enqueue_tick(self.connector, planned).await.map_err(|error| format!("{error:#}"))
    }

    async fn forget(&mut self) -> Result<(), String> {
        let forgotten = self.ledger.forget("in", "b").await.map_err(|error| format!("{error:#}"))?;
        let reader = &mut self.model.readers[1];
        let is_orphan = reader.orphaned_ms.is_some() && !reader.is_forgotten;
        let count = (reader.unsettled.len() + reader.parked.len()) as u64;
        if is_orphan {
            *reader = Reader { is_forgotten: true, orphaned_ms: reader.orphaned_ms, ..Reader::default() };
        }
        if forgotten == is_orphan.then_some(count) { Ok(()) } else { Err(format!("forgot {forgotten:?}, not {count}")) }
    }
}

fn planned_ms(at: u8) -> u64 {
    BEGIN_MS + u64::from(at) * 60_000
}

fn draft_of(note: &Note) -> Draft {
    Draft {
        id: format!("message-{}", note.id),
        key: note.key.map(|key| format!("key-{key}")),
        body: vec![note.id; note.bytes],
        delay_ms: note.delay_s.map(|seconds| seconds * 1_000),
        expires_ms: note.expires_s.map(|seconds| seconds * 1_000),
        ..Draft::default()
    }
}
