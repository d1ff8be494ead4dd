//! The embedded store under local queues, state, schedules and dead letters.
//!
//! The one place that knows SQL. Its interface is the domain's, because a second ledger will follow. One thread writes:
//! it commits many settlements with one fsync; readers have connections of their own. Invariant: nothing is answered
//! before it is on disk, and when the disk can no longer be trusted nothing is answered at all.

mod account;
mod append;
mod backup;
mod book;
mod browse;
mod checkpoint;
mod checksum;
mod configure;
mod dead;
mod dedup;
mod disk;
mod end;
mod error;
mod history;
mod hold;
mod inflight;
mod intake;
mod line;
mod notice;
mod open;
mod preview;
mod pulse;
mod ranges;
mod read;
mod receive;
mod report;
mod route;
mod schedule;
mod schema;
mod settle;
mod settled;
mod site;
mod state;
mod sweep;
mod trace;
mod unfinished;
mod upkeep;
mod write;
mod writer;

/// What `line` takes its locks from: a test puts others in their place.
mod sync {
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
}

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::clock::Clock;
use crate::id::Name;
use crate::message::Message;
use crate::metrics::Metrics;
use crate::settlement::{ConnectorId, Lack, Origin, QueueId, SettleError, Settlement};

pub use account::Reservation;
pub use append::Appended;
pub use backup::{Backup, Contents, NoRoom};
pub use browse::{Lying, Stored};
pub use configure::{ConnectorLayout, Consumption, Directory, Layout, Orphan};
pub use dead::{DeadLetter, DeadSummary, FailedAttempt, Redrive};
pub use disk::{Disk, Room};
pub use error::{AppendError, Full, OpenError};
pub use history::Sought;
pub use inflight::{Inflight, Slot, Suspect};
pub use open::{STAGED, Settings};
pub use preview::Unread;
pub use read::{PAGE_KNOWN, Position};
pub use receive::Received;
pub use report::{QueueReport, SubscriptionReport};
pub use route::{Condition, Route, Subject, Test, led_to};
pub use schedule::{LastOutcome, NewTick, Planned, ScheduleRow};
pub use settled::{Receipt, Returned, Returns};
pub use site::{FileSystem, Site, sqlite_version};
pub use state::{KeyPage, StateUsage};
pub use trace::{By, Place, Progress, Search, Sighting, Standing};
pub use unfinished::{Subscribed, Unfinished};

use account::Accounts;
use intake::{Intake, Job, Settle, Task};
use read::Readers;
use write::Write;

/// Bytes of appends that may wait for the writer at once.
const APPENDING_BYTES_MAX: usize = 32 << 20;

/// Whether a queue keeps the order of its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ordering {
    /// Messages are delivered as they come, several at once.
    #[default]
    None,
    /// A message waits until the earlier ones of its key are settled.
    Key,
}

/// `[queues.X]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePolicy {
    /// Whether the order of keys is kept.
    pub ordering: Ordering,
    /// How long a message stays where nobody subscribes, and an orphaned subscription keeps its messages.
    pub retention: Duration,
    /// Not removed before this age, even when settled.
    pub keep: Option<Duration>,
    /// Removed at this age although unsettled: counted and logged.
    pub expires: Option<Duration>,
    /// Bound of the stored bytes.
    pub max_bytes: u64,
    /// Window in which a second message with the same id is dropped.
    pub dedup: Option<Duration>,
    /// Of an inbox: window in which a second webhook request with a mark of an earlier one is dropped.
    pub marks: Option<Duration>,
    /// Bound of remembered ids.
    pub dedup_max: u64,
    /// Largest message that the queue takes, from the `limits.message` of its consumers.
    pub message_bytes: u64,
}

impl Default for QueuePolicy {
    fn default() -> Self {
        Self {
            ordering: Ordering::None,
            retention: Duration::from_secs(7 * 86_400),
            keep: None,
            expires: None,
            max_bytes: 1 << 30,
            dedup: None,
            marks: None,
            dedup_max: 20_000_000,
            message_bytes: crate::limit::MESSAGE_BYTES_DEFAULT,
        }
    }
}

/// Where a new subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// At the oldest message that is kept.
    #[default]
    Oldest,
    /// After what is there already.
    Latest,
}

/// How far a queue goes, as of the last commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The newest message of the log.
    pub seq: u64,
    /// Grows whenever a message was redriven to one of the queue's subscriptions.
    pub redriven: u64,
}

/// Messages of a queue's log, in order.
#[derive(Debug, Default)]
pub struct LogPage {
    /// Each with its sequence number.
    pub messages: Vec<(u64, Message)>,
    /// Whether the log ended here when it was read.
    pub is_last: bool,
}

/// An unfinished message, without its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where it lies.
    pub origin: Origin,
    /// Not before this time.
    pub due_ms: u64,
    /// Attempts charged so far.
    pub attempts: u32,
    /// The message's key.
    pub key: Option<String>,
}

/// The ledger of this process. Cheap to clone; closed by [`Ledger::close`], or with its last clone.
#[derive(Clone)]
pub struct Ledger(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<File>>,
}

/// A queue's name and policy.
type Named = (Name, Arc<QueuePolicy>);

/// What the writer's thread and its callers share.
struct Shared {
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    intake: Intake,
    accounts: Accounts,
    appending: Arc<Semaphore>,
    readers: Readers,
    tails: RwLock<Vec<watch::Sender<Tail>>>,
    policies: RwLock<Vec<Option<Named>>>,
    /// For each queue that has any: where routes lead from it, by however many steps.
    led_to: RwLock<HashMap<QueueId, Vec<QueueId>>>,
    history: history::Waiting,
    /// Ids that may be remembered, once the writer has read them.
    remembered: OnceLock<Arc<dedup::Remembered>>,
    committed: watch::Sender<u64>,
    fatal: watch::Sender<Option<Arc<str>>>,
    /// Opened only where runs are started: a look into the ledger must not make suspects forgotten.
    inflight: OnceLock<Arc<Inflight>>,
}

impl Handle {
    fn close(&self) {
        self.shared.intake.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        // A panic of the writer was reported as fatal where it happened.
        let _ = writer.join();
        if let Some(inflight) = self.shared.inflight.get() {
            inflight.empty();
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Handle {
    /// The lock must not fall while the writer still works.
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Ledger").field("dir", &self.shared().settings.dir).finish_non_exhaustive()
    }
}

impl Ledger {
    /// Whether another process works on the folder just now.
    #[must_use]
    pub fn is_in_use(dir: &Path) -> bool {
        open::is_in_use(dir)
    }

    /// Locks the folder of a ledger, making it where it is missing, and does not open the ledger: for work on what lies
    /// beside it. The lock falls with the file.
    ///
    /// # Errors
    /// Another process works on the folder, or it cannot be made or locked.
    pub fn lock(dir: &Path) -> Result<File, OpenError> {
        open::lock_folder(dir)
    }

    /// Opens the ledger, making it where it is missing, and starts its writer.
    ///
    /// # Errors
    /// Nothing was changed: the folder is in use, the file is not ours or newer than this program, or it cannot be opened.
    pub fn open(settings: Settings, clock: Clock, metrics: Metrics) -> Result<Self, OpenError> {
        let opened = open::open(&settings)?;
        let shared = Arc::new(Shared {
            inflight: OnceLock::new(),
            readers: Readers::new(settings.file()),
            settings,
            clock,
            metrics,
            intake: Intake::default(),
            accounts: Accounts::default(),
            appending: Arc::new(Semaphore::new(APPENDING_BYTES_MAX)),
            tails: RwLock::default(),
            policies: RwLock::default(),
            led_to: RwLock::default(),
            history: history::Waiting::default(),
            remembered: OnceLock::new(),
            committed: watch::Sender::new(0),
            fatal: watch::Sender::new(None),
        });
        let writer = writer::start(shared.clone(), opened.db)
            .with_context(|| format!("cannot read the ledger {}", shared.settings.file().display()))?;
        Ok(Self(Arc::new(Handle { shared, writer: Mutex::new(Some(writer)), lock: Mutex::new(Some(opened.lock)) })))
    }

    /// Works off what was handed in, checkpoints, and gives the folder free. Blocks meanwhile; everything afterwards
    /// answers that the ledger is closed.
    pub fn close(&self) {
        self.0.close();
    }

    /// Where it lies, and how it uses the machine.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.shared().settings
    }

    /// Opens the in-flight file, once, and answers what was being run when the last process died.
    ///
    /// # Errors
    /// The file could not be opened, or was opened before.
    pub fn open_inflight(&self) -> anyhow::Result<(Arc<Inflight>, Vec<Suspect>)> {
        let (inflight, suspects) = Inflight::open(&self.shared().settings.dir)?;
        let inflight = Arc::new(inflight);
        let opened = self.shared().inflight.set(inflight.clone());
        opened.map_err(|_| anyhow::anyhow!("the in-flight file is open already"))?;
        Ok((inflight, suspects))
    }

    /// Hands a settlement in; the order of calls is the order of commits. The receipt says when it is on disk.
    pub fn settle(&self, settlement: Settlement) -> Receipt {
        self.settle_returning(settlement, None)
    }

    /// Like [`Ledger::settle`]; its outcomes go to `returns` once it is dealt with.
    pub fn settle_returning(&self, settlement: Settlement, returns: Option<Returns>) -> Receipt {
        let (reply, receipt) = oneshot::channel();
        let sizes = || settlement.publishes.iter().map(|publish| (publish.queue, publish.draft.size_bytes()));
        let room = self.shared().accounts.force(sizes());
        let bytes = sizes().map(|(_, bytes)| bytes).sum();
        let settle = Box::new(Settle { ticket: 0, settlement, bytes, room, reply, returns });
        if let Err(refused) = self.shared().intake.settle(settle) {
            let _ = refused.reply.send(Err(SettleError::Closed));
        }
        Receipt(receipt)
    }

    /// Waits until everything that a connector has handed in so far is on disk (or refused).
    ///
    /// # Errors
    /// The ledger has stopped.
    pub async fn settled(&self, connector: ConnectorId) -> Result<(), SettleError> {
        let ticket = self.shared().intake.last_ticket(connector);
        let mut committed = self.shared().committed.subscribe();
        let mut fatal = self.shared().fatal.subscribe();
        tokio::select! {
            biased;
            reached = committed.wait_for(|done| *done >= ticket) => reached.map(|_| ()).map_err(|_| SettleError::Closed),
            _ = fatal.wait_for(Option::is_some) => Err(SettleError::Closed),
        }
    }

    /// Keeps room for a publish. Dropped once its settlement is handed in, or when it comes to nothing.
    ///
    /// # Errors
    /// The queue is at its bound, or the disk has no room.
    pub fn reserve(&self, queue: QueueId, bytes: u64) -> Result<Reservation, Full> {
        self.shared().accounts.reserve(queue, bytes)
    }

    /// Keeps room up to so many bytes beyond the bound: for a publish to the queue that is being consumed, which would
    /// otherwise never end.
    ///
    /// # Errors
    /// The queue is at that, or the disk has no room.
    pub fn reserve_beyond(&self, queue: QueueId, bytes: u64, beyond: u64) -> Result<Reservation, Full> {
        if self.disk_is_full() {
            return Err(Full::Disk);
        }
        self.shared().accounts.reserve_beyond(queue, bytes, beyond)
    }

    /// Whether nothing may be published to a queue: it is at its bound, or the disk has no room.
    #[must_use]
    pub fn is_full(&self, queue: QueueId) -> bool {
        self.shared().accounts.is_full(queue)
    }

    /// Whether a queue has by now what a call lacked.
    #[must_use]
    pub fn has_room(&self, lack: &Lack) -> bool {
        self.shared().accounts.has_room(lack)
    }

    /// Waits until something may be published to a queue. Cancel-safe.
    pub async fn room(&self, queue: QueueId) {
        self.shared().accounts.room(queue).await;
    }

    /// Whether nothing new is accepted for want of disk.
    #[must_use]
    pub fn disk_is_full(&self) -> bool {
        self.shared().accounts.disk_is_full()
    }

    /// The room on the disk, as it changes.
    #[must_use]
    pub fn disk(&self) -> watch::Receiver<Disk> {
        self.shared().accounts.disk()
    }

    /// How far a queue goes; changes with every commit that adds to it.
    #[must_use]
    pub fn tail(&self, queue: QueueId) -> watch::Receiver<Tail> {
        self.shared().tail(queue.0).1
    }

    /// A queue's policy, as it was configured.
    #[must_use]
    pub fn policy(&self, queue: QueueId) -> Arc<QueuePolicy> {
        self.shared().policy(queue).map(|(_, policy)| policy).unwrap_or_default()
    }

    /// A queue's name, as it was configured.
    #[must_use]
    pub fn queue_name(&self, queue: QueueId) -> Option<Name> {
        self.shared().policy(queue).map(|(name, _)| name)
    }

    /// The clock that due times and ages are measured by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared().clock
    }

    /// Waits until everything that was handed in before is on disk, or has failed.
    ///
    /// # Errors
    /// The ledger has stopped.
    pub async fn caught_up(&self) -> anyhow::Result<()> {
        self.change(|_| Ok(())).await
    }

    /// Runs a change on the writer's thread, in the next group; answers when it is on disk.
    async fn change<T, Change>(&self, change: Change) -> anyhow::Result<T>
    where
        T: Send + 'static,
        Change: FnMut(&mut Write<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let (run, answer_to) = value_of(change, move |result| drop(reply.send(result)));
        self.shared().intake.push(Job::Task(Task { run, waits_for_room: true, answer: answer_to }));
        answer.await.context("the ledger has stopped")?.context("the ledger could not be changed")
    }

    /// Like [`Ledger::change`], blocking the thread; one that finds no room fails.
    fn change_blocking<T, Change>(&self, change: Change) -> anyhow::Result<T>
    where
        T: Send + 'static,
        Change: FnMut(&mut Write<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let (run, answer_to) = value_of(change, move |result| drop(reply.send(result)));
        self.shared().intake.push(Job::Task(Task { run, waits_for_room: false, answer: answer_to }));
        answer.recv().context("the ledger has stopped")?.context("the ledger could not be changed")
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}

impl Shared {
    /// A queue's name and policy, once the layout was applied.
    fn policy(&self, queue: QueueId) -> Option<Named> {
        self.policies.read().unwrap_or_else(PoisonError::into_inner).get(queue.0 as usize)?.clone()
    }
}

/// What a task runs, and what answers it with the value of the change.
fn value_of<T, Change, Done>(mut change: Change, done: Done) -> (intake::Run, intake::Done)
where
    T: Send + 'static,
    Change: FnMut(&mut Write<'_>) -> rusqlite::Result<T> + Send + 'static,
    Done: FnOnce(rusqlite::Result<T>) + Send + 'static,
{
    // The value of the last try waits here until that try is on disk.
    let value = Arc::new(Mutex::new(None));
    let slot = value.clone();
    let run = move |write: &mut Write<'_>| {
        let changed = change(write)?;
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(changed);
        Ok(())
    };
    let answer = move |result: rusqlite::Result<()>| {
        let value = value.lock().unwrap_or_else(PoisonError::into_inner).take();
        done(result.and_then(|()| value.ok_or(rusqlite::Error::QueryReturnedNoRows)));
    };
    (Box::new(run), Box::new(answer))
}

/// A duration in the ledger's unit.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
