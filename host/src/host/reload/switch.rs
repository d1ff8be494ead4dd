//! From what runs to what is to run next.
//!
//! First the ledger learns the new layout, which is the last thing that can be refused; then what is replaced or has left
//! stops, and runs to its end within the grace time; then what takes its place is built and starts. Invariant: of a
//! subscription nothing is leased before what read it until now has ended, and all that it handed in is on disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::prepared::Next;
use super::{Order, Present, Unchanged};
use crate::host::assembly::{Member, layout};
use crate::host::front::{bind_door, takes_webhooks};
use crate::host::running::{Crew, Roster, Running};
use crate::host::{Host, bounds};
use crate::id::Name;
use crate::ledger::Directory;
use crate::listener::Listener;
use crate::metrics::Held;

/// A switch under way: what leaves has been told to stop.
pub(in crate::host) struct Switching {
    next: Box<Next>,
    directory: Arc<Directory>,
    /// To be opened for webhooks.
    door: Option<Listener>,
    /// Connectors that do not stay as they are.
    leaving: BTreeSet<Name>,
    /// What runs of them.
    old: Vec<Arc<Running>>,
    deadline: Instant,
    answer: oneshot::Sender<Result<(), Unchanged>>,
}

/// Who waits for a switch that has been made.
pub(in crate::host) struct Done(oneshot::Sender<Result<(), Unchanged>>);

impl Done {
    /// Whoever asked may have gone.
    pub(in crate::host) fn tell(self) {
        let _ = self.0.send(Ok(()));
    }
}

/// What a switch waits for next.
pub(in crate::host) enum Step {
    /// Somebody asks for one.
    Begin(Order),
    /// What leaves has ended, or may no longer go on.
    Finish,
}

/// Waits for the next step. Cancel-safe.
pub(in crate::host) async fn next_step(orders: &mut mpsc::Receiver<Order>, switching: Option<&Switching>) -> Step {
    if let Some(switching) = switching {
        let ended = async {
            for running in &switching.old {
                running.ended().await;
            }
        };
        // Who has not ended by then is cut off.
        let _ = tokio::time::timeout_at(switching.deadline, ended).await;
        return Step::Finish;
    }
    match orders.recv().await {
        Some(order) => Step::Begin(order),
        None => std::future::pending().await,
    }
}

impl Host {
    /// Lays the ledger out anew, and stops what leaves. `None` where nothing has changed.
    pub(in crate::host) async fn begin(&self, order: Order) -> Option<Switching> {
        let Order { next, answer } = order;
        let present = self.reloader.present();
        let (door, directory) = match self.lay_out(&present, &next).await {
            Ok(laid) => laid,
            Err(unchanged) => {
                // Whoever asked may have gone.
                let _ = answer.send(Err(unchanged));
                return None;
            }
        };
        let leaving: BTreeSet<Name> = self.members.keys().filter(|name| !present.keeps(name, &next)).cloned().collect();
        let old: Vec<Arc<Running>> =
            leaving.iter().filter_map(|name| self.members.get(name)?.running.clone()).collect();
        old.iter().for_each(|running| running.stop());
        tracing::info!(connectors = old.len(), "the configuration is in order: what it changes ends what it has begun");
        let deadline = Instant::now() + next.config().host.grace;
        Some(Switching { next, directory, door, leaving, old, deadline, answer })
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

    /// Puts what comes into the place of what has left, and starts it. The answer is the door that is to be opened, and who
    /// is to be told.
    ///
    /// # Errors
    /// The ledger cannot be read or written: the host cannot go on.
    pub(in crate::host) async fn finish(
        &mut self,
        switching: Switching,
        crew: &mut Crew,
    ) -> anyhow::Result<(Option<Listener>, Done)> {
        let Switching { next, directory, door, leaving, old, answer, .. } = switching;
        self.cut_off(&old).await?;
        let left: Vec<(Name, Member)> = self.members.extract_if(.., |name, _| leaving.contains(name)).collect();
        self.permits.resize(next.budget());
        let fresh = self.build(&next, &directory, &left).await?;
        self.adopt(directory);
        self.reloader.replace(*next);
        let running: Roster = fresh.iter().filter_map(|(_, member)| member.running.clone()).collect();
        self.members.extend(fresh);
        self.publish();
        for running in &running {
            self.look_again(running)?;
            running.start(&self.engine, crew);
        }
        Ok((door, Done(answer)))
    }

    /// What has not ended within the grace time is delivered again, by what takes its place.
    async fn cut_off(&self, old: &[Arc<Running>]) -> anyhow::Result<()> {
        let late: Vec<&Arc<Running>> = old.iter().filter(|running| !running.has_ended()).collect();
        for running in &late {
            let connector = &running.connector.name;
            tracing::warn!(%connector, "cut off: what had not settled within `host.grace` is delivered again");
            running.cut();
        }
        for running in &late {
            running.ended().await;
        }
        if !late.is_empty() {
            self.ledger.caught_up().await?;
        }
        old.iter().for_each(|running| running.connector.hold.end());
        Ok(())
    }

    async fn build(
        &self,
        next: &Next,
        directory: &Directory,
        left: &[(Name, Member)],
    ) -> anyhow::Result<Vec<(Name, Member)>> {
        let assembly = self.assembly(next, directory);
        let mut fresh = Vec::new();
        for settings in next.config().connectors.iter().filter(|it| it.enabled && !self.members.contains_key(&it.name))
        {
            let before = left.iter().find(|(name, _)| *name == settings.name || Some(name) == settings.was.as_ref());
            let hook = before.and_then(|(_, member)| member.hook.as_deref());
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
