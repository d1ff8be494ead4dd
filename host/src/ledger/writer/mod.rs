//! The one thread that writes.
//!
//! Takes jobs in order, commits many with one fsync, and answers them afterwards. A group ends at 256 jobs, 8 MiB or
//! 5 ms and never waits for more. A settlement has a savepoint: one that fails is tried alone after its group. An append
//! has none, for hardly any fails and a savepoint copies every page that it changes: with one that does, the group is
//! rolled back and all of its jobs are tried alone. Invariant: an error after which durability is unknown ends the ledger;
//! a full disk does not, settlements wait for room.

mod announce;
mod round;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::clock::Now;
use crate::ledger::book::Book;
use crate::ledger::checkpoint::Checkpoints;
use crate::ledger::configure::Policies;
use crate::ledger::dedup::Dedup;
use crate::ledger::error::{Fault, fault, is_of_sqlite_damage};
use crate::ledger::intake::Job;
use crate::ledger::line::Next;
use crate::ledger::settle::Verdict;
use crate::ledger::upkeep::Found;
use crate::ledger::write::{Changes, Write};
use crate::ledger::{AppendError, Appended, Disk, Shared};
use crate::settlement::{QueueId, SettleError};
use announce::{deliver, ticket};

/// A group holds at most so many jobs.
const GROUP_JOBS_MAX: usize = 256;
/// And at most so many bytes.
const GROUP_BYTES_MAX: u64 = 8 << 20;
/// And takes no longer than this before its commit.
const GROUP_AGE_MAX: Duration = Duration::from_millis(5);
/// How long it waits for room on the disk, or for another process that holds the file.
const PAUSE: Duration = Duration::from_millis(250);

/// Starts the thread.
pub(in crate::ledger) fn start(shared: Arc<Shared>, db: Connection) -> anyhow::Result<JoinHandle<()>> {
    let book = Book::load(&db)?;
    let dedup = Dedup::load(&db)?;
    // It is set here alone.
    let _ = shared.remembered.set(dedup.remembered());
    for (id, queue) in book.queues.iter().enumerate() {
        if let Some(queue) = queue {
            let id = QueueId(u32::try_from(id)?);
            shared.accounts.bound(id, u64::MAX);
            shared.accounts.set_stored(id, queue.counts.bytes());
            shared.set_tail(id.0, |tail| tail.seq = queue.counts.tail);
        }
    }
    let mut writer = Writer {
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
    writer.look_at_disk()?;
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
            let file = self.shared.settings.file();
            let remedy = if is_of_sqlite_damage(&error) {
                "it is damaged, restore a backup"
            } else {
                "see to its disk and start again, nothing that was answered is missing"
            };
            self.shared.end(&format!("the ledger {} cannot go on: {error}: {remedy}", file.display()));
        }
        self.shared.readers.close();
    }

    /// Works until the ledger is closed; an error is fatal.
    fn work(&mut self) -> rusqlite::Result<()> {
        loop {
            match self.shared.intake.next(self.patience()) {
                Next::Job(job) => {
                    // Whoever is ready to run may have more for this commit. Where nobody is, this costs nothing.
                    std::thread::yield_now();
                    self.group(job)?;
                }
                Next::Idle if self.found.has_more => {}
                Next::Idle => {
                    let result = self.checkpoints.idle(&self.db);
                    self.tolerate(result)?;
                }
                Next::Closed => {
                    self.keep_history()?;
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

    /// Waits, doing what an operator asks for meanwhile (dropping dead letters may be what makes room) and refusing what
    /// is new.
    fn wait_for_room(&mut self) -> rusqlite::Result<()> {
        while let Some(aside) = self.shared.intake.next_aside() {
            let mut source = match aside {
                Job::Append(append) => {
                    let _ = append.reply.send(Err(AppendError::Disk));
                    continue;
                }
                aside => Some(aside),
            };
            if let Outcome::RolledBack { jobs, error } = self.transaction(&mut |_| source.take())? {
                self.judge(&error)?;
                for job in jobs {
                    if let Job::Task(task) = job {
                        (task.answer)(Err(copy(&error)));
                    }
                }
            }
        }
        if self.shared.intake.is_closed() {
            return Ok(());
        }
        #[expect(clippy::disallowed_methods, reason = "the writer's own thread has nothing else to do")]
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
            // Who stops does not wait for room: what is not on disk is delivered again after the next start.
            (Job::Settle(settle), Fault::Full | Fault::Busy) if self.shared.intake.is_closed() => {
                let _ = settle.reply.send(Err(SettleError::Closed));
                Ok(None)
            }
            (Job::Task(task), Fault::Full | Fault::Busy) if self.shared.intake.is_closed() => {
                (task.answer)(Err(copy(error)));
                Ok(None)
            }
            (Job::Task(task), Fault::Full) if !task.waits_for_room => {
                (task.answer)(Err(copy(error)));
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
                if self.shared.accounts.set_disk(Disk::Full) {
                    tracing::error!("the disk is full: nothing new is accepted, and nothing runs until there is room");
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
                    self.found_room();
                    self.shared.metrics.ledger_commit(counted, started.elapsed().as_secs_f64());
                }
                self.announce(&changes);
                self.lay_out(&mut changes)?;
                let last = group.done.iter().filter_map(|(job, _)| ticket(job)).next_back();
                group.done.into_iter().for_each(|(job, answer)| deliver(job, answer));
                if let Some(last) = last {
                    // A job that is tried once more comes after later ones.
                    self.shared.committed.send_modify(|done| *done = last.max(*done));
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
                    let is_undone = job.has_savepoint();
                    group.failed.push(job);
                    // Alone in its transaction there are no neighbours to go on with.
                    let is_alone = group.done.is_empty() && group.failed.len() == 1;
                    if !is_undone || fault(&error) != Fault::Statement || self.db.is_autocommit() || is_alone {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    /// Carries out one job; within a savepoint, where it can fail without its neighbours.
    fn apply(&mut self, job: &mut Job, changes: &mut Changes, now: Now) -> rusqlite::Result<Answer> {
        let (book_mark, dedup_mark) = (self.book.mark(), self.dedup.mark());
        let has_savepoint = job.has_savepoint();
        if has_savepoint {
            self.db.prepare_cached("SAVEPOINT job")?.execute([])?;
        }
        let mut write = Write { db: &self.db, book: &mut self.book, dedup: &mut self.dedup, changes, now };
        let result = match job {
            Job::Settle(settle) => write.settle(&settle.settlement).map(Answer::Settled),
            Job::Append(append) => write.append_job(append).map(Answer::Appended),
            Job::Task(task) => (task.run)(&mut write).map(|()| Answer::Done),
        };
        if !has_savepoint || self.db.is_autocommit() {
            return result;
        }
        if result.is_err() {
            self.db.execute_batch("ROLLBACK TO job")?;
            self.book.rewind(book_mark);
            self.dedup.rewind(dedup_mark);
        }
        self.db.prepare_cached("RELEASE job")?.execute([])?;
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
}

/// An error of SQLite once more, for someone else to see.
fn copy(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => rusqlite::Error::SqliteFailure(*code, text.clone()),
        other => rusqlite::Error::ToSqlConversionFailure(other.to_string().into()),
    }
}
