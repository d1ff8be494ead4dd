//! Where a verb that needs the ledger goes: to the running host, or to the ledger itself when none runs.
//!
//! The lock of the data directory decides: whoever holds it is asked. Invariant: both ways do the same.

use std::path::PathBuf;

use anyhow::Context;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::main::Failed;
use crate::admin::api::subscription::{self, Forgotten};
use crate::admin::api::{self, Accepted, Incoming, dead, schedules, trace, unknown_connector, unknown_queue};
use crate::audit::{Audit, Event};
use crate::clock::Clock;
use crate::config::Config;
use crate::egress::own_admin::OwnAdmin;
use crate::host;
use crate::id::Name;
use crate::ledger::{Directory, Ledger, OpenError, QueueReport, Settings};
use crate::mask::Masks;
use crate::metrics::{Held, Metrics};
use crate::secret_store::token;
use crate::settlement::ConnectorId;

/// What answers a verb.
pub enum Target {
    /// The host that runs.
    Running(OwnAdmin),
    /// The ledger, opened for this verb.
    Stopped(Alone),
}

/// What a verb works with when it is alone on the data directory.
pub struct Alone {
    ledger: Ledger,
    directory: Directory,
    schedules: Vec<schedules::Scheduled>,
    masks: Masks,
    data_dir: PathBuf,
}

impl Target {
    /// Finds out which.
    ///
    /// # Errors
    /// The ledger cannot be opened, or the running host has no token to be asked with.
    pub fn find(config: &Config) -> Result<Self, Failed> {
        let data_dir = &config.host.data_dir;
        let settings = Settings { min_free: config.host.min_free, ..Settings::new(data_dir.clone()) };
        match Ledger::open(settings, Clock::default(), Metrics::default()) {
            Ok(ledger) => {
                let directory = ledger.configure(&host::layout(config)).map_err(Failed::Unusable)?;
                let schedules = schedules::of_config(config, &directory);
                let (masks, data_dir) = (config.host.masks.clone(), data_dir.clone());
                Ok(Self::Stopped(Alone { ledger, directory, schedules, masks, data_dir }))
            }
            Err(OpenError::Locked { .. }) => {
                let token = token::load(data_dir)
                    .context("another process works on the data directory")
                    .map_err(Failed::Unusable)?;
                Ok(Self::Running(OwnAdmin::new(config.host.admin, token)?))
            }
            Err(error) => Err(Failed::Unusable(error.into())),
        }
    }

    /// Pieces of one input that may be on their way at once. The ledger keeps them in the order in which they are handed
    /// in; a host answers requests that come together in any order, and the order of the input is the sender's.
    #[must_use]
    pub fn pieces_at_once(&self) -> usize {
        match self {
            Self::Running(_) => 1,
            Self::Stopped(_) => 3,
        }
    }

    /// Puts messages into a queue; they are on disk when it answers.
    ///
    /// # Errors
    /// The queue is full or unknown, the disk is full, or the host does not answer.
    pub async fn send(&self, queue: &str, messages: Vec<Incoming>) -> anyhow::Result<Vec<String>> {
        match self {
            Self::Running(admin) => {
                let mut lines = Vec::new();
                for message in &messages {
                    serde_json::to_writer(&mut lines, message)?;
                    lines.push(b'\n');
                }
                let accepted = admin.post_lines::<Accepted>(&format!("queues/{queue}/messages"), lines).await;
                Ok(accepted.with_context(|| format!("the running host does not take it for `{queue}`"))?.ids)
            }
            Self::Stopped(Alone { ledger, directory, .. }) => {
                let id = directory.queue(queue).ok_or_else(|| unknown_queue(directory, queue))?;
                let drafts: Result<Vec<_>, String> = messages.into_iter().map(Incoming::into_draft).collect();
                Ok(api::append(ledger, id, drafts.map_err(api::malformed)?).await?.ids)
            }
        }
    }

    /// How every queue stands.
    ///
    /// # Errors
    /// The ledger cannot be read, or the host does not answer.
    pub async fn queues(&self) -> anyhow::Result<Vec<QueueReport>> {
        match self {
            Self::Running(admin) => admin.get("queues").await,
            Self::Stopped(alone) => alone.ledger.queues(),
        }
    }

    /// Drops what is kept for a connector that has left the configuration.
    ///
    /// # Errors
    /// See [`subscription::forget`]; or the host does not answer.
    pub async fn forget(&self, queue: &Name, connector: &Name) -> anyhow::Result<Forgotten> {
        match self {
            Self::Running(admin) => admin.delete(&format!("queues/{queue}/subscriptions/{connector}")).await,
            Self::Stopped(alone) => {
                let Alone { ledger, directory, .. } = alone;
                let forgotten = subscription::forget(ledger, directory, queue.as_str(), connector.as_str()).await?;
                alone.record(forgotten.event(queue.as_str(), connector.as_str()));
                Ok(forgotten)
            }
        }
    }

    /// All dead letters that a filter means.
    ///
    /// # Errors
    /// There is no such connector, the ledger cannot be read, or the host does not answer.
    pub async fn dead_list(&self, filter: &dead::Filter) -> anyhow::Result<Vec<dead::Entry>> {
        let mut all: Vec<dead::Entry> = Vec::new();
        loop {
            let after = all.last().map_or_else(|| "0".to_owned(), |entry| entry.id.clone());
            let page = match self {
                Self::Running(admin) => admin.get(&format!("dead?after={after}&{}", filter.query())).await?,
                Self::Stopped(alone) => dead::page(&alone.ledger, filter, &after)?,
            };
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Dead letters that a filter means, together by reason.
    ///
    /// # Errors
    /// There is no such connector, the ledger cannot be read, or the host does not answer.
    pub async fn dead_groups(&self, filter: &dead::Filter) -> anyhow::Result<Vec<dead::group::Group>> {
        match self {
            Self::Running(admin) => admin.get(&format!("dead/groups?{}", filter.query())).await,
            Self::Stopped(alone) => Ok(dead::groups(&alone.ledger, filter)?),
        }
    }

    /// One dead letter.
    ///
    /// # Errors
    /// There is none of this id, the ledger cannot be read, or the host does not answer.
    pub async fn dead_show(&self, id: &str) -> anyhow::Result<dead::Letter> {
        match self {
            Self::Running(admin) => admin.get(&format!("dead/{id}")).await,
            Self::Stopped(alone) => Ok(dead::letter(&alone.ledger, &alone.masks, id)?),
        }
    }

    /// Delivers dead letters again.
    ///
    /// # Errors
    /// See [`dead::retry`]; or the host does not answer.
    pub async fn dead_retry(&self, selection: &dead::Selection) -> anyhow::Result<dead::Count> {
        match self {
            Self::Running(admin) => admin.post("dead/retry", serde_json::to_vec(selection)?).await,
            Self::Stopped(alone) => {
                let retried = dead::retry(&alone.ledger, &alone.directory, &alone.masks, selection).await?;
                selection.event("dead retry", retried).into_iter().for_each(|event| alone.record(event));
                Ok(retried)
            }
        }
    }

    /// Removes dead letters for ever.
    ///
    /// # Errors
    /// See [`dead::remove`]; or the host does not answer.
    pub async fn dead_drop(&self, selection: &dead::Selection) -> anyhow::Result<dead::Count> {
        match self {
            Self::Running(admin) => admin.post("dead/drop", serde_json::to_vec(selection)?).await,
            Self::Stopped(alone) => {
                let removed = dead::remove(&alone.ledger, selection).await?;
                selection.event("dead drop", removed).into_iter().for_each(|event| alone.record(event));
                Ok(removed)
            }
        }
    }

    /// The tree of a message.
    ///
    /// # Errors
    /// Nothing is known of this id, the ledger cannot be read, or the host does not answer.
    pub async fn trace(&self, message_id: &str) -> anyhow::Result<trace::Tree> {
        match self {
            Self::Running(admin) => {
                let id = utf8_percent_encode(message_id, NON_ALPHANUMERIC);
                admin.get(&format!("messages/{id}")).await
            }
            Self::Stopped(alone) => Ok(trace::tree(&alone.ledger, message_id)?),
        }
    }

    /// How every schedule stands, with its next times after `from`, or after now.
    ///
    /// # Errors
    /// The ledger cannot be read, or the host does not answer.
    pub async fn schedules(&self, next: usize, from: Option<Timestamp>) -> anyhow::Result<Vec<schedules::Entry>> {
        match self {
            Self::Running(admin) => {
                let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
                admin.get(&format!("schedules?next={next}{from}")).await
            }
            Self::Stopped(alone) => Ok(schedules::list(&alone.ledger, &alone.schedules, next, from)?),
        }
    }

    /// Fires a schedule.
    ///
    /// # Errors
    /// See [`schedules::fire`]; or the host does not answer.
    pub async fn fire(&self, connector: &str, wanted: &schedules::Fire) -> anyhow::Result<schedules::Fired> {
        match self {
            Self::Running(admin) => {
                admin.post(&format!("schedules/{connector}/fire"), serde_json::to_vec(wanted)?).await
            }
            Self::Stopped(alone) => {
                let Alone { ledger, directory, schedules, .. } = alone;
                let fired = schedules::fire(ledger, directory, schedules, connector, wanted).await?;
                fired.event(connector).into_iter().for_each(|event| alone.record(event));
                Ok(fired)
            }
        }
    }

    /// Pauses a connector.
    ///
    /// # Errors
    /// There is no such connector, the ledger cannot be changed, or the host does not answer.
    pub async fn pause(&self, connector: &str) -> anyhow::Result<()> {
        match self {
            Self::Running(admin) => admin.post(&format!("connectors/{connector}/pause"), Vec::new()).await,
            Self::Stopped(alone) => {
                alone.ledger.hold(alone.id(connector)?, Held::Paused).await?;
                alone.record(Event::action("pause", "").of(connector));
                Ok(())
            }
        }
    }

    /// Lets a connector go on.
    ///
    /// # Errors
    /// There is no such connector, the ledger cannot be changed, or the host does not answer.
    pub async fn resume(&self, connector: &str) -> anyhow::Result<()> {
        match self {
            Self::Running(admin) => admin.post(&format!("connectors/{connector}/resume"), Vec::new()).await,
            Self::Stopped(alone) => {
                alone.ledger.release_holds(alone.id(connector)?).await?;
                alone.record(Event::action("resume", "").of(connector));
                Ok(())
            }
        }
    }

    /// Ends what [`Target::find`] began.
    pub fn close(self) {
        if let Self::Stopped(alone) = self {
            alone.ledger.close();
        }
    }
}

impl Alone {
    fn id(&self, connector: &str) -> anyhow::Result<ConnectorId> {
        let directory = &self.directory;
        Ok(directory.connector(connector).ok_or_else(|| unknown_connector(directory, connector))?)
    }

    /// The ledger's lock is held, so that nobody else adds to the record.
    fn record(&self, event: Event) {
        Audit::note_alone(&self.data_dir, event);
    }
}
