//! The line of the ledger's writer, in the orders in which threads may meet at it.
//!
//! The file of the host is taken in here with locks of shuttle's, which decides who goes on at each of them: at random,
//! and so that few changes of turn are needed, where most mistakes hide. A failure prints the seed and a schedule, which
//! `shuttle::replay` goes through again. What two mistakes look like is shown with lines that have them.
#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_methods, reason = "threads of shuttle's, each joined")]

#[path = "../src/ledger/line.rs"]
#[allow(dead_code, reason = "the host uses the rest")]
mod line;

/// What the line takes its locks from.
mod sync {
    pub(super) use std::sync::PoisonError;

    pub(super) use shuttle::sync::{Condvar, Mutex, MutexGuard};
}

use std::collections::VecDeque;
use std::panic::catch_unwind;
use std::time::Duration;

use shuttle::sync::Arc;
use shuttle::thread;

use line::{Line, Next};
use sync::{Condvar, Mutex};

/// A settlement: whose, and its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Job {
    of: usize,
    number: usize,
    ticket: u64,
}

const CALLERS: usize = 2;
const JOBS: usize = 2;
/// Settlements of one commit.
const GROUP: usize = 2;
const SCHEDULES: usize = 20_000;

/// What a line is for callers and for the writer.
trait Meeting: Default + Send + Sync + 'static {
    /// Whether it was taken.
    fn hand_in(&self, job: Job) -> bool;
    fn last_ticket(&self, of: usize) -> u64;
    /// Waits; `None` when nothing will come.
    fn next(&self) -> Option<Job>;
    fn try_next(&self) -> Option<Job>;
    fn close(&self);
}

impl Meeting for Line<Job> {
    fn hand_in(&self, job: Job) -> bool {
        Line::hand_in(self, job.of, job, |job, ticket| job.ticket = ticket).is_ok()
    }

    fn last_ticket(&self, of: usize) -> u64 {
        Line::last_ticket(self, of)
    }

    fn next(&self) -> Option<Job> {
        match Line::next(self, Duration::MAX) {
            Next::Job(job) => Some(job),
            Next::Idle | Next::Closed => None,
        }
    }

    fn try_next(&self) -> Option<Job> {
        Line::try_next(self)
    }

    fn close(&self) {
        Line::close(self);
    }
}

/// What is on disk, and the ticket up to which everything is.
#[derive(Default)]
struct Disk {
    committed: Mutex<(Vec<Job>, u64)>,
    changed: Condvar,
}

impl Disk {
    fn commit(&self, group: Vec<Job>) {
        let mut committed = self.committed.lock().unwrap();
        committed.1 = group.last().map_or(committed.1, |job| job.ticket.max(committed.1));
        committed.0.extend(group);
        drop(committed);
        self.changed.notify_all();
    }

    /// As a ledger waits until everything is on disk that a connector has handed in.
    fn wait(&self, ticket: u64) -> Vec<Job> {
        let committed = self.committed.lock().unwrap();
        self.changed.wait_while(committed, |(_, done)| *done < ticket).unwrap().0.clone()
    }
}

/// Takes what comes in groups, as the writer does, until the line is closed and empty.
fn write<L: Meeting>(line: &L, disk: &Disk) {
    while let Some(first) = line.next() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Some(job) = line.try_next()
        {
            group.push(job);
        }
        disk.commit(group);
    }
}

/// Hands in, and looks each time whether what was waited for is there; how many were taken.
fn call<L: Meeting>(of: usize, line: &L, disk: &Disk) -> usize {
    for number in 0..JOBS {
        if !line.hand_in(Job { of, number, ticket: 0 }) {
            return number;
        }
        let committed = disk.wait(line.last_ticket(of));
        assert!(committed.iter().any(|job| (job.of, job.number) == (of, number)), "waited for, and not on disk");
    }
    JOBS
}

/// Callers, a writer, and somebody who closes the ledger meanwhile.
fn meet<L: Meeting>() {
    let (line, disk) = (Arc::new(L::default()), Arc::new(Disk::default()));
    let callers: Vec<_> = (0..CALLERS)
        .map(|of| {
            let (line, disk) = (line.clone(), disk.clone());
            thread::spawn(move || call(of, &*line, &disk))
        })
        .collect();
    let writer = thread::spawn({
        let (line, disk) = (line.clone(), disk.clone());
        move || write(&*line, &disk)
    });
    line.close();
    let taken: Vec<usize> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    writer.join().unwrap();
    let committed = disk.committed.lock().unwrap();
    for (of, taken) in taken.into_iter().enumerate() {
        let own = committed.0.iter().filter(|job| job.of == of).map(|job| job.number);
        assert!(own.eq(0..taken), "lost or doubled: {taken} of caller {of} were taken, {:?} are on disk", committed.0);
    }
    assert!(committed.0.is_sorted_by_key(|job| job.ticket), "out of order: {:?}", committed.0);
}

/// At random, and with few changes of turn.
fn check<L: Meeting>() {
    shuttle::check_random(meet::<L>, SCHEDULES);
    shuttle::check_pct(meet::<L>, SCHEDULES, 3);
}

/// The mistake in a line is found, as one of these: which one comes first is a matter of chance.
fn found<L: Meeting>(as_one_of: &[&str]) {
    let panic = catch_unwind(check::<L>).expect_err("the mistake is not found");
    let text = panic.downcast_ref::<String>().map_or("", String::as_str);
    assert!(as_one_of.iter().any(|wrong| text.contains(wrong)), "{text}");
}

#[test]
fn nothing_handed_in_is_lost_doubled_or_said_to_be_on_disk_too_early() {
    check::<Line<Job>>();
}

/// A line whose tickets and places are given one after the other, not together.
#[derive(Default)]
struct Early {
    tickets: Mutex<(u64, [u64; CALLERS])>,
    line: Line<Job>,
}

impl Meeting for Early {
    fn hand_in(&self, job: Job) -> bool {
        let mut tickets = self.tickets.lock().unwrap();
        tickets.0 += 1;
        tickets.1[job.of] = tickets.0;
        let ticket = tickets.0;
        drop(tickets);
        self.line.push(Job { ticket, ..job })
    }

    fn last_ticket(&self, of: usize) -> u64 {
        self.tickets.lock().unwrap().1[of]
    }

    fn next(&self) -> Option<Job> {
        Meeting::next(&self.line)
    }

    fn try_next(&self) -> Option<Job> {
        self.line.try_next()
    }

    fn close(&self) {
        self.line.close();
    }
}

#[test]
fn tickets_that_are_given_before_the_place_are_found() {
    // A caller goes on too early, or waits for a ticket that was overtaken by one behind it.
    found::<Early>(&["not on disk", "deadlock", "out of order"]);
}

/// A line that looks whether it is closed before it has the lock under which it takes.
#[derive(Default)]
struct Careless {
    is_closed: Mutex<bool>,
    jobs: Mutex<(VecDeque<Job>, u64, [u64; CALLERS])>,
    wake: Condvar,
}

impl Meeting for Careless {
    fn hand_in(&self, job: Job) -> bool {
        if *self.is_closed.lock().unwrap() {
            return false;
        }
        let mut jobs = self.jobs.lock().unwrap();
        jobs.1 += 1;
        let ticket = jobs.1;
        jobs.2[job.of] = ticket;
        jobs.0.push_back(Job { ticket, ..job });
        drop(jobs);
        self.wake.notify_one();
        true
    }

    fn last_ticket(&self, of: usize) -> u64 {
        self.jobs.lock().unwrap().2[of]
    }

    fn next(&self) -> Option<Job> {
        let jobs = self.jobs.lock().unwrap();
        let mut jobs =
            self.wake.wait_while(jobs, |jobs| jobs.0.is_empty() && !*self.is_closed.lock().unwrap()).unwrap();
        jobs.0.pop_front()
    }

    fn try_next(&self) -> Option<Job> {
        self.jobs.lock().unwrap().0.pop_front()
    }

    fn close(&self) {
        let jobs = self.jobs.lock().unwrap();
        *self.is_closed.lock().unwrap() = true;
        drop(jobs);
        self.wake.notify_one();
    }
}

#[test]
fn a_line_that_is_closed_while_something_is_handed_in_is_found() {
    // The writer has gone, and whoever waits for it waits for ever.
    found::<Careless>(&["deadlock"]);
}
