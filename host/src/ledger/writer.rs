//! The one thread that writes.
//!
//! Takes jobs in order, commits many with one fsync, and answers them afterwards. A group ends at 256 jobs, 8 MiB or
//! 5 ms and never waits for more. Each job has a savepoint: one that fails is tried alone after its group. Invariant:
//! an error after which durability is unknown ends the ledger; a full disk does not, settlements wait for room.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::book::Book;
use super::checkpoint::Checkpoints;
use super::configure::Policies;
use super::dedup::Dedup;
use super::error::{Fault, fault};
use super::intake::{Job, Next, Task};
use super::settle::Verdict;
use super::settled::Returned;
use super::upkeep::{Found, Round};
use super::write::{Changes, Write};
use super::{AppendError, Appended, Shared, Tail};
use crate::clock::Now;
use crate::settlement::{QueueId, SettleError};

/// A group holds at most so many jobs.
const GROUP_JOBS_MAX: usize = 256;
/// And at most so many bytes.
const GROUP_BYTES_MAX: u64 = 8 << 20;
/// And takes no longer than this before its commit.
const GROUP_AGE_MAX: Duration = Duration::from_millis(5);
/// How often the writer looks after what is not part of any settlement.
const UPKEEP_EVERY: Duration = Duration::from_millis(200);
/// How often it looks after what goes by age.
const FULL_UPKEEP_EVERY: Duration = Duration::from_secs(1);
/// Free disk below which nothing new is accepted, or a twentieth of the disk where that is less.
const FREE_BYTES_MIN: u64 = 512 << 20;
/// How long it waits for room on the disk, or for another process that holds the file.
const PAUSE: Duration = Duration::from_millis(250);

/// Starts the thread.
pub(super) fn start(shared: Arc<Shared>, db: Connection) -> anyhow::Result<JoinHandle<()>> {
    let book = Book::load(&db)?;
    let dedup = Dedup::load(&db)?;
    for (id, queue) in book.queues.iter().enumerate() {
        if let Some(queue) = queue {
            let id = QueueId(u32::try_from(id)?);
            shared.accounts.bound(id, u64::MAX);
            shared.accounts.set_stored(id, queue.counts.bytes());
            shared.set_tail(id.0, |tail| tail.seq = queue.counts.tail);
        }
    }
    let writer = Writer {
        shared,
        db,
        book,
        dedup,
        checkpoints: Checkpoints::default(),
        policies: Policies::default(),
        short_round: Instant::now(),
        full_round: Instant::now(),
        found: Found::default(),
        is_laid_out: false,
    };
    writer.look_at_disk();
    Ok(std::thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run())?)
}

struct Writer {
    shared: Arc<Shared>,
    db: Connection,
    book: Book,
    dedup: Dedup,
    checkpoints: Checkpoints,
    policies: Policies,
    short_round: Instant,
    full_round: Instant,
    found: Found,
    /// Whether the configuration's policies are known: before that nothing is deleted by age.
    is_laid_out: bool,
}

/// What a job came to, before its commit.
enum Answer {
    Settled(Verdict),
    Appended(Vec<Appended>),
    Done,
}

/// Jobs of one transaction.
#[derive(Default)]
struct Group {
    done: Vec<(Job, Answer)>,
    /// Failed in their savepoint: to be tried alone.
    failed: Vec<Job>,
    bytes: u64,
}

impl Group {
    fn jobs(self) -> Vec<Job> {
        self.done.into_iter().map(|(job, _)| job).chain(self.failed).collect()
    }
}

/// What became of a transaction.
enum Outcome {
    Committed { failed: Vec<Job> },
    RolledBack { jobs: Vec<Job>, error: rusqlite::Error },
}

/// Marks the ledger as fatally broken if the thread ends by a panic.
struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end("the ledger's writer panicked");
        }
    }
}

impl Writer {
    fn run(mut self) {
        let _alarm = Alarm(self.shared.clone());
        if let Err(error) = self.work() {
            tracing::error!(%error, "the ledger cannot go on: durability is unknown");
            self.shared.end(&format!("the ledger cannot go on: {error}"));
        }
        self.shared.readers.close();
    }

    /// Works until the ledger is closed; an error is fatal.
    fn work(&mut self) -> rusqlite::Result<()> {
        loop {
            match self.shared.intake.next(self.patience()) {
                Next::Job(job) => self.group(job)?,
                Next::Idle if self.found.has_more => {}
                Next::Idle => {
                    let result = self.checkpoints.idle(&self.db);
                    self.tolerate(result)?;
                }
                Next::Closed => {
                    let result = self.checkpoints.last(&self.db);
                    return self.tolerate(result);
                }
            }
            self.upkeep()?;
        }
    }

    fn group(&mut self, first: Job) -> rusqlite::Result<()> {
        let started = Instant::now();
        let mut next = Some(first);
        let shared = self.shared.clone();
        let mut taken = 0;
        let outcome = self.transaction(&mut |group| {
            let is_closed =
                taken >= GROUP_JOBS_MAX || group.bytes >= GROUP_BYTES_MAX || started.elapsed() >= GROUP_AGE_MAX;
            if taken > 0 && is_closed {
                return None;
            }
            taken += 1;
            next.take().or_else(|| shared.intake.try_next())
        })?;
        match outcome {
            Outcome::Committed { failed } => failed.into_iter().try_for_each(|job| self.alone(job)),
            Outcome::RolledBack { jobs, error } => {
                self.judge(&error)?;
                jobs.into_iter().try_for_each(|job| self.alone(job))
            }
        }
    }

    /// Tries one job in a transaction of its own until it is committed, or failed for itself.
    fn alone(&mut self, job: Job) -> rusqlite::Result<()> {
        let mut job = Some(job);
        while let Some(one) = job.take() {
            let mut source = Some(one);
            match self.transaction(&mut |_| source.take())? {
                Outcome::Committed { failed } => {
                    // In a transaction of its own it has failed for itself, and the statement's error was kept.
                    debug_assert!(failed.is_empty());
                }
                Outcome::RolledBack { jobs, error } => {
                    let found = self.judge(&error)?;
                    for one in jobs {
                        job = self.after_failure(one, found, &error)?;
                    }
                    if job.is_some() {
                        self.wait_for_room()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits, doing what an operator asks for meanwhile: dropping dead letters may be what makes room.
    #[expect(clippy::disallowed_methods, reason = "the writer's own thread waits until the disk has room")]
    fn wait_for_room(&mut self) -> rusqlite::Result<()> {
        while let Some(task) = self.shared.intake.next_task() {
            let mut source = Some(Job::Task(task));
            if let Outcome::RolledBack { jobs, error } = self.transaction(&mut |_| source.take())? {
                self.judge(&error)?;
                for job in jobs {
                    if let Job::Task(task) = job {
                        (task.answer)(Err(copy(&error)));
                    }
                }
            }
        }
        std::thread::sleep(PAUSE);
        Ok(())
    }

    /// What becomes of a job that failed alone: to be tried again, or answered.
    fn after_failure(&self, job: Job, found: Fault, error: &rusqlite::Error) -> rusqlite::Result<Option<Job>> {
        match (job, found) {
            (Job::Append(append), Fault::Full) => {
                let _ = append.reply.send(Err(AppendError::Disk));
                Ok(None)
            }
            (job, Fault::Full | Fault::Busy) => Ok(Some(job)),
            (Job::Append(append), _) => {
                let _ = append.reply.send(Err(AppendError::Failed(error.to_string().into())));
                Ok(None)
            }
            (Job::Task(task), _) => {
                (task.answer)(Err(copy(error)));
                Ok(None)
            }
            // What was decided about accepted messages cannot be given up: better to stop.
            (Job::Settle(_), _) => Err(copy(error)),
        }
    }

    /// A checkpoint that finds no room, or the file held by someone else, is made up for later.
    fn tolerate(&mut self, result: rusqlite::Result<()>) -> rusqlite::Result<()> {
        match result {
            Err(error) if self.judge(&error)? == Fault::Statement => Err(error),
            _ => Ok(()),
        }
    }

    /// Sorts an error that rolled a transaction back; a fatal one is passed on.
    fn judge(&mut self, error: &rusqlite::Error) -> rusqlite::Result<Fault> {
        let found = fault(error);
        match found {
            Fault::Full => {
                if self.shared.accounts.set_disk_full(true) {
                    tracing::error!("the disk is full: nothing new is accepted until there is room");
                }
            }
            Fault::Busy => tracing::warn!("another process holds the ledger's file: trying again"),
            Fault::Statement => tracing::error!(%error, "the ledger could not carry out a change"),
            Fault::Fatal => return Err(copy(error)),
        }
        Ok(found)
    }

    /// One transaction over the jobs that `source` gives.
    fn transaction(&mut self, source: &mut dyn FnMut(&Group) -> Option<Job>) -> rusqlite::Result<Outcome> {
        let started = Instant::now();
        let now = self.shared.clock.now();
        let mut changes = Changes::default();
        let mut group = Group::default();
        let result = self.fill(&mut group, &mut changes, now, source).and_then(|()| self.finish(&mut changes, now));
        match result {
            Ok(()) => {
                let counted = group.done.iter().filter(|(job, _)| !matches!(job, Job::Task(_))).count();
                if counted > 0 {
                    self.shared.metrics.ledger_commit(counted, started.elapsed().as_secs_f64());
                }
                self.announce(&changes);
                self.lay_out(&mut changes)?;
                let last = group.done.iter().filter_map(|(job, _)| ticket(job)).next_back();
                group.done.into_iter().for_each(|(job, answer)| deliver(job, answer));
                if let Some(last) = last {
                    self.shared.committed.send_replace(last);
                }
                Ok(Outcome::Committed { failed: group.failed })
            }
            Err(error) => {
                self.roll_back();
                Ok(Outcome::RolledBack { jobs: group.jobs(), error })
            }
        }
    }

    fn fill(
        &mut self,
        group: &mut Group,
        changes: &mut Changes,
        now: Now,
        source: &mut dyn FnMut(&Group) -> Option<Job>,
    ) -> rusqlite::Result<()> {
        let mut has_begun = false;
        while let Some(mut job) = source(group) {
            group.bytes += job.bytes();
            let result = if has_begun { Ok(()) } else { self.db.execute_batch("BEGIN IMMEDIATE") };
            has_begun = true;
            match result.and_then(|()| self.apply(&mut job, changes, now)) {
                Ok(answer) => group.done.push((job, answer)),
                Err(error) => {
                    group.failed.push(job);
                    // Alone in its transaction there are no neighbours to go on with.
                    let is_alone = group.done.is_empty() && group.failed.len() == 1;
                    if fault(&error) != Fault::Statement || self.db.is_autocommit() || is_alone {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Carries out one job within a savepoint.
    fn apply(&mut self, job: &mut Job, changes: &mut Changes, now: Now) -> rusqlite::Result<Answer> {
        let (book_mark, dedup_mark) = (self.book.mark(), self.dedup.mark());
        self.db.prepare_cached("SAVEPOINT job")?.execute([])?;
        let mut write = Write { db: &self.db, book: &mut self.book, dedup: &mut self.dedup, changes, now };
        let result = match job {
            Job::Settle(settle) => write.settle(&settle.settlement).map(Answer::Settled),
            Job::Append(append) => {
                write.accept_all(append.drafts.iter().map(|(queue, draft)| (*queue, draft))).map(Answer::Appended)
            }
            Job::Task(task) => (task.run)(&mut write).map(|()| Answer::Done),
        };
        if result.is_err() && !self.db.is_autocommit() {
            self.db.execute_batch("ROLLBACK TO job")?;
            self.book.rewind(book_mark);
            self.dedup.rewind(dedup_mark);
        }
        if !self.db.is_autocommit() {
            self.db.prepare_cached("RELEASE job")?.execute([])?;
        }
        result
    }

    /// Removes what the group has settled, writes the counters, and commits.
    fn finish(&mut self, changes: &mut Changes, now: Now) -> rusqlite::Result<()> {
        if self.db.is_autocommit() {
            return Ok(());
        }
        let mut write = Write { db: &self.db, book: &mut self.book, dedup: &mut self.dedup, changes, now };
        write.remove_settled()?;
        self.book.flush(&self.db)?;
        self.dedup.flush(&self.db)?;
        self.db.execute_batch("COMMIT")?;
        Ok(())
    }

    fn roll_back(&mut self) {
        if !self.db.is_autocommit() {
            // It fails only where SQLite has rolled back by itself already.
            let _ = self.db.execute_batch("ROLLBACK");
        }
        self.book.rolled_back();
        self.dedup.rewind(0);
    }

    /// Tells readers and metrics what is on disk now.
    fn announce(&mut self, changes: &Changes) {
        for id in self.book.touched_queues() {
            if let Some(queue) = self.book.queue(*id) {
                self.shared.accounts.set_stored(QueueId(*id), queue.counts.bytes());
                let is_redriven = changes.redriven.contains(id);
                self.shared.set_tail(*id, |tail| {
                    tail.seq = queue.counts.tail;
                    tail.redriven += u64::from(is_redriven);
                });
            }
        }
        for queue in changes.duplicates.iter().filter_map(|id| self.book.queue(*id)) {
            self.shared.metrics.duplicate(&queue.name);
        }
        for (id, messages) in &changes.expired {
            self.count_expired(*id, *messages);
        }
        let delayed = self.found.delayed_ms.into_iter().chain(changes.delayed_ms);
        self.found.delayed_ms = delayed.min();
        self.book.committed();
        self.dedup.committed();
    }

    /// Reads the book again after rows were made or renamed, and takes policies over.
    fn lay_out(&mut self, changes: &mut Changes) -> rusqlite::Result<()> {
        let is_new = changes.laid_out.is_some();
        if !is_new && !changes.is_restructured {
            return Ok(());
        }
        self.book = Book::load(&self.db)?;
        if let Some(policies) = changes.laid_out.take() {
            self.policies = policies;
            self.is_laid_out = true;
        }
        self.book.apply(&self.policies);
        let mut known = Vec::new();
        for (id, queue) in (0u32..).zip(&self.book.queues) {
            let is_named = self.policies.queues.contains_key(&id);
            known.push(queue.as_ref().map(|queue| (queue.name.clone(), Arc::new(queue.policy.clone()))));
            if let Some(queue) = queue {
                let bytes_max = if is_named || queue.name.is_inbox() { queue.policy.max_bytes } else { u64::MAX };
                self.shared.accounts.bound(QueueId(id), bytes_max);
                self.shared.accounts.set_stored(QueueId(id), queue.counts.bytes());
            }
        }
        *self.shared.policies.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    fn count_expired(&self, subscription: u32, messages: u64) {
        if let Some(subscription) = self.book.subscription(subscription)
            && let Some(queue) = self.book.queue(subscription.queue)
            && let Some(connector) = self.book.connector(subscription.connector)
        {
            self.shared.metrics.expired(&queue.name, &connector.name, messages);
        }
    }

    /// How long to wait for a job before something else is due.
    fn patience(&self) -> Duration {
        if self.found.has_more {
            return Duration::ZERO;
        }
        let now_ms = self.shared.clock.now_ms();
        let delayed = self.found.delayed_ms.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(now_ms)));
        delayed.map_or(UPKEEP_EVERY, |delayed| delayed.min(UPKEEP_EVERY))
    }

    /// Looks after what is not part of any settlement.
    fn upkeep(&mut self) -> rusqlite::Result<()> {
        let result = self.checkpoints.busy(&self.db, &self.shared.metrics);
        self.tolerate(result)?;
        let is_due = self.found.delayed_ms.is_some_and(|due_ms| due_ms <= self.shared.clock.now_ms());
        if !is_due && !self.found.has_more && self.short_round.elapsed() < UPKEEP_EVERY {
            return Ok(());
        }
        self.short_round = Instant::now();
        self.look_at_disk();
        if !self.is_laid_out {
            return Ok(());
        }
        let is_full = self.full_round.elapsed() >= FULL_UPKEEP_EVERY;
        if is_full {
            self.full_round = Instant::now();
        }
        let round = if is_full { Round::Full } else { Round::Short };
        let found = Arc::new(Mutex::new(Found::default()));
        let slot = found.clone();
        let run = move |write: &mut Write<'_>| {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = write.upkeep(round)?;
            Ok(())
        };
        // A change that fails is logged where its error is judged, and tried again at the next round.
        self.alone(Job::Task(Task { run: Box::new(run), answer: Box::new(drop) }))?;
        self.found = *found.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(())
    }

    /// Closes the intake below the watermark, and opens it above.
    fn look_at_disk(&self) {
        let settings = &self.shared.settings;
        let Ok(disk) = rustix::fs::statvfs(&settings.dir) else { return };
        let (free, total) = (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize));
        let watermark = settings.min_free.unwrap_or(FREE_BYTES_MIN.min(total / 20));
        let is_full = free < watermark;
        if self.shared.accounts.set_disk_full(is_full) {
            if is_full {
                tracing::error!(
                    free,
                    watermark,
                    "the disk is nearly full: nothing new is accepted until there is room"
                );
            } else {
                tracing::info!(free, "the disk has room again");
            }
        }
    }
}

impl Shared {
    /// The disk can no longer be trusted: everything waiting and everything to come learns that the ledger is closed.
    fn end(&self, reason: &str) {
        self.fatal.send_if_modified(|fatal| {
            let is_first = fatal.is_none();
            fatal.get_or_insert_with(|| reason.into());
            is_first
        });
        self.intake.abandon();
        self.appending.close();
    }

    /// The sender and a receiver of a queue's tail, made where there is none yet.
    pub(super) fn tail(&self, queue: u32) -> (tokio::sync::watch::Sender<Tail>, tokio::sync::watch::Receiver<Tail>) {
        let index = queue as usize;
        if let Some(sender) = self.tails.read().unwrap_or_else(PoisonError::into_inner).get(index) {
            return (sender.clone(), sender.subscribe());
        }
        let mut tails = self.tails.write().unwrap_or_else(PoisonError::into_inner);
        while tails.len() <= index {
            tails.push(tokio::sync::watch::Sender::default());
        }
        (tails[index].clone(), tails[index].subscribe())
    }

    fn set_tail(&self, queue: u32, change: impl FnOnce(&mut Tail)) {
        self.tail(queue).0.send_if_modified(|tail| {
            let before = *tail;
            change(tail);
            *tail != before
        });
    }
}

fn ticket(job: &Job) -> Option<u64> {
    match job {
        Job::Settle(settle) => Some(settle.ticket),
        Job::Append(_) | Job::Task(_) => None,
    }
}

/// Answers a job whose transaction is on disk. Whoever asked may have gone.
fn deliver(job: Job, answer: Answer) {
    match (job, answer) {
        (Job::Settle(settle), answer) => {
            let is_applied = matches!(answer, Answer::Settled(Verdict::Applied));
            let outcomes = settle.settlement.outcomes;
            if let Some(returns) = settle.returns {
                returns.put(if is_applied { Returned::Committed(outcomes) } else { Returned::Conflicted(outcomes) });
            }
            drop(settle.room);
            let _ = settle.reply.send(if is_applied { Ok(()) } else { Err(SettleError::Conflict) });
        }
        (Job::Append(append), Answer::Appended(appended)) => {
            drop(append.room);
            drop(append.share);
            let _ = append.reply.send(Ok(appended));
        }
        (Job::Append(_), _) => {}
        (Job::Task(task), _) => (task.answer)(Ok(())),
    }
}

/// An error of SQLite once more, for someone else to see.
fn copy(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => rusqlite::Error::SqliteFailure(*code, text.clone()),
        other => rusqlite::Error::ToSqlConversionFailure(other.to_string().into()),
    }
}
