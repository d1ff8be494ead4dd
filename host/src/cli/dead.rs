//! `bulkhead dead`: look at dead letters, deliver them again, drop them.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;

use super::main::Failed;
use super::output::{counted, plain, print, table};
use super::target::Target;
use super::{Body, parse_body, parse_queue, send};
use crate::admin::api::dead::group::Group;
use crate::admin::api::dead::{Entry, Letter, Selection as Selected, filter};
use crate::admin::api::{Incoming, malformed};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::id::Name;
use crate::settlement::attempt::Effect;

/// `bulkhead dead`.
#[derive(Clone, Debug, Subcommand)]
pub enum Dead {
    /// List dead letters
    List {
        /// Which.
        #[command(flatten)]
        filter: Filter,
        /// Count them by reason; what differs in numbers and ids alone is one reason
        #[arg(long)]
        group: bool,
    },
    /// Show a dead letter with its message and attempts
    Show {
        /// Its id, as `dead list` prints it
        #[arg(value_parser = parse_letter)]
        id: String,
    },
    /// Deliver dead letters again
    Retry(Retry),
    /// Remove dead letters for ever
    Drop {
        /// Which.
        #[command(flatten)]
        selection: Selection,
        /// Do it; without this they are only counted
        #[arg(long)]
        yes: bool,
    },
}

/// `bulkhead dead retry`.
#[derive(Clone, Debug, Args)]
pub struct Retry {
    /// Which.
    #[command(flatten)]
    pub selection: Selection,
    /// Deliver to this connector instead of the one in which they died
    #[arg(long, value_name = "CONNECTOR", value_parser = Name::parse)]
    pub to: Option<Name>,
    /// No more than so many in a time, such as 100/s: the host spreads them
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub rate: Option<String>,
    /// Deliver this body instead: the text itself, `@FILE`, or `@-` for standard input; for one letter
    #[arg(long, value_name = "TEXT|@FILE", value_parser = parse_body,
        conflicts_with_all = ["all", "connector", "queue", "reason", "since"])]
    pub edit_body: Option<Body>,
    /// Only count them
    #[arg(long)]
    pub dry_run: bool,
}

/// Which dead letters are meant: some, those that have something in common, or all.
#[derive(Clone, Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("which").required(true).multiple(true).args(["ids", "all", "connector", "queue", "reason", "since"]))]
pub struct Selection {
    /// Their ids, as `dead list` prints them
    #[arg(value_name = "ID", value_parser = parse_letter, conflicts_with_all = ["all", "connector", "queue", "reason", "since"])]
    pub ids: Vec<String>,
    /// Those that have all of this in common.
    #[command(flatten)]
    pub filter: Filter,
    /// Every dead letter
    #[arg(long, conflicts_with_all = ["connector", "queue", "reason", "since"])]
    pub all: bool,
}

/// What dead letters have in common.
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub struct Filter {
    /// Those of this connector
    #[arg(long, value_name = "NAME", value_parser = Name::parse)]
    pub connector: Option<Name>,
    /// Those from this queue; the inbox of a connector is @NAME
    #[arg(long, value_name = "QUEUE", value_parser = parse_queue)]
    pub queue: Option<Name>,
    /// Those whose last reason contains this text
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Those that died since then: a time such as 2026-03-01T09:00:00Z, or a duration such as 24h for as long ago
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    pub since: Option<Since>,
}

/// The beginning of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// This one.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

/// Does what the arguments say.
///
/// # Errors
/// There is no such letter or connector, a drop was not confirmed, or the ledger cannot be opened, read or changed.
pub async fn run(config: &Config, command: Dead, as_json: bool) -> Result<(), Failed> {
    let target = Target::find(config)?;
    let text = act(&target, command, as_json).await;
    target.close();
    Ok(print(&text?)?)
}

async fn act(target: &Target, command: Dead, as_json: bool) -> anyhow::Result<String> {
    match command {
        Dead::List { filter, group: false } => {
            let entries = target.dead_list(&filter.read()).await?;
            Ok(if as_json { serde_json::to_string(&entries)? } else { plain(&list(&entries)) })
        }
        Dead::List { filter, group: true } => {
            let groups = target.dead_groups(&filter.read()).await?;
            Ok(if as_json { serde_json::to_string(&groups)? } else { plain(&list_groups(&groups)) })
        }
        Dead::Show { id } => {
            let letter = target.dead_show(&id).await?;
            Ok(if as_json { serde_json::to_string(&letter)? } else { plain(&show(&letter)) })
        }
        Dead::Retry(retry) => {
            let selected = retry.read()?;
            let count = target.dead_retry(&selected).await?;
            let done = if selected.dry_run { "would be delivered again" } else { "delivered again" };
            Ok(if as_json { serde_json::to_string(&count)? } else { format!("{} {done}", count.count) })
        }
        Dead::Drop { selection, yes } => {
            let selected = Selected { dry_run: !yes, ..selection.read() };
            let count = target.dead_drop(&selected).await?;
            if !yes {
                let letters = counted(count.count, "dead letter");
                return Err(malformed(format!("{letters} would be dropped for ever: confirm with `--yes`")).into());
            }
            Ok(if as_json { serde_json::to_string(&count)? } else { format!("{} dropped", count.count) })
        }
    }
}

impl Retry {
    fn read(self) -> anyhow::Result<Selected> {
        let body = self.edit_body.as_ref().map(send::read_body).transpose()?.map(Incoming::from_bytes);
        let Incoming { body, body_base64, .. } = body.unwrap_or_default();
        Ok(Selected {
            to: self.to.map(|name| name.to_string()),
            rate: self.rate,
            body,
            body_base64,
            dry_run: self.dry_run,
            ..self.selection.read()
        })
    }
}

impl Selection {
    fn read(self) -> Selected {
        let ids = (!self.ids.is_empty()).then_some(self.ids);
        Selected { filter: filter::Filter { ids, ..self.filter.read() }, ..Selected::default() }
    }
}

impl Filter {
    fn read(self) -> filter::Filter {
        filter::Filter {
            connector: self.connector.map(|name| name.to_string()),
            queue: self.queue.map(|name| name.to_string()),
            reason: self.reason,
            group: None,
            since: self.since.map(|since| since.read().to_string()),
            ids: None,
        }
    }
}

impl Since {
    fn read(self) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::Ago(before) => {
                let ago_ms = u64::try_from(before.as_millis()).unwrap_or(u64::MAX);
                let ms = Clock::default().now_ms().saturating_sub(ago_ms);
                i64::try_from(ms)
                    .ok()
                    .and_then(|ms| Timestamp::from_millisecond(ms).ok())
                    .unwrap_or(Timestamp::UNIX_EPOCH)
            }
        }
    }
}

fn parse_letter(text: &str) -> Result<String, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.to_owned()).ok_or_else(|| "ids are numbers: `bulkhead dead list` prints them".to_owned())
}

fn parse_rate(text: &str) -> Result<String, String> {
    config::rate(text).map(|_| text.to_owned())
}

fn parse_since(text: &str) -> Result<Since, String> {
    let time = text.parse().map(Since::At).ok().or_else(|| config::duration(text).map(Since::Ago).ok());
    time.ok_or_else(|| "write a time such as 2026-03-01T09:00:00Z, or a duration such as 24h".to_owned())
}

fn list(entries: &[Entry]) -> String {
    let row = |entry: &Entry| {
        let reason = entry.reason.lines().next().unwrap_or_default().to_owned();
        let attempts = entry.attempts.to_string();
        [&entry.id, &entry.connector, &entry.queue, &entry.message_id, &attempts, &entry.died_at, &reason]
            .map(Clone::clone)
            .to_vec()
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    table(&["ID", "CONNECTOR", "QUEUE", "MESSAGE", "ATTEMPTS", "DIED AT", "REASON"], &rows)
}

fn list_groups(groups: &[Group]) -> String {
    let row = |group: &Group| {
        let connectors = group.connectors.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let Group { count, reason, first_died_at, last_died_at, last_id, .. } = group;
        [&count.to_string(), first_died_at, last_died_at, last_id, &connectors, reason].map(Clone::clone).to_vec()
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    table(&["COUNT", "FIRST DIED AT", "LAST DIED AT", "LAST ID", "CONNECTORS", "REASON"], &rows)
}

fn show(letter: &Letter) -> String {
    let entry = &letter.entry;
    let mut lines = vec![
        format!("id         {}", entry.id),
        format!("connector  {}", entry.connector),
        format!("queue      {}", entry.queue),
        format!("message    {}", entry.message_id),
        format!("accepted   {}", letter.enqueued_at),
        format!("died       {}, after {}", entry.died_at, counted(entry.attempts as usize, "attempt")),
    ];
    lines.extend(letter.key.iter().map(|key| format!("key        {key}")));
    lines.extend(letter.parent.iter().map(|parent| format!("parent     {parent}")));
    lines.extend(letter.headers.iter().map(|(name, value)| format!("header     {name}: {value}")));
    for attempt in &letter.history {
        let started = attempt.started_at.as_ref().map(|at| format!(", begun {at}")).unwrap_or_default();
        lines.push(format!("attempt    {}: {}{started}", attempt.at, attempt.reason));
        lines.extend(attempt.effects.iter().map(|effect| format!("             {}", effect_text(effect))));
    }
    lines.push(String::new());
    lines.extend(letter.body.clone());
    lines.extend(letter.body_base64.iter().map(|body| format!("(base64) {body}")));
    lines.join("\n")
}

/// What an attempt did, in a line.
pub(super) fn effect_text(effect: &Effect) -> String {
    match effect {
        Effect::Request { method, url, status, duration_ms } => {
            let answer = status.map_or_else(|| "no whole answer".to_owned(), |status| status.to_string());
            let took = duration_ms.map(|ms| format!(" after {ms} ms")).unwrap_or_default();
            format!("{method} {url}: {answer}{took}")
        }
        Effect::Publish { queue, id, is_committed } => {
            format!("publish {id} to `{queue}`{}", if *is_committed { "" } else { ", dropped" })
        }
        Effect::State { keys } => format!("state: {} written", counted(*keys, "key")),
        Effect::Secret { name } => format!("secret `{name}` used"),
    }
}
