//! From what runs to what is to run next.
//!
//! First the ledger learns the new layout, which is the last thing that can be refused; then what is replaced or has left
//! stops, and runs to its end within the grace time. Each connector that comes is built and started when the one has ended
//! whose place it takes. Invariant: of a subscription nothing is leased before what read it until now has ended, and all
//! that it handed in is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;
use futures_util::future::select_all;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::prepared::Next;
use super::{Asked, Order, Present, Unchanged};
use crate::config::Connector;
use crate::host::assembly::{Member, layout};
use crate::host::front::{bind_door, takes_webhooks};
use crate::host::running::Running;
use crate::host::{Host, Works, bounds};
use crate::id::Name;
use crate::ledger::Directory;
use crate::listener::Listener;
use crate::metrics::Held;

/// A switch under way: something that was told to stop has not ended.
pub(in crate::host) struct Switching {
    next: Arc<Present>,
    /// Connectors that do not stay as they are, and have not ended.
    leaving: BTreeSet<Name>,
    deadline: Instant,
    asked: Asked,
}

/// What a switch waits for next.
pub(in crate::host) enum Step {
    /// Somebody asks for one.
    Begin(Box<Order>),
    /// Something that leaves has ended, or may no longer go on.
    Advance,
}

/// Waits for the next step. Cancel-safe.
pub(in crate::host) async fn next_step(
    orders: &mut mpsc::Receiver<Order>,
    switching: Option<&Switching>,
    members: &BTreeMap<Name, Member>,
) -> Step {
    if let Some(switching) = switching {
        let leaving = switching.leaving.iter().filter_map(|name| members.get(name)?.running.as_ref());
        let ends: Vec<_> = leaving.map(|running| Box::pin(running.ended())).collect();
        if !ends.is_empty() {
            // Who has not ended by then is cut off.
            let _ = tokio::time::timeout_at(switching.deadline, select_all(ends)).await;
        }
        return Step::Advance;
    }
    match orders.recv().await {
        Some(order) => Step::Begin(Box::new(order)),
        None => std::future::pending().await,
    }
}

impl Host {
    /// Lays the ledger out anew, stops what leaves, and starts what waits for none of it. The answer is what is left to do;
    /// a configuration that is refused changes nothing.
    ///
    /// # Errors
    /// The ledger cannot be read or written: the host cannot go on.
    pub(in crate::host) async fn begin(
        &mut self,
        order: Order,
        works: &mut Works,
    ) -> anyhow::Result<Option<Switching>> {
        let Order { next, asked } = order;
        let present = self.reloader.present();
        let (door, directory) = match self.lay_out(&present, &next).await {
            Ok(laid) => laid,
            Err(unchanged) => {
                self.reloader.end(asked, Err(unchanged));
                return Ok(None);
            }
        };
        let leaving: BTreeSet<Name> = self.members.keys().filter(|name| !present.keeps(name, &next)).cloned().collect();
        let next = self.reloader.replace(*next);
        self.permits.resize(next.budget());
        self.adopt(directory);
        self.open(door, works);
        self.running_of(&leaving).for_each(|running| running.stop());
        let connectors = leaving.len();
        tracing::info!(connectors, "the configuration is in order: what it changes ends what it has begun");
        let deadline = Instant::now() + next.config().host.grace;
        self.advance(Switching { next, leaving, deadline, asked }, works).await
    }

    /// Puts what comes into the place of what has ended, and starts it. The answer is what is left to do.
    ///
    /// # Errors
    /// The ledger cannot be read or written: the host cannot go on.
    pub(in crate::host) async fn advance(
        &mut self,
        mut switching: Switching,
        works: &mut Works,
    ) -> anyhow::Result<Option<Switching>> {
        if Instant::now() >= switching.deadline {
            self.cut_off(&switching.leaving).await?;
        }
        let leaving = &mut switching.leaving;
        let has_left = |name: &Name, member: &Member| {
            leaving.contains(name) && member.running.as_ref().is_none_or(|running| running.has_ended())
        };
        let left: BTreeMap<Name, Member> = self.members.extract_if(.., |name, member| has_left(name, member)).collect();
        leaving.retain(|name| !left.contains_key(name));
        left.values().filter_map(|member| member.running.as_ref()).for_each(|running| running.connector.hold.end());
        let fresh = self.build(&switching, &left).await?;
        let running: Vec<Arc<Running>> = fresh.iter().filter_map(|(_, member)| member.running.clone()).collect();
        self.members.extend(fresh);
        self.publish();
        works.live.send_replace(self.admin(&works.access, &works.stop.subscribe()));
        for running in &running {
            self.look_again(running)?;
            running.start(&self.engine, &mut works.crew);
        }
        if !switching.leaving.is_empty() {
            return Ok(Some(switching));
        }
        self.reloader.end(switching.asked, Ok(()));
        Ok(None)
    }

    async fn lay_out(&self, present: &Present, next: &Next) -> Result<(Option<Listener>, Arc<Directory>), Unchanged> {
        let refused = |key: &str, error: anyhow::Error| {
            Unchanged::Refused(vec![next.loaded.problem(key, format!("{error:#}"), "")])
        };
        let needs_door = takes_webhooks(next.config()) && !present.has_door;
        let door = match needs_door {
            true => Some(bind_door(next.config()).await.map_err(|error| refused("host.listen", error))?),
            false => None,
        };
        let (ledger, layout) = (self.ledger.clone(), layout(next.config()));
        let laid = tokio::task::spawn_blocking(move || ledger.configure(&layout)).await;
        let laid = laid.context("the ledger was not asked").flatten();
        let directory = laid.map_err(|error| refused("connectors", error))?;
        Ok((door, Arc::new(directory)))
    }

    fn running_of(&self, names: &BTreeSet<Name>) -> impl Iterator<Item = &Arc<Running>> {
        names.iter().filter_map(|name| self.members.get(name)?.running.as_ref())
    }

    /// What has not ended within the grace time is delivered again, by what takes its place.
    async fn cut_off(&self, leaving: &BTreeSet<Name>) -> anyhow::Result<()> {
        let late: Vec<&Arc<Running>> = self.running_of(leaving).filter(|running| !running.has_ended()).collect();
        for running in &late {
            let connector = &running.connector.name;
            tracing::warn!(%connector, "cut off: what had not settled within `host.grace` is delivered again");
            running.cut();
        }
        for running in &late {
            running.ended().await;
        }
        // What they handed in last may still be on its way: nobody must read before it is on disk.
        self.ledger.caught_up().await
    }

    /// Builds what is not there yet, and waits for nobody who leaves.
    async fn build(&self, switching: &Switching, left: &BTreeMap<Name, Member>) -> anyhow::Result<Vec<(Name, Member)>> {
        let Switching { next, leaving, .. } = switching;
        let assembly = self.assembly(next, &self.directory);
        let comes = |it: &&Connector| {
            let waits = leaving.contains(&it.name) || it.was.as_ref().is_some_and(|was| leaving.contains(was));
            it.enabled && !waits && !self.members.contains_key(&it.name)
        };
        let mut fresh = Vec::new();
        for settings in next.config().connectors.iter().filter(comes) {
            let before = left.get(&settings.name).or_else(|| left.get(settings.was.as_ref()?));
            let hook = before.and_then(|member| member.hook.as_deref());
            fresh.push((settings.name.clone(), assembly.member(settings, hook).await?));
        }
        Ok(fresh)
    }

    /// Takes the ledger's numbers over, and says who has left messages behind.
    fn adopt(&mut self, directory: Arc<Directory>) {
        let before = std::mem::replace(&mut self.directory, directory);
        for orphan in before.orphans().iter().filter(|orphan| !self.directory.orphans().contains(orphan)) {
            self.metrics.orphaned(&orphan.queue, &orphan.connector, 0);
        }
        self.tell_orphans(&self.directory);
    }

    /// Somebody may have paused it or let it go on while it was built: who does so from now on finds it.
    fn look_again(&self, running: &Running) -> anyhow::Result<()> {
        let connector = &running.connector;
        let holds = self.ledger.holds(connector.id)?;
        for reason in [Held::Paused, Held::Brake] {
            connector.hold.show(reason, holds.contains(&reason));
        }
        bounds::look(running, &self.ledger);
        Ok(())
    }
}
