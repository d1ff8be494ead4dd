//! The counters of queues, subscriptions and connectors, as the writer knows them.
//!
//! Loaded once and then changed in memory; what changed is written at the end of each group, in its transaction.
//! Invariant: after [`Book::rewind`] the book says what it said at the mark, so it follows a savepoint that is rolled back.

use rusqlite::{Connection, params};

use super::configure::Policies;
use super::ranges::Ranges;
use super::route::Laid;
use super::schema::{sql, unsql};
use super::{QueuePolicy, StateUsage};
use crate::id::Name;
use crate::settlement::QueueId;

/// Everything the writer counts.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) queues: Vec<Option<Queue>>,
    pub(super) subscriptions: Vec<Option<Subscription>>,
    pub(super) connectors: Vec<Option<Connector>>,
    undo: Vec<Before>,
    touched: Touched,
}

/// One queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Name,
    pub(super) policy: QueuePolicy,
    pub(super) counts: QueueCounts,
    /// Every subscription that holds its messages back, orphans included.
    pub(super) subscriptions: Vec<u32>,
    /// Where its messages are copied to.
    pub(super) routes: Vec<Laid>,
}

/// The stored counters of a queue; see the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct QueueCounts {
    pub(super) tail: u64,
    pub(super) tail_bytes: u64,
    pub(super) removed: u64,
    pub(super) removed_bytes: u64,
    pub(super) stragglers: u64,
    pub(super) straggler_bytes: u64,
    pub(super) parked: u64,
    pub(super) parked_bytes: u64,
}

impl QueueCounts {
    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.tail_bytes.saturating_sub(self.removed_bytes) + self.straggler_bytes + self.parked_bytes
    }
}

/// One subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) queue: u32,
    pub(super) connector: u32,
    pub(super) orphaned_ms: Option<u64>,
    pub(super) counts: SubscriptionCounts,
    /// The ranges as the file has them.
    saved: Ranges,
}

/// The stored counters of a subscription; see the schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SubscriptionCounts {
    pub(super) cursor: u64,
    /// Settled beyond the cursor.
    pub(super) ahead: Ranges,
    pub(super) pending: u64,
    pub(super) retrying: u64,
    pub(super) parked: u64,
    pub(super) dead: u64,
    pub(super) dead_bytes: u64,
}

/// One connector.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) name: Name,
    pub(super) counts: ConnectorCounts,
    pub(super) dead_retention_ms: u64,
    /// The most that its state may come to.
    pub(super) state_max: StateUsage,
    /// The queue that is told of its dead letters.
    pub(super) on_dead: Option<QueueId>,
}

/// The stored counters of a connector; see the schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectorCounts {
    pub(super) state_version: u64,
    pub(super) state_keys: u64,
    pub(super) state_bytes: u64,
}

/// A place to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(usize);

#[derive(Debug)]
enum Before {
    Queue(u32, QueueCounts),
    Subscription(u32, SubscriptionCounts),
    Connector(u32, ConnectorCounts),
}

/// What this group has changed.
#[derive(Debug, Default)]
struct Touched {
    queues: Vec<u32>,
    subscriptions: Vec<u32>,
    connectors: Vec<u32>,
}

impl Book {
    /// Reads all counters. Policies are the defaults until a layout is applied.
    pub(super) fn load(db: &Connection) -> rusqlite::Result<Self> {
        let mut book = Self::default();
        book.load_queues(db)?;
        book.load_connectors(db)?;
        book.load_subscriptions(db)?;
        book.load_settled(db)?;
        book.skip_removed();
        Ok(book)
    }

    fn load_settled(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let mut statement = db.prepare("SELECT subscription, first, last FROM settled ORDER BY subscription, first")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (first, last) = (unsql(row.get(1)?), unsql(row.get(2)?));
            if let Some(subscription) = slot(&mut self.subscriptions, row.get(0)?) {
                subscription.counts.ahead.push(first, last);
                subscription.saved.push(first, last);
            }
        }
        Ok(())
    }

    /// A subscription that was made while its queue was being emptied begins where the log does.
    fn skip_removed(&mut self) {
        for subscription in self.subscriptions.iter_mut().flatten() {
            let removed = slot(&mut self.queues, subscription.queue).map_or(0, |queue| queue.counts.removed);
            let counts = &mut subscription.counts;
            if counts.cursor < removed {
                counts.cursor = removed;
                counts.ahead.drop_through(removed);
                counts.ahead.advance(&mut counts.cursor);
            }
        }
    }

    fn load_queues(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let mut statement = db.prepare(
            "SELECT id, name, tail, tail_bytes, removed, removed_bytes, stragglers, straggler_bytes, parked, parked_bytes
             FROM queue",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let number = |column| row.get(column).map(unsql);
            let counts = QueueCounts {
                tail: number(2)?,
                tail_bytes: number(3)?,
                removed: number(4)?,
                removed_bytes: number(5)?,
                stragglers: number(6)?,
                straggler_bytes: number(7)?,
                parked: number(8)?,
                parked_bytes: number(9)?,
            };
            let name = Name::stored(row.get_ref(1)?.as_str()?);
            let queue =
                Queue { name, policy: QueuePolicy::default(), counts, subscriptions: Vec::new(), routes: Vec::new() };
            place(&mut self.queues, row.get(0)?, queue);
        }
        Ok(())
    }

    fn load_connectors(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let mut statement =
            db.prepare("SELECT id, name, state_version, state_keys, state_bytes, dead_retention_ms FROM connector")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let counts = ConnectorCounts {
                state_version: unsql(row.get(2)?),
                state_keys: unsql(row.get(3)?),
                state_bytes: unsql(row.get(4)?),
            };
            let name = Name::stored(row.get_ref(1)?.as_str()?);
            let (dead_retention_ms, state_max) = (unsql(row.get(5)?), StateUsage::default());
            let connector = Connector { name, counts, dead_retention_ms, state_max, on_dead: None };
            place(&mut self.connectors, row.get(0)?, connector);
        }
        Ok(())
    }

    fn load_subscriptions(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let mut statement = db.prepare(
            "SELECT id, queue, connector, cursor, pending, retrying, parked, dead, dead_bytes, orphaned_ms, forgotten
             FROM subscription",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let number = |column| row.get(column).map(unsql);
            let counts = SubscriptionCounts {
                cursor: number(3)?,
                ahead: Ranges::default(),
                pending: number(4)?,
                retrying: number(5)?,
                parked: number(6)?,
                dead: number(7)?,
                dead_bytes: number(8)?,
            };
            let (id, queue, connector) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let orphaned_ms = row.get::<_, Option<i64>>(9)?.map(unsql);
            let subscription = Subscription { queue, connector, orphaned_ms, counts, saved: Ranges::default() };
            place(&mut self.subscriptions, id, subscription);
            if !row.get::<_, bool>(10)?
                && let Some(queue) = slot(&mut self.queues, queue)
            {
                queue.subscriptions.push(id);
            }
        }
        Ok(())
    }

    /// A queue, if there is one under this number.
    pub(super) fn queue(&self, id: u32) -> Option<&Queue> {
        self.queues.get(id as usize)?.as_ref()
    }

    /// A subscription, if there is one under this number.
    pub(super) fn subscription(&self, id: u32) -> Option<&Subscription> {
        self.subscriptions.get(id as usize)?.as_ref()
    }

    /// A connector, if there is one under this number.
    pub(super) fn connector(&self, id: u32) -> Option<&Connector> {
        self.connectors.get(id as usize)?.as_ref()
    }

    /// Messages that a subscription has not settled.
    pub(super) fn backlog(&self, subscription: u32) -> u64 {
        let Some(subscription) = self.subscription(subscription) else { return 0 };
        let tail = self.queue(subscription.queue).map_or(0, |queue| queue.counts.tail);
        let counts = &subscription.counts;
        tail.saturating_sub(counts.cursor + counts.ahead.count()) + counts.pending + counts.parked
    }

    /// Takes over the policies of a layout.
    pub(super) fn apply(&mut self, policies: &Policies) {
        for (id, policy) in &policies.queues {
            if let Some(queue) = slot(&mut self.queues, *id) {
                queue.policy = policy.clone();
            }
        }
        for (id, routes) in &policies.routes {
            if let Some(queue) = slot(&mut self.queues, *id) {
                queue.routes.clone_from(routes);
            }
        }
        for (id, state_max) in &policies.state_max {
            if let Some(connector) = slot(&mut self.connectors, *id) {
                connector.state_max = *state_max;
                connector.on_dead = policies.on_dead.get(id).copied();
            }
        }
    }

    /// A queue's counters, to be changed.
    pub(super) fn edit_queue(&mut self, id: u32) -> Option<&mut QueueCounts> {
        let queue = slot(&mut self.queues, id)?;
        self.undo.push(Before::Queue(id, queue.counts));
        note(&mut self.touched.queues, id);
        Some(&mut queue.counts)
    }

    /// A subscription's counters, to be changed.
    pub(super) fn edit_subscription(&mut self, id: u32) -> Option<&mut SubscriptionCounts> {
        let subscription = slot(&mut self.subscriptions, id)?;
        self.undo.push(Before::Subscription(id, subscription.counts.clone()));
        note(&mut self.touched.subscriptions, id);
        Some(&mut subscription.counts)
    }

    /// A connector's counters, to be changed.
    pub(super) fn edit_connector(&mut self, id: u32) -> Option<&mut ConnectorCounts> {
        let connector = slot(&mut self.connectors, id)?;
        self.undo.push(Before::Connector(id, connector.counts));
        note(&mut self.touched.connectors, id);
        Some(&mut connector.counts)
    }

    /// Where the book stands now.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.undo.len())
    }

    /// Takes back every change since the mark.
    pub(super) fn rewind(&mut self, mark: Mark) {
        for before in self.undo.drain(mark.0..).rev() {
            match before {
                Before::Queue(id, counts) => {
                    if let Some(queue) = slot(&mut self.queues, id) {
                        queue.counts = counts;
                    }
                }
                Before::Subscription(id, counts) => {
                    if let Some(subscription) = slot(&mut self.subscriptions, id) {
                        subscription.counts = counts;
                    }
                }
                Before::Connector(id, counts) => {
                    if let Some(connector) = slot(&mut self.connectors, id) {
                        connector.counts = counts;
                    }
                }
            }
        }
    }

    /// The queues that this group has changed.
    pub(super) fn touched_queues(&self) -> &[u32] {
        &self.touched.queues
    }

    /// The subscriptions that this group has changed.
    pub(super) fn touched_subscriptions(&self) -> &[u32] {
        &self.touched.subscriptions
    }

    /// Writes what the group has changed, within its transaction.
    pub(super) fn flush(&self, db: &Connection) -> rusqlite::Result<()> {
        self.flush_queues(db)?;
        self.flush_subscriptions(db)?;
        let mut update = db.prepare_cached(
            "UPDATE connector SET state_version = ?2, state_keys = ?3, state_bytes = ?4 WHERE id = ?1",
        )?;
        for id in &self.touched.connectors {
            if let Some(connector) = self.connector(*id) {
                let counts = connector.counts;
                update.execute(params![
                    id,
                    sql(counts.state_version),
                    sql(counts.state_keys),
                    sql(counts.state_bytes)
                ])?;
            }
        }
        Ok(())
    }

    fn flush_queues(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut update = db.prepare_cached(
            "UPDATE queue SET tail = ?2, tail_bytes = ?3, removed = ?4, removed_bytes = ?5, stragglers = ?6,
             straggler_bytes = ?7, parked = ?8, parked_bytes = ?9 WHERE id = ?1",
        )?;
        for id in &self.touched.queues {
            if let Some(queue) = self.queue(*id) {
                let counts = queue.counts;
                update.execute(params![
                    id,
                    sql(counts.tail),
                    sql(counts.tail_bytes),
                    sql(counts.removed),
                    sql(counts.removed_bytes),
                    sql(counts.stragglers),
                    sql(counts.straggler_bytes),
                    sql(counts.parked),
                    sql(counts.parked_bytes),
                ])?;
            }
        }
        Ok(())
    }

    fn flush_subscriptions(&self, db: &Connection) -> rusqlite::Result<()> {
        let mut update = db.prepare_cached(
            "UPDATE subscription SET cursor = ?2, pending = ?3, retrying = ?4, parked = ?5, dead = ?6, dead_bytes = ?7
             WHERE id = ?1",
        )?;
        for id in &self.touched.subscriptions {
            let Some(subscription) = self.subscription(*id) else { continue };
            let counts = &subscription.counts;
            update.execute(params![
                id,
                sql(counts.cursor),
                sql(counts.pending),
                sql(counts.retrying),
                sql(counts.parked),
                sql(counts.dead),
                sql(counts.dead_bytes),
            ])?;
            if counts.ahead != subscription.saved {
                flush_ranges(db, *id, &subscription.saved, &counts.ahead)?;
            }
        }
        Ok(())
    }

    /// The group is on disk.
    pub(super) fn committed(&mut self) {
        self.undo.clear();
        self.touched.queues.clear();
        self.touched.connectors.clear();
        for id in self.touched.subscriptions.drain(..) {
            if let Some(subscription) = slot(&mut self.subscriptions, id)
                && subscription.saved != subscription.counts.ahead
            {
                subscription.saved = subscription.counts.ahead.clone();
            }
        }
    }

    /// The group was rolled back.
    pub(super) fn rolled_back(&mut self) {
        self.rewind(Mark(0));
        self.touched = Touched::default();
    }
}

fn flush_ranges(db: &Connection, id: u32, saved: &Ranges, now: &Ranges) -> rusqlite::Result<()> {
    let mut delete = db.prepare_cached("DELETE FROM settled WHERE subscription = ?1 AND first = ?2")?;
    for (first, _) in saved.iter().filter(|range| !now.iter().any(|kept| kept.0 == range.0)) {
        delete.execute(params![id, sql(first)])?;
    }
    let mut insert =
        db.prepare_cached("INSERT OR REPLACE INTO settled (subscription, first, last) VALUES (?1, ?2, ?3)")?;
    for (first, last) in now.iter().filter(|range| !saved.iter().any(|same| same == *range)) {
        insert.execute(params![id, sql(first), sql(last)])?;
    }
    Ok(())
}

fn note(touched: &mut Vec<u32>, id: u32) {
    if !touched.contains(&id) {
        touched.push(id);
    }
}

fn slot<Entry>(entries: &mut [Option<Entry>], id: u32) -> Option<&mut Entry> {
    entries.get_mut(id as usize)?.as_mut()
}

fn place<Entry>(entries: &mut Vec<Option<Entry>>, id: u32, entry: Entry) {
    let index = id as usize;
    if entries.len() <= index {
        entries.resize_with(index + 1, || None);
    }
    entries[index] = Some(entry);
}
