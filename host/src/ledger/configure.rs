//! From the configuration's names to the ledger's numbers.
//!
//! Applied in one transaction, at start and again while a host runs: rows are made for what is new, `was` renames what is
//! old, and subscriptions whose connector does not consume any more become orphans. Invariant: a number never changes its
//! meaning, and a connector's lineage (its first name) stays through every rename, so derived ids do too.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::route::{Laid, Route, led_to};
use super::schema::sql;
use super::write::Write;
use super::{From, Ledger, QueuePolicy, StateUsage};
use crate::id::Name;
use crate::settlement::{ConnectorId, QueueId, SubscriptionId};

/// What the configuration says about queues and connectors.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Every queue that is named, with its policy; inboxes may be left out.
    pub queues: BTreeMap<Name, QueuePolicy>,
    /// Every connector, enabled or not.
    pub connectors: Vec<ConnectorLayout>,
    /// Every route, between queues that are named here.
    pub routes: Vec<Route>,
}

/// One connector of the configuration.
#[derive(Clone, Debug)]
pub struct ConnectorLayout {
    /// Its name.
    pub name: Name,
    /// The name that it had before.
    pub was: Option<Name>,
    /// What it reads, its inbox left out.
    pub consumes: Vec<Consumption>,
    /// Whether it has schedules or a webhook.
    pub has_inbox: bool,
    /// How long its dead letters are kept, also when it has left the configuration.
    pub dead_retention: Duration,
    /// The most that its state may come to.
    pub state_max: StateUsage,
    /// The queue that is told of each of its dead letters.
    pub on_dead: Option<Name>,
}

/// One queue that a connector reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumption {
    /// The queue.
    pub queue: Name,
    /// Where a new subscription begins.
    pub from: From,
}

/// Numbers by name.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    queues: HashMap<Name, QueueId>,
    connectors: HashMap<Name, (ConnectorId, String)>,
    subscriptions: HashMap<(QueueId, ConnectorId), SubscriptionId>,
    orphans: Vec<Orphan>,
}

/// A subscription that no connector of the configuration reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The queue.
    pub queue: Name,
    /// The connector that read it.
    pub connector: Name,
    /// Messages kept for it.
    pub messages: u64,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

impl Directory {
    /// A queue's number.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<QueueId> {
        self.queues.get(name).copied()
    }

    /// A connector's number.
    #[must_use]
    pub fn connector(&self, name: &str) -> Option<ConnectorId> {
        self.connectors.get(name).map(|(id, _)| *id)
    }

    /// The name of every connector, in no order.
    pub fn connectors(&self) -> impl Iterator<Item = &Name> {
        self.connectors.keys()
    }

    /// The name that a connector's derived ids are made from: its first one.
    #[must_use]
    pub fn lineage(&self, name: &str) -> Option<&str> {
        self.connectors.get(name).map(|(_, lineage)| lineage.as_str())
    }

    /// The subscription of a connector to a queue.
    #[must_use]
    pub fn subscription(&self, queue: &str, connector: &str) -> Option<SubscriptionId> {
        self.subscriptions.get(&(self.queue(queue)?, self.connector(connector)?)).copied()
    }

    /// A connector's inbox: its queue and its subscription to it.
    #[must_use]
    pub fn inbox(&self, connector: &Name) -> Option<(QueueId, SubscriptionId)> {
        let queue = Name::inbox_of(connector);
        Some((self.queue(queue.as_str())?, self.subscription(queue.as_str(), connector.as_str())?))
    }

    /// Every queue, in no order.
    pub fn queues(&self) -> impl Iterator<Item = (&Name, QueueId)> {
        self.queues.iter().map(|(name, id)| (name, *id))
    }

    /// Subscriptions that no connector of the configuration reads.
    #[must_use]
    pub fn orphans(&self) -> &[Orphan] {
        &self.orphans
    }
}

/// Policies by number: what the file does not keep, because the configuration says it anew at every start.
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    pub(super) queues: HashMap<u32, QueuePolicy>,
    /// For each connector: the most that its state may come to.
    pub(super) state_max: HashMap<u32, StateUsage>,
    /// For each connector that has one: the queue that is told of its dead letters.
    pub(super) on_dead: HashMap<u32, QueueId>,
    /// By the queue that they begin at.
    pub(super) routes: HashMap<u32, Vec<Laid>>,
    /// For each of these: where routes lead from it, by however many steps.
    pub(super) led_to: HashMap<QueueId, Vec<QueueId>>,
}

impl Ledger {
    /// Applies a layout and answers the numbers. Blocks until it is on disk.
    ///
    /// # Errors
    /// `was` would join two connectors that both have a past, or the file could not be written.
    pub fn configure(&self, layout: &Layout) -> anyhow::Result<Directory> {
        let layout = layout.clone();
        let applied = self.change_blocking(move |write| write.lay_out(&layout))?;
        Ok(applied?)
    }
}

/// Why a layout cannot be applied.
#[derive(Debug, thiserror::Error)]
#[error("connector `{name}` was `{was}`, but both have messages or state of their own: remove `connectors.{name}.was`")]
pub(super) struct Joined {
    name: Name,
    was: Name,
}

impl Write<'_> {
    fn lay_out(&mut self, layout: &Layout) -> rusqlite::Result<Result<Directory, Joined>> {
        let mut directory = Directory::default();
        let mut policies = Policies::default();
        if let Some(joined) = self.rename_all(&layout.connectors)? {
            return Ok(Err(joined));
        }
        for (name, policy) in &layout.queues {
            let id = self.queue_row(name)?;
            directory.queues.insert(name.clone(), QueueId(id));
            policies.queues.insert(id, policy.clone());
        }
        let mut wanted = Vec::new();
        for connector in &layout.connectors {
            let (id, lineage) = self.connector_row(&connector.name)?;
            self.keep_retention(id, connector.dead_retention)?;
            policies.state_max.insert(id, connector.state_max);
            if let Some(queue) = &connector.on_dead {
                policies.on_dead.insert(id, QueueId(self.queue_row(queue)?));
            }
            directory.connectors.insert(connector.name.clone(), (ConnectorId(id), lineage));
            for consumption in read_by(connector) {
                let queue = self.queue_row(&consumption.queue)?;
                directory.queues.insert(consumption.queue.clone(), QueueId(queue));
                let subscription = self.subscription_row(queue, id, consumption.from)?;
                directory.subscriptions.insert((QueueId(queue), ConnectorId(id)), SubscriptionId(subscription));
                wanted.push(subscription);
            }
        }
        self.lay_routes(&layout.routes, &mut policies)?;
        self.mark_orphans(&wanted)?;
        directory.orphans = self.orphans()?;
        self.changes.laid_out = Some(policies);
        Ok(Ok(directory))
    }

    fn lay_routes(&self, routes: &[Route], policies: &mut Policies) -> rusqlite::Result<()> {
        let number = |queue: &Name| self.queue_row(queue).map(QueueId);
        for route in routes {
            let from = number(&route.from)?;
            let to = route.to.iter().map(number).collect::<rusqlite::Result<_>>()?;
            policies.routes.entry(from.0).or_default().push(Laid { route: route.clone(), to });
            let led_to = led_to(&route.from, routes).into_iter().map(number).collect::<rusqlite::Result<_>>()?;
            policies.led_to.insert(from, led_to);
        }
        Ok(())
    }

    /// Renames every connector that has a new name, or none: a start that is refused changes nothing.
    fn rename_all(&self, connectors: &[ConnectorLayout]) -> rusqlite::Result<Option<Joined>> {
        self.db.execute_batch("SAVEPOINT rename")?;
        for connector in connectors {
            if let Some(joined) = self.rename(connector)? {
                self.db.execute_batch("ROLLBACK TO rename; RELEASE rename")?;
                return Ok(Some(joined));
            }
        }
        self.db.execute_batch("RELEASE rename")?;
        Ok(None)
    }

    /// Moves everything of a connector to its new name. All rows point to its number, so the name is all that changes.
    fn rename(&self, connector: &ConnectorLayout) -> rusqlite::Result<Option<Joined>> {
        let Some(was) = &connector.was else { return Ok(None) };
        if !exists(self.db, "SELECT 1 FROM connector WHERE name = ?1", was.as_str())? {
            return Ok(None);
        }
        if exists(self.db, "SELECT 1 FROM connector WHERE name = ?1", connector.name.as_str())? {
            return Ok(Some(Joined { name: connector.name.clone(), was: was.clone() }));
        }
        self.db.execute("UPDATE connector SET name = ?2 WHERE name = ?1", [was.as_str(), connector.name.as_str()])?;
        self.db.execute(
            "UPDATE queue SET name = ?2 WHERE name = ?1",
            [Name::inbox_of(was).as_str(), Name::inbox_of(&connector.name).as_str()],
        )?;
        Ok(None)
    }

    fn queue_row(&self, name: &Name) -> rusqlite::Result<u32> {
        self.db
            .prepare_cached(
                "INSERT INTO queue (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET name = name RETURNING id",
            )?
            .query_row([name.as_str()], |row| row.get(0))
    }

    fn connector_row(&self, name: &Name) -> rusqlite::Result<(u32, String)> {
        let found = self
            .db
            .prepare_cached("SELECT id, lineage FROM connector WHERE name = ?1")?
            .query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some(found) = found {
            return Ok(found);
        }
        // A name that another connector had first: its lineage must not be shared, or ids would meet.
        let is_taken = exists(self.db, "SELECT 1 FROM connector WHERE lineage = ?1", name.as_str())?;
        let next: u32 = self.db.query_row("SELECT coalesce(max(id), 0) + 1 FROM connector", [], |row| row.get(0))?;
        let lineage = if is_taken { format!("{name}#{next}") } else { name.to_string() };
        self.db.prepare_cached("INSERT INTO connector (id, name, lineage) VALUES (?1, ?2, ?3)")?.execute(params![
            next,
            name.as_str(),
            lineage
        ])?;
        Ok((next, lineage))
    }

    /// For the time when the connector has left the configuration, and its dead letters are still here.
    fn keep_retention(&self, id: u32, dead_retention: Duration) -> rusqlite::Result<()> {
        self.db
            .prepare_cached("UPDATE connector SET dead_retention_ms = ?2 WHERE id = ?1 AND dead_retention_ms <> ?2")?
            .execute(params![id, sql(super::millis(dead_retention))])?;
        Ok(())
    }

    fn subscription_row(&self, queue: u32, connector: u32, from: From) -> rusqlite::Result<u32> {
        let counts = self.book.queue(queue).map(|queue| queue.counts).unwrap_or_default();
        let cursor = match from {
            From::Oldest => counts.removed,
            From::Latest => counts.tail,
        };
        // One that was forgotten begins like a new one.
        self.db
            .prepare_cached(
                "INSERT INTO subscription (queue, connector, cursor) VALUES (?1, ?2, ?3)
                 ON CONFLICT (queue, connector) DO UPDATE SET
                 cursor = iif(forgotten, excluded.cursor, cursor), forgotten = 0, orphaned_ms = NULL RETURNING id",
            )?
            .query_row(params![queue, connector, sql(cursor)], |row| row.get(0))
    }

    fn mark_orphans(&self, wanted: &[u32]) -> rusqlite::Result<()> {
        let wanted = format!("[{}]", wanted.iter().map(u32::to_string).collect::<Vec<_>>().join(","));
        self.db
            .prepare_cached(
                "UPDATE subscription SET orphaned_ms = ?2
                 WHERE orphaned_ms IS NULL AND forgotten = 0 AND id NOT IN (SELECT value FROM json_each(?1))",
            )?
            .execute(params![wanted, sql(self.now.settled_ms)])?;
        Ok(())
    }

    fn orphans(&self) -> rusqlite::Result<Vec<Orphan>> {
        let mut statement = self.db.prepare_cached(
            "SELECT subscription.id, queue.name, connector.name, orphaned_ms FROM subscription
             JOIN queue ON queue.id = subscription.queue JOIN connector ON connector.id = subscription.connector
             WHERE orphaned_ms IS NOT NULL AND forgotten = 0 ORDER BY 2, 3",
        )?;
        let orphans = statement.query_map([], |row| {
            Ok(Orphan {
                messages: self.book.backlog(row.get(0)?),
                queue: Name::stored(row.get_ref(1)?.as_str()?),
                connector: Name::stored(row.get_ref(2)?.as_str()?),
                since_ms: super::schema::unsql(row.get(3)?),
            })
        })?;
        orphans.collect()
    }
}

/// Everything that a connector reads, its inbox included.
pub(super) fn read_by(connector: &ConnectorLayout) -> Vec<Consumption> {
    let mut consumptions = connector.consumes.clone();
    if connector.has_inbox {
        consumptions.push(Consumption { queue: Name::inbox_of(&connector.name), from: From::Oldest });
    }
    consumptions
}

fn exists(db: &Connection, query: &str, name: &str) -> rusqlite::Result<bool> {
    db.prepare_cached(query)?.exists([name])
}
